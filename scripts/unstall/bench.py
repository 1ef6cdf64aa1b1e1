# SPDX-License-Identifier: GPL-2.0
"""Plans and runs 'make bench': which boots, in which order, and what they printed.

One boot of a kernel runs all selected workloads of a guest. All boots of one
repetition come before those of the next, so that a run that has to end early has
measured everything at least once.
"""

import difflib
import hashlib
import os
import re
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from . import common, kernel as kernels, measuring, progress, targets, vm, workloads
from .common import CannotRun

VARIANTS = ("base", "ours")
LIMIT = 45 * 60         # seconds, for all boots
QUICK = 285             # seconds within which repetitions are begun in a quick bench
GUESS = 60              # seconds of a boot of which nothing is known
APPEND = "kunit.enable=0"
NO_KVM = "No wall time under KVM: no kernel boots under it on this machine."
NOT_OURS = ("ACCEL", "ARCH", "DEBUG", "MEM", "NUMA", "SMP")     # the table says them


def kernel_name(guest):
    """What kernel a guest of the table boots, in words: its architecture, and if it is wide."""
    how = workloads.GUESTS[guest]
    return f"{how.arch}-many" if how.smp > kernels.FEW else how.arch


@dataclass(frozen=True)
class Plan:
    """What was asked for."""
    workloads: tuple
    repetitions: int
    fit: int = LIMIT            # seconds; a repetition that does not fit is left out

    def guests(self):
        """The guests that the workloads need, in the order of the table."""
        return tuple(dict.fromkeys(w.guest for w in self.workloads))

    def arches(self):
        return tuple(dict.fromkeys(workloads.GUESTS[g].arch for g in self.guests()))

    def kernels(self):
        """The kernels that the guests need: one of each variant for each name."""
        return tuple(dict.fromkeys(kernel_name(g) for g in self.guests()))

    def of_guest(self, guest):
        return tuple(w for w in self.workloads if w.guest == guest)

    def jobs(self):
        return [Job(g, v, n) for n in range(1, self.repetitions + 1)
                for g in self.guests() for v in VARIANTS]


@dataclass(frozen=True)
class Job:
    """One boot."""
    guest: str
    variant: str
    repetition: int

    def __str__(self):
        return f"{self.guest} {self.variant} {self.repetition}"


def select(words, topics, quick=False, table=workloads.ALL):
    """The workloads that W= names, by topic or by name; all of our topics by default."""
    known = [w for w in table if w.topic in topics]
    names = {w.name for w in known} | {w.topic for w in known}
    unknown = sorted(set(words) - names)
    if unknown:
        raise CannotRun(f"W={' '.join(unknown)} is no topic and no workload; there are: "
                        f"{', '.join(sorted(names))}.")
    chosen = [w for w in known if not words or w.name in words or w.topic in words]
    if quick and not words:
        chosen = [w for w in chosen if w.quick]
    return tuple(chosen)


def on_this_machine(plan, built):
    """The plan without what this machine cannot run, and notes that say so."""
    needs = tuple(w for w in plan.workloads if workloads.GUESTS[w.guest].accel == "kvm")
    if not needs:
        return plan, []
    kernel = built[kernel_name(needs[0].guest)]["base"]
    if vm.kvm_works(vm.Boot(kernel.image, kernel.arch)):
        return plan, []
    left = tuple(w for w in plan.workloads if w not in needs)
    if not left:
        raise CannotRun(NO_KVM)
    return replace(plan, workloads=left), [NO_KVM]


# --------------------------------------------------------------- both kernels

def build(variant, name):
    """The kernel of a variant that kernel_name() names, whatever ARCH= and SMP= say."""
    arch, *many = name.split("-")
    path, names = targets.tree(variant)
    return targets.build_kernel(kernels.Kernel(path, vm.ARCHES[arch], topics=names,
                                               many=bool(many)), variant)


def options(tree):
    """The options that a tree's Kconfig files know, and which others each of them selects."""
    lines = r"^\s*(menu)?config\s|^\s+select\s"
    done = subprocess.run(["grep", "-rhsE", "--include=Kconfig*", lines, tree],
                          text=True, capture_output=True, check=False)
    found, selects = {}, set()
    for word, name in re.findall(r"^\s*(config|menuconfig|select)\s+(\w+)", done.stdout, re.M):
        if word == "select":
            selects.add(name)
        else:
            selects = found.setdefault(name, set())
    return found


def own_options(base, ours):
    """The options that only our tree knows, and what they select, which then is as new."""
    known = options(ours)
    new = known.keys() - options(base).keys()
    return new.union(*(known[name] for name in new))


def config_difference(base, ours, own):
    """The lines that differ between two .config files, and those not of our own options."""
    wanted = [[line for line in text.splitlines() if "CONFIG_" in line] for text in (base, ours)]
    diff = [line for line in difflib.unified_diff(*wanted, "base", "ours", lineterm="", n=0)
            if re.match(r"[+-](CONFIG_|# CONFIG_)", line)]
    alien = [line for line in diff if re.search(r"CONFIG_(\w+)", line)[1] not in own]
    return diff, alien


def check_configs(built, own):
    """Prints what differs between the configs of both kernels; only our options may."""
    texts = [(built[v].out / ".config").read_text() for v in VARIANTS]
    diff, alien = config_difference(*texts, own)
    common.say(f"  config {built['ours'].flavour}: " +
               ("both are the same" if not diff else
                "they differ in options of the series, and what they select:"
                if not alien else "they differ:"))
    for line in diff:
        common.say(f"         {line}")
    if alien:
        raise CannotRun("base and ours must have the same options, but for those that the series "
                        f"adds and what these select; see configs/ for: {', '.join(alien)}")
    return diff


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def kernel_id(kernel):
    """What names a kernel: the tree it was made from, its image and its config."""
    release = kernel.out / "include" / "config" / "kernel.release"
    return {"release": release.read_text().strip() if release.exists() else "",
            "tree": common.run("git", "-C", kernel.tree, "rev-parse", "HEAD^{tree}").strip(),
            "changed": bool(common.run("git", "-C", kernel.tree, "status", "--porcelain").strip()),
            "image": sha256(kernel.image), "config": sha256(kernel.out / ".config"),
            "compiler": common.run(kernel.arch.cc, "--version").splitlines()[0]}


def machine(arches):
    """The machine that QEMU ran on; the figures should not depend on it."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"^(?:model name|CPU part)\s*:\s*(.*)$", text, re.M)
    total = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {"cpu": cpu[1] if cpu else vm.HOST_ARCH, "cpus": os.cpu_count(),
            "memory MiB": int(total[1]) // 1024,
            "qemu": [common.run(vm.ARCHES[a].qemu, "--version").splitlines()[0] for a in arches]}


def without_paths(text):
    """A command line as it would be anywhere: where the checkout lies is nobody's business."""
    for folder, name in ((common.BUILD, "build"), (common.OUT, "out"), (common.ROOT, ".")):
        text = text.replace(str(folder), name)
    return text


# ------------------------------------------------------------------- progress

class Progress:
    """How far a bench is, and when it may end; learns how long each step takes."""

    def __init__(self, plan, known, ticker=None):
        self.plan, self.ticker = plan, ticker or progress.Ticker()
        self.known = dict(known)    # "guest variant workload": seconds, "" for the boot
        self.begin = self.ticker.clock()
        self.left = plan.jobs()
        self.job = self.step = None
        self.since = self.begin

    def elapsed(self):
        return self.ticker.clock() - self.begin

    def guess(self, job, name):
        for variant in (job.variant, *VARIANTS):
            seconds = self.known.get(f"{job.guest} {variant} {name}")
            if seconds is not None:
                return seconds
        return None

    def estimate(self, job):
        """Seconds of a boot; a guess where one of its steps has never run."""
        parts = [self.guess(job, n) for n in self.names(job)]
        return GUESS + sum(p or 0 for p in parts) if None in parts else sum(parts)

    def names(self, job):
        return ["", *(w.name for w in self.plan.of_guest(job.guest))]

    def rest(self):
        return sum(map(self.estimate, self.left))

    def start(self, job):
        self.job, self.step, self.since = job, "", self.ticker.clock()
        self.show(force=True)

    def at(self, name):
        """A step of the boot begins; the last one has ended."""
        now = self.ticker.clock()
        self.known[f"{self.job.guest} {self.job.variant} {self.step}"] = round(now - self.since, 2)
        self.step, self.since = name, now
        if name is not None:
            self.show()

    def show(self, force=False):
        names = self.names(self.job)
        done = sum(self.guess(self.job, n) or 0 for n in names[:names.index(self.step)])
        total = len(self.plan.jobs())
        number = total - len(self.left) + 1
        self.ticker.show(f"  bench  boot {number}/{total} ({self.job}) "
                         f"{names.index(self.step)}/{len(names) - 1} {self.step or 'booting'}, "
                         f"ETA {common.duration(max(0, self.rest() - done))}", force)

    def end(self, finished):
        if finished:
            self.at(None)
        self.left.remove(self.job)


# --------------------------------------------------------------------- a boot

def steps(chosen, arch, path, seconds_left):
    """A step for each workload, none longer than what is left of the time."""
    return [vm.Step(w.name, measuring.command_line(arch, w.command, w.count, w.warm, path,
                                                     w.rounds),
                    int(min(w.seconds, max(seconds_left, 1))), measuring.GUEST_LIMIT)
            for w in chosen]


def outcome(step, why):
    """What a step gave: its figures, or an error or skip in words."""
    found = measuring.figures(step.output)
    if step.status == "0" and found:
        found.pop("status", None)
        return {"figures": found}
    last = [line for line in step.output.splitlines() if line and not line.startswith('{"ns"')]
    reason = last[-1].strip() if last else why or "it printed nothing"
    if step.status == "4":
        return {"skipped": reason}
    return {"error": f"{'ended with ' if step.status.isdigit() else ''}{step.status}: {reason}"}


def boot_kernel(plan, job, built, folder, bar):
    """One boot: the outcome of each workload, and QEMU's command line."""
    guest = workloads.GUESTS[job.guest]
    both = built[kernel_name(job.guest)]
    kernel, ours = both[job.variant], both["ours"]
    chosen = plan.of_guest(job.guest)
    boot = measuring.boot(kernel, smp=guest.smp, numa=guest.numa, mem=guest.mem, append=APPEND,
                          icount=guest.icount, accel=guest.accel)
    boot.programs = measuring.static_programs(ours, [w.command for w in chosen])
    folder = folder / str(job).replace(" ", "-")
    bar.start(job)
    begin = time.monotonic()
    todo = steps(chosen, kernel.arch, program_path(ours), LIMIT - bar.elapsed())
    run = vm.boot_and_run(boot, todo, folder, on_begin=bar.at)
    bar.end(run.done)
    return {"guest": job.guest, "variant": job.variant, "repetition": job.repetition,
            "seconds": round(time.monotonic() - begin, 1), "died": run.why,
            "qemu": without_paths((folder / "command").read_text().strip()),
            "workloads": {s.name: outcome(s, run.why) for s in run.steps}}


def program_path(ours):
    """The folders with our workloads, as for PATH; not the selftests, which take long to build."""
    if not ours.arch.host_root:
        return ""
    return ":".join(dict.fromkeys(str(kernels.build_workloads(ours, f))
                                  for f in targets.workloads(ours.tree)))


def run(plan, built, folder, bar):
    """All boots; stops before one that would not fit, once everything ran, or at Ctrl-C."""
    runs, notes = [], []
    try:
        run_into(runs, notes, plan, built, folder, bar)
    except KeyboardInterrupt:
        if not runs:
            raise
        notes.append(f"Interrupted in boot {len(runs) + 1} of {len(plan.jobs())}.")
    bar.ticker.close(erase=True)
    return runs, notes


def run_into(runs, notes, plan, built, folder, bar):
    """Appends what each boot gave, and a note where boots were left out."""
    for job in plan.jobs():
        until = bar.elapsed() + bar.estimate(job)
        if bar.elapsed() > LIMIT or job.repetition > 1 and until > plan.fit:
            notes.append(f"Stopped before boot '{job}': the limit is {common.duration(plan.fit)}.")
            break
        done = boot_kernel(plan, job, built, folder, bar)
        runs.append(done)
        bar.ticker.keep(f"  bench  {job}: {common.duration(done['seconds'])}"
                        + "".join(f"\n         {name}: {o.get('error') or o.get('skipped')}"
                                  for name, o in done["workloads"].items() if "figures" not in o))
