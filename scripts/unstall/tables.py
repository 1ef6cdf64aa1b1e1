# SPDX-License-Identifier: GPL-2.0
"""The tables of README and the documents, from the committed results of a bench.

A table stands between two comments of reStructuredText:

	.. results: begin populate-* touch-1
	.. results: end

The words are names of workloads, with wildcards, and the table has all their rows;
workload/figure chooses some of the rows.
Without words it is README's, whose rows are marked in workloads.py.
"""

import re
import textwrap
from fnmatch import fnmatchcase

from . import common, figures
from .common import CannotRun

BEGIN, END = ".. results: begin", ".. results: end"
BLOCK = re.compile(rf"^{re.escape(BEGIN)}(.*)\n(?:(?!{re.escape(BEGIN)}).*\n)*?{re.escape(END)}$", re.M)
HEADINGS = ("workload", "figure", "base", "ours", "ours/base", "target")
NUMBERS = (2, 3, 4)     # of HEADINGS, and of a line of a document's table


def kept_file(root):
    """The committed results of the base, below the repository's folder."""
    return root / "Documentation" / "results" / f"{common.base_name()}.json"


def documents(root):
    """README, and each document that has a table of results."""
    found = [p for p in sorted((root / "Documentation").rglob("*.rst")) if BEGIN in p.read_text()]
    return [root / "README", *found]


def cells(row):
    return (row["workload"], f"{row['row']} {row['unit']}".strip(), figures.number(row["base"]),
            figures.number(row["ours"]), figures.ratio(row),
            f"{row['target']} {figures.met(row)}".strip() or "..")


def simple_table(lines, numbers):
    """A simple table of reStructuredText; the first line is its heading."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = "  ".join("=" * w for w in widths)

    def text(line):
        return "  ".join(c.rjust(w) if n in numbers else c.ljust(w)
                         for n, (c, w) in enumerate(zip(line, widths))).rstrip()

    return [rule, text(lines[0]), rule, *map(text, lines[1:]), rule]


def most_spread(results):
    """By how much the runs of one kernel differ in README's rows, and where they do most.

    Counts near zero differ by much of themselves, so they stand apart from instructions.
    """
    parts = []
    for kind, timed in (("instructions", True), ("counts", False)):
        known = [(s, r["workload"]) for r in results["rows"] for s in r["spread %"]
                 if r["readme"] and s is not None and r["row"].startswith("instructions") == timed]
        if known:
            most, where = max(known)
            parts.append(f"by at most {most:.2f}% in {kind}" + (f" ({where})" if most else ""))
    return f"differ {' and '.join(parts)}" if parts else "were one of each: no spread is known"


def readme_table(results):
    made = textwrap.fill(f"Made by ``{results['command']}``; the runs of one kernel "
                         f"{most_spread(results)}.", 86, break_on_hyphens=False)
    lines = [HEADINGS, *(cells(r) for r in results["rows"] if r["readme"])]
    return [made, "", *simple_table(lines, NUMBERS)]


def by_workload(rows):
    """The rows of each workload, in their order."""
    found = {}
    for row in rows:
        found.setdefault(row["workload"], []).append(row)
    return list(found.values())


def is_matrix(groups):
    """Have all workloads the same figures, and more than one?"""
    names = [[(r["row"], r["unit"]) for r in group] for group in groups]
    return len(names[0]) == 2 and all(n == names[0] for n in names)


def matrix(groups):
    """A line for each workload; its two figures stand side by side under a heading each."""
    lines = [("workload", *("base", "ours", "ours/base") * 2)]
    lines += [(g[0]["workload"], *(c for r in g for c in cells(r)[2:5])) for g in groups]
    widths = [max(map(len, column)) for column in zip(*lines)]
    heads = [f"{r['row']} {r['unit']}".strip() for r in groups[0]]
    spans = []
    for n, head in zip((1, 4), heads):
        span = sum(widths[n:n + 3]) + 4
        widths[n + 2] += max(0, len(head) - span)
        spans.append(max(span, len(head)))
    rule = "  ".join("=" * w for w in widths)
    over = "  ".join(["..".ljust(widths[0]), heads[0].ljust(spans[0]), heads[1]])
    under = "  ".join("-" * w for w in (widths[0], *spans))

    def text(line):
        return "  ".join(c.ljust(w) if not n else c.rjust(w)
                         for n, (c, w) in enumerate(zip(line, widths))).rstrip()

    return [rule, over, under, text(lines[0]), rule, *map(text, lines[1:]), rule]


def is_named(row, word):
    """Does a word of a document mean this row?"""
    name = row["workload"]
    return fnmatchcase(f"{name}/{row['row']}" if "/" in word else name, word)


def document_table(results, words):
    """The rows that the words name."""
    rows = [r for r in results["rows"] if any(is_named(r, w) for w in words)]
    for word in words:
        if not any(is_named(r, word) for r in rows):
            raise CannotRun(f"'{BEGIN} {' '.join(words)}': the results have no {word}.")
    groups = by_workload(rows)
    if is_matrix(groups):
        return matrix(groups)
    return simple_table([HEADINGS[:5], *(cells(r)[:5] for r in rows)], NUMBERS)


def table(results, words):
    return document_table(results, words) if words else readme_table(results)


def updated(text, results):
    """A document with the tables of these results."""
    def block(found):
        lines = table(results, found[1].split())
        return "\n".join([BEGIN + found[1], "", *lines, "", END])
    return BLOCK.sub(block, text)


def is_marked(text):
    """Has it tables, each with a begin and an end?"""
    return 0 < text.count(BEGIN) == text.count(END) == len(BLOCK.findall(text))


def stale(root, results):
    """The documents whose tables are not those of the results, or that lack a marker."""
    texts = {p: p.read_text() for p in documents(root)}
    return [p for p, text in texts.items()
            if not is_marked(text) or updated(text, results) != text]
