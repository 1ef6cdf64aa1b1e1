# SPDX-License-Identifier: GPL-2.0
"""Shows how far a long job is: a kernel build, a running test list.

On a terminal one line is rewritten; elsewhere a line is printed every few seconds
at most, so that a CI log shows life and stays short. And where a build fails,
first_error() finds the line that says why.
"""

import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from . import ktap
from .common import duration, write_whole

INTERVAL = 5.0          # seconds between two lines where there is no terminal
TTY_INTERVAL = 0.2      # seconds between two versions of the line on a terminal
WIDTH = 100             # columns of a line
DEFAULT_OBJECTS = 2240  # of a lean guest kernel; replaced by the first build's own count


class Ticker:
    """One line that says where a job is."""

    def __init__(self, out=None, tty=None, interval=None, clock=time.monotonic):
        self.out = out or sys.stdout
        self.tty = self.out.isatty() if tty is None else tty
        usual = TTY_INTERVAL if self.tty else INTERVAL
        self.interval = usual if interval is None else interval
        self.clock = clock
        self.last = None
        self.open = False   # a line on the terminal waits for its end

    def due(self):
        return self.last is None or self.clock() - self.last >= self.interval

    def show(self, text, force=False):
        """Shows text if the last one is old enough, or if forced."""
        if not (force or self.due()):
            return
        self.last = self.clock()
        if self.tty:
            self.open = True
            self._write("\r\033[K" + text[:shutil.get_terminal_size().columns - 1])
        else:
            self._write(text + "\n")

    def keep(self, text):
        """Prints a line that stays, whatever the interval."""
        self.close(erase=True)
        self._write(text + "\n")

    def close(self, erase=False):
        """Ends the rewritten line, so that what follows starts on a new one."""
        if self.open:
            self._write("\r\033[K" if erase else "\n")
            self.open = False

    def _write(self, text):
        self.out.write(text)
        self.out.flush()


# --------------------------------------------------------------- kernel builds

# kbuild's short form of a command that makes a file: "  CC [M]  mm/ksm.o".
QUIET = re.compile(r" {1,2}([A-Z][A-Z0-9_.+]*)( \[[A-Z]+\])? +(\S.*)$")
NO_OBJECT = {"CALL", "CHK", "DESCEND", "SYNC", "CLEAN", "UPD", "INSTALL", "KERNEL"}


def makes_object(line):
    """Whether a line of make's output stands for a file that was made."""
    found = QUIET.match(line)
    return bool(found) and found.group(1) not in NO_OBJECT


def load_total(path, key):
    """How many objects the last whole build of a configuration made; None if unknown."""
    try:
        total = json.loads(Path(path).read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return total if isinstance(total, int) and total > 0 else None


def save_total(path, key, total):
    """Remembers the number of objects of a whole build beside the build."""
    try:
        totals = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        totals = {}
    totals = totals if isinstance(totals, dict) else {}
    totals[key] = total
    write_whole(path, json.dumps(totals, indent=1, sort_keys=True) + "\n")


class BuildProgress:
    """Counts the lines of a kernel build. total=None: a rebuild of unknown size."""

    def __init__(self, label="build", total=DEFAULT_OBJECTS, ticker=None):
        self.label = label
        self.total = total
        self.ticker = ticker or Ticker()
        self.start = self.ticker.clock()
        self.done = 0

    def feed(self, line):
        """Takes one line of make's output."""
        if makes_object(line):
            self.done += 1
            self.ticker.show(self.text())

    def text(self):
        """The progress line: how many of how many, and how long it may still take."""
        elapsed = self.ticker.clock() - self.start
        if not self.total or self.done > self.total:
            return f"  {self.label}  {self.done} objects, {duration(elapsed)}"
        text = f"  {self.label}  {self.done}/{self.total} objects, {self.done * 100 // self.total}%"
        if self.done < max(10, self.total // 50):
            return text     # too early for a guess
        rest = elapsed / self.done * (self.total - self.done)
        return f"{text}, ETA {duration(rest)}"

    def finish(self):
        """Ends the display and returns the number of objects made."""
        elapsed = self.ticker.clock() - self.start
        self.ticker.keep(f"  {self.label}  {self.done} objects in {duration(elapsed)}")
        return self.done


# ---------------------------------------------------------------- running tests

class TapFollower:
    """Follows a growing TAP file and shows the test that runs now.

    poll() takes what is new; start() and stop() do that in a thread.
    """

    def __init__(self, path, ticker=None, label="test"):
        self.path = path
        self.label = label
        self.ticker = ticker or Ticker()
        self.begin = self.ticker.clock()
        self.offset = 0
        self.rest = b""
        self.names = {}         # depth: the test that runs there
        self.inner = {}         # depth: results seen there since the last one above
        self.counts = {ktap.PASS: 0, ktap.FAIL: 0, ktap.SKIP: 0}
        self.shown = None
        self._stop = threading.Event()
        self._thread = None

    def poll(self):
        """Reads what was appended and shows where the run is."""
        for line in self._new_lines():
            self._line(ktap.STAMP.sub("", line, count=1).rstrip("\r"))
        text = self.text()
        if text and (self.ticker.tty or self._where() != self.shown) and self.ticker.due():
            self.shown = self._where()
            self.ticker.show(text)

    def start(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Ends the thread and the display."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self.poll()
        self.ticker.close(erase=True)

    def _run(self):
        while not self._stop.wait(min(1.0, self.ticker.interval)):
            self.poll()

    def _new_lines(self):
        try:
            with open(self.path, "rb") as log:
                if os.fstat(log.fileno()).st_size < self.offset:
                    self.offset, self.rest = 0, b""     # it was begun anew
                log.seek(self.offset)
                data = log.read()
        except FileNotFoundError:
            return []
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode("utf-8", "backslashreplace") for line in lines]

    def _line(self, line):
        depth, text = _depth(line)
        result = ktap.RESULT.match(text)
        if result:
            self._result(depth, result)
            return
        name = _started(text)
        if name:
            # KUnit's header is indented as the suite's tests are, not as its result.
            depth -= 1 if ktap.SUBTEST.match(text) else 0
            self._forget(depth)
            self.names[depth] = name

    def _result(self, depth, result):
        if not self.inner.get(depth + 1):
            test = ktap.make_test(result.group(1), int(result.group(2)), result.group(3))
            self.counts[test.status] += 1
            if test.status == ktap.FAIL:
                self._report(depth, test)
        self.inner[depth] = self.inner.get(depth, 0) + 1
        self.inner[depth + 1] = 0
        self._forget(depth)

    def _report(self, depth, test):
        above = [self.names[d] for d in sorted(self.names) if d < depth]
        reason = f" ({test.reason})" if test.reason else ""
        name = "/".join(above + [_pretty(test.name)])
        self.ticker.keep(_short(f"  not ok  {name}{reason}", WIDTH))

    def _forget(self, depth):
        self.names = {d: name for d, name in self.names.items() if d < depth}

    def _where(self):
        return "/".join(self.names[d] for d in sorted(self.names))

    def text(self):
        """The progress line: what runs, the counts so far and the time."""
        where = self._where()
        if not where:
            return ""
        passed, failed, skipped = (self.counts[s] for s in (ktap.PASS, ktap.FAIL, ktap.SKIP))
        tail = f"{passed} passed, {failed} failed, {skipped} skipped, " \
               f"{duration(self.ticker.clock() - self.begin)}"
        return f"  {self.label}  {_short(where, WIDTH - 6 - len(self.label) - len(tail))}: {tail}"


def _short(text, width):
    return text if len(text) <= width else text[:max(1, width - 3)] + "..."


def _depth(line):
    """(nesting depth, text) of a TAP line; "# " and four blanks are one level each."""
    depth = 0
    while line.startswith("    "):
        depth, line = depth + 1, line[4:]
    while line.startswith("# ") and not any(p.match(line) for p in STARTERS):
        depth, line = depth + 1, line[2:]
    return depth, line


STARTERS = ktap.MARKERS + (ktap.SUBTEST,)


def _started(text):
    found = next((m for m in (p.match(text) for p in STARTERS) if m), None)
    return _pretty(found.group(1)) if found else None


def _pretty(name):
    """selftests: mm: ksft_mremap.sh becomes mm/mremap."""
    found = re.fullmatch(r"selftests: (\S+): (.+)", name)
    return f"{found.group(1)}/{ktap.category(found.group(2))}" if found else name


# ------------------------------------------------------ why a build has failed

class BuildError(NamedTuple):
    """The first thing that went wrong in a build."""

    kind: str
    line: str
    number: int         # of the line in the log, from 1
    excerpt: str        # the line with what belongs to it
    target: str         # the file that make could not make, or ""


def _compile(table):
    return [(kind, re.compile(regex)) for kind, regex in table]


# In the order of their weight: a full disk is the reason for what follows it, and
# make's own messages count only where nothing says more.
DISK_FULL = _compile([("disk full", r".*No space left on device")])
ERRORS = _compile([
    ("kconfig", r"\S*Kconfig\S*:\d+:\s*(error: |syntax error|unknown statement|invalid statement|"
     r"can't open file|missing end statement|unexpected )"),
    ("objtool", r"\S+: error: objtool: "),
    ("modpost", r"ERROR: modpost: "),
    ("compiler", r"\S+?:\d+:(\d+:)? (fatal |internal compiler )?error: "),
    ("assembler", r"(\S+|\{standard input\}):\d+: Error: "),
    ("compiler", r"error(\[E\d+\])?: "),
    ("linker", r".*(undefined reference to |multiple definition of |relocation truncated to fit|"
     r"ld\S*: error: |ld\S*: cannot find |ld\S*: .*(overlaps|overflowed)|undefined symbol: )"),
    ("compiler", r"\S*(gcc|cc1|clang|collect2|ld|as)\S*: (fatal |internal compiler )?error: "
     r"(?!ld returned)"),
    ("BTF", r"FAILED: "),
    ("tool missing", r".*: (command )?not found$"),
    ("build", r"\*\*\* (Configuration file|The source tree is not clean|Compiler)"),
    ("make", r"\S+:\d+: \*\*\* .*Stop\.$"),
    ("make", r"make(\[\d+\])?: \*\*\* No rule to make target"),
    ("killed", r"make(\[\d+\])?: \*\*\* \[.*\] (Killed|Terminated|Segmentation fault|Bus error)"),
])
MAKES_OWN = _compile([("make", r"make(\[\d+\])?: \*\*\* .*Error \d+")])

FAILED_TARGET = re.compile(r"make(?:\[\d+\])?: \*\*\* \[(?:[^:\]]+:\d+: )?([^\]]+)\] "
                           r"(?:Error \d+|Killed|Terminated)")
LEADS = re.compile(r"In file included from |\s+from \S+:\d+|\S+: (In|At) (\w+ )*function |"
                   r"\S+: In |(\S*ld\S*: )?\S+: in function |\S+: Assembler messages:")
FOLLOWS = re.compile(r"\s+\d* *\||>>> |\s+\^|\S+:\d+:(\d+:)? note: |\s{3,}\S|"
                     r"\S+:\d+:\s*symbol |\tsymbol ")


def _search(lines, patterns):
    for number, line in enumerate(lines):
        for kind, regex in patterns:
            if regex.match(line):
                return kind, number
    return None


def _before(lines, at, limit=6):
    """The "In file included from" and "In function" lines of an error."""
    lead = []
    for line in reversed(lines[max(0, at - 20):at]):
        if QUIET.match(line):
            continue        # another job of the parallel make
        if not LEADS.match(line) or len(lead) == limit:
            break
        lead.append(line)
    return lead[::-1]


def _after(lines, at, limit=12):
    """The source lines and notes below an error."""
    tail = []
    for line in lines[at + 1:at + 60]:
        if QUIET.match(line):
            continue
        if not FOLLOWS.match(line) or len(tail) == limit:
            break
        tail.append(line)
    return tail


def _last_words(lines, at, limit=8):
    """What was said before make gave up, where no message is known to be an error."""
    return [line for line in lines[:at] if line and not QUIET.match(line)][-limit:]


def first_error(text):
    """The first error of a failed build's log, or None where it shows none."""
    lines = [line.rstrip() for line in text.splitlines()]
    found = _search(lines, DISK_FULL) or _search(lines, ERRORS)
    lead = _before
    if not found:
        found, lead = _search(lines, MAKES_OWN), _last_words
    if not found:
        return None
    kind, at = found
    excerpt = "\n".join(lead(lines, at) + [lines[at]] + _after(lines, at))
    target = next((m.group(1) for m in map(FAILED_TARGET.match, lines) if m), "")
    return BuildError(kind, lines[at], at + 1, excerpt, target)
