# SPDX-License-Identifier: GPL-2.0
"""What the tests of the programs in tools/testing/ share."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "tools" / "testing"
needs_compiler = unittest.skipUnless(shutil.which("cc"),
                                     "no C compiler; apt-get install gcc libc6-dev")


def class_folder(cls):
    """A folder that is there as long as a class's tests run."""
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    return Path(folder.name)


def make(name, *words):
    """make in the folder of a program, without what a make around us exported."""
    env = {k: v for k, v in os.environ.items()
           if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "O", "OUTPUT",
                        "CFLAGS", "EXTRA_CFLAGS", "CC")}
    return subprocess.run(["make", "-s", "-C", TOOLS / name, *words], env=env,
                          capture_output=True, text=True, check=False)
