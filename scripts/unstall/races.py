# SPDX-License-Identifier: GPL-2.0
"""Data races in mm that the series brings (make race-check).

KCSAN watches mm in two kernels, base and ours, while the same programs run in both.
Mainline has races that nobody minds; what counts is one that ours has, that the base
has not, and in which a function runs that the series adds or changes. Which these are
is read from the machine code, so that an inline function of a header counts as well.

KCSAN samples: a race that both kernels have may be seen in one of them alone. So where
ours has something new, the base gets more rounds to show it too.
"""

import re

from . import common, kernel as kernels, machinecode, splats, stress, targets, vm

RACE = re.compile(r"BUG: KCSAN: data-race in (.+)")
# Where an instruction and what it refers to lie, as objdump has it.
PLACE = re.compile(r"^\s*[0-9a-f]+:|\b[0-9a-f]+ (?=<)|[+-]0x[0-9a-f]+(?=>|$)")
# What the series took out of a function: the base has the race under that one's name.
FORMERLY = {"folio_batch_move_live": "folio_batch_move_lru"}
MORE_ROUNDS = 2         # of the base, for what only ours has shown
# What has threads, or tasks that share what mm has one of: anon_vmas, LRU lists, swap.
SHARED = ("mremap", "vm-mergeable", "userfaultfd", "mlock", "pageswap", "swap",
          "fuzz-relocates", "fuzz-threads")
STRESSORS = (
    *(s for s in stress.STRESSORS if s.name in SHARED),
    stress.Stressor("churn", "populate_churn -q -P 2 -p 16 -c {operations:.0f}", 2),
    stress.Stressor("thrash", f"fault_thrash -d {stress.SCRATCH} -n 8 -T {{seconds}}"),
    stress.Stressor("swapin", "fault_swapin -T {seconds}"),
)
# More watches than by default, each for longer: the other CPU is slow, and may have to wait.
WATCHING = "kcsan.skip_watch=500 kcsan.udelay_task=400"
# The base has nothing to relocate with.
SETTINGS = f"{{ {stress.ALWAYS}; }} 2> /dev/null; {stress.KSM}"


def pair_of(title):
    """The two functions of a report's title, without what the compiler made of their names."""
    names = re.sub(r"\+0x\S+", "", title).split(" / ")
    return tuple(sorted(re.split(r"\.(?:isra|part|constprop|cold)\b", n.strip())[0] for n in names))


def in_base(pair):
    """The functions that a pair of ours was in the base."""
    return tuple(sorted(FORMERLY.get(f, f) for f in pair))


def reports(console):
    """The races of a kernel's log: the functions, and the first report of each pair."""
    found = {}
    for splat in splats.scan_all(console):
        m = RACE.match(splat.line)
        if m:
            found.setdefault(pair_of(m[1]), splat.excerpt)
    return found


def others(console):
    """What else the kernel had to say."""
    return [s for s in splats.scan(console) if not RACE.match(s.line)]


def code_of(function):
    """The instructions of a function, wherever it lies."""
    return [PLACE.sub("", text) for _, text, _ in function.code]


def changed_functions(base, ours):
    """The names of the functions in mm whose code the series adds or changes."""
    names = set()
    for obj in sorted((ours.out / "mm").glob("*.o")):
        new = machinecode.disassemble("objdump", obj)
        twin = base.out / "mm" / obj.name
        old = machinecode.disassemble("objdump", twin) if twin.exists() else {}
        names |= {n for n, f in new.items() if n not in old or code_of(old[n]) != code_of(f)}
    return {pair_of(n)[0] for n in names}


def steps(seconds, path):
    """The same for both kernels."""
    return [vm.Step("settings", SETTINGS, 30),
            *(stress.step_of(s, seconds, path) for s in STRESSORS)]


def is_watched(kernel):
    """Whether KCSAN was compiled into mm; otherwise there would be no race to see."""
    functions = machinecode.disassemble("objdump", kernel.out / "mm" / "memory.o")
    return any(s.startswith("__tsan_") for f in functions.values() for s in f.symbols)


class Watched:
    """One of the two kernels."""

    def __init__(self, variant):
        tree, names = targets.tree(variant)
        kernel = kernels.Kernel(tree, targets.arch(), topics=names, watched=True)
        self.variant, self.kernel = variant, targets.build_kernel(kernel, variant)
        self.races, self.rounds = {}, 0
        if not is_watched(self.kernel):
            raise common.CannotRun(f"{self.kernel.out}/mm/memory.o calls nothing of KCSAN's: this "
                                   "kernel's Makefiles no longer take KCSAN_SANITIZE from make.")

    def round(self, steps, tally):
        """Boots, runs the steps and adds the races to those that are known."""
        name = f"{self.variant}-{self.rounds}"
        how = targets.boot(self.kernel, append=WATCHING)
        how.boot_timeout *= 4
        done = vm.boot_and_run(how, steps, common.OUT / common.base_name() / "races" / name,
                               on_begin=lambda step: common.say(f"  races  {name}: {step}"))
        for step in done.steps:
            tally.one(f"{name} {step.name}", stress.problem_of(step), step.seconds)
        text = done.console.read_text(errors="replace") if done.console.exists() else ""
        said = "\n".join(f"{s.kind}: {s.line}" for s in others(text))
        tally.one(f"{name}: the kernel says nothing but races", said or None, 0)
        for pair, excerpt in reports(text).items():
            self.races.setdefault(pair, excerpt)
        self.rounds += 1


def new_races(base, ours, changed):
    """What only ours has shown so far, and in which something new runs."""
    return {pair: excerpt for pair, excerpt in ours.races.items()
            if in_base(pair) not in base.races and changed & set(pair)}


def run(seconds, tally):
    """Builds both kernels, stresses both, and counts each race that is new as a failure."""
    base, ours = Watched("base"), Watched("ours")
    changed = changed_functions(base.kernel, ours.kernel)
    folders = {kernels.build_workloads(ours.kernel, f) for f in targets.workloads(ours.kernel.tree)}
    todo = steps(seconds, ":".join(map(str, folders)))
    for kernel in (ours, base):
        kernel.round(todo, tally)
    while new_races(base, ours, changed) and base.rounds <= MORE_ROUNDS:
        base.round(todo, tally)
    both = {pair for pair in ours.races if in_base(pair) in base.races}
    common.say(f"  races  {len(changed)} functions are new or changed; pairs that race: "
               f"{len(base.races)} in the base, {len(ours.races)} in ours, {len(both)} in both")
    for pair in sorted(ours.races.keys() - both):
        common.say(f"  races  only in ours: {' / '.join(pair)}")
    found = new_races(base, ours, changed)
    for pair, excerpt in found.items():
        tally.one(f"race of {' / '.join(pair)}", excerpt, 0)
    if not found:
        tally.one("no race of what the series changes is new", None, 0)
