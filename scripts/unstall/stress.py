# SPDX-License-Identifier: GPL-2.0
"""A bounded stress of mm in the debug kernel (make debug-check).

Each stressor is one step of one boot, in which mremap() relocates whatever it may.
What counts is that each ends well and in time, that the kernel had nothing to say,
and that it holds no memory that nobody knows of any more.
"""

from dataclasses import dataclass

from . import common, kernel as kernels, splats, targets, vm

# A stressor that does not end in time is killed by the guest, and hung for us.
SLACK = 240
SCRATCH = "/mnt/scratch"
MM_FUZZ = "tools/testing/mm_fuzz"
PER_SECOND = 500        # operations of mm_fuzz, in the debug kernel
KNOBS = "/sys/kernel/mm/mremap"
LEAKS = "/sys/kernel/debug/kmemleak"
ALWAYS = f"echo always > {KNOBS}/relocate_anon && echo 0 > {KNOBS}/relocate_max_kb"
KSM = "echo 1 > /sys/kernel/mm/ksm/run"
# An object that was allocated in the last seconds is no leak yet: scan twice.
FIND_LEAKS = (f"echo scan > {LEAKS} && sleep 6 && echo scan > {LEAKS} && "
              f"leaks=$(cat {LEAKS}) && echo \"$leaks\" && [ -z \"$leaks\" ]")


@dataclass(frozen=True)
class Stressor:
    """A command that runs for so many seconds as it is told, more or less."""
    name: str
    command: str        # with {seconds}, or {operations}
    share: float = 1.0  # of the operations


def _stress_ng(name, options):
    return Stressor(name, f"cd {SCRATCH} && stress-ng {options} -t {{seconds}} --oomable -q")


def _mm_fuzz(name, options, share=1.0):
    """So much of the operations that a single thread makes in the time."""
    return Stressor(name, f"mm_fuzz -d {SCRATCH} {options} -n {{operations:.0f}}", share)


# By a user who may do little.
AS_NOBODY = (f"mkdir -p -m 777 {SCRATCH}/nobody && cd {SCRATCH}/nobody && "
             "setpriv --reuid 65534 --regid 65534 --clear-groups")
# Root's madvise() stressor poisons its own pages, and fails of that on any kernel.
MADVISE = Stressor("madvise", f"{AS_NOBODY} stress-ng --madvise 2 -t {{seconds}} --oomable -q")
# Random arguments for the system calls of mm. How it ends says nothing.
TRINITY = Stressor("trinity", f"{AS_NOBODY} timeout -k 30 -s INT {{seconds}} "
                   "trinity -q -q -l off -C2 -g vm > /dev/null 2>&1; true")

STRESSORS = (
    _stress_ng("mremap", "--mremap 2 --mremap-bytes 4M"),
    _stress_ng("bigheap", "--bigheap 1 --bigheap-growth 64K --bigheap-ops 4000"),
    _stress_ng("vm", "--vm 2 --vm-bytes 64M"),
    _stress_ng("vm-mergeable", "--vm 2 --vm-bytes 32M --vm-madvise mergeable"),
    _stress_ng("userfaultfd", "--userfaultfd 1"),
    MADVISE,
    _stress_ng("mlock", "--mlock 1 --mlockmany 1"),
    _stress_ng("pageswap", "--pageswap 2"),
    _stress_ng("swap", "--swap 1"),
    _stress_ng("numa", "--numa 1"),
    _stress_ng("remap", "--remap 1 --mmapfork 1"),
    TRINITY,
    _mm_fuzz("fuzz", ""),
    _mm_fuzz("fuzz-relocates", "-R always"),
    _mm_fuzz("fuzz-ksm", "-e ksm", 0.5),
    _mm_fuzz("fuzz-thp", "-e thp -p 1100", 0.5),
    _mm_fuzz("fuzz-threads", "-t 2 -x", 0.1),
)


def step_of(stressor, seconds, path=""):
    """The step that runs a stressor for so long, with the programs of a folder."""
    operations = seconds * PER_SECOND * stressor.share
    command = stressor.command.format(seconds=seconds, operations=operations)
    return vm.Step(stressor.name, f"PATH={path}:$PATH; {command}", 2 * seconds + SLACK)


def steps(seconds, path=""):
    """Settings, the stressors, and the search for leaks."""
    return [vm.Step("settings", f"{ALWAYS} && {KSM}", 30),
            *(step_of(s, seconds, path) for s in STRESSORS),
            vm.Step("leaks", FIND_LEAKS, 300)]


def problem_of(step):
    """None if a step ended as it should."""
    if step.status == "0":
        return None
    return f"ended with {step.status}\n{step.output.strip()[-2000:]}"


def run(seconds, tally):
    """Boots the debug kernel with two nodes, stresses it and counts each stressor."""
    path, names = targets.tree("ours")
    kernel = targets.build_kernel(kernels.Kernel(path, targets.arch(), True, names), "ours")
    how = targets.boot(kernel, numa=2, append="kmemleak=on")
    how.numa = max(how.numa, 2)
    folder = common.OUT / common.base_name() / "stress"
    programs = kernels.build_workloads(kernel, MM_FUZZ)
    done = vm.boot_and_run(how, steps(seconds, programs), folder / "vm",
                           on_begin=lambda name: common.say(f"  stress {name}"))
    for step in done.steps:
        tally.one(f"stress {step.name}", problem_of(step), step.seconds)
    text = done.console.read_text(errors="replace") if done.console.exists() else ""
    found = "\n".join(f"{s.kind}: {s.line}" for s in splats.scan(text))
    tally.one("the kernel has nothing to say", found or None, 0)
