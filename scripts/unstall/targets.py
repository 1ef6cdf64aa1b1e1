# SPDX-License-Identifier: GPL-2.0
"""From the user's variables to trees, kernels and boots.

A variant is "base", the pristine base, or "ours", the base with the series; with
TREE=/path "ours" is the tree that the user hacks.
"""

import os
import re
from pathlib import Path

from . import common, kernel as kernels, series, tree as trees, vm
from .common import CannotRun

KUNIT_TESTS = Path("mm/tests")
SELFTESTS = Path("tools/testing/selftests/mm")


def arch(known=None):
    """The architecture that ARCH= asks for, of those that have a guest if not said otherwise."""
    known = known or vm.ARCHES
    return known[common.choice("ARCH", tuple(known), "x86_64")]


def guest():
    """The guest that ARCH= and NUMA= ask for; each has its list of expected results."""
    return arch().name + (f"-numa{vm.nodes()}" if vm.nodes() > 1 else "")


def topics():
    """The names of the selected topics, with what they need, in the series' order."""
    return tuple(series.load(common.base_name()).selected_topics())


def tree(variant, known=None):
    """The source tree of a variant, and the topics that it holds."""
    arch(known)
    vm.check_settings()
    base = common.base_name()
    if variant == "base":
        return trees.base_tree(base), ()
    if os.environ.get("TREE"):
        path = Path(os.environ["TREE"]).resolve()
        if not (path / "mm" / "mremap.c").exists():
            raise CannotRun(f"TREE={path} is no kernel tree.")
        return path, tuple(t for t in topics() if is_in(path, t))
    return trees.ours_tree(base), topics()


def is_in(path, topic):
    return all((path / f).exists() for f in series.load(common.base_name()).added_files(topic))


def kernel_of(path, names):
    """The kernel that a tree gives with ARCH=, DEBUG= and SMP=."""
    return kernels.Kernel(path, arch(), common.flag("DEBUG"), names, many=vm.wanted_cpus() > kernels.FEW)


def build_kernel(kernel, variant):
    return kernels.build(kernel, f"{variant} {kernel.flavour}")


def build(variant):
    """Builds the kernel of a variant and returns it."""
    return build_kernel(kernel_of(*tree(variant)), variant)


def boot(kernel, **changes):
    """How the user wants a kernel booted."""
    how = vm.Boot(kernel.image, kernel.arch, modules=kernel.modules, **changes)
    if kernel.debug:
        how.boot_timeout *= 4
    return vm.choose_accelerator(vm.settings_from_environment(how))


def suite_names(path, names):
    """The KUnit suites that the topics add, from their sources in a tree."""
    found = []
    for source in topic_files(names, KUNIT_TESTS, "_kunit.c"):
        found += re.findall(r'\.name\s*=\s*"([\w-]+)"', (path / source).read_text())
    return found


def categories(names):
    """The kselftest categories that the topics add: one ksft_NAME.sh each."""
    return [f.name[len("ksft_"):-len(".sh")] for f in topic_files(names, SELFTESTS, ".sh")
            if f.name.startswith("ksft_")]


def kunitconfigs(path, names):
    """The .kunitconfig files of the topics that a tree holds."""
    return [f for f in topic_files(names, KUNIT_TESTS, ".kunitconfig") if (path / f).exists()]


def topic_files(names, folder, suffix):
    known = series.load(common.base_name())
    return [Path(f) for t in names for f in known.added_files(t)
            if f.startswith(f"{folder}/") and f.endswith(suffix)]


def known_categories(path):
    """Every kselftest category that a tree has: ours and mainline's."""
    return sorted(f.name[len("ksft_"):-len(".sh")] for f in (path / SELFTESTS).glob("ksft_*.sh"))


def workloads(path):
    """The folders of tools/testing/ in which the series keeps benchmark workloads."""
    known = series.load(common.base_name())
    files = [Path(f) for t in known.topics for f in known.added_files(t)]
    return sorted({f.parent for f in files if f.name == "Makefile"
                   and f.parent.parent == Path("tools/testing") and (path / f).exists()})


def program_path(kernel):
    """Where a guest with the host's root finds our programs, as for PATH."""
    if not kernel.arch.host_root:
        return ""
    folders = [kernels.install_selftests(kernel) / "mm"]
    for folder in workloads(kernel.tree):
        folders.append(kernels.build_workloads(kernel, folder))
    return ":".join(str(f) for f in folders)
