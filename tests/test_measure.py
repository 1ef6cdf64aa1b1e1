# SPDX-License-Identifier: GPL-2.0
"""measure, the guest's program that counts, with commands that need no kernel of ours."""

import json
import subprocess
import tempfile
import textwrap
import unittest
from pathlib import Path

from programs import class_folder, needs_compiler
from unstall import vm

SOURCE = vm.GUEST_SOURCES / "measure.c"
BUSY = textwrap.dedent("""\
    echo >> runs
    i=0
    case $(wc -l < runs) in
    1|3) until [ $i = 400000 ]; do i=$((i + 1)); done ;;
    2) exit $1 ;;
    esac
    """)

# Rounds that run long, wait longer, and do nothing.
MIXED = textwrap.dedent("""\
    echo >> runs
    i=0
    case $(wc -l < runs) in
    1) until [ $i = 400000 ]; do i=$((i + 1)); done ;;
    2) sleep 5 ;;
    esac
    """)


@needs_compiler
class MeasureTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = class_folder(cls) / "measure"
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", cls.program, SOURCE],
                       check=True)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.runs = Path(folder.name) / "runs"

    def measure(self, *words):
        return subprocess.run([self.program, *words], cwd=self.runs.parent, capture_output=True,
                              text=True, check=False)

    def nr_runs(self):
        return len(self.runs.read_text().splitlines())

    def test_the_median_of_the_rounds(self):
        done = self.measure("-w", "0", "-r", "3", "sh", "-c", BUSY, "busy", "0")
        self.assertEqual((done.returncode, self.nr_runs()), (0, 3), done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 1)
        self.assertGreater(json.loads(lines[0])["ns"], 20_000_000)

    def test_each_number_has_a_median_of_its_own(self):
        done = self.measure("-w", "0", "-r", "3", "sh", "-c", MIXED)
        found = json.loads(done.stdout)
        self.assertLess(found["ns"], 20_000_000)
        self.assertGreater(found["passed ns"], 20_000_000)
        self.assertLess(found["passed ns"], 4_900_000_000)

    def test_warm_runs_are_not_counted(self):
        done = self.measure("-w", "3", "sh", "-c", BUSY, "busy", "0")
        self.assertEqual((done.returncode, self.nr_runs()), (0, 4), done.stderr)
        self.assertLess(json.loads(done.stdout)["ns"], 20_000_000)

    def test_a_round_that_fails_is_the_last(self):
        done = self.measure("-w", "0", "-r", "3", "sh", "-c", BUSY, "busy", "7")
        self.assertEqual((done.returncode, self.nr_runs()), (7, 2), done.stderr)
        self.assertEqual(json.loads(done.stdout)["status"], 7)

    def test_refuses_what_makes_no_sense(self):
        for words in (["-r", "0", "true"], ["-r", "100", "true"], ["-x", "true"], []):
            done = self.measure(*words)
            self.assertEqual((done.returncode, done.stdout), (125, ""), words)
            self.assertRegex(done.stderr, r"measure: .+")


if __name__ == "__main__":
    unittest.main()
