# SPDX-License-Identifier: GPL-2.0
"""Kernel builds, with a shell script in make's place."""

import dataclasses
import os
import tempfile
import textwrap
import unittest
from pathlib import Path
from unittest import mock

from unstall import common, kernel as kernels, vm


class Build(unittest.TestCase):

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.top = Path(self.temp.name)
        self.tree = self.top / "tree"
        (self.tree / "guest").mkdir(parents=True)
        (self.top / "bin").mkdir()
        configs = self.top / "configs"
        configs.mkdir()
        (configs / "guest.config").write_text("CONFIG_SMP=y\n# CONFIG_VT is not set\n")
        (configs / "x86_64.config").write_text("# a comment\nCONFIG_ACPI=y\n")
        (configs / "debug.config").write_text("CONFIG_KASAN=y\n")
        for patch in (mock.patch.object(kernels, "CONFIGS", configs),
                      mock.patch.object(kernels, "configure"),
                      mock.patch.object(kernels, "digest", lambda k: self.digest),
                      mock.patch.object(common, "say"),
                      mock.patch("sys.stdout"),
                      mock.patch.dict(os.environ, PATH=f"{self.top}/bin:{os.environ['PATH']}")):
            patch.start()
            self.addCleanup(patch.stop)
        self.digest = "one"
        self.kernel = kernels.Kernel(self.tree, vm.ARCHES["x86_64"])
        (self.kernel.out / ".config").write_text("CONFIG_SMP=y\nCONFIG_ACPI=y\n")

    def make(self, script):
        path = self.top / "bin" / "make"
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o755)

    def good_make(self):
        image = self.kernel.image
        self.make(f"echo x >> {self.top}/calls; mkdir -p {image.parent}; : > {image}")

    def calls(self):
        log = self.top / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def test_first_error_is_shown_and_not_the_last_lines_of_make(self):
        self.make("""
            echo "  CC      mm/mremap.o"
            echo "mm/mremap.c:12:3: error: 'foo' undeclared" >&2
            echo "make[3]: *** [scripts/Makefile.build:1: mm/mremap.o] Error 1" >&2
            for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "  CC      fs/file$i.o"; done
            echo "make[1]: *** [Makefile:248: __sub-make] Error 2" >&2
            exit 2""")
        with self.assertRaises(common.Failed) as raised:
            kernels.build(self.kernel, "ours guest")
        self.assertIn("'foo' undeclared", str(raised.exception))
        self.assertNotIn("__sub-make", str(raised.exception))
        self.assertFalse((self.kernel.out / "unstall.json").exists())

    def test_nothing_changed_builds_nothing(self):
        self.good_make()
        kernels.build(self.kernel, "ours guest")
        kernels.build(self.kernel, "ours guest")
        self.assertEqual(self.calls(), 1)
        self.digest = "two"
        kernels.build(self.kernel, "ours guest")
        self.assertEqual(self.calls(), 2)

    def test_uncommitted_work_is_always_built(self):
        self.good_make()
        self.digest = None
        kernels.build(self.kernel, "ours guest")
        kernels.build(self.kernel, "ours guest")
        self.assertEqual(self.calls(), 2)

    def test_build_that_failed_is_not_taken_as_good(self):
        self.good_make()
        kernels.build(self.kernel, "ours guest")
        self.digest = "two"
        self.make("exit 2")
        with self.assertRaises(common.Failed):
            kernels.build(self.kernel, "ours guest")
        self.digest = "one"
        self.good_make()
        kernels.build(self.kernel, "ours guest")
        self.assertEqual(self.calls(), 2)

    def test_full_disk_is_said_before_the_build(self):
        usage = mock.Mock(free=1 << 20)
        with mock.patch("shutil.disk_usage", return_value=usage):
            with self.assertRaisesRegex(common.CannotRun, "GiB"):
                kernels.build(self.kernel, "ours guest")

    def test_option_that_kconfig_dropped_is_refused(self):
        (self.kernel.out / ".config").write_text("CONFIG_SMP=y\n")
        with self.assertRaisesRegex(common.CannotRun, "x86_64.config asks for 'CONFIG_ACPI=y'"):
            kernels.config_is_honoured(self.kernel)

    def test_option_that_the_architecture_lacks_is_not_asked_for(self):
        (self.kernel.out / ".config").write_text("CONFIG_SMP=y\n")
        arch = dataclasses.replace(self.kernel.arch, lacks=("ACPI",))
        kernels.config_is_honoured(dataclasses.replace(self.kernel, arch=arch))

    def test_fragment_of_the_guest_that_it_is_like_comes_first(self):
        for name in ("arm64", "arm64-64k"):
            (kernels.CONFIGS / f"{name}.config").write_text("")
        kernel = kernels.Kernel(self.tree, vm.ARCHES["arm64-64k"])
        self.assertEqual([f.name for f in kernel.fragments()],
                         ["guest.config", "arm64.config", "arm64-64k.config"])

    def test_packages_of_compilers(self):
        self.assertEqual([vm.ARCHES[a].compiler_package for a in ("x86_64", "arm64", "s390x")],
                         ["gcc", "gcc-aarch64-linux-gnu", "gcc-s390x-linux-gnu"])

    def test_option_that_should_be_off_is_refused(self):
        (self.kernel.out / ".config").write_text("CONFIG_SMP=y\nCONFIG_ACPI=y\nCONFIG_VT=y\n")
        with self.assertRaisesRegex(common.CannotRun, "CONFIG_VT is not set"):
            kernels.config_is_honoured(self.kernel)

    def test_the_caller_s_make_variables_do_not_reach_the_kernel(self):
        with mock.patch.dict(os.environ, MAKEFLAGS="n", ARCH="arm64", O="/elsewhere", V="1"):
            env = kernels.environment(self.kernel)
        self.assertEqual(env["ARCH"], "x86_64")
        self.assertFalse({"MAKEFLAGS", "O", "V"} & set(env))

    def test_a_kernel_that_is_watched_for_races(self):
        (kernels.CONFIGS / "kcsan.config").write_text("CONFIG_KCSAN=y\n")
        watched = dataclasses.replace(self.kernel, watched=True)
        self.assertEqual(watched.out.name, "guest-kcsan")
        self.assertEqual(watched.fragments()[-1].name, "kcsan.config")
        for kernel, number in ((watched, 1), (self.kernel, 0)):
            self.assertEqual(kernels.make_command(kernel, "x").count(kernels.WATCH_MM), number)


if __name__ == "__main__":
    unittest.main()
