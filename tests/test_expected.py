# SPDX-License-Identifier: GPL-2.0
"""Lists of expected results: what counts as a deviation and how a list is written."""

import re
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import expected, ktap    # noqa: E402
from unstall.common import CannotRun, Failed    # noqa: E402

LIST = """\
# a comment
pass mm/b/prog/one
pass mm/b/prog/two
skip mm/b/prog/three # no folio of order N
skip mm/b/prog/four # needs root
pass mm/other/prog/x
"""


def run(*results, category="b", result="ok 1 prog", end=True):
    """The tree of a run of one category whose program prints these result lines."""
    lines = [re.sub(r"^(ok|not ok)", rf"# # \1 {number}", line)
             for number, line in enumerate(results, 1)]
    lines = ["TAP version 13", "1..1", f"# selftests: mm: ksft_{category}.sh", "# TAP version 13",
             "# # running ./prog", "# # TAP version 13", "# # 1..4"] + lines
    if end:
        lines += [f"# {result}", "# 1..1", f"ok 1 selftests: mm: ksft_{category}.sh"]
    return [ktap.parse_kselftest("\n".join(lines) + "\n")]


GOOD = ("ok one", "ok two", "ok three # SKIP no folio of order 4", "ok four # SKIP needs root")


def deviations(*results, entries=LIST, selected=("mm/b",), **kwargs):
    """[(kind, name, is it a failure)] of a run against the list."""
    found = expected.compare(expected.parse(entries), run(*results, **kwargs), selected)
    return [(d.kind, d.name, d.failure) for d in found]


class CompareTest(unittest.TestCase):
    def test_as_expected(self):
        self.assertEqual(deviations(*GOOD), [])

    def test_numbers_in_reasons_do_not_matter(self):
        self.assertEqual(deviations(*GOOD[:2], "ok three # SKIP no folio of order 9", GOOD[3]), [])

    def test_a_vanished_test(self):
        self.assertIn(("vanished", "mm/b/prog/one", True), deviations(*GOOD[1:]))

    def test_a_vanished_skip(self):
        self.assertIn(("vanished", "mm/b/prog/four", True), deviations(*GOOD[:3]))

    def test_a_new_skip(self):
        self.assertEqual(deviations("ok one # SKIP tired", *GOOD[1:]),
                         [("new skip", "mm/b/prog/one", True)])

    def test_another_reason(self):
        self.assertEqual(deviations(*GOOD[:3], "ok four # SKIP needs swap"),
                         [("other reason", "mm/b/prog/four", True)])

    def test_a_failure_is_counted_by_the_test_itself(self):
        found = expected.compare(expected.parse(LIST), run("not ok one", *GOOD[1:]), ["mm/b"])
        self.assertEqual([(d.kind, d.name, d.counted) for d in found],
                         [("failed", "mm/b/prog/one", False)])

    def test_a_new_test_is_a_note(self):
        text = LIST.replace("pass mm/b/prog/one\n", "")
        self.assertEqual(deviations(*GOOD, entries=text), [("new", "mm/b/prog/one", False)])

    def test_a_skip_that_passes_is_a_note(self):
        self.assertEqual(deviations(*GOOD[:3], "ok four"),
                         [("passes now", "mm/b/prog/four", False)])

    def test_what_is_not_selected_is_left_alone(self):
        self.assertEqual(deviations(*GOOD, selected=("mm/b",)), [])
        self.assertEqual(deviations(*GOOD, selected=None), [("vanished", "mm/other/prog/x", True)])
        self.assertEqual(deviations(*GOOD, selected=("mm/other",)),
                         [("vanished", "mm/other/prog/x", True)])

    def test_a_selection_is_no_prefix_of_a_name(self):
        self.assertTrue(expected.in_selection("mm/b/prog/one", ["mm/b"]))
        self.assertFalse(expected.in_selection("mm/batch/prog/one", ["mm/b"]))

    def test_what_vanished_because_its_program_died_counts_once(self):
        found = expected.compare(expected.parse(LIST), run(*GOOD[:1], end=False), ["mm/b"])
        self.assertEqual([(d.kind, d.counted) for d in found], [("vanished", False)] * 3)

    def test_what_vanished_because_its_program_failed_counts_once(self):
        text = ("TAP version 13\n1..1\n# selftests: mm: ksft_b.sh\n# TAP version 13\n"
                "# # running ./prog\n# not ok 1 prog # exit=1\n# 1..1\n"
                "not ok 1 selftests: mm: ksft_b.sh\n")
        found = expected.compare(expected.parse(LIST), [ktap.parse_kselftest(text)], ["mm/b"])
        self.assertEqual([(d.kind, d.counted) for d in found], [("vanished", False)] * 4)

    def test_what_vanished_because_the_guest_died_counts_once(self):
        dead = [ktap.parse_kselftest("TAP version 13\n1..2\n")]
        found = expected.compare(expected.parse(LIST), dead, ["mm/b"])
        self.assertEqual([(d.kind, d.counted) for d in found], [("vanished", False)] * 4)

    def test_a_failure_elsewhere_does_not_stand_for_what_vanished(self):
        other = run("not ok one", "ok two", "ok three", "ok four", category="c")
        found = expected.compare(expected.parse(LIST), other, ["mm/b"])
        self.assertEqual([(d.kind, d.counted) for d in found], [("vanished", True)] * 4)

    def test_text_of_a_deviation(self):
        self.assertEqual(expected.Deviation("vanished", "a").text(), "vanished: a")
        self.assertEqual(expected.Deviation("new skip", "a", "b").text(), "new skip: a (b)")

    def test_what_vanished_with_its_whole_category_counts(self):
        found = expected.compare(expected.parse(LIST), [], ["mm/b"])
        self.assertEqual([(d.kind, d.counted) for d in found], [("vanished", True)] * 4)

    def test_a_skip_without_a_name_of_its_own_keeps_the_tests_name(self):
        self.assertEqual(deviations("ok # SKIP one (no uffd)", *GOOD[1:]),
                         [("new skip", "mm/b/prog/one", True)])

    def test_no_list_yet(self):
        found = expected.compare(None, run(*GOOD), ["mm/b"])
        self.assertEqual({d.kind for d in found}, {"new"})
        self.assertFalse(any(d.failure for d in found))


class FileTest(unittest.TestCase):
    def test_a_list_is_read_and_written_back_the_same(self):
        entries = expected.parse(LIST)
        text = expected.text_of(entries, "v7.2.6", "x86_64")
        self.assertEqual(expected.parse(text), entries)
        self.assertIn("v7.2.6, x86_64", text)

    def test_a_list_is_sorted_by_name(self):
        rows = [line.split(" ", 1)[1] for line in
                expected.text_of(expected.parse(LIST), "b", "a").splitlines() if line[0] != "#"]
        self.assertEqual(rows, sorted(rows))

    def test_bad_lines_are_refused_with_their_place(self):
        for line in ("fail mm/b/x", "pass", "skip ", "gibberish", "pass  # reason"):
            with self.assertRaisesRegex(CannotRun, "list:2"):
                expected.parse(f"# x\n{line}\n", "list")

    def test_a_test_that_is_there_twice_is_refused(self):
        with self.assertRaisesRegex(CannotRun, "twice"):
            expected.parse("pass a\nskip a # b\n")

    def test_update_keeps_what_was_not_selected(self):
        with tempfile.TemporaryDirectory() as room:
            file = Path(room) / "v7.2.6-x86_64"
            file.write_text(LIST)
            expected.update("v7.2.6", "x86_64", run("ok one", "ok two", "ok 3", "ok 4"), ["mm/b"],
                            file)
            entries = expected.load(file)
        self.assertEqual(entries["mm/other/prog/x"], expected.Entry("pass"))
        self.assertEqual(entries["mm/b/prog/one"], expected.Entry("pass"))
        self.assertNotIn("mm/b/prog/three", entries)

    def test_what_was_written_is_what_is_expected(self):
        with tempfile.TemporaryDirectory() as room:
            file = expected.update("v", "a", run(*GOOD), ["mm/b"], Path(room) / "v-a")
            self.assertEqual(expected.compare(expected.load(file), run(*GOOD), ["mm/b"]), [])
            self.assertIn("skip mm/b/prog/three # no folio of order N\n", file.read_text())

    def test_a_run_with_failures_writes_nothing(self):
        with tempfile.TemporaryDirectory() as room:
            file = Path(room) / "v-a"
            with self.assertRaises(Failed):
                expected.update("v", "a", run("not ok one", *GOOD[1:]), ["mm/b"], file)
            self.assertFalse(file.exists())

    def test_a_missing_list(self):
        self.assertIsNone(expected.load("/nonexistent/list"))

    def test_path(self):
        self.assertEqual(expected.path("v7.2.6", "arm64").name, "v7.2.6-arm64")

    def test_every_list_of_the_repository_is_good(self):
        for file in expected.FOLDER.glob("*"):
            entries = expected.load(file)
            self.assertTrue(entries, file)
            self.assertEqual(list(entries), sorted(entries), file)


if __name__ == "__main__":
    unittest.main()
