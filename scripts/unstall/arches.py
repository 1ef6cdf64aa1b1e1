# SPDX-License-Identifier: GPL-2.0
"""Compiles what the series touches for other architectures, compilers and options.

ROWS is the table.  A row compiles the C files that the series touches or adds, as far
as its configuration has them, with W=1, and some rows link a whole kernel.  The base
is compiled only where ours says something: what both say is not the series' doing.
"""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from . import checks, common, kernel as kernels, targets, tree as trees
from .common import CannotRun, Failed

CLANG = "-19"               # as in the names of Debian's programs; the kernel wants 18

# What a linker, modpost and objtool complain about; checks.WARNING has the compiler's.
LINKING = re.compile(r"^.*(?:undefined reference to|undefined symbol:|WARNING: modpost:|"
                     r"(?:warning|error): objtool:).*$", re.M)

# Prints the objects that a folder's Makefile asks for with a kernel's configuration.
LIST_OBJECTS = """
show:
include include/config/auto.conf
src := {folder}
obj := {folder}
include {makefile}
all := $(obj-y) $(obj-m) $(lib-y)
show: ; @echo $(all) $(foreach o,$(all),$($(o:.o=-y)) $($(o:.o=-objs)))
"""


@dataclass(frozen=True)
class Toolchain:
    """A compiler for an architecture, in the place of a guest's vm.Arch."""
    name: str               # make's ARCH
    folder: str             # in arch/
    cc: str
    packages: str
    cross: str = ""
    llvm: str = ""          # make's LLVM: the suffix of the LLVM tools
    lacks: tuple = ()       # as vm.Arch has it; the rows say what they are without
    like: str = ""          # as vm.Arch has it

    @property
    def variables(self):
        """What make is told in a kernel tree."""
        named = (("ARCH", self.name), ("CROSS_COMPILE", self.cross), ("LLVM", self.llvm))
        return {name: value for name, value in named if value}

    def missing(self):
        """The programs of the toolchain that this machine lacks."""
        tools = [self.cc] + ([f"ld.lld{self.llvm}", f"llvm-nm{self.llvm}"] if self.llvm else [])
        return [t for t in tools if not shutil.which(t)]


def gcc(name, folder, triple):
    """Debian's cross gcc for an architecture; the triple also names its package."""
    return Toolchain(name, folder, f"{triple}-gcc", f"gcc-{triple}", cross=f"{triple}-")


def clang(name, folder):
    return Toolchain(name, folder, f"clang{CLANG}", f"clang{CLANG} lld{CLANG} llvm{CLANG}",
                     llvm=CLANG)


X86_64 = Toolchain("x86_64", "x86", "gcc", "gcc")
I386 = Toolchain("i386", "x86", "gcc", "gcc")
ARM64 = gcc("arm64", "arm64", "aarch64-linux-gnu")
ARM = gcc("arm", "arm", "arm-linux-gnueabihf")
RISCV64 = gcc("riscv", "riscv", "riscv64-linux-gnu")
S390X = gcc("s390", "s390", "s390x-linux-gnu")
POWERPC64 = gcc("powerpc", "powerpc", "powerpc64le-linux-gnu")
X86_64_CLANG = clang("x86_64", "x86")
LOONGARCH_CLANG = clang("loongarch", "loongarch")


@dataclass(frozen=True)
class Row:
    """One line of the table: a configuration, and what is built with it.

    The lines are merged last, and Kconfig must grant them.  A guest row starts from
    the guest's fragments with all KUnit suites of the series, which must be there too
    unless a line takes one back.
    """
    name: str
    tools: Toolchain
    lines: tuple = ()
    guest: bool = True
    start: str = "tinyconfig"
    links: bool = False         # a whole kernel, not the touched objects alone
    quick: bool = False         # also in --quick, where nothing is linked


def on(*names):
    return tuple(f"CONFIG_{n}=y" for n in names)


def off(*names):
    return tuple(f"# CONFIG_{n} is not set" for n in names)


# What the series sees of mm, for kernels that are linked and should stay small.
SMALL = on("MMU", "SMP", "BLOCK", "SHMEM", "SWAP", "KSM", "CGROUPS", "MEMCG", "LRU_GEN",
           "COMPACTION", "MIGRATION", "ADVISE_SYSCALLS", "PROC_FS", "SYSFS")

FAULT_SUITES = ("FAULT_RETRY_KUNIT_TEST", "FAULT_KEEP_LOCK_KUNIT_TEST")

ROWS = (
    # Architectures: each has a fault handler that the series changes.
    Row("x86_64", X86_64),
    Row("x86_64-clang", X86_64_CLANG, on("MEMCG_V1"), quick=True),
    Row("i386", I386, on("HIGHMEM4G") + off("64BIT", *FAULT_SUITES), quick=True),
    Row("arm64", ARM64),
    Row("arm64-64k-pages", ARM64, on("ARM64_64K_PAGES")),
    Row("arm", ARM, on("ARCH_MULTI_V7", "ARCH_VIRT", "ARM_LPAE", "TRANSPARENT_HUGEPAGE"),
        quick=True),
    Row("riscv64", RISCV64, on("64BIT", "TRANSPARENT_HUGEPAGE"), quick=True),
    Row("s390x", S390X, on("TRANSPARENT_HUGEPAGE"), quick=True),
    Row("powerpc64le", POWERPC64, on("PPC64", "PPC_BOOK3S_64", "CPU_LITTLE_ENDIAN",
                                     "PPC_RADIX_MMU", "TRANSPARENT_HUGEPAGE"), quick=True),
    Row("loongarch-clang", LOONGARCH_CLANG, on("64BIT", "TRANSPARENT_HUGEPAGE"), quick=True),
    # Options that the series' code depends on, one off at a time.
    Row("no-swap", X86_64, off("SWAP", "FAULT_KEEP_LOCK_KUNIT_TEST")),
    Row("no-ksm", X86_64, off("KSM", "KSM_RMAP_KUNIT_TEST")),
    Row("no-per-vma-lock", X86_64, off("SMP", "PER_VMA_LOCK", *FAULT_SUITES)),
    Row("no-numa", X86_64, off("NUMA")),
    Row("no-thp", X86_64, off("TRANSPARENT_HUGEPAGE")),
    Row("no-memcg", X86_64, off("MEMCG")),
    Row("no-lru-gen", X86_64, off("LRU_GEN")),
    Row("no-migration", X86_64, off("MIGRATION", "NUMA_MIGRATION", "NUMA_BALANCING", "COMPACTION",
                                    "TRANSPARENT_HUGEPAGE", "CMA", "MEMORY_HOTREMOVE")),
    # Whole kernels.
    Row("allnoconfig", X86_64, off("SMP", "SWAP", "KSM", "NUMA", "MIGRATION"), guest=False,
        start="allnoconfig", links=True, quick=True),
    Row("i386-small", I386, SMALL + off("64BIT"), guest=False, links=True),
    Row("preempt-rt", X86_64, SMALL + on("EXPERT", "PREEMPT_RT"), guest=False, links=True,
        quick=True),
    Row("nommu", RISCV64, on("64BIT", "NONPORTABLE", "SMP") + off("MMU"), guest=False,
        start="allnoconfig", links=True, quick=True),
)


def select(wanted=(), quick=False):
    """The rows of these names, or all; with `quick` fewer, and no kernel is linked."""
    known = {r.name: r for r in ROWS}
    for name in wanted:
        if name not in known:
            raise CannotRun(f"T={name} is no row; the rows are: {', '.join(known)}.")
    rows = [known[name] for name in dict.fromkeys(wanted)] or list(ROWS)
    if not quick:
        return rows
    return [replace(r, links=False) for r in rows if wanted or r.quick]


@dataclass(frozen=True)
class RowKernel(kernels.Kernel):
    """The kernel that a row makes of a tree."""
    row: Row = None

    @property
    def own(self):
        """The fragment with what the row itself asks for."""
        return self.out / "row.config"

    def fragments(self):
        return (super().fragments() if self.row.guest else []) + [self.own]

    def promised(self):
        return [self.own]

    def suites(self):
        """The lines that build the series' KUnit suites in."""
        return [line for f in kernels.Kernel.fragments(self) if f.parent.name == "topics"
                for line in f.read_text().splitlines() if line.endswith("_KUNIT_TEST=y")]

    def write_own(self):
        self.out.mkdir(exist_ok=True)
        lines = [*(self.suites() if self.row.guest else []), *self.row.lines]
        self.own.write_text("\n".join(lines) + "\n")


def row_kernel(row, path, topics=()):
    return RowKernel(path, row.tools, topics=topics, folder=f"row-{row.name}", start=row.start,
                     row=row)


# ------------------------------------------------------------------- compiling

def listing_folder(tree, name):
    """The folder whose Makefile lists an object: its own, or the one above."""
    own = Path(name).parent
    return own if (tree / own / "Makefile").exists() else own.parent


def configured_objects(kernel, folder):
    """The objects that the Makefile of a folder asks for in a configured kernel."""
    text = LIST_OBJECTS.format(folder=folder, makefile=kernel.tree / folder / "Makefile")
    names = common.run("make", "-s", "-f", "-", cwd=kernel.out, input=text,
                       env=kernels.environment(kernel)).split()
    return {f"{folder}/{n}" for n in names}


def objects_of(kernel, files):
    """Of the objects that the files are compiled to, those that the kernel has."""
    objects = checks.touched_objects(kernel.tree, files, kernel.arch)
    folders = {listing_folder(kernel.tree, o) for o in objects}
    have = set().union(*(configured_objects(kernel, f) for f in folders))
    return [o for o in objects if o in have]


@dataclass
class Outcome:
    """What a tree's compilers and linkers said with a row's configuration."""
    objects: list
    said: set
    status: int
    log: Path


def complaints(text):
    """Warnings and errors of compilers and linkers, without their line numbers."""
    return checks.warnings(text) | {("", m[0].strip()) for m in LINKING.finditer(text)}


def compiled(kernel, files):
    """Compiles a row of one tree: the objects with W=1, then the kernel if the row links."""
    kernel.write_own()
    kernels.configure(kernel)
    common.run(*kernels.make_command(kernel, "-s", "prepare"), env=kernels.environment(kernel))
    objects = objects_of(kernel, files)
    text, status = checks.compile_again(kernel, objects, "W=1")
    if kernel.row.links and not status:
        linked, status = checks.compile_objects(kernel, ["vmlinux"])
        text += linked
    log = kernel.out / "arches.log"
    log.write_text(text)
    return Outcome(objects, complaints(text), status, log)


def problem_of(files, ours, base, seen):
    """What is wrong with a row, or None; adds the objects that it compiled to `seen`.

    `base` is a function that gives the base's kernel.
    """
    found = compiled(ours, files)
    seen.update(found.objects)
    if not found.objects:
        return "this configuration has none of the files that the series touches"
    if not found.status and not found.said:
        return None
    known = compiled(base(), files)
    if known.status:
        return f"the base does not build either; its log is {known.log}"
    new = [f"{f}: {w}" if f else w for f, w in sorted(found.said - known.said)]
    if found.status:
        new.append(f"does not build; the first error is:\n{kernels.first_error(found.log)}\n"
                   f"The whole log is {found.log}.")
    return "\n".join(new) or None


def lacking(row):
    """Why this machine cannot compile a row, with the remedy; or None."""
    missing = row.tools.missing()
    return (f"{', '.join(missing)} is not installed; run 'make deps', or "
            f"'apt-get install {row.tools.packages}'" if missing else None)


def touched_files(ours):
    """What the series, and work on it that is not committed, touches of a tree."""
    return common.run("git", "-C", ours, "diff", "--name-only", "--no-renames", "--diff-filter=d",
                      "base").splitlines()


def left_out(ours, files, seen):
    """The touched files that no row of the whole table compiled, or None."""
    wanted = {o for r in ROWS for o in checks.touched_objects(ours, files, r.tools)}
    return f"no row has {', '.join(sorted(wanted - seen))}" if wanted - seen else None


def run(rows, tally, clock):
    """Compiles the rows one after the other."""
    ours, topics = targets.tree("ours")
    files, seen = touched_files(ours), set()
    for row in rows:
        why = lacking(row)
        if why:
            tally.skip(row.name, why)
            continue
        begin = clock()
        try:
            problem = problem_of(files, row_kernel(row, ours, topics),
                                 lambda r=row: row_kernel(r, base_tree()), seen)
        except (CannotRun, Failed) as err:
            problem = err
        tally.one(row.name, problem, clock() - begin)
    if rows == list(ROWS) and not tally.skipped:
        tally.one("each touched C file is in a row", left_out(ours, files, seen), 0)


def base_tree():
    return trees.base_tree(common.base_name())
