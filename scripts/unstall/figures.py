# SPDX-License-Identifier: GPL-2.0
"""From the runs of a bench to rows: mean, spread, ratio, verdict, target, and tables.

A difference of the means that is not larger than the spread of the runs is called
no difference, whatever its sign; a single run has no spread and gets no verdict.
"""

from . import bench, project, workloads

SAME = "no difference"
ONE_RUN = "one run"
MISSING = "not measured"
REPEATS = 0.2           # percent of the base; two runs of one kernel differ by that


def values(runs, workload, row, variant):
    """One figure for each run that has it."""
    found = []
    for run in runs:
        have = run["workloads"].get(workload.name, {}).get("figures")
        if run["variant"] != variant or not have or any(k not in have for k in row.keys + row.over):
            continue
        over = sum(have[k] for k in row.over) if row.over else 1
        if over:
            found.append(sum(have[k] for k in row.keys) / row.per / over)
    return found


def mean(numbers):
    return sum(numbers) / len(numbers)


def extent(numbers):
    return max(numbers) - min(numbers)


def spread_percent(numbers):
    """The spread between runs, in percent of their mean; None for one run."""
    if len(numbers) < 2:
        return None
    return 0.0 if not extent(numbers) else 100 * extent(numbers) / abs(mean(numbers))


def verdict(base, ours):
    """What the runs of both kernels allow to say."""
    if not base or not ours:
        return MISSING
    if min(len(base), len(ours)) < 2:
        return ONE_RUN
    difference = mean(ours) - mean(base)
    if abs(difference) <= max(extent(base), extent(ours)):
        return SAME
    return "more" if difference > 0 else "less"


def beyond(target, base, ours):
    """How far a figure is on the wrong side of its bound; not above 0 if it is on the right one."""
    bound = target.bound * (mean(base) if target.of == "ratio" else 1)
    return mean(ours) - bound if target.sense == "<=" else bound - mean(ours)


def is_met(target, base, ours, said):
    """Whether a target is met; None where there is none, or no figure."""
    if target is None or said == MISSING:
        return None
    if target.of == "ratio" and target.bound == 1 and said == SAME:
        return True
    return beyond(target, base, ours) <= 0


def missed_by(target, base, ours, said):
    """By how many percent of the base a target is missed; None if it is not."""
    if is_met(target, base, ours, said) is not False:
        return None
    return 100 * beyond(target, base, ours) / abs(mean(base) or mean(ours))


def target_text(target):
    if target is None:
        return ""
    bound = f"{target.bound:.4g}"
    if target.of == "ratio" and target.bound < 0.5:
        bound = f"1/{1 / target.bound:.4g}"
    return f"{'ours' if target.of == 'ours' else 'ours/base'} {target.sense} {bound}"


def one_row(runs, workload, row):
    """A row of the report, as it stands in results.json."""
    return judged(workload, row, *(values(runs, workload, row, v) for v in bench.VARIANTS))


def judged(workload, row, base, ours):
    """A row from its figure in each run of both kernels."""
    said = verdict(base, ours)
    known = said != MISSING
    return {"workload": workload.name, "topic": workload.topic, "guest": workload.guest,
            "command": workload.command, "row": row.name, "unit": row.unit, "better": row.better,
            "published": row.published, "readme": row.readme, "curve": workload.curve,
            "x": workload.x if row.x is None else row.x, "x unit": workload.x_unit,
            "base": mean(base) if known else None, "ours": mean(ours) if known else None,
            "ratio": mean(ours) / mean(base) if known and mean(base) else None,
            "runs": [len(base), len(ours)],
            "spread %": [spread_percent(base), spread_percent(ours)] if known else [None, None],
            "verdict": said, "target": target_text(row.target),
            "met": is_met(row.target, base, ours, said),
            "missed by %": missed_by(row.target, base, ours, said)}


def flat_row(runs, chosen, flatness):
    """The largest figure of a curve divided by its least, in each run; None if it was not asked for."""
    points = [(w, r) for w in chosen if w.curve == flatness.curve
              for r in w.rows if r.name == flatness.row]
    if len(points) < 2:
        return None
    both = [[max(run) / min(run) for run in zip(*(values(runs, w, r, v) for w, r in points))]
            for v in bench.VARIANTS]
    xs = [w.x for w, _ in points]
    first = points[0][0]
    row = workloads.Row(f"{flatness.row}, most / least of {min(xs):,.0f} to {max(xs):,.0f}", (), "",
                        target=flatness.target)
    return judged(workloads.Workload(flatness.curve, first.topic, first.guest, "", ()), row, *both)


def rows(runs, chosen):
    """All rows, and those that come from several workloads, with their topic."""
    found = [one_row(runs, w, r) for w in chosen for r in w.rows]
    flat = [r for r in (flat_row(runs, chosen, f) for f in workloads.FLATNESS) if r]
    order = list(dict.fromkeys(w.topic for w in chosen))
    return sorted(found + flat, key=lambda r: order.index(r["topic"]))


def not_measured(runs):
    """Sentences about workloads that gave no figures, or a guest that died."""
    found = []
    for run in runs:
        where = f"{run['guest']} {run['variant']} {run['repetition']}"
        if run["died"]:
            found.append(f"{where}: {run['died']}")
        for name, got in run["workloads"].items():
            if "figures" not in got:
                why = got.get("error") or f"skipped: {got['skipped']}"
                found.append(f"{name} ({where}): {why}")
    return found


# -------------------------------------------------------------------- as text

def number(value):
    """As many digits as mean something: whole numbers from 100 on."""
    if value is None:
        return "-"
    if value and abs(value) < 0.01:
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def ratio(row):
    """ours / base, as a change in percent near 1, and as a factor far from it."""
    value = row["ratio"]
    if row["verdict"] == SAME:
        return SAME
    if value is None:
        return "-"
    if value == 1:
        return "the same"
    if 0.5 < value < 2:
        return f"{100 * (value - 1):+.1f}%" if abs(value - 1) >= 0.0005 else \
               f"{100 * (value - 1):+.3f}%"
    if not value:
        return "0"
    factor = max(value, 1 / value)
    digits = f"{factor:,.0f}" if factor >= 1000 else f"{factor:.4g}"
    return f"1/{digits}" if value < 1 else f"{digits}x"


def spread(row):
    """The larger spread of both kernels."""
    known = [s for s in row["spread %"] if s is not None]
    return f"{max(known):.2f}%" if known else "-"


def met(row):
    return {True: "met", False: "NOT MET", None: ""}[row["met"]]


HEADINGS = ("workload", "figure", "base", "ours", "ours/base", "spread", "published", "target", "")


def cells(row):
    """A row as words, in the order of HEADINGS."""
    return (row["workload"], f"{row['row']} {row['unit']}".strip(), number(row["base"]),
            number(row["ours"]), ratio(row), spread(row), row["published"], row["target"], met(row))


def misses(all_rows):
    return [r for r in all_rows if r["met"] is False]


def lost(all_rows, kept):
    """Rows without figures, and those that miss a target that the kept rows do not miss.

    Not what is as near to its bound as two runs are to each other.
    """
    known = {(r["workload"], r["row"]) for r in misses(kept)}
    return [r for r in all_rows if r["base"] is None
            or r["met"] is False and r["missed by %"] > REPEATS
            and (r["workload"], r["row"]) not in known]


def regressions(all_rows):
    """Rows that are worse, by more than the spread, without a target that says so."""
    return [r for r in all_rows if r["met"] is None
            and r["verdict"] == ("more" if r["better"] == "less" else "less")]


def markdown_table(some):
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "|".join(
        "---:" if 2 <= n <= 5 else "---" for n in range(len(HEADINGS))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(c.replace("|", "\\|") for c in cells(r)) + " |"
                              for r in some])


def markdown(results):
    """What misses its target, what got worse, what failed, and then each topic."""
    out, all_rows = [f"# {results['base']}: base against ours"], results["rows"]
    for title, some in (("Targets not met", misses(all_rows)),
                        ("Worse than the base, no target", regressions(all_rows))):
        out += [f"## {title}", markdown_table(some) if some else "None."]
    if results["not measured"] or results["notes"]:
        out += ["## Not measured", "\n".join(f"* {s}" for s in
                                             results["notes"] + results["not measured"])]
    for topic in dict.fromkeys(r["topic"] for r in all_rows):
        out += [f"## {topic}", markdown_table([r for r in all_rows if r["topic"] == topic])]
    out += projected(project.projections(all_rows))
    out.append(f"Made by `{results['command']}`. " + METHOD)
    return "\n\n".join(out) + "\n"


PROJECTED = ("operation", "kernel", "instructions", "of them under the lock", "CPUs that fill it",
             *(f"x{n}" for n in project.CPUS if n in (1, 8, 64, 512)))


def projected_cells(some):
    """A line for each kernel of each projection, in the order of PROJECTED."""
    for p in some:
        for variant in bench.VARIANTS:
            own = p[variant]
            limit = f"{own['limit']:,.1f}" if own["limit"] else "none"
            yield (p["name"], variant, number(own["total"]), number(own["held"]), limit,
                   *(f"{y:,.1f}" for n, y in zip(p["cpus"], own["throughput"])
                     if n in (1, 8, 64, 512)))


def projected(some):
    """The projections as Markdown, with what they assume."""
    if not some:
        return []
    lines = ["| " + " | ".join(cells) + " |" for cells in (PROJECTED, *projected_cells(some))]
    lines.insert(1, "|---|---|" + "---:|" * (len(PROJECTED) - 2))
    return ["## Projected to more CPUs: throughput, the base on one CPU is 1", "\n".join(lines),
            "\n".join(f"* {text}" for text in project.ASSUMPTIONS), *checked(some)]


CHECKED = ("vCPUs", "base, projected", "base, measured", "ours, projected", "ours, measured")


def checked_cells(p):
    """A line for each number of CPUs that was measured, in the order of CHECKED."""
    for n, *both in p["measured"]:
        at = p["cpus"].index(n)
        yield (str(n), *(f"{y:,.2f}" for variant, measured in zip(bench.VARIANTS, both)
                         for y in (p[variant]["throughput"][at], measured)))


def checked(some):
    """The projections that a measured curve stands beside, as Markdown."""
    out = []
    for p in some:
        if p["measured"]:
            lines = ["| " + " | ".join(cells) + " |" for cells in (CHECKED, *checked_cells(p))]
            lines.insert(1, "|" + "---:|" * len(CHECKED))
            out += [f"### {p['name']}: projected and measured", "\n".join(lines),
                    project.CHECK]
    return out


METHOD = ("Instructions are nanoseconds of a guest under QEMU's -icount shift=0,sleep=off, "
          "which boots with the same random seed, date and addresses each time; those of "
          "stress-ng are of the median of some runs, those called least of the least of some "
          "rounds. Spread is the largest difference between runs of one kernel; a difference "
          "that is not larger is called no difference.")


def find(names):
    """The workloads of the table that have these names, in its order."""
    return tuple(w for w in workloads.ALL if w.name in names)
