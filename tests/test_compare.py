# SPDX-License-Identifier: GPL-2.0
"""Two runs against each other: what differs, and what of it is a regression."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import compare, ktap    # noqa: E402

DATA = HERE / "data"


def run(*results, plan=None, extra=""):
    """The tree of one program's results: ("ok", "name") pairs."""
    lines = [f"{verdict} {number} {name}" for number, (verdict, name) in enumerate(results, 1)]
    return ktap.parse_kselftest("\n".join(["TAP version 13",
                                           f"1..{plan or len(results)}"] + lines) +
                                "\n" + extra)


def titles(before, after):
    """[(name, title, is it a regression)] of two lists of results."""
    found = compare.compare(run(*before), run(*after))
    return [(change.name, change.title, change.regression) for change in found.changes]


PASS, FAIL, SKIP = ("ok", "a"), ("not ok", "a"), ("ok", "a # SKIP no swap")


class ChangeTest(unittest.TestCase):
    def test_the_same(self):
        for result in (PASS, FAIL, SKIP):
            self.assertEqual(titles([result], [result]), [])

    def test_each_change(self):
        for before, after, title, regression in (
                (PASS, FAIL, "pass -> fail", True), (PASS, SKIP, "pass -> skip", True),
                (SKIP, FAIL, "skip -> fail", True), (FAIL, PASS, "fail -> pass", False),
                (SKIP, PASS, "skip -> pass", False), (FAIL, SKIP, "fail -> skip", False),
                (SKIP, ("ok", "a # SKIP no root"), "skip for another reason", False)):
            self.assertEqual(titles([before], [after]), [("a", title, regression)])

    def test_a_documented_failure_is_no_regression_but_anything_worse_is(self):
        for after, title, regression in (
                (FAIL, "pass -> fail, as documented", False), (SKIP, "pass -> skip", True)):
            found = compare.compare(run(PASS), run(after), documented=["[a-c]"])
            self.assertEqual([(c.title, c.regression) for c in found.changes],
                             [(title, regression)])
        found = compare.compare(run(PASS, ("ok", "b")), run(FAIL, ("not ok", "b")), ["b*"])
        self.assertEqual([c.name for c in found.regressions], ["a"])
        died = compare.compare(run(PASS, ("ok", "b")), run(("ok", "b"), plan=2), ["a"])
        self.assertEqual([c.name for c in died.regressions][:1], ["a"])

    def test_what_a_pass_prints_behind_its_name_is_no_change(self):
        self.assertEqual(titles([("ok", "a # fast")], [("ok", "a # slow")]), [])
        self.assertEqual(titles([("not ok", "a # bad read")], [("not ok", "a # bad write")]),
                         [("a", "fail for another reason", False)])

    def test_vanished(self):
        other = ("ok", "b")
        self.assertEqual(titles([PASS, other], [other]), [("a", "vanished, was pass", True)])
        self.assertEqual(titles([SKIP, other], [other]), [("a", "vanished, was skip", True)])
        self.assertEqual(titles([FAIL, other], [other]), [("a", "vanished, was fail", False)])

    def test_new(self):
        other = ("ok", "b")
        self.assertEqual(titles([other], [other, PASS]), [("a", "new, pass", False)])
        self.assertEqual(titles([other], [other, SKIP]), [("a", "new, skip", False)])
        self.assertEqual(titles([other], [other, FAIL]), [("a", "new, fail", True)])

    def test_a_run_that_died(self):
        found = compare.compare(run(PASS, ("ok", "b")), run(PASS, plan=2))
        self.assertEqual({(c.name, c.title) for c in found.regressions},
                         {("b", "vanished, was pass"),
                          ("(tests without a result)", "new, crashed")})

    def test_both_died_at_different_places(self):
        found = compare.compare(run(PASS, plan=9), run(PASS, ("ok", "b"), plan=9))
        self.assertEqual([c.title for c in found.changes if c.regression], [])

    def test_failed_and_crashed_are_no_regression_of_each_other(self):
        change = compare.Change("a", ktap.FAIL, ktap.CRASHED, "")
        self.assertFalse(change.regression)


class NamesTest(unittest.TestCase):
    def test_addresses_and_pids_in_names(self):
        self.assertEqual(titles([("ok", "map 0x7f0000001000 of pid 12")],
                                [("ok", "map 0x7fabc0001000 of pid 99")]), [])

    def test_counts_in_reasons(self):
        self.assertEqual(titles([("ok", "a # SKIP 12 pages free")],
                                [("ok", "a # SKIP 97 pages free")]), [])

    def test_names_that_become_alike_stay_apart(self):
        before = [("ok", "transact_test count 7"), ("ok", "transact_test count 0")]
        after = [("ok", "transact_test count 9"), ("not ok", "transact_test count 3")]
        self.assertEqual(titles(before, after),
                         [("transact_test count N <2>", "pass -> fail", True)])

    def test_a_skip_without_a_name_of_its_own(self):
        self.assertEqual(titles([("ok", "wp-fork on shmem")],
                                [("ok", "# SKIP wp-fork on shmem (no feature)")]),
                         [("wp-fork on shmem", "pass -> skip", True)])
        self.assertEqual(titles([("ok", "# SKIP wp-fork on shmem (no feature)")],
                                [("ok", "wp-fork on shmem")]),
                         [("wp-fork on shmem", "skip -> pass", False)])

    def test_it_takes_the_longest_name(self):
        before = [("ok", "wp"), ("ok", "wp-fork")]
        after = [("ok", "wp"), ("ok", "# SKIP wp-fork (x)")]
        self.assertEqual(titles(before, after), [("wp-fork", "pass -> skip", True)])


class TextTest(unittest.TestCase):
    def test_only_differences_and_counts(self):
        before = run(("ok", "a"), ("ok", "b"), ("ok", "c # SKIP x"), ("not ok", "d"), ("ok", "e"))
        after = run(("ok", "a"), ("not ok", "b"), ("ok", "c # SKIP x"), ("not ok", "d"),
                    ("ok", "e # SKIP y"))
        text = compare.compare(before, after).text()
        self.assertIn("the same in both: 1 passed, 1 failed, 1 skipped\n", text)
        self.assertIn("pass -> fail: 1, REGRESSION\n  b\n", text)
        self.assertIn("pass -> skip: 1, REGRESSION\n  e\n      y\n", text)
        self.assertNotIn("\n  a\n", text)
        self.assertEqual(text.splitlines()[-1], "2 regressions, 0 other differences")

    def test_another_reason_shows_both(self):
        text = compare.compare(run(SKIP), run(("ok", "a # SKIP no root"))).text()
        self.assertIn("skip for another reason: 1\n  a\n      was: no swap\n      is:  no root\n",
                      text)
        self.assertIn("the same in both: nothing\n", text)
        self.assertEqual(text.splitlines()[-1], "0 regressions, 1 other difference")

    def test_regressions_come_first(self):
        text = compare.compare(run(FAIL, ("ok", "b")), run(PASS, ("not ok", "b"))).text()
        self.assertLess(text.index("pass -> fail"), text.index("fail -> pass"))

    def test_no_difference(self):
        tree = ktap.parse_kselftest(ktap.read_log(DATA / "kselftest-mixed.tap"))
        result = compare.compare(tree, tree)
        self.assertEqual((result.changes, result.regressions), ([], []))
        self.assertIn("8 passed, 2 failed, 2 missing, 7 skipped", result.text())

    def test_lists_of_trees(self):
        one, two = run(("ok", "a")), run(("ok", "b"))
        self.assertEqual(compare.compare([one, two], [one, two]).changes, [])

    def test_width_and_colour(self):
        text = compare.compare(run(("ok", "x" * 200)), run(("not ok", "x" * 200))).text()
        self.assertTrue(all(len(line) <= 100 for line in text.splitlines()))
        self.assertNotIn("\033", text)
        self.assertIn("\033[31m", compare.compare(run(PASS), run(FAIL)).text(colour=True))


if __name__ == "__main__":
    unittest.main()
