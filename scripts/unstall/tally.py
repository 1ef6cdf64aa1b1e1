# SPDX-License-Identifier: GPL-2.0
"""Counts checks as they end, and closes with "N passed, N failed, N skipped"."""

import os
import re
import subprocess
import time

from . import common

CLOSING = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped\s*$")


def closing_line(line):
    """(passed, failed, skipped) of a script's last line, or None."""
    m = CLOSING.match(line)
    return tuple(map(int, m.groups())) if m else None


class Tally:
    """Counts, and says each result as it comes."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.bad = []

    def one(self, name, problem, seconds):
        """One check: its problem is None, or what is wrong."""
        took = f"  ({common.duration(seconds)})" if seconds >= 1 else ""
        if problem is None:
            self.passed += 1
            common.say(f"  pass   {name}{took}")
        else:
            self.failed += 1
            self.bad.append(name)
            common.say(f"  FAIL   {name}{took}\n" + indent(str(problem)))

    def check(self, name, func):
        """Runs a check that returns None or what is wrong; an error of it is wrong as well."""
        begin = time.monotonic()
        try:
            problem = func()
        except (common.CannotRun, common.Failed) as err:
            problem = err
        self.one(name, problem, time.monotonic() - begin)

    def setup(self, name, func):
        """Runs what counts by itself; where that cannot even begin, it is a failure of its own."""
        try:
            func()
        except (common.CannotRun, common.Failed) as err:
            self.one(name, err, 0)

    def script(self, name, command, env=None):
        """Runs a script that closes with 'N passed, N failed, N skipped', and counts those."""
        common.say(f"\n== {name}")
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, errors="replace",
                                   env={**os.environ, **(env or {})})
        counts = None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                counts = closing_line(line) or counts
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if counts:
            self.many(name, counts)
        if status and not (counts and counts[1]):
            self.one(name, f"it ended with status {status}", 0)

    def skip(self, name, why):
        """A check that this machine cannot make: the reason, with the remedy."""
        self.skipped += 1
        common.say(f"  skip   {name}: {why}")

    def many(self, name, counts):
        """A script that counted by itself: (passed, failed, skipped)."""
        self.passed += counts[0]
        self.failed += counts[1]
        self.skipped += counts[2]
        if counts[1]:
            self.bad.append(name)

    def close(self):
        """The closing lines; returns the script's exit code."""
        if self.bad:
            common.say("failed: " + ", ".join(self.bad))
        common.say(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return common.EXIT_FAILED if self.failed else common.EXIT_OK


def indent(text):
    return "\n".join(f"           {line}" for line in text.splitlines())
