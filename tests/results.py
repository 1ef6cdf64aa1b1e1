# SPDX-License-Identifier: GPL-2.0
"""Results of a bench for the tests."""

import json
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


def recorded():
    """The results of a real run, kept for these tests."""
    return json.loads((DATA / "bench-results.json").read_text())
