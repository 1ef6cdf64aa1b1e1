# SPDX-License-Identifier: GPL-2.0
"""The end of a test run: what passed, what did not and why, and where to look.

summarize() returns the text and the counts; it prints nothing. The last line of
the text stands alone and reads "12 passed, 1 failed, 2 skipped".
"""

import os
import re
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import ktap
from .common import ROOT, duration

WIDTH = 100
LOG_LINES = 8           # of a failed test's log
SPLAT_LINES = 10        # of a splat's block
COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}

# Lines of a test's log that say nothing about its failure.
DULL = re.compile(r"#?\s*(|-+|running .*|RUN .*|OK .*|FAIL .*|Totals: .*|"
                  r"\[(PASS|FAIL|SKIP)\]|\[RUN\] .*|selftests: .*|\d+ skipped test\(s\) .*|"
                  r"timeout set to .*|module:.*|\S+: pass:\d+ fail:\d+ .*|SUMMARY: .*|"
                  r"TAP version \d+|Starting \d+ tests .*|FAILED: \d+ / \d+ tests passed\.)\s*$")


class Summary(NamedTuple):
    """The text to print and what it counts."""

    text: str
    passed: int
    failed: int
    skipped: int


@dataclass
class Report:
    """What a run gave; only `trees` is always there."""

    trees: list                 # of ktap.Test
    splats: list = ()           # of splats.Splat
    deviations: list = ()       # of expected.Deviation
    phases: list = ()           # (name, seconds)
    files: list = ()            # (what it is, path)
    rerun: str = "make run"     # the command that ran this, without T=
    faults: list = ()           # sentences about the run itself; each counts as a failure
    notes: list = ()            # sentences that belong to the result


def wants_colour(stream=None):
    """Colour is for terminals, and for those who did not say no."""
    stream = stream or sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR")


def paint(text, colour, on):
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if on else text


def cut(line, width=WIDTH):
    """A line of a log, printable and no longer than the page."""
    line = "".join(c if c.isprintable() else " " for c in line.expandtabs(4).rstrip())
    return line if len(line) <= width else line[:width - 3] + "..."


def wrap(text, indent="  ", hang="  "):
    """A list of wrapped lines; a word longer than the page is cut."""
    return [cut(line) for line in textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + hang,
        break_long_words=False, break_on_hyphens=False)]


def plain(text):
    """A text without its colours, for a file."""
    return re.sub("\033\\[[0-9;]*m", "", text)


def relative(path):
    """A path as seen from the repository, where it is inside it."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(ROOT))
    except ValueError:
        return str(path)


def results_of(trees):
    """The flat list of all trees."""
    return [result for tree in trees for result in ktap.flatten(tree)]


# ------------------------------------------------------------------------ parts

def _suite_rows(trees):
    """(name, passed, failed, skipped) of each suite and category."""
    rows = []
    for tree in trees:
        for name, test in ktap.suites(tree):
            states = ktap.count(test)
            bad = sum(states[status] for status in ktap.BAD)
            rows.append((name, states[ktap.PASS], bad, states[ktap.SKIP]))
    return rows


def _table(trees, colour):
    """The table of suites, one line each."""
    rows = _suite_rows(trees)
    if not rows:
        return []
    width = max([len(row[0]) for row in rows] + [24])
    width = min(width, WIDTH - 30)
    lines = [f"  {'suite':{width}} {'passed':>8} {'failed':>8} {'skipped':>8}"]
    for name, passed, failed, skipped in rows:
        line = f"  {cut(name, width):{width}} {passed:8} {failed or '-':>8} {skipped or '-':>8}"
        lines.append(paint(line, "red", colour) if failed else line)
    return lines


def _log_lines(result):
    """The first telling lines of a test's log; the last ones of a test that never ended."""
    lines = [re.sub(r"^\s*# ?", "", line) for line in result.test.log if not DULL.match(line)]
    more = len(lines) - LOG_LINES
    if more <= 0:
        return lines
    gap = f"... {more} more line{'s' * (more > 1)}"
    ended = result.status == ktap.FAIL
    return lines[:LOG_LINES] + [gap] if ended else [gap] + lines[-LOG_LINES:]


def _failed_test(result, colour):
    status = "" if result.status == ktap.FAIL else f"{result.status}: "
    lines = [paint(cut(f"  {result.name}"), "red", colour)]
    if status or result.reason:
        lines += wrap(status + result.reason, "      ")
    return lines + [cut(f"      | {line}") for line in _log_lines(result)]


def _failures(results, colour):
    bad = [result for result in results if result.status in ktap.BAD]
    lines = [paint("Failed", "bold", colour)] if bad else []
    for result in bad:
        lines += _failed_test(result, colour)
    return lines


def _skips(results, colour):
    """Every skipped test, those of one program and one reason together."""
    groups = {}
    for result in results:
        if result.status == ktap.SKIP:
            place, _, name = result.name.rpartition("/")
            if result.test.name in result.name:     # a test's own name may hold a slash
                place = result.name[:-len(result.test.name)].rstrip("/")
                name = result.test.name
            key = (place, ktap.reason_class(result.reason))
            groups.setdefault(key, (result.reason, []))[1].append(name)
    lines = [paint("Skipped", "bold", colour)] if groups else []
    for (place, _), (reason, names) in groups.items():
        lines += wrap(f"{place}: {reason}")
        if names != [reason]:       # a test without a name of its own: the reason says all
            lines += wrap(", ".join(names), "      ", "")
    return lines


def _splats(splats, colour):
    lines = [paint("Kernel log", "bold", colour)] if splats else []
    for splat in splats:
        head = f"  {splat.kind}, line {splat.number}: {splat.line}"
        lines.append(paint(cut(head), "red", colour))
        block = splat.excerpt.splitlines()
        lines += [cut(f"      | {line}") for line in block[:SPLAT_LINES]]
        if len(block) > SPLAT_LINES:
            lines.append(f"      | ... {len(block) - SPLAT_LINES} more lines")
    return lines


def _deviations(deviations, colour):
    """What differs from the expected list; new tests are counted, not listed."""
    shown = [d for d in deviations if d.kind not in ("failed", "new", "passes now")]
    lines = [paint("Not as expected", "bold", colour)] if shown else []
    for deviation in shown:
        lines += wrap(deviation.text())
    kinds = Counter(d.kind for d in deviations)
    for kind, what in (("new", "not on the expected list"),
                       ("passes now", "expected to be skipped, passed")):
        if kinds[kind]:
            lines.append(f"  {kinds[kind]} test{'s' * (kinds[kind] > 1)} {what}: run 'make expect'")
    return lines


def _faults(faults, colour):
    lines = [paint("The run", "bold", colour)] if faults else []
    return lines + [paint(line, "red", colour) for fault in faults for line in wrap(fault)]


def _times(phases):
    if not phases:
        return []
    total = sum(seconds for _, seconds in phases)
    parts = [f"{name} {duration(seconds)}" for name, seconds in phases]
    return wrap(f"Time    {', '.join(parts)}; together {duration(total)}", "", "        ")


def _files(files):
    width = max((len(what) for what, _ in files), default=0)
    return [f"Files   {what:{width}}  {relative(path)}" for what, path in files]


def names_to_rerun(trees, deviations=()):
    """The suites and categories, as T= takes them, in which something failed.

    Empty where a failure is in none of them: then all must be run again.
    """
    lost = [d.name for d in deviations if d.failure]
    bad = [result.name for result in results_of(trees) if result.status in ktap.BAD]
    places = [name.split("/") for name in bad + lost]
    if any(len(place) < 2 or place[1].startswith("(") for place in places):
        return []
    return list(dict.fromkeys(place[1] for place in places))


def _rerun(report, failed):
    if not failed:
        return []
    names = names_to_rerun(report.trees, report.deviations)
    wanted = f' T="{" ".join(names)}"' if names else ""
    return [f"Again   {report.rerun}{wanted}"]


# ------------------------------------------------------------------------ whole

def counts(report):
    """(passed, failed, skipped): splats and what has vanished count as failed."""
    states = Counter(result.status for result in results_of(report.trees))
    failed = sum(states[status] for status in ktap.BAD)
    failed += len(report.splats) + len(report.faults)
    losses = Counter(d.kind for d in report.deviations if d.failure and d.counted)
    failed += sum(losses.values())
    skipped = states[ktap.SKIP] - losses["new skip"] - losses["other reason"]
    return states[ktap.PASS], failed, skipped


def closing(passed, failed, skipped):
    """The line that a run ends with."""
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def _closing_colour(failed, passed):
    if failed:
        return "red"
    return "green" if passed else "yellow"


def summarize(report, colour=None):
    """The Summary of a run. colour=None: as standard output wants it."""
    colour = wants_colour() if colour is None else colour
    passed, failed, skipped = counts(report)
    results = results_of(report.trees)
    parts = [_table(report.trees, colour), _failures(results, colour),
             _splats(report.splats, colour), _faults(report.faults, colour),
             _skips(results, colour), _deviations(report.deviations, colour),
             [line for note in report.notes for line in wrap(note, "", "")],
             _times(report.phases) + _files(report.files) + _rerun(report, failed)]
    last = paint(closing(passed, failed, skipped), _closing_colour(failed, passed), colour)
    text = "\n\n".join("\n".join(part) for part in parts if part)
    return Summary(f"{text}\n\n{last}\n", passed, failed, skipped)
