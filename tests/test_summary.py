# SPDX-License-Identifier: GPL-2.0
"""The summary of a run: what it counts, what it shows, and the script that prints one."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from unstall import common, expected, ktap, splats, summary    # noqa: E402

DATA = HERE / "data"


def trees(*names):
    return [tree for name in names for tree in ktap.parse(ktap.read_log(DATA / name))]


def summarize(names=("kselftest-mixed.tap", "kunit-boot.log"), colour=False, **parts):
    return summary.summarize(summary.Report(trees(*names), **parts), colour)


def deviation(kind, name="mm/mdwe/prog/a", **rest):
    return expected.Deviation(kind, name, **rest)


class CountsTest(unittest.TestCase):
    def test_the_closing_line_is_alone_at_the_end(self):
        result = summarize()
        self.assertEqual(result.text.splitlines()[-1], "10 passed, 6 failed, 10 skipped")
        self.assertEqual((result.passed, result.failed, result.skipped), (10, 6, 10))

    def test_a_splat_is_a_failure_though_all_tests_pass(self):
        passed = "TAP version 13\n1..1\nok 1 a\n"
        found = splats.scan(ktap.read_log(DATA / "splats-arm64.log"))
        report = summary.Report([ktap.parse_kselftest(passed)], found)
        self.assertEqual(summary.counts(report), (1, 4, 0))

    def test_a_vanished_test_is_a_failure(self):
        result = summarize(["kunit-debugfs.txt"], deviations=[deviation("vanished")])
        self.assertEqual((result.passed, result.failed), (2, 2))

    def test_what_a_failed_test_stands_for_is_not_counted_again(self):
        result = summarize(["kunit-debugfs.txt"], deviations=[
            deviation("vanished", counted=False), deviation("failed", counted=False)])
        self.assertEqual((result.passed, result.failed), (2, 1))

    def test_a_new_skip_is_a_failure_and_no_skip(self):
        result = summarize(deviations=[deviation("new skip"), deviation("other reason")])
        self.assertEqual((result.passed, result.failed, result.skipped), (10, 8, 8))

    def test_new_tests_are_no_failures(self):
        result = summarize(deviations=[deviation("new", failure=False)])
        self.assertEqual((result.passed, result.failed, result.skipped), (10, 6, 10))

    def test_a_guest_that_died_is_a_failure(self):
        self.assertEqual(summarize(["kselftest-died.tap"]).failed, 3)

    def test_no_results_are_a_failure(self):
        report = summary.Report([ktap.parse_kselftest("")])
        self.assertEqual(summary.counts(report), (0, 1, 0))


class TextTest(unittest.TestCase):
    def test_the_table(self):
        rows = [line.split() for line in summarize().text.splitlines()]
        self.assertIn(["suite", "passed", "failed", "skipped"], rows)
        self.assertIn(["mm/mremap_batch", "2", "2", "1"], rows)
        self.assertIn(["mm/mremap", "2", "-", "3"], rows)
        self.assertIn(["kunit/ksm_rmap", "0", "1", "-"], rows)

    def test_every_failed_test_with_its_first_diagnostics(self):
        text = summarize().text
        self.assertIn("  mm/mremap_batch/mremap_batch/mremap_batch.small.soft_dirty\n"
                      "      | mremap_batch.c:212:soft_dirty:Expected soft_dirty", text)
        self.assertIn("      | batch_stops_at_table_end: EXPECTATION FAILED at", text)
        self.assertIn("      missing: Bail out! mlock2 failed: Cannot allocate memory (12)\n", text)

    def test_every_skip_with_its_reason(self):
        text = summarize().text
        for reason in ("no folio of order 4", "needs root", "CONFIG_KSM is off", "XFAIL",
                       "missing uffd"):
            self.assertIn(reason, text)
        for result in summary.results_of(trees("kselftest-mixed.tap", "kunit-boot.log")):
            if result.status == ktap.SKIP:
                self.assertIn(result.test.name[:60], text)

    def test_skips_of_one_reason_stand_together(self):
        lines = "".join(f"ok {n} t{n} # SKIP no folio of order {n}\n" for n in range(1, 6))
        report = summary.Report([ktap.parse_kselftest(f"TAP version 13\n1..5\n{lines}")])
        text = summary.summarize(report, False).text
        self.assertEqual(text.count("no folio of order"), 1)
        self.assertIn("t1, t2, t3, t4, t5", text)

    def test_splats(self):
        found = splats.scan(ktap.read_log(DATA / "splats-arm64.log"))
        text = summarize(splats=found).text
        self.assertIn("Kernel log\n  oops, line 2: Unable to handle kernel paging request", text)

    def test_deviations(self):
        text = summarize(deviations=[deviation("vanished", detail="it gave no result"),
                                     deviation("new", "mm/x/a", failure=False),
                                     deviation("new", "mm/x/b", failure=False)]).text
        self.assertIn("vanished: mm/mdwe/prog/a (it gave no result)", text)
        self.assertIn("2 tests not on the expected list: run 'make expect'", text)
        self.assertNotIn("mm/x/a", text)

    def test_a_part_without_content_has_no_heading(self):
        report = summary.Report([ktap.parse_kselftest("TAP version 13\n1..1\nok 1 a\n")])
        self.assertEqual(summary.summarize(report, False).text.splitlines(), [
            "  suite                      passed   failed  skipped",
            "  a                               1        -        -", "",
            "1 passed, 0 failed, 0 skipped"])

    def test_headings(self):
        lines = summarize(deviations=[deviation("vanished")],
                          splats=[splats.Splat("BUG", "BUG: x", 7, "BUG: x", "")]).text.splitlines()
        for heading in ("Failed", "Kernel log", "Skipped", "Not as expected"):
            self.assertIn(heading, lines)

    def test_a_long_log_says_how_much_is_left_out(self):
        def text(count):
            log = "".join(f"# line {n}\n" for n in range(count))
            tree = ktap.parse_kselftest(f"TAP version 13\n1..1\n{log}not ok 1 a\n")
            return summary.summarize(summary.Report([tree]), False).text
        self.assertIn("      | line 7\n", text(8))
        self.assertNotIn("more line", text(8))
        self.assertIn("      | line 7\n      | ... 1 more line\n", text(9))
        self.assertIn("... 4 more lines\n", text(12))

    def test_of_a_test_that_never_ended_the_last_lines_are_shown(self):
        log = "".join(f"# line {n}\n" for n in range(12))
        tree = ktap.parse_kselftest(f"TAP version 13\n1..1\n# [RUN] a\n{log}")
        text = summary.summarize(summary.Report([tree]), False).text
        self.assertIn("      | ... 4 more lines\n      | line 4\n", text)
        self.assertIn("      | line 11\n", text)

    def test_a_long_splat_says_how_much_is_left_out(self):
        block = "\n".join(f"line {n}" for n in range(12))
        text = summarize(splats=[splats.Splat("BUG", "BUG: x", 7, block, "")]).text
        self.assertIn("      | line 9\n      | ... 2 more lines\n", text)
        text = summarize(splats=[splats.Splat("BUG", "BUG: x", 7, "only this", "")]).text
        self.assertIn("  BUG, line 7: BUG: x\n      | only this\n\n", text)

    def test_what_the_failed_tests_say_already_is_no_deviation(self):
        text = summarize(deviations=[deviation("failed", counted=False),
                                     deviation("passes now", failure=False)]).text
        self.assertNotIn("Not as expected", text)
        self.assertIn("  1 test expected to be skipped, passed: run 'make expect'", text)

    def test_a_skipped_test_whose_name_holds_a_slash(self):
        tree = ktap.parse_kselftest("TAP version 13\n1..1\n"
                                    "ok 1 with /dev/userfaultfd # SKIP no device\n")
        text = summary.summarize(summary.Report([tree]), False).text
        self.assertIn("      with /dev/userfaultfd\n", text)

    def test_a_skip_without_a_name_of_its_own_is_shown_once(self):
        tree = ktap.parse_kselftest("TAP version 13\n1..1\nok 1 # SKIP fork (no swap)\n")
        text = summary.summarize(summary.Report([tree]), False).text
        self.assertEqual(text.split("Skipped")[1].count("fork (no swap)"), 1)

    def test_a_fault_of_the_run_is_a_failure(self):
        result = summarize(["kunit-debugfs.txt"], faults=["The guest died at its job."])
        self.assertEqual((result.passed, result.failed), (2, 2))
        self.assertIn("The run\n  The guest died at its job.\n", result.text)

    def test_plain(self):
        self.assertEqual(summary.plain(summarize(colour=True).text), summarize(colour=False).text)

    def test_notes(self):
        self.assertIn("\nThe guest died.\n", summarize(notes=["The guest died."]).text)

    def test_times_and_files(self):
        text = summarize(phases=[("build", 185), ("guest", 40)],
                         files=[("console", common.ROOT / "out" / "x" / "console.log"),
                                ("ktap", "/x/y")]).text
        self.assertIn("Time    build 3 min 05 s, guest 40 s; together 3 min 45 s", text)
        self.assertIn("Files   console  out/x/console.log\n", text)
        self.assertIn("Files   ktap     /x/y\n", text)

    def test_the_line_that_reruns_what_failed(self):
        text = summarize(rerun="make run DEBUG=1").text
        self.assertIn('\nAgain   make run DEBUG=1 T="mremap_batch mlock ksm_rmap"\n', text)

    def test_a_category_that_vanished_is_rerun(self):
        text = summarize(["kunit-boot.log"], deviations=[deviation("vanished")]).text
        self.assertIn('T="mremap_batch ksm_rmap mdwe"', text)

    def test_all_is_rerun_when_the_failures_have_no_name(self):
        self.assertIn("\nAgain   make run\n", summarize(["kselftest-died.tap"]).text)
        self.assertIn("\nAgain   make run\n", summarize(["kunit-panic.log"]).text)

    def test_nothing_is_rerun_when_all_passed(self):
        report = summary.Report([ktap.parse_kselftest("TAP version 13\n1..1\nok 1 a\n")])
        self.assertNotIn("Again", summary.summarize(report, False).text)

    def test_no_line_is_longer_than_100_columns(self):
        long = "x" * 300
        tree = ktap.parse_kselftest(f"TAP version 13\n1..3\n# {long}\nnot ok 1 {long}\n"
                                    f"ok 2 b # SKIP {long} and {long}\n"
                                    f"not ok 3 c # TIMEOUT {long}\n")
        splat = splats.Splat("BUG", long, 7, f"{long}\n{long}", "")
        text = summary.summarize(summary.Report(
            [tree] + trees("kselftest-mixed.tap", "kselftest-odd.tap"), [splat],
            [deviation("vanished", long)], notes=[f"{long} {long}"]), False).text
        self.assertEqual([line for line in text.splitlines() if len(line) > 100], [])

    def test_control_characters_do_not_reach_the_terminal(self):
        tree = ktap.parse_kselftest("TAP version 13\n1..1\n# \x1b[31mred\x07\nnot ok 1 a\x1b[0m\n")
        text = summary.summarize(summary.Report([tree]), False).text
        self.assertTrue(all(c.isprintable() or c == "\n" for c in text))

    def test_colour_only_where_it_is_wanted(self):
        self.assertNotIn("\033", summarize(colour=False).text)
        self.assertIn("\033[31m", summarize(colour=True).text)

    def test_who_wants_colour(self):
        class Terminal:
            """A stream that is a terminal."""
            def isatty(self):
                return True
        before = os.environ.pop("NO_COLOR", None)
        try:
            self.assertTrue(summary.wants_colour(Terminal()))
            os.environ["NO_COLOR"] = "1"
            self.assertFalse(summary.wants_colour(Terminal()))
        finally:
            os.environ.pop("NO_COLOR", None)
            if before is not None:
                os.environ["NO_COLOR"] = before
        with open(os.devnull, encoding="utf-8") as file:
            self.assertFalse(summary.wants_colour(file))


class ScriptTest(unittest.TestCase):
    def ktap(self, *args, stdin=None):
        done = subprocess.run([sys.executable, str(SCRIPTS / "ktap"), *map(str, args)], text=True,
                              capture_output=True, input=stdin, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_failures(self):
        code, out, _ = self.ktap(DATA / "kselftest-mixed.tap", DATA / "kunit-boot.log")
        self.assertEqual((code, out.splitlines()[-1]), (1, "10 passed, 6 failed, 10 skipped"))

    def test_all_passed(self):
        code, out, _ = self.ktap("-", stdin="TAP version 13\n1..1\nok 1 a\n")
        self.assertEqual((code, out.splitlines()[-1]), (0, "1 passed, 0 failed, 0 skipped"))

    def test_a_kernel_log_with_splats(self):
        code, out, _ = self.ktap(DATA / "splats-arm64.log")
        self.assertEqual((code, out.splitlines()[-1]), (1, "0 passed, 4 failed, 0 skipped"))

    def test_a_file_without_results(self):
        self.assertEqual(self.ktap("-", stdin="nothing\n")[0], 1)

    def test_a_missing_file(self):
        code, _, err = self.ktap("/nonexistent/log")
        self.assertEqual(code, 2)
        self.assertIn("/nonexistent/log", err)

    def test_list(self):
        code, out, _ = self.ktap("--list", DATA / "kunit-boot.log")
        self.assertEqual(code, 1)
        self.assertIn("skip kunit/mremap_batch/batch_on_arm64 # needs arm64\n", out)

    def test_junit_and_expect(self):
        with tempfile.TemporaryDirectory() as room:
            wanted = Path(room) / "list"
            wanted.write_text("pass a\npass b\n")
            code, out, _ = self.ktap("--junit", Path(room) / "x.xml", "--expect", wanted, "-",
                                     stdin="TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP no\n")
            self.assertEqual((code, out.splitlines()[-1]), (1, "1 passed, 1 failed, 0 skipped"))
            self.assertIn("<testsuites", (Path(room) / "x.xml").read_text())
            self.assertEqual(self.ktap("--expect", Path(room) / "none", "-", stdin="ok 1 a\n")[0],
                             2)


if __name__ == "__main__":
    unittest.main()
