# SPDX-License-Identifier: GPL-2.0
"""What a run must give: one list per base and guest in tests/expected/.

    pass kunit/mremap_batch/batch_is_hint
    skip mm/mremap_batch/mremap_batch/mremap_batch.large.contents # no folio of order N

A list holds passes and skips only. A test that is on it and not in the run has
vanished; a test that is skipped now, or for another reason, has lost what it
tested. Both are failures. A test that is not on the list is only reported.
Numbers and addresses in reasons, and what changes from run to run in names, are
left out on both sides.
"""

from typing import NamedTuple

from . import common, ktap
from .common import CannotRun, Failed

FOLDER = common.ROOT / "tests" / "expected"
HEADER = """\
# What the tests give on {base}, {guest}. Written by 'make expect' from a run.
# pass NAME
# skip NAME # reason, numbers as N
"""


class Entry(NamedTuple):
    """One line of a list."""

    status: str
    reason: str = ""


class Deviation(NamedTuple):
    """One difference between a list and a run."""

    kind: str           # vanished, new skip, other reason, failed, new, passes now
    name: str
    detail: str = ""
    failure: bool = True
    counted: bool = True    # False where a failed test of the run already stands for it

    def text(self):
        return f"{self.kind}: {self.name}" + (f" ({self.detail})" if self.detail else "")


def path(base, guest):
    """Where the list of a base and a guest (arm64, x86_64, x86_64-numa2) is."""
    return FOLDER / f"{base}-{guest}"


def _parse_line(line, where):
    status, _, rest = line.partition(" ")
    name, _, reason = rest.partition(" # ")
    if status not in (ktap.PASS, ktap.SKIP) or not name.strip():
        raise CannotRun(f"{where}: '{line}' is neither 'pass NAME' nor 'skip NAME # reason'.")
    return name.strip(), Entry(status, reason.strip())


def parse(text, where="expected results"):
    """{name: Entry} of a list's text."""
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, entry = _parse_line(line.rstrip(), f"{where}:{number}")
            if name in entries:
                raise CannotRun(f"{where}:{number}: '{name}' is there twice.")
            entries[name] = entry
    return entries


def load(file):
    """{name: Entry} of a list, or None where there is none yet."""
    try:
        with open(file, encoding="utf-8") as lines:
            return parse(lines.read(), file)
    except FileNotFoundError:
        return None


def in_selection(name, selected):
    """Whether a test belongs to one of the suites and categories; None selects all."""
    return selected is None or any(name == s or name.startswith(s.rstrip("/") + "/")
                                   for s in selected)


def _results(trees, known=()):
    flat = [result for tree in trees for result in ktap.flatten(tree)]
    return ktap.by_stable_name(flat, known)


def _present(name, entry, result):
    """The deviation of a test that is on the list and in the run, or None."""
    if result.status in ktap.BAD:
        return Deviation("failed", name, result.reason or result.status, counted=False)
    if entry.status == ktap.PASS and result.status == ktap.SKIP:
        return Deviation("new skip", name, result.reason)
    if entry.status == ktap.SKIP and result.status == ktap.PASS:
        return Deviation("passes now", name, "run 'make expect'", failure=False)
    if result.status == ktap.SKIP and entry.reason != ktap.reason_class(result.reason):
        return Deviation("other reason", name, f"was '{entry.reason}', is '{result.reason}'")
    return None


def _vanished(name, results):
    """A vanished test; where its program gave a result for lost tests, that one counts."""
    lost = [n.rpartition("/")[0] for n, result in results.items()
            if result.status in (ktap.CRASHED, ktap.MISSING)]
    lost += [n for n, result in results.items() if result.status in ktap.BAD]
    covered = any(not place or name.startswith(place + "/") for place in lost)
    return Deviation("vanished", name, "it gave no result", counted=not covered)


def compare(entries, trees, selected=None):
    """The deviations of a run from a list, restricted to the selected suites.

    `selected` holds names like "kunit/mremap_batch" and "mm/mremap_batch".
    """
    entries = {n: e for n, e in (entries or {}).items() if in_selection(n, selected)}
    results = _results(trees, entries)
    found = []
    for name, entry in entries.items():
        if name in results:
            deviation = _present(name, entry, results[name])
        else:
            deviation = _vanished(name, results)
        found += [deviation] if deviation else []
    for name, result in results.items():
        if name not in entries and in_selection(name, selected) and result.status not in ktap.BAD:
            found.append(Deviation("new", name, "run 'make expect'", failure=False))
    return found


def entries_of(trees, selected=None):
    """{name: Entry} that a run gives. A run with failures gives none."""
    results = {n: r for n, r in _results(trees).items() if in_selection(n, selected)}
    bad = [name for name, result in results.items() if result.status in ktap.BAD]
    if bad:
        raise Failed(f"{len(bad)} tests of the run failed, {bad[0]} first; "
                     "a list of expected results holds passes and skips only.")
    return {name: Entry(r.status, ktap.reason_class(r.reason) if r.status == ktap.SKIP else "")
            for name, r in results.items()}


def text_of(entries, base, guest):
    """The text of a list."""
    lines = []
    for name, entry in sorted(entries.items()):
        reason = f" # {entry.reason}" if entry.reason else ""
        lines.append(f"{entry.status} {name}{reason}")
    return HEADER.format(base=base, guest=guest) + "\n".join(lines) + ("\n" if lines else "")


def update(base, guest, trees, selected=None, file=None):
    """Writes the list anew from a run; what was not selected stays. Returns its path."""
    file = file or path(base, guest)
    kept = {n: e for n, e in (load(file) or {}).items() if not in_selection(n, selected)}
    kept.update(entries_of(trees, selected))
    common.write_whole(file, text_of(kept, base, guest))
    return file
