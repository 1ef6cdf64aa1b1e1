# SPDX-License-Identifier: GPL-2.0
"""What the tests of the programs in tools/testing/ share."""

import os
import subprocess
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "tools" / "testing"


def make(name, *words):
    """make in the folder of a program, without what a make around us exported."""
    env = {k: v for k, v in os.environ.items()
           if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "O", "OUTPUT",
                        "CFLAGS", "EXTRA_CFLAGS", "CC")}
    return subprocess.run(["make", "-s", "-C", TOOLS / name, *words], env=env,
                          capture_output=True, text=True, check=False)
