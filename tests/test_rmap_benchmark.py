# SPDX-License-Identifier: GPL-2.0
"""The pure parts of tools/testing/rmap/rmap_benchmark, and what needs no kernel of ours."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from programs import TOOLS, make, needs_compiler

SOURCE = TOOLS / "rmap"


@needs_compiler
class RmapBenchmarkTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def build(self):
        done = make("rmap", f"O={self.out}", "EXTRA_CFLAGS=-Werror")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return self.out / "rmap_benchmark"

    def test_unit_tests_pass(self):
        done = make("rmap", "check", f"OUTPUT={self.out}", "EXTRA_CFLAGS=-Werror")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"[1-9]\d* checks, 0 failed")

    def test_a_defect_fails_the_unit_tests(self):
        broken = self.out / "rmap"
        shutil.copytree(SOURCE, broken)
        stats = broken / "stats.c"
        text = stats.read_text()
        self.assertIn("percent + 99", text)
        stats.write_text(text.replace("percent + 99", "percent + 199"))
        done = make("rmap", "-C", str(broken), "check", f"OUTPUT={self.out}")
        self.assertNotEqual(done.returncode, 0)

    def test_builds_into_another_folder(self):
        self.assertTrue(self.build().exists())
        self.assertFalse((SOURCE / "rmap_benchmark").exists())

    def test_refuses_what_makes_no_sense(self):
        program = self.build()
        for words in (["-n", "x"], ["-n", "-5"], ["-i", "0"], ["-t", "ksm,tea"], ["-m", "tea"],
                      ["-n", "4", "-s", "5"], ["-t", "anon", "--assert-visits", "1"], ["more"]):
            done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("rmap_benchmark: ", done.stderr)

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "no setpriv")
    def test_skips_without_root(self):
        program = self.build()
        self.out.chmod(0o755)
        command = [str(program)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", "65534", "--clear-groups", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("skipped: not root", done.stderr)


if __name__ == "__main__":
    unittest.main()
