# SPDX-License-Identifier: GPL-2.0
"""The tests of VMAs, on a tree whose mm/vma.c is a script and whose compiler is cp."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from unstall import checks, common, vmatests

GOOD = "echo '2 tests run, 2 passed, 0 failed.'"
MAKEFILE = """vma:
\t@test ! -e stale.o
\t@{ echo '#!/bin/sh'; cat ../../../mm/vma.c; } > $@
\t@chmod +x $@
"""
MUTANT = f"""Prints another line.
--- a/mm/vma.c
+++ b/mm/vma.c
@@ -1 +1 @@
-{GOOD}
+echo '2 tests run, 1 passed, 1 failed.'; exit 1
"""


class Tree(unittest.TestCase):

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.tree = Path(self.temp.name) / "tree"
        self.put("Makefile", "")
        self.put("mm/vma.c", GOOD + "\n")
        self.put("mm/vma.h", "")
        self.put("tools/include/x.h", "")
        self.put("tools/testing/shared/shared.mk", "")
        self.put("tools/testing/vma/Makefile", MAKEFILE)

    def put(self, name, text):
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def files(self):
        return {p: p.read_bytes() for p in self.tree.rglob("*") if p.is_file()}

    def ends_like(self, script, pattern):
        self.put("mm/vma.c", script + "\n")
        self.assertRegex(checks.vma_tests(self.tree) or "passes", pattern)


class Run(Tree):

    def test_all_pass_and_the_tree_stays_as_it_is(self):
        before = self.files()
        self.assertIsNone(checks.vma_tests(self.tree))
        self.assertEqual(self.files(), before)

    def test_what_was_built_in_the_tree_is_not_taken(self):
        self.put("tools/testing/vma/stale.o", "")
        self.put("tools/testing/vma/vma", f"#!/bin/sh\n{GOOD}\n").chmod(0o755)
        self.assertIsNone(checks.vma_tests(self.tree))
        self.ends_like("exit 3", "status 3")

    def test_a_test_that_fails(self):
        self.ends_like("echo 'Test x FAILED' >&2; echo '2 tests run, 1 passed, 1 failed.'; exit 1",
                       r"1 failed\.\nTest x FAILED$")
        self.ends_like("echo '2 tests run, 1 passed, 1 failed.'", r"1 failed\.$")

    def test_a_program_that_dies(self):
        self.ends_like("echo oops >&2; kill -SEGV $$", "status -11 and no summary\noops$")
        self.ends_like(f"{GOOD}; exit 1", "^2 tests run")

    def test_none_run_is_no_success(self):
        self.ends_like("echo '0 tests run, 0 passed, 0 failed.'", "^0 tests run")
        self.ends_like("true", "no summary")

    def test_a_warning_while_all_pass(self):
        self.ends_like(f"echo 'assertion failed at mm/vma.c:1' >&2; {GOOD}", "assertion failed")

    def test_one_that_hangs(self):
        with mock.patch.object(vmatests, "SECONDS", 0.2):
            self.ends_like("exec sleep 60", "not done after 0.2 s")

    def test_what_does_not_build(self):
        self.put("tools/testing/vma/Makefile", "vma:\n\t@echo 'x.c:1: error: y'; false\n")
        self.assertRegex(checks.vma_tests(self.tree), "^does not build:\nx.c:1: error: y")


class Mutant(Tree):

    def test_it_is_what_is_built(self):
        self.put("one.patch", MUTANT)
        farm = vmatests.link_tree(self.tree, Path(self.temp.name) / "farm")
        vmatests.mutate(farm, self.tree / "one.patch")
        self.assertRegex(vmatests.run(farm), "1 failed")
        self.assertEqual((self.tree / "mm/vma.c").read_text(), GOOD + "\n")
        self.assertTrue((farm / "mm/vma.h").samefile(self.tree / "mm/vma.h"))

    def test_one_that_does_not_apply_is_an_error(self):
        self.put("one.patch", MUTANT)
        self.put("mm/vma.c", "something else\n")
        farm = vmatests.link_tree(self.tree, Path(self.temp.name) / "farm")
        with self.assertRaises((common.CannotRun, common.Failed)):
            vmatests.mutate(farm, self.tree / "one.patch")

    def test_it_must_fail_the_tests_that_it_is_for(self):
        one, other = "anon_vma_non_mergeable", "merge_new"
        for found, tests, unseen in (
                (None, [one], [one]),
                ("does not build:\nx", [one], [one]),
                (f"Test {one} FAILED", [one], []),
                (f"Test {one} FAILED", [one, other], [other])):
            with self.subTest(found=found, tests=tests), \
                    mock.patch.object(checks, "vma_tests", return_value=found) as run:
                said = checks.vma_tests_see_mutant(self.tree, "one.patch", tests)
                run.assert_called_once_with(self.tree, "one.patch")
                if unseen:
                    self.assertIn(f"{', '.join(unseen)} did not fail", said)
                else:
                    self.assertIsNone(said)


class Tested(unittest.TestCase):

    def test_a_commit_that_touches_them(self):
        for name, expected in (("mm/vma.c", "failed"), ("tools/testing/vma/main.c", "failed"),
                               ("mm/ksm.c", None)):
            with mock.patch.object(common, "run"), \
                 mock.patch.object(checks, "changed_files", return_value=["x.rst", name]), \
                 mock.patch.object(checks, "touched_objects", return_value=[]), \
                 mock.patch.object(checks, "build_selftests", return_value=None), \
                 mock.patch.object(checks, "vma_tests", return_value="failed"):
                self.assertEqual(checks.one_commit(Path("t"), "c", [], {}), expected, name)

    def test_which_files_it_is_for(self):
        for name in ("mm/vma.c", "mm/vma.h", "mm/vma_exec.c", "tools/testing/vma/tests/merge.c",
                     "tools/testing/shared/linux.c"):
            self.assertTrue(vmatests.is_tested(name), name)
        for name in ("mm/vmalloc.c", "mm/vmscan.c", "mm/mremap.c", "tools/testing/vmalloc/x.c"):
            self.assertFalse(vmatests.is_tested(name), name)
