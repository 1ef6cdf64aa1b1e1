# SPDX-License-Identifier: GPL-2.0
"""Two runs of the same tests, sub-test by sub-test: only what differs is shown.

A regression is a test that passed and does not any more, that was skipped and
fails or is gone, or that is new and fails. What was failing before is not one, nor
is what the series' documents say of it.
"""

from collections import Counter
from fnmatch import fnmatchcase
from typing import NamedTuple

from . import ktap
from .summary import cut, paint, wrap

GONE = "vanished"
NEW = "new"
BAD = "bad"     # fail, crashed and missing are alike here, but for their names


class Change(NamedTuple):
    """A test whose result differs."""

    name: str
    before: str     # a status, or NEW
    after: str      # a status, or GONE
    reason: str     # of the new result, or of the old one if it vanished
    was: str = ""   # the old reason, where only that differs
    documented: bool = False

    @property
    def regression(self):
        before, after = _class(self.before), _class(self.after)
        if before == after or before == BAD or self.documented:
            return False
        return after in (BAD, GONE) or (before == ktap.PASS and after == ktap.SKIP)

    @property
    def title(self):
        if self.before == NEW:
            return f"new, {self.after}"
        if self.after == GONE:
            return f"vanished, was {self.before}"
        if self.before == self.after:
            return f"{self.after} for another reason"
        return f"{self.before} -> {self.after}" + (", as documented" if self.documented else "")


def _class(status):
    return BAD if status in ktap.BAD else status


class Comparison(NamedTuple):
    """The changes between two runs and the counts of what is the same."""

    changes: list
    same: Counter       # by status

    @property
    def regressions(self):
        return [change for change in self.changes if change.regression]

    def text(self, colour=False):
        """The differences by kind, regressions first, and the counts."""
        groups = {}
        for change in self.changes:
            groups.setdefault((not change.regression, change.title), []).append(change)
        parts = [self._counts()]
        for (harmless, title), changes in sorted(groups.items(), key=lambda item: item[0]):
            head = f"{title}: {len(changes)}" + ("" if harmless else ", REGRESSION")
            lines = [head if harmless else paint(head, "red", colour)]
            parts.append("\n".join(lines + [line for c in changes for line in _change_lines(c)]))
        parts.append(self._verdict())
        return "\n\n".join(parts) + "\n"

    def _counts(self):
        parts = [f"{self.same[s]} {word}" for s, word in (
            (ktap.PASS, "passed"), (ktap.FAIL, "failed"), (ktap.CRASHED, "crashed"),
            (ktap.MISSING, "missing"), (ktap.SKIP, "skipped")) if self.same[s]]
        return f"the same in both: {', '.join(parts) if parts else 'nothing'}"

    def _verdict(self):
        bad = len(self.regressions)
        rest = len(self.changes) - bad
        return f"{bad} regression{'s' * (bad != 1)}, {rest} other difference{'s' * (rest != 1)}"


def _change_lines(change):
    lines = [cut(f"  {change.name}")]
    if change.was:
        lines += wrap(f"was: {change.was}", "      ")
        lines += wrap(f"is:  {change.reason}", "      ")
    elif change.reason:
        lines += wrap(change.reason, "      ")
    return lines


def _flat(tree):
    trees = tree if isinstance(tree, (list, tuple)) else [tree]
    return [result for one in trees for result in ktap.flatten(one)]


def _difference(name, old, new):
    """The Change between two results of one test, or None."""
    if old is None:
        return Change(name, NEW, new.status, new.reason)
    if new is None:
        return Change(name, old.status, GONE, old.reason)
    if old.status != new.status:
        return Change(name, old.status, new.status, new.reason)
    if new.status == ktap.PASS:
        return None
    if ktap.reason_class(old.reason) != ktap.reason_class(new.reason):
        return Change(name, old.status, new.status, new.reason, old.reason or "no reason given")
    return None


def _is_documented(change, patterns):
    """Fails, and does not crash, where a document says that it does."""
    return ((change.before, change.after) == (ktap.PASS, ktap.FAIL) and
            any(fnmatchcase(change.name, pattern) for pattern in patterns))


def compare(before, after, documented=()):
    """The Comparison of two trees (or lists of trees): base's and ours.

    documented: patterns of the names of tests that are known to fail in the second.
    """
    new_results = _flat(after)
    known = [ktap.stable(result.name) for result in new_results if not result.test.nameless]
    old = ktap.by_stable_name(_flat(before), known)
    new = ktap.by_stable_name(new_results, list(old))
    changes, same = [], Counter()
    for name in dict.fromkeys(list(old) + list(new)):
        change = _difference(name, old.get(name), new.get(name))
        if change:
            changes.append(change._replace(documented=_is_documented(change, documented)))
        else:
            same[new[name].status] += 1
    return Comparison(changes, same)
