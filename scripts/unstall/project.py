# SPDX-License-Identifier: GPL-2.0
"""Projects how a contended lock limits throughput, from what one CPU measured.

A closed queueing network: each CPU runs one task, which thinks (all that an operation
does without the lock) and then visits one server, the lock.  Mean value analysis
solves it exactly for exponential times and first come, first served.  Both times are
instructions, and an instruction is the unit of time.
"""

from . import workloads

CPUS = tuple(1 << n for n in range(10))     # 1 to 512
ASSUMPTIONS = (
    "A projection, not a measurement: no machine with so many CPUs was there.",
    "Model: a closed network of N tasks, one on each CPU, that think for Z instructions and "
    "hold the lock for D of them, once an operation; mean value analysis with exponential "
    "times, first come, first served. Z + D and D are the measured rows named below.",
    "An instruction takes one unit of time wherever it runs. On real CPUs what is done under "
    "a contended lock misses the cache more often, so that D grows with N and the base bends "
    "earlier than shown.",
    "All tasks share one lock: one memcg in one node, as the reported workload has it.",
    "No other lock and no other shared line limits anybody. Where D is 0 in the model, "
    "throughput grows with the CPUs without end; something else would stop it.",
)


CHECK = ("Measured: wall time under multi-threaded TCG, the base on one vCPU is 1. Only up to as many "
         "vCPUs as the host has CPUs is this a check of the model; beyond, they share the host's, "
         "and a holder of the lock that does not run makes all others wait.")


def throughput(think, held, cpus):
    """Operations per instruction of one CPU's time, for each number of CPUs from 1 on."""
    found, queue = [], 0.0
    for n in range(1, cpus + 1):
        waited = held * (1 + queue)
        found.append(n / (think + waited))
        queue = found[-1] * waited
    return found


def most_cpus(think, held):
    """So many CPUs would keep the lock busy all the time; None if there is no such number."""
    return (think + held) / held if held > 0 else None


def by_name(rows):
    return {(r["workload"], r["row"]): r for r in rows}


def measured(known, projection):
    """(CPUs, base, ours) of a measured curve, as throughput; the base on one CPU is 1."""
    points = sorted((r["x"], r["base"], r["ours"]) for r in known.values() if projection.measured
                    and (r["curve"], r["row"]) == projection.measured and r["base"] is not None)
    if not points or points[0][0] != 1:
        return []
    return [(int(x), points[0][1] / base, points[0][1] / ours) for x, base, ours in points]


def one(known, projection):
    """Base and ours of one projection, or None where a row was not measured."""
    rows = [known.get(key) for key in (projection.total, projection.held)]
    if any(r is None or r["base"] is None for r in rows):
        return None
    total, held = rows
    found = {"name": projection.name, "rows": [f"{r['workload']}, {r['row']} {r['unit']}"
                                               for r in rows], "cpus": list(CPUS),
             "measured": measured(known, projection)}
    one_cpu = total["base"]
    for variant in ("base", "ours"):
        busy = max(0.0, held[variant]) if held[variant] >= 1 else 0.0
        curve = throughput(total[variant] - busy, busy, CPUS[-1])
        found[variant] = {"total": total[variant], "held": busy,
                          "limit": most_cpus(total[variant] - busy, busy),
                          # 1 is the base on one CPU
                          "throughput": [curve[n - 1] * one_cpu for n in CPUS]}
    return found


def projections(rows, table=workloads.PROJECTIONS):
    """What can be projected from these rows."""
    known = by_name(rows)
    return [p for p in (one(known, projection) for projection in table) if p]
