# SPDX-License-Identifier: GPL-2.0
"""tools/testing/mm_fuzz on the kernel that runs here: it finds what is wrong, and only that."""

import os
import re
import shutil
import subprocess
import unittest

from programs import TOOLS, class_folder, make, needs_compiler

SOURCE = TOOLS / "mm_fuzz"
OLDEST = (6, 13)        # guard regions; PROCMAP_QUERY is older


def kernel_version():
    return tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])


@needs_compiler
class Built(unittest.TestCase):
    """Has the program."""

    @classmethod
    def setUpClass(cls):
        cls.out = class_folder(cls)
        done = make("mm_fuzz", f"OUTPUT={cls.out}", "EXTRA_CFLAGS=-Werror")
        if done.returncode or done.stderr:
            raise AssertionError(done.stderr)
        cls.program = cls.out / "mm_fuzz"

    def run_fuzz(self, *words, status=0):
        done = subprocess.run([self.program, *words], capture_output=True, text=True, check=False,
                              timeout=300)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done


class MmFuzzOptionsTest(Built):
    def test_builds_into_another_folder(self):
        self.assertTrue(self.program.exists())
        self.assertFalse((SOURCE / "mm_fuzz").exists())

    def test_builds_nothing_but_the_program(self):
        # A rule with a pattern made the Makefile, too, where a source was newer.
        done = make("mm_fuzz", "-n", "-W", "mm_fuzz.c")
        self.assertEqual(re.findall(r" -o (\S+)", done.stdout), ["mm_fuzz"])

    def test_refuses_what_makes_no_sense(self):
        for words in (["-n", "x"], ["-n", "0"], ["-s", "-1"], ["-s", ""], ["-i", "3,x"],
                      ["-i", "3,3"], ["-i", ""], ["-c", "0"], ["-p", "1"], ["-t", "1000"],
                      ["-T", "0"], ["-r", "0"], ["-R", "tea"], ["-e", "tea"], ["-f", "map,tea"],
                      ["-M", "tea"], ["-Q"], ["more"]):
            with self.subTest(words=words):
                done = self.run_fuzz(*words, status=2)
                self.assertIn("mm_fuzz: ", done.stderr)


@unittest.skipUnless(kernel_version() >= OLDEST, "the kernel here is older than Linux 6.13")
class MmFuzzRunTest(Built):
    def minimised(self, mutant, *words):
        """The indices that are left, and all that was printed."""
        text = self.run_fuzz("-m", "-s", "1", "-M", mutant, *words, status=1).stdout
        return re.search(r"-i ([\d,]+)", text)[1], text

    def test_finds_nothing(self):
        for words in ([], ["-t", "3", "-x"], ["-d", str(self.out), "-c", "100"], ["-p", "1100"]):
            with self.subTest(words=words):
                text = self.run_fuzz("-s", "1", "-n", "20000", *words).stdout
                self.assertIn("metric operations 20000\n", text)
                self.assertRegex(text, r"metric checks [1-9]\d{4}")
                self.assertTrue(text.endswith("ok\n"), text)

    def test_finds_and_minimises_what_is_wrong(self):
        for mutant, call in (("drop-page", "mremap"), ("keep-page", "munmap"),
                             ("keep-prot", "mprotect"), ("lose-lock", "mlock")):
            with self.subTest(mutant=mutant):
                if mutant == "lose-lock" and os.geteuid():
                    self.skipTest("to lock memory without a limit needs root")
                indices, text = self.minimised(mutant)
                self.assertLessEqual(len(indices.split(",")), 5, text)
                self.assertRegex(text, rf"(?m)^#\d+: {call}\d?\(A \+ .* = ")
                self.assertIn("expected", text)

    def test_replays_what_was_minimised(self):
        indices, _ = self.minimised("drop-page")
        self.run_fuzz("-s", "1", "-i", indices)
        text = self.run_fuzz("-s", "1", "-M", "drop-page", "-i", indices, status=1).stdout
        self.assertRegex(text, r"seed 1, operation \d+.*\n  call: .*\n  .*expected .*, seen ")

    def test_minimises_a_crash(self):
        indices, text = self.minimised("crash", "-n", "300")
        self.assertEqual(len(indices.split(",")), 1, text)
        self.assertRegex(text, r"died of signal 9\n  thread 0, operation \d+, call: munmap")

    def test_says_what_hangs(self):
        text = self.run_fuzz("-s", "1", "-M", "hang", "-T", "1", "-n", "300", status=1).stdout
        self.assertRegex(text, r"nothing has happened for 1 seconds\n.*, call: munmap")

    def test_is_the_same_each_time(self):
        texts = {self.run_fuzz("-s", "5", "-n", "300", "-f", "mremap", "-v").stdout.split("metric")[0]
                 for _ in range(2)}
        self.assertEqual(len(texts), 1)

    def test_leaves_out_groups(self):
        text = self.run_fuzz("-s", "5", "-n", "3000", "-f", "mremap,fork", "-v").stdout
        self.assertIn("metric calls-fork 0\n", text)
        self.assertNotIn("mremap(", text)

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "no setpriv")
    def test_runs_without_root(self):
        self.out.chmod(0o755)
        command = [str(self.program), "-s", "1", "-n", "5000"]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", "65534", "--clear-groups", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
