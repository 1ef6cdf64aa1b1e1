# SPDX-License-Identifier: GPL-2.0
"""The virtual machine's runner, with a shell script in QEMU's place.

The script plays a guest: it finds the file of the virtio-serial port in its
arguments and writes there what the guest's init would.
"""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path
from unittest import mock

from unstall import common, targets, vm

FAKE = """\
#!/bin/bash
for word; do
	case $word in
	*id=output,path=*) out=${word##*path=} ;;
	file:*) console=${word#file:} ;;
	esac
done
echo $$ > "$(dirname "$out")/qemu.pid"
"""


class FakeGuest(unittest.TestCase):
    """A run with a QEMU that does what a test's script says."""

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.top = Path(self.temp.name)
        (self.top / "bin").mkdir()
        patches = [mock.patch.dict(os.environ, PATH=f"{self.top}/bin:{os.environ['PATH']}"),
                   mock.patch.object(vm, "GRACE", 0.5),
                   mock.patch.object(vm, "make_initramfs", lambda f, b, s: f / "initramfs.cpio"),
                   mock.patch.object(vm, "make_disks", lambda f, p: [])]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)
        self.boot = vm.Boot(Path("/no/image"), vm.ARCHES["x86_64"], boot_timeout=5)

    def qemu(self, script):
        path = self.top / "bin" / "qemu-system-x86_64"
        path.write_text(FAKE + textwrap.dedent(script))
        path.chmod(0o755)

    def run_steps(self, *steps):
        return vm.boot_and_run(self.boot, list(steps), self.top / "run")

    def assert_no_qemu(self):
        pid = int((self.top / "run" / "qemu.pid").read_text())
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        self.assertEqual(state, "Z", "QEMU still runs")

    def test_steps_and_their_output(self):
        self.qemu(r"""
            printf '@@unstall ready\n@@unstall begin a\none\ntwo\n\n@@unstall end a 0 1500\n' > $out
            printf '@@unstall begin b\n\n@@unstall end b 3 20\n@@unstall done\n' >> $out""")
        run = self.run_steps(vm.Step("a", "true"), vm.Step("b", "false"))
        self.assertTrue(run.booted and run.done)
        self.assertEqual([(s.name, s.status, s.seconds) for s in run.steps],
                         [("a", "0", 1.5), ("b", "3", 0.02)])
        self.assertEqual(run.steps[0].output, "one\ntwo\n")
        self.assertEqual(run.steps[1].output, "")

    def test_panic_at_boot(self):
        self.qemu("echo 'Kernel panic - not syncing' > $console")
        run = self.run_steps(vm.Step("a", "true"))
        self.assertFalse(run.booted or run.done)
        self.assertIn("before it was up", run.why)
        self.assertEqual(run.steps[0].status, "died")

    def test_panic_in_the_middle_of_a_test(self):
        self.qemu(r"printf '@@unstall ready\n@@unstall begin a\nok 1 x\n' > $out")
        run = self.run_steps(vm.Step("a", "true"), vm.Step("b", "true"))
        self.assertTrue(run.booted)
        self.assertFalse(run.done)
        self.assertIn("died in step 'a'", run.why)
        self.assertEqual([s.status for s in run.steps], ["died", "died"])
        self.assertEqual(run.steps[0].output, "ok 1 x\n")

    def test_guest_that_never_comes_up(self):
        self.boot.boot_timeout = 0.3
        self.qemu("exec sleep 60")
        run = self.run_steps(vm.Step("a", "true"))
        self.assertIn("did not come up in time", run.why)
        self.assert_no_qemu()

    def test_guest_that_hangs_in_a_test(self):
        self.qemu(r"printf '@@unstall ready\n@@unstall begin a\n' > $out; exec sleep 60")
        start = time.monotonic()
        run = self.run_steps(vm.Step("a", "true", seconds=1))
        self.assertLess(time.monotonic() - start, 10)
        self.assertIn("no longer answered in step 'a'", run.why)
        self.assert_no_qemu()

    def test_guest_that_does_not_power_off(self):
        self.qemu(r"printf '@@unstall ready\n@@unstall done\n' > $out; exec sleep 60")
        run = self.run_steps()
        self.assertTrue(run.done)
        self.assert_no_qemu()

    def test_output_that_ends_in_half_a_line(self):
        self.qemu(r"printf '@@unstall ready\n@@unstall begin a\nok 1 x\nok 2' > $out")
        self.assertEqual(self.run_steps(vm.Step("a", "x")).steps[0].output, "ok 1 x\nok 2")

    def test_frame_words_in_a_test_s_line_are_no_frame(self):
        self.qemu(r"""printf '@@unstall ready\n@@unstall begin a\n# @@unstall done\n' > $out""")
        self.assertFalse(self.run_steps(vm.Step("a", "x")).done)

    def test_qemu_that_refuses_its_command_line(self):
        self.qemu("echo 'qemu: -m 4096M: cannot set up guest memory' >&2; exit 1")
        with self.assertRaisesRegex(common.CannotRun, "cannot set up guest memory"):
            self.run_steps(vm.Step("a", "true"))

    def test_qemu_missing(self):
        with mock.patch.dict(os.environ, PATH=str(self.top / "bin")):
            with self.assertRaisesRegex(common.CannotRun, "apt-get install qemu-system-x86"):
                self.run_steps(vm.Step("a", "true"))

    def test_interrupt_leaves_no_qemu(self):
        self.qemu(r"printf '@@unstall ready\n@@unstall begin a\n' > $out; exec sleep 60")
        code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
                "from pathlib import Path\nfrom unstall import vm\n"
                "vm.make_initramfs = lambda f, b, s: f / 'i'\n"
                "boot = vm.Boot(Path('/no'), vm.ARCHES['x86_64'], disks=False)\n"
                "vm.boot_and_run(boot, [vm.Step('a', 'true')], sys.argv[2])\n")
        for sig in (signal.SIGINT, signal.SIGKILL):
            with self.subTest(signal=sig):
                # A job in a shell's background ignores SIGINT, and so do its children.
                child = subprocess.Popen(
                    [sys.executable, "-c", code, common.ROOT / "scripts", self.top / "run"],
                    stderr=subprocess.DEVNULL,
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
                self.wait_for(self.top / "run" / "qemu.pid")
                child.send_signal(sig)
                child.wait(10)
                time.sleep(0.2)
                self.assert_no_qemu()
                (self.top / "run" / "qemu.pid").unlink()

    def wait_for(self, path):
        for _ in range(100):
            if path.exists() and path.read_text().strip():
                return
            time.sleep(0.05)
        self.fail(f"{path} did not come")


class Settings(unittest.TestCase):
    """SMP=, MEM=, NUMA= and ACCEL=."""

    def boot(self, **env):
        with mock.patch.dict(os.environ, env):
            return vm.settings_from_environment(vm.Boot(Path("/x"), vm.ARCHES["x86_64"]))

    def test_two_nodes(self):
        args = " ".join(vm.numa_nodes(self.boot(NUMA="2", SMP="4", MEM="1025")))
        self.assertIn("id=mem0,size=513M", args)
        self.assertIn("id=mem1,size=512M", args)
        self.assertIn("memdev=mem0,cpus=0-1", args)
        self.assertIn("memdev=mem1,cpus=2-3", args)

    def test_checkout_in_tmp_is_seen_in_the_guest(self):
        self.assertEqual(vm.folders_in_tmp("/tmp/a/build", "/tmp/a/b/modules", "/var/tmp/c", None),
                         ["/tmp/a"])

    def test_nodes_without_a_cpu(self):
        args = " ".join(vm.numa_nodes(self.boot(NUMA="3", SMP="2")))
        self.assertIn("memdev=mem0,cpus=0-0 ", args)
        self.assertIn("memdev=mem1,cpus=1-1 ", args)
        self.assertTrue(args.endswith("memdev=mem2"))

    def test_no_socket_spans_two_nodes(self):
        self.assertEqual(vm.cpus(self.boot(NUMA="2", SMP="3")), "3,sockets=3,cores=1")
        self.assertEqual(vm.cpus(self.boot(SMP="3")), "3")

    def test_impossible_values_are_refused(self):
        for env in ({"SMP": "0"}, {"SMP": "two"}, {"NUMA": "9"}, {"MEM": "12"},
                    {"MEM": "999999"}, {"NUMA": "2", "MEM": "512", "SMP": "x"}):
            with self.subTest(env=env), self.assertRaises(common.CannotRun):
                self.boot(**env)

    def test_refusal_comes_before_anything_is_fetched(self):
        for env in ({"SMP": "0"}, {"ACCEL": "hax"}, {"ARCH": "vax"}):
            with self.subTest(env=env), mock.patch.dict(os.environ, env), \
                    mock.patch.object(targets, "trees") as trees:
                with self.assertRaises(common.CannotRun):
                    targets.tree("ours")
                trees.ours_tree.assert_not_called()

    def test_unknown_accelerator(self):
        with mock.patch.dict(os.environ, ACCEL="hax"):
            with self.assertRaisesRegex(common.CannotRun, "ACCEL=hax is not known"):
                vm.choose_accelerator(vm.Boot(Path("/x"), vm.ARCHES["x86_64"]))

    def test_kvm_is_not_trusted_because_it_opens(self):
        boot = vm.Boot(Path("/x"), vm.ARCHES["x86_64"])
        dead = vm.Run(Path("/x"), 10, False, False, "the guest did not come up in time")
        with tempfile.TemporaryDirectory() as temp, \
                mock.patch.object(common, "BUILD", Path(temp)), \
                mock.patch.object(vm, "HOST_ARCH", "x86_64"), \
                mock.patch("os.access", return_value=True), \
                mock.patch.object(vm, "boot_and_run", return_value=dead) as probe:
            self.assertEqual(vm.choose_accelerator(boot).accel, "tcg")
            self.assertEqual(vm.choose_accelerator(boot).accel, "tcg")
            self.assertEqual(probe.call_count, 1, "the verdict is kept")
            with mock.patch.dict(os.environ, ACCEL="kvm"):
                with self.assertRaisesRegex(common.CannotRun, "use ACCEL=tcg"):
                    vm.choose_accelerator(boot)


class WithoutKVM(unittest.TestCase):
    """What stands in QEMU's place for mainline's kunit.py."""

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.shim = Path(self.temp.name) / "shim"
        self.real = Path(self.temp.name) / "real"
        for folder in self.shim, self.real:
            folder.mkdir()
        (self.shim / "qemu-system-vax").symlink_to(vm.GUEST_SOURCES / "qemu-without-kvm")

    def call(self, *folders):
        path = ":".join(map(str, (*folders, "/usr/bin", "/bin")))
        return subprocess.run(["qemu-system-vax", "-accel", "kvm", "-m", "1", "-accel", "tcg"],
                              executable=self.shim / "qemu-system-vax", env={"PATH": path},
                              text=True, capture_output=True, timeout=20, check=False)

    def test_only_kvm_is_dropped_wherever_it_stands_on_the_path(self):
        put(self.real / "qemu-system-vax", "#!/bin/sh\necho \"$@\"\n")
        for folders in ((self.shim, self.real), (self.real, self.shim),
                        (self.shim, "/usr/lib", self.shim, self.real)):
            with self.subTest(folders=folders):
                self.assertEqual(self.call(*folders).stdout, "-m 1 -accel tcg\n")

    def test_no_qemu(self):
        done = self.call(self.shim)
        self.assertEqual(done.returncode, 2)
        self.assertIn("not installed; run 'make deps'", done.stderr)


def put(path, text):
    path.write_text(text)
    path.chmod(0o755)


if __name__ == "__main__":
    unittest.main()
