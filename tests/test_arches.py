# SPDX-License-Identifier: GPL-2.0
"""The table of architectures and options, and how its rows are judged."""

import os
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from unstall import arches, common, tally as tallies


class Table(unittest.TestCase):

    def test_names_are_unique_and_may_stand_in_a_path(self):
        names = [r.name for r in arches.ROWS]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertRegex(name, r"^[a-z0-9][a-z0-9_-]*$")

    def test_each_architecture_that_the_series_touches_has_a_row(self):
        patches = (common.PATCHES / common.base_name()).rglob("*.patch")
        touched = {folder for p in patches
                   for folder in re.findall(r"^\+\+\+ b/arch/(\w+)/", p.read_text(), re.M)}
        self.assertTrue(touched)
        self.assertLessEqual(touched, {r.tools.folder for r in arches.ROWS if r.guest})

    def test_deps_installs_every_compiler(self):
        deps = (common.ROOT / "scripts" / "deps").read_text()
        for row in arches.ROWS:
            for package in row.tools.packages.split():
                self.assertRegex(deps, rf"\t(run|arches)\t{re.escape(package)}\t")

    def test_options_have_one_value_in_a_row(self):
        for row in arches.ROWS:
            symbols = [re.search(r"CONFIG_\w+", line)[0] for line in row.lines]
            self.assertEqual(len(symbols), len(set(symbols)), row.name)

    def test_quick_is_a_part_of_all_and_links_nothing(self):
        quick = arches.select(quick=True)
        self.assertTrue(quick)
        self.assertLess(len(quick), len(arches.select()))
        self.assertFalse(any(r.links for r in quick))
        self.assertTrue(any(r.links for r in arches.select()))

    def test_named_rows_come_in_the_order_given_even_where_quick_is_asked(self):
        rows = arches.select(["no-ksm", "arm", "no-ksm"], quick=True)
        self.assertEqual([r.name for r in rows], ["no-ksm", "arm"])

    def test_unknown_row_is_refused_with_the_names(self):
        with self.assertRaisesRegex(common.CannotRun, "T=mips is no row; .*riscv64"):
            arches.select(["mips"])


class Toolchains(unittest.TestCase):

    def test_what_make_is_told(self):
        self.assertEqual(arches.RISCV64.variables,
                         {"ARCH": "riscv", "CROSS_COMPILE": "riscv64-linux-gnu-"})
        self.assertEqual(arches.LOONGARCH_CLANG.variables,
                         {"ARCH": "loongarch", "LLVM": arches.CLANG})
        self.assertEqual(arches.X86_64.variables, {"ARCH": "x86_64"})

    def test_what_is_missing_comes_with_the_remedy(self):
        row = arches.Row("x", arches.LOONGARCH_CLANG)
        with mock.patch("shutil.which", lambda p: None if p.startswith("ld") else p):
            self.assertRegex(arches.lacking(row), r"^ld\.lld-\d+ is not installed; .*make deps.*"
                                                  r"apt-get install clang-\d+ lld-\d+")
        with mock.patch("shutil.which", lambda p: p):
            self.assertIsNone(arches.lacking(row))


class Trees(unittest.TestCase):
    """Kernels of rows in a tree of a few files."""

    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.tree = Path(temp.name)

    def write(self, name, text=""):
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def kernel(self, row, topics=()):
        kernel = arches.row_kernel(row, self.tree, topics)
        kernel.out.mkdir(exist_ok=True)
        return kernel

    def test_a_row_s_own_lines_are_merged_last_and_promised(self):
        row = arches.Row("no-ksm", arches.X86_64, arches.off("KSM"))
        kernel = self.kernel(row, ("ksm",))
        kernel.write_own()
        lines = kernel.own.read_text().splitlines()
        self.assertEqual(lines, ["CONFIG_KSM_RMAP_KUNIT_TEST=y", "# CONFIG_KSM is not set"])
        names = [f.name for f in kernel.fragments()]
        self.assertEqual(sorted(names[:-1]), ["guest.config", "ksm.config", "x86_64.config"])
        self.assertEqual(names[-1], "row.config")
        self.assertEqual(kernel.promised(), [kernel.own])

    def test_a_row_gets_what_it_asks_for(self):
        kernel = self.kernel(arches.Row("x", arches.X86_64, arches.on("SMP")))
        kernel.write_own()
        config = kernel.out / ".config"
        config.write_text("CONFIG_SMP=y\n")
        arches.kernels.config_is_honoured(kernel)
        config.write_text("")
        with self.assertRaisesRegex(common.CannotRun, "row.config asks for 'CONFIG_SMP=y'"):
            arches.kernels.config_is_honoured(kernel)

    def test_the_base_is_not_asked_for_suites(self):
        kernel = self.kernel(arches.Row("x", arches.ARM))
        kernel.write_own()
        self.assertEqual(kernel.own.read_text().strip(), "")

    def test_a_whole_kernel_has_its_own_lines_only(self):
        row = arches.Row("tiny", arches.I386, arches.on("SMP"), guest=False, links=True)
        kernel = self.kernel(row, ("ksm",))
        kernel.write_own()
        self.assertEqual(kernel.own.read_text(), "CONFIG_SMP=y\n")
        self.assertEqual(kernel.fragments(), [kernel.own])

    def test_rows_build_in_folders_of_their_own_that_git_does_not_see(self):
        folders = [arches.row_kernel(r, self.tree).out.name for r in arches.ROWS]
        self.assertEqual(len(folders), len(set(folders)))
        self.assertTrue(all(f.startswith("guest") for f in folders))

    def test_objects_are_those_that_the_configuration_has(self):
        self.write("mm/Makefile", "mmu-y := nommu.o\nmmu-$(CONFIG_MMU) := swap.o\n"
                   "obj-y := $(mmu-y) whole.o tests/\nwhole-y := part.o\n"
                   "obj-$(CONFIG_KSM) += ksm.o\nobj-$(CONFIG_TEST) += tests/swap_kunit.o\n")
        for name in ("swap", "nommu", "ksm", "part", "tests/swap_kunit"):
            self.write(f"mm/{name}.c")
        self.write("arch/x86/mm/Makefile", "obj-y += fault.o init_$(BITS).o\n")
        self.write("arch/x86/mm/fault.c")
        self.write("arch/x86/Makefile", "$(error not a list of objects)")
        kernel = self.kernel(arches.Row("x", arches.X86_64))
        self.write(f"{kernel.out.name}/include/config/auto.conf", "CONFIG_MMU=y\nCONFIG_TEST=y\n")
        files = ["mm/swap.c", "mm/nommu.c", "mm/ksm.c", "mm/part.c", "mm/tests/swap_kunit.c",
                 "mm/mm.h", "arch/x86/mm/fault.c", "arch/arm/mm/fault.c"]
        self.assertEqual(arches.objects_of(kernel, files),
                         ["mm/swap.o", "mm/part.o", "mm/tests/swap_kunit.o",
                          "arch/x86/mm/fault.o"])


class Judging(unittest.TestCase):

    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.log = Path(temp.name) / "log"
        self.log.write_text("mm/swap.c:1:2: error: no such thing\n")
        self.compiled, self.seen = [], set()

    def outcome(self, text="", status=0, objects=("mm/swap.o",)):
        return arches.Outcome(list(objects), arches.complaints(text), status, self.log)

    def judge(self, ours, base=None):
        outcomes = {"ours": ours, "base": base}

        def compiled(kernel, _):
            self.compiled.append(kernel)
            return outcomes[kernel]
        with mock.patch.object(arches, "compiled", compiled):
            return arches.problem_of([], "ours", lambda: "base", self.seen)

    def test_nothing_said_passes_and_leaves_the_base_alone(self):
        self.assertIsNone(self.judge(self.outcome()))
        self.assertEqual(self.compiled, ["ours"])
        self.assertEqual(self.seen, {"mm/swap.o"})

    def test_what_the_base_says_too_is_not_the_series_doing(self):
        said = self.outcome("../mm/swap.c:7:1: warning: unused variable 'x'\n")
        base = self.outcome("../mm/swap.c:5:1: warning: unused variable 'x'\n")
        self.assertIsNone(self.judge(said, base))

    def test_new_warning_fails(self):
        said = self.outcome("../mm/swap.c:7:1: warning: unused variable 'x'\n")
        self.assertEqual(self.judge(said, self.outcome()), "mm/swap.c: unused variable 'x'")

    def test_error_is_shown_with_its_log(self):
        problem = self.judge(self.outcome(status=2), self.outcome())
        self.assertIn("no such thing", problem)
        self.assertIn(str(self.log), problem)

    def test_a_row_that_the_base_fails_proves_nothing(self):
        problem = self.judge(self.outcome(status=2), self.outcome(status=2))
        self.assertIn("the base does not build either", problem)

    def test_a_row_without_objects_proves_nothing(self):
        self.assertIn("none of the files", self.judge(self.outcome(objects=())))

    def test_linker_modpost_and_objtool_are_heard(self):
        text = ("ld: mm/swap.o: in function `f':\nswap.c:(.text+0x1): undefined reference to `g'\n"
                "WARNING: modpost: vmlinux: section mismatch in reference: f (section: .text)\n"
                "vmlinux.o: warning: objtool: f+0x1: unreachable instruction\n"
                "ld.lld-19: error: undefined symbol: g\n")
        self.assertEqual(len(arches.complaints(text)), 4)


class Running(unittest.TestCase):

    def run_rows(self, problem, lacking=None, rows=arches.ROWS[:2]):
        tally = tallies.Tally()
        with mock.patch.object(arches.targets, "tree", lambda v: (Path("/ours"), ())), \
             mock.patch.object(arches, "touched_files", lambda t: []), \
             mock.patch.object(arches.checks, "touched_objects", lambda *_: ["mm/swap.o"]), \
             mock.patch.object(arches, "lacking", lambda r: lacking), \
             mock.patch.object(arches, "problem_of", side_effect=problem), \
             mock.patch.object(common, "say") as say:
            arches.run(list(rows), tally, lambda: 0)
            code = tally.close()
        return code, [c.args[0] for c in say.mock_calls]

    def test_rows_are_counted_and_one_that_cannot_be_set_up_fails(self):
        code, said = self.run_rows([None, common.CannotRun("CONFIG_X is not granted")])
        self.assertEqual(code, common.EXIT_FAILED)
        self.assertEqual(said[-1], "1 passed, 1 failed, 0 skipped")
        self.assertIn("CONFIG_X is not granted", said[1])

    def test_a_compiler_that_is_not_there_is_a_skip_with_its_reason(self):
        code, said = self.run_rows([], "clang-19 is not installed; run 'make deps'")
        self.assertEqual(code, common.EXIT_OK)
        self.assertEqual(said[-1], "0 passed, 0 failed, 2 skipped")
        self.assertIn("make deps", said[0])

    def test_a_file_that_no_row_of_the_table_compiles_fails(self):
        code, said = self.run_rows([None] * len(arches.ROWS), rows=arches.ROWS)
        self.assertEqual(code, common.EXIT_FAILED)
        self.assertTrue(any("no row has mm/swap.o" in line for line in said))

    def test_the_caller_s_llvm_does_not_reach_the_kernel(self):
        with mock.patch.dict(os.environ, LLVM="1"):
            env = arches.kernels.environment(arches.row_kernel(arches.ROWS[0], Path("/t")))
        self.assertNotIn("LLVM", env)


if __name__ == "__main__":
    unittest.main()
