# SPDX-License-Identifier: GPL-2.0
"""Measures commands in a guest whose clock is the instruction count.

Under QEMU's -icount shift=0,sleep=off the guest's nanoseconds are the instructions
that it executed. What is common to 'make ab' and 'make bench': the line for the
guest's init, the figures in what it printed, and how far they spread.
"""

import json
import re
import shlex

from . import kernel as kernels, targets, vm
from .common import CannotRun

BOOT_TIMEOUT = 600
GUEST_PATH = vm.GUEST_SOURCES / "bin"
GUEST_LIMIT = 24 * 3600     # seconds of a step by the guest's clock, which leaps
# The same addresses in each boot; what they hash to costs instructions.
SAME_ADDRESSES = "norandmaps nokaslr"
METRIC = re.compile(r"^metric (\S+) (-?[\d.]+)$", re.M)


def boot(kernel, append="", **settings):
    """A guest with one CPU, or as the settings say, that counts instructions."""
    return vm.Boot(kernel.image, kernel.arch, **{
        "smp": 1, "modules": kernel.modules, "icount": True, "accel": "tcg",
        "boot_timeout": BOOT_TIMEOUT, "append": f"{append} {SAME_ADDRESSES}".strip(), **settings})


def command_line(arch, text, events, warm, path, rounds=1):
    """A command under measure, as a line for the guest's init."""
    options = " ".join([f"-w {warm} -r {rounds}"] + [f"-c {shlex.quote(e)}" for e in events])
    if arch.host_root:
        return f"PATH={path}:{GUEST_PATH}:$PATH {vm.guest_program('measure', arch)} {options} " \
               f"sh -c {shlex.quote(text)}"
    return f"/bin/measure {options} {text}"


def static_programs(ours, commands):
    """For a guest without the host's root: measure, and what the commands name."""
    if ours.arch.host_root:
        return ()
    names = dict.fromkeys(text.split()[0] for text in commands)
    return (vm.guest_program("measure", ours.arch), *(static_program(ours, n) for n in names))


def static_program(ours, name):
    """A program of our tree, built statically for the guests of both kernels."""
    for folder in (targets.SELFTESTS, *targets.workloads(ours.tree)):
        if (ours.tree / folder / f"{name}.c").exists():
            return kernels.static_program(ours, folder, name)
    raise CannotRun(f"CMD={name}: the arm64 guest only has static programs, of "
                    f"{targets.SELFTESTS} and tools/testing/*/.")


def figures(output):
    """What a measured command printed, by name; None if it was not counted."""
    lines = [line for line in output.splitlines() if line.startswith('{"ns"')]
    if not lines:
        return None
    found = json.loads(lines[-1])
    found.update((name, float(value)) for name, value in METRIC.findall(output))
    return found


def spread(values):
    """How far the runs differ, in percent of the smallest figure."""
    return 100 * (max(values) - min(values)) / max(min(values), 1)
