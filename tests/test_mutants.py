# SPDX-License-Identifier: GPL-2.0
"""What is said of a mutant, and when one counts as noticed."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from unstall import common, mutants, series, vm  # noqa: E402

TAP = """TAP version 13
1..4
ok 1 swap.small.cached
not ok 2 swap.large.cached
not ok 3 walk.alone
ok 4 swap.small.entries
"""
KUNIT = """KTAP version 1
1..1
    KTAP version 1
    # Subtest: lru_churn
    1..2
    ok 1 lru_churn_stays_once
        KTAP version 1
        # Subtest: lru_churn_flags
        not ok 1 young
        ok 2 old
    not ok 2 lru_churn_flags
not ok 1 lru_churn
"""


def step(name, output, status="1"):
    return vm.StepResult(name, status, 1, output)


class Headers(unittest.TestCase):

    def read(self, header):
        with tempfile.TemporaryDirectory() as temp:
            path = Path(temp) / "x-y.patch"
            path.write_text(header + "--- a/mm/swap.c\n+++ b/mm/swap.c\n")
            return mutants.read(path)

    def test_all_killers_are_read(self):
        found = self.read("A mistake,\nin two lines.\nKilled by: mm/ksm_rmap a b.c\n"
                          "Killed by: gate x86_64\n")
        self.assertEqual((found.name, found.what), ("x-y", "A mistake,\nin two lines."))
        self.assertEqual(found.killers, [mutants.Killer("mm/ksm_rmap", ("a", "b.c")),
                                         mutants.Killer("gate", ("x86_64",))])

    def test_lines_of_one_kind_are_one_run(self):
        found = self.read("A mistake.\nKilled by: mm/x a\nKilled by: kunit/y b\nKilled by: mm/x c\n")
        self.assertEqual(found.killers, [mutants.Killer("mm/x", ("a", "c")),
                                         mutants.Killer("kunit/y", ("b",))])

    def test_a_mutant_that_nobody_kills_is_refused(self):
        with self.assertRaisesRegex(common.CannotRun, "does not say what kills it"):
            self.read("A mistake.\n")
        with self.assertRaisesRegex(common.CannotRun, "nobody knows how 'make'"):
            self.read("A mistake.\nKilled by: make ksft\n")

    def test_every_mutant_names_tests_of_ours(self):
        known = series.load(common.base_name())
        files = {f for topic in known.topics for f in known.added_files(topic)}
        for mutant in mutants.select([]):
            for killer in mutant.killers:
                if killer.kind.startswith("mm/"):
                    source = f"tools/testing/selftests/mm/{killer.name}.c"
                elif killer.kind.startswith("kunit/"):
                    source = f"mm/tests/{killer.name}_kunit.c"
                else:
                    continue
                self.assertIn(source, files, mutant.name)
                text = (common.ROOT / source).read_text()
                for test in killer.tests:
                    for word in test.split("."):
                        self.assertRegex(text, rf"\b{word}\b", f"{mutant.name}: {test}")

    def test_selection(self):
        self.assertTrue(all(m.name.startswith("ksm-") for m in mutants.select(["ksm-*"])))
        with self.assertRaisesRegex(common.CannotRun, "M=ksn matches no mutant.*ksm-walk"):
            mutants.select(["ksn"])


class Verdict(unittest.TestCase):

    def survived(self, kind, tests, done):
        return mutants.survived(mutants.Killer(kind, tests), done)

    def test_one_variant_that_fails_is_enough(self):
        done = step("mremap_relocate", TAP)
        self.assertEqual(self.survived("mm/mremap_relocate",
                                       ("swap.cached", "cached", "walk.alone"), done), [])

    def test_a_test_that_passes_or_is_not_there_did_not_notice(self):
        done = step("mremap_relocate", TAP)
        self.assertEqual(self.survived("mm/mremap_relocate",
                                       ("swap.entries", "walk.cached", "none"), done),
                         ["mm/mremap_relocate swap.entries", "mm/mremap_relocate walk.cached",
                          "mm/mremap_relocate none"])

    def test_a_program_that_did_not_run_noticed_nothing(self):
        self.assertEqual(len(self.survived("mm/x", ("a",), step("x", "sh: not found", "127"))), 1)

    def test_a_guest_that_hangs_or_dies_in_a_test_noticed(self):
        begun = "TAP version 13\n1..3\n#  RUN           f.b ...\n#            OK  f.b\nok 1 f.b\n"
        for status in ("timeout", "died"):
            in_a = step("x", begun + "#  RUN           f.v.a ...\n", status)
            self.assertEqual(self.survived("mm/x", ("f.a", "c"), in_a), [])
            self.assertEqual(self.survived("mm/x", ("f.b",), in_a), ["mm/x f.b"])
            for text in ("", begun):
                between = step("x", text, status)
                self.assertEqual(self.survived("mm/x", ("f.a",), between), ["mm/x f.a"])

    def test_kunit_cases_and_their_parameters(self):
        done = step("kunit", KUNIT, "0")
        self.assertEqual(self.survived("kunit/lru_churn", ("lru_churn_flags",), done), [])
        self.assertEqual(self.survived("kunit/lru_churn", ("lru_churn_stays_once",), done),
                         ["kunit/lru_churn lru_churn_stays_once"])

    def test_only_the_named_tests_are_run(self):
        found = mutants.step_of(mutants.Killer("mm/ksm_rmap", ("a", "visits.b")))
        self.assertTrue(found.command.endswith("./ksm_rmap -t a -t b"), found.command)

    def judge(self, *steps):
        with tempfile.TemporaryDirectory() as temp:
            mutant = mutants.Mutant(Path("m.patch"), "", [mutants.Killer("mm/x", ("a",))])
            done = vm.Run(Path(temp), 1, True, True, "the guest died", list(steps))
            return mutants.judge(mutant, done, Path(temp))

    def test_verdict_of_a_run(self):
        install = step("install", "", "0")
        self.assertIsNone(self.judge(install, step("x", "TAP version 13\n1..1\nnot ok 1 f.a\n")))
        self.assertEqual(self.judge(install, step("x", "TAP version 13\n1..1\nok 1 f.a\n", "0")),
                         "not noticed by mm/x a")
        self.assertIn("could not be copied", self.judge(step("install", "no space"), step("x", "")))

    def test_what_could_not_run_after_a_death(self):
        with tempfile.TemporaryDirectory() as temp:
            killers = [mutants.Killer("mm/x", ("a",)), mutants.Killer("mm/y", ("b",))]
            steps = [step("install", "", "0"), step("x", "#  RUN           f.a ...\n", "died"),
                     step("y", "", "died")]
            done = vm.Run(Path(temp), 1, True, True, "the guest died", steps)
            judge = mutants.judge(mutants.Mutant(Path("m.patch"), "", killers), done, Path(temp))
            self.assertIsNone(judge)


if __name__ == "__main__":
    unittest.main()
