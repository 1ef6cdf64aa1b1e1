# SPDX-License-Identifier: GPL-2.0
"""Which data races count as new, and what counts as changed code."""

import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from unstall import common, races, tally as tallies  # noqa: E402
from unstall.machinecode import Function  # noqa: E402

RULER = "=" * 66


def console(*titles):
    """A log in which KCSAN reports races with these titles."""
    lines = []
    for title in titles:
        lines += [RULER, f"BUG: KCSAN: data-race in {title}", "",
                  "write to 0xffff888 of 8 bytes by task 1 on cpu 0:", " f+0x1/0x2", RULER]
    return "".join(f"[{n:5}.000000] {line}\n" for n, line in enumerate(lines))


class Reports(unittest.TestCase):
    def test_two_functions_in_either_order(self):
        self.assertEqual(races.pair_of("zap / add"), ("add", "zap"))

    def test_what_the_compiler_appends_is_no_other_function(self):
        self.assertEqual(races.pair_of("zap.isra.0 / add.part.0.constprop.0"), ("add", "zap"))

    def test_one_side_alone(self):
        self.assertEqual(races.pair_of("zap+0x12/0x40"), ("zap",))

    def test_the_first_report_of_each_pair(self):
        found = races.reports(console("a / b", "b / a", "a / a"))
        self.assertEqual(list(found), [("a", "b"), ("a", "a")])
        self.assertIn("write to 0xffff888", found[("a", "b")])

    def test_what_is_no_race_is_a_splat(self):
        text = console("a / b") + "[  100.000000] BUG: Bad rss-counter state mm:1 type:2\n"
        self.assertEqual([s.kind for s in races.others(text)], ["bad rss-counter"])


def function(*lines):
    return Function("f", [(0, line, set()) for line in lines])


class ChangedCode(unittest.TestCase):
    def test_where_code_lies_does_not_count(self):
        old = function("12:\tcall   17 <f+0x17>", "13: R_X86_64_PLT32\tzap-0x4")
        new = function("a2:\tcall   a7 <f+0x27>", "a3: R_X86_64_PLT32\tzap-0x4")
        self.assertEqual(races.code_of(old), races.code_of(new))

    def test_what_it_calls_and_does_counts(self):
        old = function("12:\tcall   17 <f+0x17>", "13: R_X86_64_PLT32\tzap-0x4")
        for new in (function("12:\tcall   17 <f+0x17>", "13: R_X86_64_PLT32\tadd-0x4"),
                    function("12:\tjmp    17 <f+0x17>", "13: R_X86_64_PLT32\tzap-0x4")):
            self.assertNotEqual(races.code_of(old), races.code_of(new))
        self.assertNotEqual(races.code_of(function("1:\tmov    -0x8(%rbp),%rax")),
                            races.code_of(function("1:\tmov    -0x10(%rbp),%rax")))


class WatchedKernel(unittest.TestCase):
    def test_calls_of_kcsan_tell(self):
        kernel = mock.Mock(out=Path("/x"))
        for symbol, said in (("__tsan_read8", True), ("memset", False)):
            found = {"f": Function("f", [(0, "call", {symbol})])}
            with mock.patch.object(races.machinecode, "disassemble", lambda *_, f=found: f):
                self.assertIs(races.is_watched(kernel), said)


class Verdict(unittest.TestCase):
    """The rounds of both kernels, with the races that each shows in each."""

    def setUp(self):
        self.shown = {"base": [], "ours": []}
        self.changed = {"changed"}
        self.said = []
        test = self

        class Kernel(races.Watched):
            def __init__(self, variant):    # pylint: disable=super-init-not-called
                self.variant, self.kernel = variant, mock.Mock()
                self.races, self.rounds = {}, 0

            def round(self, steps, tally):
                shown = test.shown[self.variant]
                now = shown[self.rounds] if self.rounds < len(shown) else ()
                self.races.update(dict.fromkeys(now, "the report"))
                self.rounds += 1
                test.rounds.append(self.variant)

        self.rounds = []
        for patch in (mock.patch.object(races, "Watched", Kernel),
                      mock.patch.object(races, "changed_functions", lambda b, o: self.changed),
                      mock.patch.object(races.targets, "workloads", lambda t: []),
                      mock.patch.object(common, "say", self.said.append)):
            patch.start()
            self.addCleanup(patch.stop)

    def failed(self):
        tally = tallies.Tally()
        races.run(1, tally)
        return tally.bad

    def test_the_same_races(self):
        self.shown = {"base": [[("changed", "x")]], "ours": [[("changed", "x")]]}
        self.assertEqual(self.failed(), [])
        self.assertEqual(self.rounds, ["ours", "base"])

    def test_a_new_race_of_what_was_not_changed(self):
        self.shown["ours"] = [[("x", "y")]]
        self.assertEqual(self.failed(), [])
        self.assertIn("only in ours: x / y", "\n".join(self.said))

    def test_a_new_race_of_what_was_changed(self):
        self.shown["ours"] = [[("changed", "x")]]
        self.assertEqual(self.failed(), ["race of changed / x"])
        self.assertEqual(self.rounds.count("base"), 1 + races.MORE_ROUNDS)
        self.assertIn("the report", "\n".join(self.said))

    def test_a_function_that_was_part_of_another(self):
        self.changed = {"folio_batch_move_live"}
        self.shown = {"base": [[("folio_batch_move_lru", "x")]],
                      "ours": [[("folio_batch_move_live", "x")]]}
        self.assertEqual(self.failed(), [])

    def test_a_race_that_the_base_shows_later(self):
        self.shown = {"base": [[], [("changed", "x")]], "ours": [[("changed", "x")]]}
        self.assertEqual(self.failed(), [])
        self.assertEqual(self.rounds, ["ours", "base", "base"])


class Steps(unittest.TestCase):
    def test_commands_are_whole(self):
        found = races.steps(7, "/p")
        names = [s.name for s in found]
        self.assertLessEqual(set(races.SHARED), set(names))
        self.assertEqual(len(names), len(set(names)))
        for step in found:
            self.assertNotRegex(step.command, "{(seconds|operations)|{{")


if __name__ == "__main__":
    unittest.main()
