# SPDX-License-Identifier: GPL-2.0
"""scripts/deps on machines that lack things, with stubs for apt, id and sudo."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from unstall import common

TOOLS = ("sh", "cat", "cut", "sort", "tr", "printf", "mktemp", "rm", "env", "id", "uname")


class Deps(unittest.TestCase):

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.bin = Path(self.temp.name)
        for tool in TOOLS:
            for folder in ("/bin", "/usr/bin"):
                if os.path.exists(f"{folder}/{tool}") and not (self.bin / tool).exists():
                    (self.bin / tool).symlink_to(f"{folder}/{tool}")

    def stub(self, name, text):
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def deps(self, *args):
        script = (common.ROOT / "scripts" / "deps").read_text()
        # A machine's own sbin would show what the stubbed one lacks.
        script = script.replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin ", "")
        path = self.bin / "deps"
        path.write_text(script)
        return subprocess.run(["/bin/sh", path, *args], env={"PATH": str(self.bin)}, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, check=False)

    def test_without_root_the_exact_line_is_printed(self):
        self.stub("apt-get", "exit 99")
        self.stub("id", "echo 1000")
        done = self.deps("run")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"run as root: apt-get install --no-install-recommends .*"
                                      r"\bqemu-system-x86\b")
        self.assertNotIn("shellcheck", done.stderr)
        self.assertIn("boots the guest", done.stdout)

    def test_root_installs_what_is_missing_and_nothing_else(self):
        self.stub("id", "echo 0")
        self.stub("flex", "")
        self.stub("apt-get", f"echo \"$@\" >> {self.bin}/log")
        done = self.deps("run", "check")
        self.assertEqual(done.returncode, 0, done.stderr)
        update, install = (self.bin / "log").read_text().splitlines()
        self.assertIn("update", update)
        self.assertIn(" shellcheck", install)
        self.assertNotIn(" flex", install)

    def test_apt_that_fails_shows_why(self):
        self.stub("id", "echo 0")
        self.stub("apt-get", "echo 'E: Could not get lock'; exit 100")
        done = self.deps("run")
        self.assertEqual(done.returncode, 2)
        self.assertIn("Could not get lock", done.stderr)

    def test_sudo_without_a_password_is_used(self):
        self.stub("id", "echo 1000")
        self.stub("sudo", f"[ \"$1\" = -n ] && shift; echo \"$@\" >> {self.bin}/sudo-log")
        self.stub("apt-get", "exit 99")
        self.assertEqual(self.deps("run").returncode, 0)
        self.assertIn("apt-get", (self.bin / "sudo-log").read_text())

    def test_unknown_group(self):
        done = self.deps("everything")
        self.assertEqual(done.returncode, 2)
        self.assertIn("'everything' is no group", done.stderr)


class Makefile(unittest.TestCase):

    def make(self, *args):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL",
                                                                "MFLAGS", "MAKEOVERRIDES")}
        return subprocess.run(["make", "-n", *args], cwd=common.ROOT, text=True, env=env,
                              capture_output=True, check=False)

    def test_mistyped_variable_is_refused(self):
        done = self.make("run", "TOPCIS=ksm")
        self.assertEqual(done.returncode, 2)
        self.assertIn("TOPCIS: no target takes that variable", done.stderr)

    def test_values_with_blanks_and_equal_signs_pass(self):
        done = self.make("ab", "CMD=dd if=/dev/zero FOO of=/dev/null", "SIGNOFF=A B <a@b>")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_help_needs_nothing(self):
        done = subprocess.run([common.ROOT / "scripts" / "help"], text=True, capture_output=True,
                              check=False)
        self.assertIn("make TARGET", done.stdout)
        self.assertIn("mm-test", done.stdout)


if __name__ == "__main__":
    unittest.main()
