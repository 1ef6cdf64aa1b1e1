# SPDX-License-Identifier: GPL-2.0
"""The KTAP and TAP parser: every dialect and every way to be no pass."""

import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import ktap    # noqa: E402

DATA = HERE / "data"


def tree(name):
    """The one tree of a fixture."""
    trees = ktap.parse(ktap.read_log(DATA / name))
    assert len(trees) == 1, f"{name} holds {len(trees)} trees"
    return trees[0]


def flat(source):
    """{full name: (status, reason)} of a fixture or a text."""
    root = tree(source) if "\n" not in source else ktap.parse(source)[0]
    return {result.name: (result.status, result.reason) for result in ktap.flatten(root)}


def program(*lines, result="ok 1 prog"):
    """The output of run_kselftest.sh for one program that prints these lines."""
    inner = [f"# # {line}" for line in lines]
    outer = "not ok" if result.startswith("not ok") else "ok"
    return "\n".join(["TAP version 13", "1..1", "# selftests: mm: ksft_x.sh", "# TAP version 13",
                      "# # running ./prog"] + inner +
                     [f"# {result}", "# 1..1", f"{outer} 1 selftests: mm: ksft_x.sh", ""])


class KselftestTest(unittest.TestCase):
    maxDiff = None

    def test_names_reach_down_to_the_subtest(self):
        results = flat("kselftest-mixed.tap")
        self.assertEqual(results["mm/mremap_batch/mremap_batch/mremap_batch.small.contents"],
                         ("pass", ""))
        self.assertEqual(results["mm/mremap_batch/mremap_batch/global.refuse_overlap"],
                         ("pass", ""))

    def test_the_whole_list_of_the_mixed_run(self):
        statuses = [result.status for result in ktap.flatten(tree("kselftest-mixed.tap"))]
        self.assertEqual({s: statuses.count(s) for s in sorted(set(statuses))},
                         {"fail": 2, "missing": 2, "pass": 8, "skip": 7})

    def test_a_skipped_subtest_shows_its_reason(self):
        results = flat("kselftest-mixed.tap")
        self.assertEqual(results["mm/mremap_batch/mremap_batch/mremap_batch.large.contents"],
                         ("skip", "no folio of order 4 at 0x7f1234560000"))

    def test_a_program_without_tap_gives_its_reason_in_its_log(self):
        self.assertEqual(flat("kselftest-mixed.tap")["mm/thp/transhuge-stress -d 20"],
                         ("skip", "transhuge-stress: needs root"))
        self.assertEqual(flat("kselftest-odd.tap")["mm/hmm/test_hmm.sh smoke"],
                         ("skip", "./test_hmm.sh: You must have the following enabled in your "
                                  "kernel: CONFIG_TEST_HMM=m"))

    def test_an_empty_plan_with_skip_gives_the_reason(self):
        self.assertEqual(flat("kselftest-mixed.tap")["mm/mremap/mremap_dontunmap"],
                         ("skip", "MREMAP_DONTUNMAP is not supported"))

    def test_skips_that_nothing_counts_are_seen(self):
        results = flat("kselftest-mixed.tap")
        self.assertEqual(results["mm/thp/khugepaged all:file"][0], "skip")
        self.assertEqual(results["mm/mlock/on-fault-limit"][0], "skip")
        left_out = [name for name in results if name.endswith("on-fault-limit")]
        self.assertEqual(left_out, ["mm/mlock/on-fault-limit"])     # not in every category
        self.assertFalse([name for name in results if name.startswith("mm/thp/(test")])

    def test_xfail_is_no_pass_and_is_told_apart(self):
        results = flat("kselftest-mixed.tap")
        name = "mm/mremap/mremap_test/8KB mremap - Source PTE-aligned, " \
               "Destination PTE-aligned (overlapping)"
        self.assertEqual(results[name], ("skip", "XFAIL"))

    def test_results_without_a_newline_between_them(self):
        results = flat("kselftest-mixed.tap")
        name = "mremap_move_multi_invalid_vmas - missing uffd"
        self.assertEqual(results[f"mm/mremap/mremap_test/{name}"], ("skip", name))
        self.assertEqual(results["mm/mremap/mremap_test/mremap mremap move 1mb from start at "
                                 "1MB+256KB aligned src"], ("pass", ""))

    def test_a_result_behind_text_without_a_newline(self):
        results = flat(program("1..2", "Checking...ok 1 a", "ok 2 b"))
        self.assertEqual(list(results), ["mm/x/prog/a", "mm/x/prog/b"])

    def test_bail_out(self):
        self.assertEqual(flat("kselftest-mixed.tap")["mm/mlock/mlock2-tests/(tests 2-13 of 13)"],
                         ("missing", "Bail out! mlock2 failed: Cannot allocate memory (12)"))

    def test_bail_out_before_any_result_or_plan(self):
        results = flat(program("TAP version 13", "Bail out! no /proc",
                               result="not ok 1 prog # exit=1"))
        self.assertEqual(results, {"mm/x/prog": ("fail", "Bail out! no /proc; exit=1")})

    def test_bail_out_of_a_program_that_claims_success(self):
        results = flat(program("TAP version 13", "1..1", "ok 1 a", "Bail out! late"))
        self.assertEqual(results["mm/x/prog"], ("fail", "Bail out! late"))

    def test_timeout_of_the_runner(self):
        results = flat("kselftest-mixed.tap")
        self.assertEqual(results["mm/mlock/mlock-random-test -n 3/(test 2 of 2)"],
                         ("missing", "no result for 1 of 2 planned tests; TIMEOUT 45 seconds"))

    def test_same_names_are_numbered(self):
        results = flat("kselftest-mixed.tap")
        self.assertIn("mm/thp/khugepaged/collapse_full", results)
        self.assertIn("mm/thp/khugepaged/collapse_full [2]", results)

    def test_a_number_given_twice(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/cow/cow/Basic COW after fork() with base page [2]"],
                         ("fail", "a second result with number 1"))

    def test_xpass_and_not_ok_xfail_are_failures(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/cow/cow/vmsplice() before fork() with base page"],
                         ("fail", "XPASS"))
        self.assertEqual(results["mm/cow/cow/vmsplice() after fork() with base page"],
                         ("fail", "XFAIL"))

    def test_not_ok_todo_is_a_failure(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/hugevm/va_high_addr_switch.sh/mmap(LOW_ADDR)"],
                         ("fail", "TODO: is known"))

    def test_two_programs_in_one_are_two_plans(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/hugevm/va_high_addr_switch.sh/mmap(NULL)"], ("pass", ""))
        self.assertEqual(results["mm/hugevm/va_high_addr_switch.sh/mmap(NULL, MAP_HUGETLB)"],
                         ("pass", ""))

    def test_no_tests_at_all(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/pkey"], ("missing", "no tests: the plan is 1..0"))
        self.assertEqual(results["mm/ksm/ksm_tests -U"],
                         ("missing", "no tests: a TAP header, no result"))

    def test_more_results_than_planned(self):
        self.assertEqual(flat("kselftest-odd.tap")["mm/mdwe/mdwe_test/(plan)"],
                         ("fail", "test 3 came, but the plan is 1..2"))

    def test_a_program_that_dies_in_a_subtest(self):
        results = flat("kselftest-odd.tap")
        self.assertEqual(results["mm/rmap/rmap/migrate.shmem"],
                         ("crashed", "it gave no result; exit=139 (signal 11)"))
        self.assertEqual(results["mm/rmap/rmap/(tests 3-4 of 4)"],
                         ("missing", "no result for 2 of 4 planned tests; exit=139 (signal 11)"))

    def test_a_program_that_fails_after_its_last_subtest(self):
        self.assertEqual(flat("kselftest-odd.tap")["mm/mkdirty/mkdirty"], ("fail", "exit=1"))

    def test_a_program_that_ends_ok_with_a_plan_unfulfilled(self):
        results = flat(program("TAP version 13", "1..3", "ok 1 a", "ok 3 c"))
        self.assertEqual(results["mm/x/prog/(test 2 of 3)"],
                         ("missing", "no result for 1 of 3 planned tests"))

    def test_a_gap_without_a_plan(self):
        results = flat(program("TAP version 13", "ok 1 a", "ok 3 c"))
        self.assertEqual(results["mm/x/prog/(test 2 of 3)"][0], "missing")

    def test_a_missing_test_file(self):
        self.assertEqual(flat("kselftest-odd.tap")["mm/missing"][0], "fail")

    def test_an_error_without_a_name(self):
        self.assertEqual(flat("kselftest-odd.tap")["mm/ksm/ksm_tests -M -p 10/KSM page merging"],
                         ("fail", "ERROR"))

    def test_ok_with_a_directive_of_failure_is_a_failure(self):
        results = flat(program("1..4", "ok 1 a # TIMEOUT 3 seconds", "ok 2 b # ERROR broken",
                               "ok 3 c # exit=2", "ok 4 d # TODO later"))
        self.assertEqual(results, {"mm/x/prog/a": ("fail", "TIMEOUT 3 seconds"),
                                   "mm/x/prog/b": ("fail", "ERROR: broken"),
                                   "mm/x/prog/c": ("fail", "exit=2"),
                                   "mm/x/prog/d": ("skip", "TODO: later")})

    def test_data_behind_a_hash_is_no_part_of_the_name(self):
        results = flat(program("1..2", "ok 1 a # rcode=0", "not ok 2 b #  read failed"))
        self.assertEqual(results, {"mm/x/prog/a": ("pass", "rcode=0"),
                                   "mm/x/prog/b": ("fail", "read failed")})

    def test_two_plans_without_a_header_are_two_programs(self):
        results = flat(program("1..1", "ok 1 a", "1..2", "ok 1 b", "ok 2 c"))
        self.assertEqual({status for status, _ in results.values()}, {"pass"})
        results = flat(program("1..2", "ok 1 a", "1..1", "ok 1 b"))
        self.assertEqual(results["mm/x/prog/(test 2 of 2)"][0], "missing")

    def test_a_result_one_behind_a_plan_that_is_fulfilled_is_another_program(self):
        results = flat(program("1..1", "ok 1 a", "ok 1 b", "ok 2 c", "1..2"))
        self.assertEqual({status for status, _ in results.values()}, {"pass"})

    def test_what_runs_behind_a_gap_is_not_the_gap(self):
        text = program("1..5", "ok 1 a", "ok 3 c", "#  RUN           x.d ...",
                       result="not ok 1 prog # exit=139")
        results = flat(text)
        self.assertEqual(results["mm/x/prog/x.d"][0], "crashed")
        self.assertEqual(results["mm/x/prog/(tests 2, 5 of 5)"][0], "missing")

    def test_what_runs_behind_the_last_number_stands_for_the_gap(self):
        results = flat(program("1..3", "ok 1 a", "ok 3 c", "#  RUN           x.b ...",
                               result="not ok 1 prog # exit=139"))
        self.assertEqual({name: status for name, (status, _) in results.items()},
                         {"mm/x/prog/a": "pass", "mm/x/prog/c": "pass", "mm/x/prog/x.b": "crashed"})

    def test_each_way_to_announce_a_test(self):
        for line, name in (("#  RUN           x.d ...", "x.d"),
                           ("# [RUN] fork() with THP", "fork() with THP")):
            results = flat(program("1..2", "ok 1 a", line, result="not ok 1 prog # exit=139"))
            self.assertEqual(results[f"mm/x/prog/{name}"][0], "crashed")

    def test_an_announcement_behind_the_last_result_is_nothing(self):
        self.assertEqual(flat(program("1..1", "ok 1 a", "# [RUN] cleaning up")),
                         {"mm/x/prog/a": ("pass", "")})

    def test_a_skip_left_out_of_mlock_takes_no_number(self):
        text = program("1..1", "ok 1 a").replace("ksft_x.sh", "ksft_mlock.sh").replace(
            "# # running", "# # SKIP ./on-fault-limit\n# # running", 1)
        self.assertEqual({name: status for name, (status, _) in flat(text).items()},
                         {"mm/mlock/on-fault-limit": "skip", "mm/mlock/prog/a": "pass"})

    def test_the_harness_says_unknown_where_it_has_no_reason(self):
        results = flat(program("1..2", "ok 1 a # XFAIL unknown",
                               "# no swap", "ok 2 b # SKIP unknown"))
        self.assertEqual(results, {"mm/x/prog/a": ("skip", "XFAIL"),
                                   "mm/x/prog/b": ("skip", "no swap")})

    def test_a_skip_whose_reason_stands_nowhere(self):
        results = flat(program("hello", result="ok 1 prog # SKIP"))
        self.assertEqual(results["mm/x/prog"], ("skip", "no reason given"))

    def test_a_skip_whose_reason_stands_between_header_and_end(self):
        results = flat(program("TAP version 13", "# [SKIP] no swap device",
                               result="ok 1 prog # SKIP"))
        self.assertEqual(results["mm/x/prog"], ("skip", "no swap device"))

    def test_the_last_line_that_gives_a_reason_wins(self):
        results = flat(program("cannot open a", "SKIP: no huge pages", "bye",
                               result="ok 1 prog # SKIP"))
        self.assertEqual(results["mm/x/prog"], ("skip", "no huge pages"))

    def test_a_program_keeps_what_it_prints_beside_its_subtests(self):
        root = ktap.parse_kselftest(program("hello", "1..1", "ok 1 a", "segmentation fault",
                                            result="not ok 1 prog # exit=139"))
        last = list(ktap.flatten(root))[-1]
        self.assertEqual((last.name, last.reason), ("mm/x/prog", "exit=139 (signal 11)"))
        self.assertIn("segmentation fault", last.test.log)

    def test_a_test_that_is_no_wrapper_keeps_its_name(self):
        text = "TAP version 13\n1..1\n# selftests: kvm: s.sh\nok 1 selftests: kvm: s.sh\n"
        self.assertEqual(flat(text), {"kvm/s.sh": ("pass", "")})

    def test_a_skip_with_not_ok_is_a_skip(self):
        results = flat(program("1..1", "not ok 1 a # SKIP no swap"))
        self.assertEqual(results["mm/x/prog/a"], ("skip", "no swap"))

    def test_a_program_skipped_after_passed_subtests(self):
        results = flat(program("1..1", "ok 1 a", result="ok 1 prog # SKIP"))
        self.assertEqual(results["mm/x/prog/a"], ("pass", ""))
        self.assertEqual(results["mm/x/prog"][0], "skip")

    def test_a_stream_that_ends_in_the_middle(self):
        root = tree("kselftest-died.tap")
        results = flat("kselftest-died.tap")
        self.assertFalse(root.complete)
        self.assertEqual(root.status, "crashed")
        self.assertEqual(results["mm/mremap_batch/mremap_batch/mremap_batch.small.soft_dirty"],
                         ("crashed", "it was running when the log ended"))
        self.assertEqual(results["mm/mremap_batch/mremap_batch/(tests 3-5 of 5)"][0], "missing")
        self.assertEqual(results["(test 3 of 3)"][0], "missing")
        self.assertEqual(results["mm/mdwe/mdwe_test/mdwe.stock.prctl_flags"], ("pass", ""))

    def test_a_whole_run_is_complete(self):
        self.assertTrue(tree("kselftest-mixed.tap").complete)
        self.assertTrue(tree("kselftest-odd.tap").complete)

    def test_every_prefix_of_a_run_is_no_pass(self):
        lines = program("TAP version 13", "1..2", "ok 1 a", "ok 2 b").splitlines()
        for end in range(len(lines)):
            root = ktap.parse_kselftest("\n".join(lines[:end]))
            self.assertIn(root.status, ktap.BAD, f"cut behind line {end}")
            self.assertFalse(root.complete, f"cut behind line {end}")
        self.assertEqual(ktap.parse_kselftest("\n".join(lines)).status, "pass")

    def test_no_output(self):
        root = ktap.parse_kselftest("")
        self.assertEqual([tuple(r[:3]) for r in ktap.flatten(root)],
                         [("kselftest", "missing", "no kselftest results in the log")])

    def test_kernel_messages_among_the_lines_are_no_tap(self):
        text = program("1..1", "ok 1 a").replace("# # 1..1", "[   12.345678] not ok 9 x\n# # 1..1",
                                                 1)
        self.assertEqual(flat(text), {"mm/x/prog/a": ("pass", "")})

    def test_a_failure_keeps_its_own_log(self):
        for result in ktap.flatten(tree("kselftest-mixed.tap")):
            if result.name.endswith("small.soft_dirty"):
                self.assertIn("Expected soft_dirty(self->dst, i) (0) == 1 (1)",
                              "\n".join(result.test.log))
                self.assertNotIn("contents", "\n".join(result.test.log))
                return
        self.fail("no such test")

    def test_the_output_of_one_program_is_read(self):
        results = flat("TAP version 13\n1..2\nok 1 a\nok 2 - b # SKIP no root\n")
        self.assertEqual(results, {"a": ("pass", ""), "b": ("skip", "no root")})

    def test_carriage_returns_and_bad_bytes(self):
        with tempfile.NamedTemporaryFile() as log:
            log.write(b"TAP version 13\r\n1..1\r\nnot ok 1 a\xff\x00b\r\n")
            log.flush()
            root = ktap.parse_kselftest(ktap.read_log(log.name))
        self.assertEqual([r.name for r in ktap.flatten(root)], ["a\\xff\x00b"])


class KUnitTest(unittest.TestCase):
    def test_a_boot_log(self):
        self.assertEqual(flat("kunit-boot.log"), {
            "kunit/mremap_batch/batch_stops_at_table_end": ("fail", ""),
            "kunit/mremap_batch/batch_is_hint/hint 1": ("pass", ""),
            "kunit/mremap_batch/batch_is_hint/hint 16": ("skip", "no contpte here"),
            "kunit/mremap_batch/batch_of_swap": ("pass", ""),
            "kunit/mremap_batch/batch_on_arm64": ("skip", "needs arm64"),
            "kunit/ksm_rmap": ("fail", ""),
            "kunit/skipped_suite/nothing_here": ("skip", "CONFIG_KSM is off")})
        self.assertTrue(tree("kunit-boot.log").complete)

    def test_the_same_without_time_stamps(self):
        text = ktap.read_log(DATA / "kunit-boot.log")
        bare = "".join(line[15:] for line in text.splitlines(True))
        self.assertEqual(flat(bare), flat("kunit-boot.log"))

    def test_an_expectation_is_in_the_log_of_its_test(self):
        failed = next(ktap.flatten(tree("kunit-boot.log")))
        self.assertIn("got == 16 (0x10)", failed.test.log)

    def test_a_panic_in_a_test(self):
        root, results = tree("kunit-panic.log"), flat("kunit-panic.log")
        self.assertFalse(root.complete)
        self.assertEqual(results["kunit/third/(tests 2-3 of 3)"],
                         ("crashed", "no result for 2 of 3 planned tests; the log ends here"))
        self.assertEqual(results["kunit/(test 4 of 4)"][0], "missing")
        panic = next(r for r in ktap.flatten(root) if r.status == "crashed")
        self.assertIn("NULL pointer dereference", "\n".join(panic.test.log))

    def test_a_suite_without_a_result_before_another(self):
        self.assertEqual({name: status for name, (status, _) in flat("kunit-panic.log").items()}, {
            "kunit/first/a": "pass", "kunit/first/(test 2 of 2)": "missing",
            "kunit/second/a": "pass",
            "kunit/second/b": "pass", "kunit/third/a": "pass",
            "kunit/third/(tests 2-3 of 3)": "crashed",
            "kunit/(test 4 of 4)": "missing"})

    def test_debugfs(self):
        self.assertEqual(flat("kunit-debugfs.txt"), {
            "kunit/mremap_batch/batch_is_hint": ("pass", ""),
            "kunit/mremap_batch/batch_of_swap": ("pass", ""),
            "kunit/empty_suite": ("missing", "no tests: the plan is 1..0")})

    def test_a_suite_run_through_debugfs_has_no_outer_header(self):
        text = "    KTAP version 1\n    # Subtest: s\n    1..1\n    ok 1 a\nok 1 s\n"
        self.assertEqual(flat(text), {"kunit/s/a": ("pass", "")})

    def test_two_modules_are_two_runs(self):
        run = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: {0}\n    1..1\n" \
              "    ok 1 a\nok 1 {0}\n"
        self.assertEqual(list(flat(run.format("s") + run.format("t"))), ["kunit/s/a", "kunit/t/a"])

    def test_text_of_user_space_on_the_console_is_no_ktap(self):
        text = ktap.read_log(DATA / "kunit-boot.log").replace(
            "[    1.100008]", "not ok 7 something\n    not ok 3 indented\n[    1.100008]")
        self.assertEqual(flat(text), flat("kunit-boot.log"))

    def test_every_prefix_of_a_run_is_no_pass(self):
        lines = ("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n"
                 "    ok 1 a\n"
                 "    ok 2 b\n# s: pass:2 fail:0 skip:0 total:2\nok 1 s").splitlines()
        for end in range(len(lines)):
            root = ktap.parse_kunit("\n".join(lines[:end]))
            self.assertIn(root.status, ktap.BAD, f"cut behind line {end}")
        self.assertEqual(ktap.parse_kunit("\n".join(lines)).status, "pass")

    def test_no_kunit_output(self):
        root = ktap.parse_kunit("[    0.000000] Linux version\n[    1.000000] kunit: disabled\n")
        self.assertEqual((root.status, root.complete), ("missing", False))

    def test_a_failed_suite_whose_tests_all_pass(self):
        text = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n" \
               "    ok 1 a\nnot ok 1 s\n"
        self.assertEqual(flat(text), {"kunit/s/a": ("pass", ""), "kunit/s": ("fail", "")})


class TreeTest(unittest.TestCase):
    def test_suites(self):
        self.assertEqual([name for name, _ in ktap.suites(tree("kselftest-mixed.tap"))],
                         ["mm/mremap", "mm/mremap_batch", "mm/mlock", "mm/thp"])
        self.assertEqual([name for name, _ in ktap.suites(tree("kunit-boot.log"))],
                         ["kunit/mremap_batch", "kunit/ksm_rmap", "kunit/skipped_suite"])

    def test_status_of_a_parent_with_passes_and_skips_is_pass(self):
        categories = dict(ktap.suites(tree("kselftest-mixed.tap")))
        self.assertEqual(categories["mm/mremap"].status, "pass")
        self.assertEqual(categories["mm/mremap_batch"].status, "fail")

    def test_status_of_a_parent_with_skips_only_is_skip(self):
        self.assertEqual(dict(ktap.suites(tree("kunit-boot.log")))["kunit/skipped_suite"].status,
                         "skip")

    def test_status_of_a_passed_parent_with_skips_only_is_skip(self):
        root = ktap.parse_kselftest(program("1..1", "ok 1 a # SKIP no"))
        self.assertEqual(root.status, "skip")

    def test_suites_of_an_empty_tree(self):
        self.assertEqual([name for name, _ in ktap.suites(ktap.parse_kselftest(""))], ["kselftest"])
        self.assertEqual([name for name, _ in ktap.suites(ktap.parse_kunit(""))], ["kunit"])

    def test_a_log_of_both_dialects(self):
        text = ktap.read_log(DATA / "kunit-boot.log") + program("1..1", "ok 1 a")
        names = [result.name for root in ktap.parse(text) for result in ktap.flatten(root)]
        self.assertIn("kunit/ksm_rmap", names)
        self.assertIn("mm/x/prog/a", names)

    def test_count(self):
        self.assertEqual(ktap.count(tree("kunit-boot.log")), {"pass": 2, "fail": 2, "skip": 3})


class StableTest(unittest.TestCase):
    def test_volatile_parts_of_names(self):
        for name, other in (("page at 0x7f00deadb000", "page at 0x7ffff7ff9000"),
                            ("child pid 412", "child pid 9"),
                            ("khugepaged all:file /tmp/xfs_dir_aB3xY9",
                             "khugepaged all:file /tmp/xfs_dir_Qw12Er"),
                            ("transact_test count 7", "transact_test count 19"),
                            ("moved in 12 ms", "moved in 3.5 ms"),
                            ("reaping a child with 64MB of memory",
                             "reaping a child with 1MB of memory"),
                            ("transact Extra pages 3 (0.1%), extra thread faults 9.",
                             "transact Extra pages 0 (0.0%), extra thread faults 11.")):
            self.assertEqual(ktap.stable(name), ktap.stable(other))

    def test_numbers_that_name_a_test_stay(self):
        for name, other in (("Split huge pages to order 3", "Split huge pages to order 4"),
                            ("gup_test -ct -F 0x1 0 19 0x1000", "gup_test -ct -F 0x1 0 19 0x2000"),
                            ("hugetlb (2048 kB)", "hugetlb (1048576 kB)"),
                            ("collapse_full", "collapse_full [2]")):
            self.assertNotEqual(ktap.stable(name), ktap.stable(other))

    def test_reason_class(self):
        self.assertEqual(ktap.reason_class("no folio of order 4 at 0x7f1234560000"),
                         ktap.reason_class("no folio of order 9 at  0x7f00.".replace(".", "0000")))
        self.assertNotEqual(ktap.reason_class("needs root"), ktap.reason_class("needs swap"))
        self.assertEqual(ktap.reason_class("a bad face added"), "a bad face added")


if __name__ == "__main__":
    unittest.main()
