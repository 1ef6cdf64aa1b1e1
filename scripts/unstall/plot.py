# SPDX-License-Identifier: GPL-2.0
"""Draws charts with Debian's matplotlib: JSON on standard input, SVGs as JSON on output.

Run as a program by the distribution's Python, for which apt installs matplotlib;
the Python that runs our scripts may be another one.
"""

import io
import json
import re
import sys

BASE, OURS, GOOD, BAD, SAME = "#767676", "#0060a8", "#0060a8", "#b34700", "#767676"
INCHES = 5          # wide; letters of 11 points then are readable on a phone


def strip(svg, prefix):
    """Inline SVG: no prolog, no metadata, and names that no other chart of the page has."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg \1role="img" width="100%"',
                  re.sub(r'<svg height="[^"]*" ([^>]*?)width="[^"]*"', r'<svg \1role="img" '
                         'width="100%"', svg, count=1), count=1)


def bars(plt, chart):
    """ours / base, one bar a row, on a logarithmic axis, the row's name over its bar."""
    rows = chart["bars"]
    figure, axes = plt.subplots(figsize=(INCHES, 0.7 + 0.42 * len(rows)))
    figure.subplots_adjust(left=0.02, right=0.98)
    least = min([r["ratio"] for r in rows if r["ratio"]] + [0.5])
    most = max([r["ratio"] for r in rows] + [2])
    left = 10 ** -3.5 if least < 0.001 else least / 2
    for n, row in enumerate(rows):
        at = max(row["ratio"], left)
        colour = {"good": GOOD, "bad": BAD, "same": SAME}[row["kind"]]
        axes.barh(n, at - 1, left=1, height=0.34, color=colour)
        axes.text(0.0, n - 0.28, row["label"], fontsize=9, va="bottom",
                  transform=axes.get_yaxis_transform())
        axes.text(1.0, n - 0.28, row["text"], fontsize=9, va="bottom", ha="right",
                  transform=axes.get_yaxis_transform())
    axes.set_xscale("log")
    axes.set_xlim(left, most * 1.4)
    axes.set_ylim(len(rows) - 0.5, -0.85)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:,.4g}")
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("ours / base")
    return figure


def curve(plt, chart):
    """Base and ours against what the workloads of a curve differ in."""
    figure, axes = plt.subplots(figsize=(INCHES, 3))
    for name, style, colour in (("base", "o--", BASE), ("ours", "s-", OURS)):
        axes.plot(chart["x"], chart[name], style, color=colour, label=name)
    axes.set_xscale("log", base=chart.get("log", 10))
    if min(chart["base"] + chart["ours"]) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    shown = [x for n, x in enumerate(chart["x"]) if not n or x > 1.3 * chart["x"][n - 1]]
    axes.set_xticks(shown, [f"{x:,.0f}" for x in shown], rotation=30, fontsize=9)
    axes.minorticks_off()
    axes.set_xlabel(chart["x unit"])
    axes.set_ylabel(chart["y unit"])
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return figure


def draw(charts):
    import matplotlib       # pylint: disable=import-outside-toplevel
    matplotlib.use("svg")
    from matplotlib import pyplot as plt    # pylint: disable=import-outside-toplevel
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11,
                         "axes.spines.top": False, "axes.spines.right": False})
    drawn = []
    for number, chart in enumerate(charts):
        plt.rcParams["svg.hashsalt"] = f"chart{number}"
        figure = bars(plt, chart) if "bars" in chart else curve(plt, chart)
        out = io.StringIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        drawn.append(strip(out.getvalue(), f"c{number}"))
    return drawn


if __name__ == "__main__":
    json.dump(draw(json.load(sys.stdin)), sys.stdout)
