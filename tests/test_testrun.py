# SPDX-License-Identifier: GPL-2.0
"""From what a guest printed to a verdict."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from unstall import common, kernel as kernels, ktap, targets, testrun, vm

KUNIT = """KTAP version 1
1..1
    KTAP version 1
    # Subtest: mremap_batch
    1..1
    ok 1 bounded
# mremap_batch: pass:1 fail:0 skip:0 total:1
ok 1 mremap_batch
"""
KSFT = """TAP version 13
1..1
# timeout set to 900
# selftests: mm: ksft_mremap_batch.sh
# TAP version 13
# # running ./mremap_batch
# # TAP version 13
# # 1..2
# # ok 1 moves
# # ok 2 swap # SKIP no swap
# ok 1 mremap_batch
# 1..1
ok 1 selftests: mm: ksft_mremap_batch.sh
"""
PROGRAM = "TAP version 13\n1..2\nok 1 moves\nok 2 swap # SKIP no swap\n"


class Judge(unittest.TestCase):

    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def judge(self, steps, arch="x86_64", console="", done=True, suites=("mremap_batch",)):
        (self.folder / "vm").mkdir(exist_ok=True)
        (self.folder / "vm" / "console.log").write_text(console)
        kernel = kernels.Kernel(self.folder, vm.ARCHES[arch])
        plan = testrun.Plan(kernel, ["mremap_batch"], list(suites))
        results = [vm.StepResult(*s) for s in steps]
        run = vm.Run(self.folder / "vm", 1, True, done, "" if done else "the guest died", results)
        return testrun.judge(plan, run, self.folder, [])

    def names(self, outcome):
        return {r.name: r.status for tree in outcome.trees for r in ktap.flatten(tree)}

    def test_good_run(self):
        found = self.judge([("kunit", "0", 1, KUNIT), ("install", "0", 1, ""),
                            ("mremap_batch", "0", 1, KSFT)])
        self.assertEqual(self.names(found), {
            "kunit/mremap_batch/bounded": "pass",
            "mm/mremap_batch/mremap_batch/moves": "pass",
            "mm/mremap_batch/mremap_batch/swap": "skip"})
        self.assertEqual((testrun.passed(found), testrun.failed(found)), (2, 0))
        self.assertTrue((self.folder / "mremap_batch.ktap").exists())

    def test_suite_that_is_not_in_the_kernel_is_missing(self):
        found = self.judge([("kunit", "0", 1, KUNIT)], suites=("mremap_batch", "ksm_rmap"))
        self.assertEqual(self.names(found)["kunit/ksm_rmap"], "missing")

    def test_step_that_timed_out_or_died_did_not_pass(self):
        cut = KSFT[:KSFT.index("# # ok 2")]
        for status in ("timeout", "died"):
            found = self.judge([("mremap_batch", status, 9, cut)], done=status != "died")
            self.assertGreater(testrun.failed(found), 0, status)

    def test_step_that_gave_all_results_and_hung_did_not_pass(self):
        for name, text in (("mremap_batch", KSFT), ("kunit", KUNIT)):
            found = self.judge([(name, "timeout", 9, text)])
            self.assertEqual(testrun.failed(found), 1, name)

    def test_splat_fails_a_run_whose_tests_pass(self):
        splat = "[    1.000000] WARNING: mm/mremap.c:1 at move_ptes+0x1/0x2, CPU#0: test/1\n"
        found = self.judge([("mremap_batch", "0", 1, KSFT)], console=splat)
        self.assertEqual(testrun.failed(found), 1)

    def test_arm64_runs_the_program_itself_under_the_same_names(self):
        found = self.judge([("mremap_batch", "0", 1, PROGRAM)], arch="arm64")
        self.assertEqual(self.names(found), {"mm/mremap_batch/mremap_batch/moves": "pass",
                                             "mm/mremap_batch/mremap_batch/swap": "skip"})

    def test_arm64_program_that_crashed_or_said_nothing(self):
        for status, text in (("139", "TAP version 13\n1..2\nok 1 moves\n"), ("127", "")):
            found = self.judge([("mremap_batch", status, 1, text)], arch="arm64")
            self.assertGreater(testrun.failed(found), 0, status)

    def test_copy_that_fails_is_no_test_failure(self):
        with self.assertRaisesRegex(common.CannotRun, "No space left"):
            self.judge([("install", "1", 1, "cp: No space left on device")])

    def test_guest_that_dies_before_the_selftests_are_copied_has_results(self):
        found = self.judge([("kunit", "died", 1, KUNIT), ("install", "died", 0, "")])
        self.assertTrue(testrun.failed(found))

    def test_results_can_be_read_back(self):
        self.judge([("kunit", "0", 1, KUNIT), ("mremap_batch", "0", 1, KSFT)])
        kernel = kernels.Kernel(self.folder, vm.ARCHES["x86_64"])
        with mock.patch.object(targets, "suite_names", return_value=["mremap_batch"]):
            plan, trees = testrun.read_back(kernel, (), self.folder)
        self.assertEqual(plan.categories, ["mremap_batch"])
        self.assertEqual(sum(len(list(ktap.flatten(t))) for t in trees), 3)
        with self.assertRaisesRegex(common.CannotRun, "'make run' gives them"):
            testrun.read_back(kernel, (), self.folder / "none")


class Plan(unittest.TestCase):

    def plan(self, wanted, ksft_only=False):
        kernel = kernels.Kernel(Path("/x"), vm.ARCHES["x86_64"])
        with mock.patch.object(targets, "suite_names", return_value=["mremap_batch", "ksm_rmap"]), \
                mock.patch.object(targets, "categories", return_value=["mremap_batch"]), \
                mock.patch.object(targets, "known_categories",
                                  return_value=["ksm", "mremap", "mremap_batch"]), \
                mock.patch.dict("os.environ", T=wanted):
            return testrun.plan_from_environment(kernel, (), ksft_only)

    def test_everything_of_ours_by_default(self):
        plan = self.plan("")
        self.assertEqual((plan.categories, plan.suites, plan.kunit),
                         (["mremap_batch"], ["mremap_batch", "ksm_rmap"], True))

    def test_name_selects_suite_and_category(self):
        plan = self.plan("mremap_batch")
        self.assertEqual((plan.categories, plan.suites, plan.kunit),
                         (["mremap_batch"], ["mremap_batch"], True))

    def test_mainline_s_category(self):
        plan = self.plan("ksm mremap", ksft_only=True)
        self.assertEqual((plan.categories, plan.kunit), (["ksm", "mremap"], False))

    def test_unknown_name_is_refused_with_the_known_ones(self):
        with self.assertRaisesRegex(common.CannotRun, "T=mrmap is neither .*ksm mremap"):
            self.plan("mrmap")
        with self.assertRaises(common.CannotRun):
            self.plan("ksm_rmap", ksft_only=True)


if __name__ == "__main__":
    unittest.main()
