# SPDX-License-Identifier: GPL-2.0
"""The steps of the stress in the debug kernel, and what counts as a failure of one."""

import sys
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from unstall import common, stress, tally as tallies, targets, vm  # noqa: E402


class Stress(unittest.TestCase):

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.console = Path(self.temp.name) / "console.log"
        self.console.write_text("[    1.0] all is well\n")
        self.status = dict.fromkeys((s.name for s in stress.steps(1)), "0")
        self.said = []
        kernel = mock.Mock(arch=vm.ARCHES["x86_64"])
        for patch in (mock.patch.object(targets, "tree", lambda v: (Path("/x"), ())),
                      mock.patch.object(targets, "build_kernel", lambda k, v: kernel),
                      mock.patch.object(stress.kernels, "build_workloads", lambda k, f: "/p"),
                      mock.patch.object(targets, "boot", lambda k, **c: mock.Mock(numa=1)),
                      mock.patch.object(vm, "boot_and_run", self.boot),
                      mock.patch.object(common, "say", self.said.append)):
            patch.start()
            self.addCleanup(patch.stop)

    def boot(self, how, steps, folder, on_begin):
        self.numa = how.numa
        results = [vm.StepResult(s.name, self.status[s.name], 1, "its output") for s in steps]
        return vm.Run(self.console.parent, 1, True, True, "", results)

    def counts(self):
        tally = tallies.Tally()
        stress.run(1, tally)
        return tally.passed, tally.failed, tally.skipped

    def test_commands_are_whole(self):
        for step in stress.steps(7):
            self.assertNotIn("{{", step.command)
            self.assertNotRegex(step.command, "{(seconds|operations)")
        commands = {s.name: s.command for s in stress.steps(7, "/p")}
        self.assertIn("-s INT 7 ", commands["trinity"])
        self.assertTrue(commands["fuzz-ksm"].startswith("PATH=/p:$PATH; mm_fuzz "))
        self.assertTrue(commands["fuzz-ksm"].endswith("-e ksm -n 1750"))

    def test_all_is_well(self):
        self.assertEqual(self.counts(), (len(self.status) + 1, 0, 0))
        self.assertEqual(self.numa, 2)

    def test_a_stressor_that_hangs_or_fails(self):
        self.status.update(mremap="timeout", vm="2")
        self.assertEqual(self.counts()[1], 2)
        self.assertIn("its output", "\n".join(self.said))

    def test_a_splat_is_a_failure_though_all_ended_well(self):
        self.console.write_text("[    9.000000] WARNING: mm/mremap.c:1 at move_ptes+0x1/0x2, CPU#0: test/1\n")
        self.assertEqual(self.counts()[1], 1)

    def test_leaks_are_a_failure_and_so_is_no_detector(self):
        self.status["leaks"] = "1"
        self.assertEqual(self.counts()[1:], (1, 0))

    def find_leaks(self, path):
        script = stress.FIND_LEAKS.replace(stress.LEAKS, str(path)).replace("sleep 6", "true")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    def test_leaks_are_shown(self):
        # A file of debugfs has no size, as a device has none.
        self.assertEqual(self.find_leaks("/dev/null"), (0, ""))
        self.assertEqual(self.find_leaks(self.console), (1, "scan"))
        self.assertNotEqual(self.find_leaks("/nowhere/kmemleak")[0], 0)


class Scripts(unittest.TestCase):
    """What a script says at its end is counted; what it does not say is a failure."""

    def counts(self, script):
        tally = tallies.Tally()
        with mock.patch.object(common, "say"), mock.patch("builtins.print"):
            tally.script("x", ["sh", "-c", script])
        return tally.passed, tally.failed, tally.skipped

    def test_the_closing_line(self):
        self.assertEqual(self.counts("echo 5 passed, 0 failed, 2 skipped"), (5, 0, 2))
        self.assertEqual(self.counts("echo 5 passed, 1 failed, 2 skipped; exit 1"), (5, 1, 2))

    def test_a_script_that_dies(self):
        self.assertEqual(self.counts("exit 3"), (0, 1, 0))
        self.assertEqual(self.counts("echo 5 passed, 0 failed, 0 skipped; exit 3"), (5, 1, 0))


if __name__ == "__main__":
    unittest.main()
