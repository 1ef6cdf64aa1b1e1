# SPDX-License-Identifier: GPL-2.0
"""How a commit's tree is made ready, with make and Kconfig left out."""

import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from unstall import checks

FILES = ["mm/Kconfig", "mm/Kconfig.debug", "mm/ksm.c", "mm/not-there-yet/Kconfig"]


class Prepare(unittest.TestCase):

    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.tree = Path(temp.name)
        self.fragment = self.tree / "guest.config"
        (self.tree / "mm").mkdir()
        for path in (self.fragment, *(self.tree / f for f in FILES[:3])):
            path.write_text("first\n")
        self.kernel = SimpleNamespace(tree=self.tree, out=self.tree / "guest",
                                      fragments=lambda: [self.fragment])
        patches = (mock.patch.object(checks.kernels, "configure"),
                   mock.patch.object(checks.kernels, "make_command", return_value=["make"]),
                   mock.patch.object(checks.kernels, "environment", return_value={}),
                   mock.patch.object(checks.common, "run"))
        self.configure, _, _, self.run_make = (p.start() for p in patches)
        for patch in patches:
            self.addCleanup(patch.stop)

    def configured(self):
        """How often the options are made by one more commit."""
        self.configure.reset_mock()
        self.run_make.reset_mock()
        checks.prepare(self.kernel, FILES)
        self.assertEqual(self.run_make.call_count, 1)
        return self.configure.call_count

    def test_options_are_made_where_something_can_have_changed_them(self):
        self.assertEqual(self.configured(), 1)
        self.assertEqual(self.configured(), 0)
        for path in (self.fragment, self.tree / FILES[0], self.tree / FILES[1]):
            path.write_text("second\n")
            self.assertEqual((path.name, self.configured()), (path.name, 1))
        (self.tree / FILES[2]).write_text("second\n")
        self.assertEqual(self.configured(), 0)

    def test_options_that_could_not_be_made_are_made_again(self):
        self.configure.side_effect = [OSError, None]
        with self.assertRaises(OSError):
            checks.prepare(self.kernel, FILES)
        self.assertEqual(self.configured(), 1)


if __name__ == "__main__":
    unittest.main()
