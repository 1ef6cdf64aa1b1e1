# SPDX-License-Identifier: GPL-2.0
"""report.html: one file with inline SVG, no script, nothing from the network.

On a narrow screen each row of a table becomes a block with the column's name before
each cell.  What misses its target stands first.
"""

import html
import json
import subprocess
from pathlib import Path

from . import figures, project
from .common import CannotRun

PYTHON = "/usr/bin/python3"     # for which apt installs matplotlib
TITLES = {"lru": "lru: pages that die young never meet the lruvec lock",
          "ksm": "ksm: a reverse-map walk bounded by one page offset",
          "fault": "fault: no fault takes mmap_lock because it waited",
          "mremap": "mremap: no struct page looked up per PTE moved",
          "reloc": "reloc: moved anonymous memory can merge again"}
STYLE = """
body { font: 16px/1.45 sans-serif; margin: 0 auto; padding: 0 12px 3em; max-width: 62em;
  color: #1a1a1a; background: #fff; }
pre, code, li, td { overflow-wrap: anywhere; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; width: 100%; font-size: .9em; }
th, td { text-align: left; padding: .3em .5em; border-bottom: 1px solid #ddd; vertical-align: top; }
th, td.good, td.bad { overflow-wrap: normal; white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bad { color: #a33d00; font-weight: bold; } .good { color: #00507e; }
figure { margin: 1em 0; max-width: 34em; } figure.flame { max-width: none; }
.flame div { overflow-x: auto; } .flame svg { display: block; max-width: none; } figcaption { font-size: .9em; color: #555; }
pre, code { font-family: monospace; font-size: .85em; white-space: pre-wrap; }
@media (max-width: 48em) {
  thead { display: none; } table, tbody, tr, td, td.n { display: block; text-align: left; }
  tr { border: 1px solid #ccc; border-radius: 4px; margin: .6em 0; padding: .3em .5em; }
  td, td.n { border: 0; padding: .1em 0; white-space: normal; } td:empty { display: none; }
  td.n { display: inline-block; margin-right: 1em; }
  td[data-h]::before { content: attr(data-h) ": "; color: #555; }
}
"""


def escape(text):
    return html.escape(str(text))


def kind(row):
    """How a bar is painted: better, worse, or no difference that may be called one."""
    if row["verdict"] not in ("more", "less"):
        return "same"
    return "good" if row["verdict"] == row["better"] else "bad"


def table(rows):
    """A table; each cell knows the name of its column."""
    head = "".join(f"<th>{escape(h)}</th>" for h in figures.HEADINGS)
    lines = []
    for row in rows:
        line = ""
        for number, (name, cell) in enumerate(zip(figures.HEADINGS, figures.cells(row))):
            css = "n" if 2 <= number <= 5 else ""
            if not name and cell:
                css, name = ("good" if row["met"] else "bad"), "result"
            label = f' data-h="{escape(name)}"' if number and name else ""
            line += f"<td{label}{f' class={css}' if css else ''}>{escape(cell)}</td>"
        lines.append(f"<tr>{line}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def bar_chart(rows):
    """Every row of a topic that has a ratio."""
    have = [{"ratio": r["ratio"], "kind": kind(r), "text": figures.ratio(r),
             "label": f"{r['workload']}, {r['row']}"} for r in rows if r["ratio"] is not None]
    return [{"bars": have, "title": "ours / base; shorter is less"}] if have else []


def curves(rows):
    """A chart for each figure that three or more workloads give at different x."""
    groups = {}
    for r in rows:
        if r["curve"] and r["base"] is not None:
            groups.setdefault((r["curve"], r["row"]), []).append(r)
    found = []
    for (_, name), some in groups.items():
        if len(some) < 3:
            continue
        some = sorted(some, key=lambda r: r["x"])
        units = {r["unit"] for r in some}
        unit = f"{name} {units.pop()}" if len(units) == 1 else name
        found.append({"x": [r["x"] for r in some], "base": [r["base"] for r in some],
                      "ours": [r["ours"] for r in some], "x unit": some[0]["x unit"],
                      "y unit": unit, "title": f"{unit} by {some[0]['x unit']}"})
    return found


def draw(charts):
    """The SVG of each chart."""
    if not charts:
        return []
    done = subprocess.run([PYTHON, Path(__file__).with_name("plot.py")], text=True, check=False,
                          input=json.dumps(charts), capture_output=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise CannotRun(f"the charts can't be drawn ({last}); run 'scripts/deps bench', or "
                        "'apt-get install python3-matplotlib'.")
    return json.loads(done.stdout)


def figure(chart, svg):
    return (f'<figure aria-label="{escape(chart["title"])}">{svg}'
            f"<figcaption>{escape(chart['title'])}</figcaption></figure>")


def items(texts):
    return "<ul>" + "".join(f"<li>{escape(t)}</li>" for t in texts) + "</ul>"


def first_part(results):
    """What a reader must know before any good news."""
    rows = results["rows"]
    out = []
    for title, some in (("Targets not met", figures.misses(rows)),
                        ("Worse than the base, no target set", figures.regressions(rows))):
        out.append(f"<h2>{title}: {len(some) or 'none'}</h2>" + (table(some) if some else ""))
    missing = results["notes"] + results["not measured"]
    if missing:
        out.append("<h2>Not measured</h2>" + items(missing))
    return "".join(out)


def worst_spread(rows):
    """The largest spread among rows of instructions, and of which row."""
    known = [(max(r["spread %"]), r["workload"]) for r in rows
             if r["row"].startswith("instructions") and None not in r["spread %"]]
    return max(known) if known else None


def method(results):
    """How the figures were made, and what they do not show."""
    worst = worst_spread(results["rows"])
    said = [figures.METHOD + " Event counts need no clock.",
            f"The largest spread of a row of instructions is {worst[0]:.2f}% ({worst[1]})." if worst
            else "Each kernel ran once, so the spread is not known and no difference is judged.",
            "Guest 'two' has two CPUs, which take turns in one thread of QEMU's: that shows "
            "counts, waits and orders that need two tasks, and no contention as two real CPUs "
            "have it.",
            "Rows of wall time are of guests whose clock is the machine's: 'parallel' has a thread of "
            "QEMU's for each CPU, 'kvm' runs under KVM.",
            "Published figures are from the reports that the topics answer, and other machines."]
    out = ["<h2>How</h2>", items(said), f"<p><code>{escape(results['command'])}</code></p>"]
    out.append("<h2>Kernels</h2>" + items(
        f"{arch} {v}: {k['release']}, tree {k['tree']}"
        f"{' and uncommitted changes' if k['changed'] else ''}, image sha256 {k['image']}, "
        f"config sha256 {k['config']}, {k['compiler']}"
        for arch, both in results["kernels"].items() for v, k in both.items()))
    for arch, diff in results["config difference"].items():
        out.append(f"<p>{escape(arch)}, the configs differ in {len(diff) or 'no'} lines"
                   f"{', of options that the series adds' if diff else ''}.</p>"
                   f"<pre>{escape(chr(10).join(diff))}</pre>")
    out.append("<h2>Machine</h2>" + items(f"{k}: {v}" for k, v in results["machine"].items()))
    lines = dict.fromkeys(r["qemu"] for r in results["runs"] if r["repetition"] == 1)
    return "".join(out) + "<h2>QEMU</h2>" + "".join(f"<pre>{escape(q)}</pre>" for q in lines)


def projection_chart(p):
    return {"x": p["cpus"], "base": p["base"]["throughput"], "ours": p["ours"]["throughput"],
            "log": 2, "x unit": "CPUs", "y unit": "throughput, projected",
            "title": f"{p['name']}: throughput projected, the base on one CPU is 1"}


def plain_table(headings, lines, numbers_from):
    """A table of words, with numbers to the right from a column on."""
    head = "".join(f"<th>{escape(h)}</th>" for h in headings)
    names = [f' data-h="{escape(h)}"' if h else "" for h in headings]
    kinds = [" class=n" if n >= numbers_from else "" for n in range(len(headings))]
    body = "".join("<tr>" + "".join(
        f"<td{name}{css}>{escape(cell)}</td>" for name, css, cell in zip(names, kinds, cells)
    ) + "</tr>" for cells in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def projection_part(some, drawn):
    """What the lock would allow on more CPUs, with the assumptions right under it."""
    if not some:
        return ""
    read = dict.fromkeys(row for p in some for row in p["rows"])
    return ("<h2>Projection: what the lruvec lock allows on more CPUs</h2>"
            + "".join(figure(projection_chart(p), next(drawn)) for p in some)
            + items(project.ASSUMPTIONS + ("Rows: " + "; ".join(read) + ".",))
            + plain_table(figures.PROJECTED, figures.projected_cells(some), 2)
            + "".join(f"<h3>{escape(p['name'])}: projected and measured</h3>"
                      + plain_table(figures.CHECKED, figures.checked_cells(p), 0)
                      + f"<p>{escape(project.CHECK)}</p>" for p in some if p["measured"]))


def commands(rows):
    """Each workload's command, to run by hand."""
    known = {r["workload"]: r["command"] for r in rows}
    return "<details><summary>commands</summary>" + items(
        f"{name}: {text}" for name, text in known.items()) + "</details>"


def whole(title, body):
    """A page of one file."""
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n")


def render(results):
    """The page."""
    rows = results["rows"]
    topics = list(dict.fromkeys(r["topic"] for r in rows))
    charts = {t: bar_chart([r for r in rows if r["topic"] == t])
              + curves([r for r in rows if r["topic"] == t]) for t in topics}
    some = project.projections(rows)
    drawn = iter(draw([c for t in topics for c in charts[t]]
                      + [projection_chart(p) for p in some]))
    parts = []
    for topic in topics:
        own = [r for r in rows if r["topic"] == topic]
        parts.append(f"<h2>{escape(TITLES.get(topic, topic))}</h2>"
                     + "".join(figure(c, next(drawn)) for c in charts[topic])
                     + table(own) + commands(own))
    parts.append(projection_part(some, drawn))
    title = f"unstall on {results['base']}: base against ours"
    judged = [r for r in rows if r["met"] is not None]
    count = (f"{len(judged) - len(figures.misses(rows))} of {len(judged)} targets met; "
             f"{len(rows)} figures.")
    return whole(title, f"<p>{count}</p>{first_part(results)}{''.join(parts)}{method(results)}")
