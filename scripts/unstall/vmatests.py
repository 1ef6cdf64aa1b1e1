# SPDX-License-Identifier: GPL-2.0
"""The kernel's tests of VMAs in tools/testing/vma, which compile mm/vma.c into a program.

They build beside their sources, and find the rest of the tree by relative
paths.  So each build has a folder of its own, with a copy of the tests and links
to all else: the tree stays as it is, and nothing of another build is taken.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from . import common, kernel as kernels

FOLDER = Path("tools/testing/vma")
BUILT = shutil.ignore_patterns("*.o", "vma", "generated", "idr.c", "radix-tree.c")
SUMMARY = re.compile(r"^(\d+) tests run, (\d+) passed, (\d+) failed\.$", re.M)
TESTED = re.compile(r"mm/vma(_\w+)?\.[ch]|tools/testing/(vma|shared)/.*")
SECONDS = 300                   # they take less than one


def is_tested(name):
    """Whether these tests may notice that a file changes."""
    return TESTED.fullmatch(name) is not None


def link_entries(source, target, but=""):
    """A folder with links to what another one has, except for one name."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != but:
            (target / entry.name).symlink_to(entry.absolute())


def link_tree(tree, farm):
    """Makes a folder in which the tests can be built; returns it."""
    folder = Path()
    for name in FOLDER.parts:
        link_entries(tree / folder, farm / folder, but=name)
        folder /= name
    shutil.copytree(tree / FOLDER, farm / FOLDER, ignore=BUILT)
    return farm


def mutate(farm, patch):
    """Applies a patch to mm/vma.c, as the folder has it."""
    mm = (farm / "mm").resolve()
    (farm / "mm").unlink()
    link_entries(mm, farm / "mm", but="vma.c")
    common.run("patch", "-s", "-o", farm / "mm" / "vma.c", mm / "vma.c", patch)


def build(farm):
    """Compiles the tests without warnings; returns None, or what the compiler says."""
    done = subprocess.run(["make", "-s", "-C", farm / FOLDER, f"-j{os.cpu_count()}",
                           f"CC={kernels.compiler('gcc')}", "EXTRA_CFLAGS=-Werror"], text=True, errors="replace",
                          env=kernels.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return f"does not build:\n{done.stdout.strip()}" if done.returncode else None


def judge(status, out, err):
    """None if all tests passed; else what is wrong.

    Assertions of the kernel's and the sanitizers' findings do not change the
    summary or the status: they are printed on stderr, where nothing else goes.
    """
    found = SUMMARY.search(out)
    if not found:
        return f"ended with status {status} and no summary\n{err.strip()}".strip()
    if status == 0 and int(found[1]) > 0 and found[1] == found[2] and not err.strip():
        return None
    return f"{found[0]}\n{err.strip()}".strip()


def run(farm):
    """Builds the tests and runs them; returns None, or what is wrong."""
    problem = build(farm)
    if problem:
        return problem
    try:
        done = subprocess.run(["./vma"], cwd=farm / FOLDER, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                              check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s"
    return judge(done.returncode, done.stdout, done.stderr)
