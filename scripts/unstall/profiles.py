# SPDX-License-Identifier: GPL-2.0
"""What 'make perf' makes of perf's output: counts, paths, stacks and flame graphs.

The samples are of the software clock, at fixed distances in instructions of the
workload's own, so that a number of samples is a number of instructions.
"""

import re
import shlex
import subprocess
from collections import Counter

from . import bench, common, figures, measuring, page, workloads
from .common import CannotRun

SECTION = re.compile(r"^@(printed|stat|counters|samples|locks)$", re.M)
ENTRY = re.compile(r"entry_SYSCALL_64.*|do_syscall_64|x64_sys_call|ret_from_fork.*|"
                   r"asm_exc_page_fault")
FLAMEGRAPH = "flamegraph@1.3.0"     # of npm: SVG from what perf script prints
WIDTH = 1000                        # pixels of a flame graph
# Instructions from one sample to the next, of five clocks: with one, a cycle that always
# takes as long would be met at few points of it. Primes, together one in 51,785.
PERIODS = (211007, 240007, 263009, 290011, 317011)
PERIOD = round(1 / sum(1 / p for p in PERIODS))
STACKS, FUNCTIONS = 12, 25          # shown
NOTE = (f"A sample stands for {PERIOD:,} instructions of the workload in the kernel. One that is "
        "due while interrupts are off is taken where they are let on again: what was done under the "
        "lruvec lock stands at _raw_spin_unlock_irqrestore() in its holder.",
        "The sampling itself takes instructions, in both kernels the same for each sample, and "
        "perf notes each mmap(). Where N samples were counted, the square root of N more or less "
        "is chance.")


def select(words, topics):
    """The workloads that W= names; a topic stands for a few of it that show its paths."""
    if not words:
        raise CannotRun('W= is empty; for example make perf W=lru, or W="bigheap move-4096".')
    chosen = bench.select(words, topics)
    shown = [n for t in words if t in workloads.PROFILES for n in workloads.PROFILES[t].workloads]
    chosen = [w for w in chosen if w.name in words or w.name in shown]
    if any(workloads.GUESTS[w.guest].arch != "x86_64" for w in chosen):
        raise CannotRun("perf runs in the x86-64 guest only, which has the host's root.")
    return tuple(chosen)


def command(workload):
    """What is run; some workloads would show how they measure themselves."""
    found = workload.command
    for old, new in workloads.PROFILES[workload.topic].instead:
        found = found.replace(old, new)
    return found


def command_line(workload, path):
    """A workload under the guest's program 'profile', as a line for its init."""
    how = workloads.PROFILES[workload.topic]
    options = ["-e", ",".join(how.events), "-c", ",".join(how.counters), "-p",
               ",".join(map(str, PERIODS))]
    words = ["profile", *options, *(["-l"] if how.locks else []), command(workload)]
    return f"PATH={path}:{measuring.GUEST_PATH}:$PATH {shlex.join(words)}"


# -------------------------------------------------------------------- parsing

def sections(text):
    """What 'profile' printed, by the names of its parts."""
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], (part.strip("\n") for part in parts[2::2])))


def number(text):
    try:
        return float(text)
    except ValueError:
        return None         # "<not counted>"


def counted(parts):
    """Event or counter by name, from perf stat's CSV and from /proc/vmstat."""
    found = {}
    for line in parts.get("stat", "").splitlines():
        value, unit, name, *_ = (line + ",,").split(",")
        found[f"{name}, {unit}" if unit else name] = number(value)
    for line in parts.get("counters", "").splitlines():
        name, _, value = line.partition(" ")
        found[f"vmstat {name}"] = number(value)
    return found


def stacks(text):
    """Samples by their stack: (command, caller, ..., callee)."""
    found = Counter()
    for block in re.split(r"\n\s*\n", text):
        first, *rest = block.strip("\n").splitlines() or [""]
        frames = [line.split(None, 1)[1].strip() for line in rest if len(line.split(None, 1)) == 2]
        if frames:
            found[(first.strip(), *reversed(frames))] += 1
    return found


def passes(stack, path):
    """Whether a stack has functions that match all of a path, in its order."""
    rest = iter(stack[1:])
    return all(any(re.search(rf"(?:^|_)(?:{pattern})(?:\.|$)", name) for name in rest)
               for pattern in path)


def on_path(found, path):
    return sum(n for stack, n in found.items() if passes(stack, path))


def inclusive(found):
    """Samples of each function and of all that it called."""
    total = Counter()
    for stack, n in found.items():
        for name in set(stack[1:]):
            total[name] += n
    return total


def most_different(base, ours, limit):
    """Names of either counter, those first that chance explains least."""
    def distance(name):
        return abs(base[name] - ours[name]) / (base[name] + ours[name]) ** 0.5
    names = sorted(set(base) | set(ours), key=lambda n: (-distance(n), n))
    return [n for n in names if base[n] != ours[n]][:limit]


def heaviest(base, ours, limit):
    return sorted(set(base) | set(ours), key=lambda n: (-max(base[n], ours[n]), n))[:limit]


def chain(stack):
    """A stack in words, without how every system call and fault begins."""
    names = [n for n in stack[1:] if not ENTRY.fullmatch(n)]
    return " > ".join(names) or stack[-1]


# --------------------------------------------------------------------- tables

def pair(name, base, ours):
    """A line of a table: base, ours and the ratio; None is what a kernel does not have."""
    ratio = f"{ours / base:.3f}" if base and ours is not None else "-"
    return (name, figures.number(base), figures.number(ours), ratio)


def tables(workload, base, ours):
    """(title, lines) of each table of a workload, from what both kernels gave."""
    seen = [stacks(side.get("samples", "")) for side in (base, ours)]
    counts = [counted(side) for side in (base, ours)]
    yield "counted", [pair(n, counts[0].get(n), counts[1].get(n))
                      for n in dict.fromkeys([*counts[0], *counts[1]])]
    yield "samples on a path", [pair("all", *(sum(s.values()) for s in seen))] + [
        pair(name, *(on_path(s, path) for s in seen))
        for name, path in workloads.PROFILES[workload.topic].paths]
    yield "stacks, the heaviest", [pair(chain(s), seen[0][s], seen[1][s])
                                   for s in heaviest(*seen, STACKS)]
    wide = [inclusive(s) for s in seen]
    yield "functions and what they call, the most different", [
        pair(n, wide[0][n], wide[1][n]) for n in most_different(*wide, FUNCTIONS)]


def as_text(title, lines):
    """A table for a terminal; long names stand on a line of their own."""
    out = [title, f"  {'base':>14} {'ours':>14} {'ours/base':>10}"]
    out += [f"  {base:>14} {ours:>14} {ratio:>10}  {name}" for name, base, ours, ratio in lines]
    return "\n".join(out)


def text(workload, base, ours):
    """All of a workload for a terminal."""
    out = [f"== {workload.name}: {command(workload)}"]
    out += [as_text(title, lines) for title, lines in tables(workload, base, ours)]
    for variant, side in zip(bench.VARIANTS, (base, ours)):
        if "locks" in side:
            out.append(f"perf lock contention, {variant}\n{side['locks']}")
    return "\n\n".join(out)


# --------------------------------------------------------------- flame graphs

def script(found):
    """Samples again in the form of perf script, with nothing that changes from run to run."""
    return "".join(f"{stack[0].split()[0]} 1 1.0: cpu-clock:\n"
                   + "".join(f"\tffff {name} (k)\n" for name in reversed(stack[1:])) + "\n"
                   for stack, n in sorted(found.items()) for _ in range(n))


def program():
    """npm's flamegraph, fetched once into build/."""
    folder = common.BUILD / "npm"
    path = folder / "node_modules" / "flamegraph" / "bin" / "flamegraph.js"
    if not path.exists():
        common.say(f"  npm    install {FLAMEGRAPH}")
        folder.mkdir(parents=True, exist_ok=True)
        common.run("npm", "install", "--prefix", folder, "--silent", "--no-audit", "--no-fund",
                   "--no-save", FLAMEGRAPH)
    return path


def clean(svg, prefix):
    """Inline SVG without prolog and script; what it showed by script stands in its titles."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<script.*?</script>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\s(?:on\w+|data-[\w-]+|id)="[^"]*"', "", svg)
    svg = svg.replace("<linearGradient", f'<linearGradient id="{prefix}"', 1)
    svg = svg.replace("url(#background)", f"url(#{prefix})").replace("%)</title>", "%</title>")
    return svg.replace(" samples), ", " samples, ").replace("(1 samples, ", "(1 sample, ")


def flame_graph(found, scale, prefix):
    """The flame graph of some samples, `scale` of which are WIDTH wide."""
    width = max(200, round(WIDTH * sum(found.values()) / scale))
    done = subprocess.run(["node", program(), "-t", "perf", "--internals", "--minwidth", "0.5",
                           "--fonttype", "sans-serif", "--imagewidth", str(width)],
                          input=script(found), text=True, capture_output=True, check=False)
    if done.returncode or "<svg" not in done.stdout:
        raise CannotRun(f"no flame graph could be drawn ({done.stderr.strip()[-200:]}); "
                        "run 'scripts/deps perf'.")
    return clean(done.stdout, prefix)


def flame_graphs(workload, base, ours):
    """Both flame graphs on one scale, in boxes that scroll on a narrow screen."""
    both = [stacks(side.get("samples", "")) for side in (base, ours)]
    scale = max(sum(s.values()) for s in both)
    out = ""
    for variant, found in zip(bench.VARIANTS, both):
        title = f"{workload.name}, {variant}: {sum(found.values()):,} samples"
        svg = flame_graph(found, scale, f"{workload.name}-{variant}") if found else ""
        out += (f'<figure class="flame" aria-label="{page.escape(title)}"><div>{svg}</div>'
                f"<figcaption>{page.escape(title)}</figcaption></figure>")
    return out


def as_html(workload, base, ours):
    """All of a workload for the page."""
    out = [f"<h2>{page.escape(workload.name)}</h2><pre>{page.escape(command(workload))}</pre>",
           flame_graphs(workload, base, ours)]
    for title, lines in tables(workload, base, ours):
        out.append(f"<h3>{page.escape(title)}</h3>" + page.plain_table(
            ("", "base", "ours", "ours/base"), lines, 1))
    for variant, side in zip(bench.VARIANTS, (base, ours)):
        if "locks" in side:
            out.append(f"<h3>perf lock contention, {variant}</h3>"
                       f"<pre>{page.escape(side['locks'])}</pre>")
    return "".join(out)
