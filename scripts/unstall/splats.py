# SPDX-License-Identifier: GPL-2.0
"""Finds what a kernel log must not contain: warnings, oopses, sanitizer reports.

A splat is known by the start of a kernel message. That the start counts keeps
out messages that only mention such words: names of tests, expectations of KUnit,
"traps: cow[412] general protection fault" of a user program, "ACPI BIOS Warning",
"Spectre V2 : WARNING: ...". In a log with time stamps only stamped lines are the
kernel's.

KUnit's kunit_warning_suppress() prints nothing at all for an expected warning, so
nothing has to be known about it here.
"""

import re
from typing import NamedTuple

from . import ktap

# A stamp may stand behind text that a user program left without a newline.
STAMP = re.compile(r"\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? ?")

CUT_HERE = re.compile(r"-+\[ cut here \]-+")
END_TRACE = re.compile(r"---\[ end (trace|Kernel panic)")
RULER = re.compile(r"={40,}$")
TRACE = re.compile(r"\s*Call [Tt]race:")
RULE = re.compile(r"={10,}$")
FRAME = re.compile(r"\s*(\? )?\S+\+0x[0-9a-f]+|\s*</?\w+>$|"
                   r"\s*(RIP|RSP|RAX|RDX|RBP|R\d\d|Code|pc|lr|sp|x\d+) ?:")

MAX_LINES = 200     # of one block, should its end be lost
TRACE_WITHIN = 150  # lines after the first one in which a block's call trace starts
BLOCK_SECONDS = 5   # of kernel time from the first line of a block to its call trace
CPU = re.compile(r"CPU: \d+ ")

HEAD = 3            # lines of a "cut here" block that are its own, whatever they say
DUMP_CONTEXT = 5    # lines before a bare stack that its excerpt holds
LOOK_BACK = 12      # lines before a call trace that say whose it is


class Splat(NamedTuple):
    """One report of the kernel."""

    kind: str
    line: str       # the message that says what happened
    number: int     # its line in the log, from 1
    excerpt: str    # the block, time stamps removed
    allowed: str    # why it is no failure, or ""


class Pattern(NamedTuple):
    """A message that starts a splat; `ends` says how its block ends."""

    kind: str
    regex: re.Pattern
    ends: str       # "trace": with the call trace, "end": `end trace`, "ruler": =====, "line"


def _patterns(*table):
    return [Pattern(kind, re.compile(regex), ends) for kind, ends, regex in table]


# The first that matches names the splat. Inside a block that runs from "cut here"
# to "end trace" the most telling line does: see _name_block().
STARTS = _patterns(
    ("KASAN", "ruler", r"BUG: KASAN: "),
    ("KCSAN", "ruler", r"BUG: KCSAN: "),
    ("KFENCE", "ruler", r"BUG: KFENCE: "),
    ("KMSAN", "ruler", r"BUG: KMSAN: "),
    ("UBSAN", "end", r"UBSAN: .+ in "),
    ("lockdep: circular locking", "trace",
     r"WARNING: possible circular locking dependency detected"),
    ("lockdep: recursive locking", "trace", r"WARNING: possible recursive locking detected"),
    ("lockdep: inconsistent lock state", "trace", r"WARNING: inconsistent lock state"),
    ("lockdep: lock order", "trace",
     r"WARNING: (\S+-safe -> \S+-unsafe lock order|possible irq lock inversion)"),
    ("lockdep: suspicious RCU usage", "trace", r"WARNING: suspicious RCU usage"),
    ("lockdep", "trace", r"WARNING: (bad (unlock balance|contention) detected|held lock freed|"
     r"Nested lock was not taken|chain_key collision|lock held when returning|"
     r".+ still has locks held)"),
    ("lockdep: wait context", "trace", r"\[ BUG: Invalid wait context \]"),
    ("lockdep", "trace", r"INFO: trying to register non-static key"),
    ("lockdep limit", "line", r"BUG: MAX_(LOCK\w*|STACK_TRACE_ENTRIES) too low"),
    ("bad page", "trace", r"BUG: Bad page (state|map|cache)"),
    ("bad rss-counter", "line", r"BUG: (Bad rss-counter state|non-zero pgtables_bytes)"),
    ("sleeping in atomic context", "trace",
     r"BUG: (sleeping function called from invalid context|"
     r"scheduling (while atomic|in a non-blocking)|assuming (atomic|non migratable) context)"),
    ("soft lockup", "trace", r"(watchdog: )?BUG: soft lockup"),
    ("workqueue lockup", "line", r"BUG: workqueue (lockup|leaked)"),
    ("hard lockup", "trace", r"(NMI )?(watchdog: )?(CPU\d+: )?Watchdog detected hard LOCKUP"),
    ("RCU stall", "trace",
     r"(rcu: )?INFO: \S+ (self-detected stall on CPU|detected (expedited )?stalls?\b)"),
    ("hung task", "trace", r"INFO: task .+ blocked.* for more than \d+ seconds"),
    ("slab corruption", "trace", r"BUG \S+ \((Not tainted|Tainted: ?.*)\): "),
    ("oops", "end",
     r"BUG: (kernel NULL pointer dereference|unable to handle|.*stack guard page was hit)"),
    ("oops", "end", r"(Unable to handle kernel |general protection fault|traps: PANIC: |PANIC: )"),
    ("oops", "end",
     r"(Oops\b|Internal error: |SError Interrupt on CPU|Insufficient stack space to handle)"),
    ("kernel BUG", "end", r"kernel BUG at "),
    ("list corruption", "end", r"list_(add|del) corruption"),
    ("refcount", "end", r"refcount_t: "),
    ("kernel panic", "end", r"Kernel panic - not syncing"),
    ("kmemleak", "line", r"kmemleak: \d+ new suspected memory leaks?"),
    ("WARNING", "end", r"WARNING: (CPU: \d+ PID: \d+ at |\S+:\d+ at |at )"),
    ("BUG", "trace", r"BUG: "),
    ("WARNING", "trace", r"WARNING: "),
    ("stack dump", "trace", r"Call [Tt]race:"),
)

ANY_START = re.compile("|".join(f"(?:{pattern.regex.pattern})" for pattern in STARTS))
CONTINUES = re.compile(r"Oops\b|Internal error: ")    # inside the block of an oops

# Names inside a "cut here" block, the more telling ones first.
INSIDE = [(kind, re.compile(regex)) for kind, regex in (
    ("refcount", r"refcount_t: "),
    ("list corruption", r"list_(add|del) corruption"),
    ("UBSAN", r"UBSAN: .+ in "),
    ("lockdep", r"DEBUG_LOCKS_WARN_ON"),
    ("page_table_check", r"(kernel BUG at|WARNING:) mm/page_table_check\.c"),
    ("kernel BUG", r"kernel BUG at "),
    ("WARNING", r"WARNING: "),
)]

# Messages with such a start that say nothing about the kernel under test.
BENIGN = [re.compile(regex) for regex in (
    r"WARNING: 'bootconfig' found on the kernel command line",
    r"WARNING: Flushing system-wide workqueues will be prohibited",
    r"WARNING: polling idle and HT enabled",
    r"WARNING: (Spectre|BTB|LFENCE|IBRS|ITS|Unprivileged eBPF|See https://)",
    r"WARNING: (kernel not compiled with|CPU does not support) ",
    r"WARNING: BIOS bug",
    r"WARNING: bogus zero IO-APIC address",
)]


class Allowed(NamedTuple):
    """A report that a test provokes on purpose."""

    regex: re.Pattern   # searched in the block and in the few messages before it
    kinds: tuple        # only splats of these kinds
    reason: str


ALLOWED = [Allowed(re.compile(regex, re.MULTILINE), kinds, reason) for regex, kinds, reason in (
    (r"^FAULT_INJECTION: forcing a failure", ("stack dump",),
     "fault injection dumps the stack of each allocation that it makes fail"),
    (r"^(Memory failure|Soft offline|Unpoison|Injecting memory failure)[ :]", ("stack dump",),
     "the test injects a hardware memory error, and its handling is logged"),
    (r"invoked oom-killer: ", ("stack dump",),
     "a test fills a memory cgroup up to its limit; one that is hit by accident fails itself"),
    (r"page allocation failure: order:", ("stack dump",),
     "a test asks for more huge pages than there is memory; one that needs them fails or skips"),
    (r"^sysfs: cannot create duplicate filename '/devices/platform/kunit-", ("stack dump",),
     "KUnit's test of its platform devices adds one device twice"),
    (r"^(task:\S+ +state:|NMI backtrace for cpu)", ("stack dump",),
     "a listing of tasks or CPUs: asked for by sysrq, or part of a report that counts itself"),
    (r"^WARNING: stack going in the wrong direction\? at return_to_handler\+", ("WARNING",),
     "with the function profiler, mainline's unwinder stumbles where return_to_handler() calls "
     "into itself; KASAN unwinds in interrupts, too"),
)]


class _Line(NamedTuple):
    number: int
    text: str
    time: float


def _kernel_lines(text):
    """The kernel's own lines, without stamps."""
    rows = [row.rstrip("\r") for row in text.splitlines()]
    stamped = any(ktap.STAMP.match(row) for row in rows)
    lines = []
    for number, row in enumerate(rows, 1):
        found = STAMP.search(row)
        if found and not row[:found.start()].lstrip().startswith("#"):
            lines.append(_Line(number, row[found.end():], float(found.group(1))))
        elif not stamped:
            lines.append(_Line(number, row, 0.0))
    return lines


def _match(text):
    """The pattern of a line that starts a splat, or None."""
    if not ANY_START.match(text) or any(benign.match(text) for benign in BENIGN):
        return None
    return next(pattern for pattern in STARTS if pattern.regex.match(text))


def _starts_other(text):
    """Whether a line belongs to another splat than the block that it is met in."""
    return bool(CUT_HERE.match(text) or text.startswith("Kernel panic - not syncing"))


def _find_end(lines, start, ends):
    """The index behind the last line of the block that starts at `start`."""
    if ends == "line":
        return start + 1
    if ends == "trace":
        return _trace_end(lines, start)
    regex = END_TRACE if ends == "end" else RULER
    joined = CUT_HERE.match(lines[min(start + 1, len(lines) - 1)].text)     # message, then BUG()
    for at in range(start + (2 if joined else 1), min(len(lines), start + MAX_LINES)):
        if _starts_other(lines[at].text):
            return at
        if regex.match(lines[at].text):
            return at + 1
    return _trace_end(lines, start, HEAD if CUT_HERE.match(lines[start].text) else 1)


def _trace_end(lines, start, head=1):
    """The end of the first call trace from `start` on; of the head alone where none comes."""
    for at in range(start, min(len(lines), start + TRACE_WITHIN)):
        text = lines[at].text
        if lines[at].time - lines[start].time > BLOCK_SECONDS:
            break
        if TRACE.match(text):
            return _frames_end(lines, at)
        if at > start and _starts_other(text):
            return min(at, start + head)
        if at >= start + head and _is_start(text):
            break
    return min(len(lines), start + head)


def _is_start(text):
    return _match(text) is not None and not CONTINUES.match(text)


def _frames_end(lines, at):
    """The index behind a call trace that starts at `at`."""
    end = at + 1
    while end < min(len(lines), at + MAX_LINES):
        if not FRAME.match(lines[end].text):
            return end
        end += 1
    return end


def _name_block(block):
    """The pattern and the line that name a "cut here" block."""
    for kind, regex in INSIDE:
        for line in block[1:]:
            if regex.match(line.text):
                return kind, line
    return "WARNING", block[min(1, len(block) - 1)]


def _allowed(kind, lines, start, end, floor):
    text = "\n".join(line.text for line in lines[max(floor, start - LOOK_BACK):end])
    for entry in ALLOWED:
        if kind in entry.kinds and entry.regex.search(text):
            return entry.reason
    return ""


def _lead(kind, lines, at, floor):
    """The ruler before a report belongs to its block, as do the lines before a bare stack."""
    if kind == "stack dump":
        return max(floor, at - DUMP_CONTEXT)
    return at - 1 if at > floor and RULE.match(lines[at - 1].text) else at


def _dump_title(lines, at, end, floor):
    """What a bare stack is about: the message before it, or the function that dumps it."""
    for cpu in range(at - 1, max(floor, at - LOOK_BACK), -1):
        if CPU.match(lines[cpu].text):
            return lines[cpu - 1].text.strip()
    frames = [line.text.strip() for line in lines[at + 1:end]]
    frame = next((f for f in frames if "+0x" in f and "dump_stack" not in f), "")
    return f"{lines[at].text.strip()} {frame}".strip()


def _block(lines, at):
    """(kind, naming line, end) of the splat that starts at `at`, or None."""
    if CUT_HERE.match(lines[at].text):
        end = _find_end(lines, at, "end")
        return *_name_block(lines[at:end]), end
    pattern = _match(lines[at].text)
    return pattern and (pattern.kind, lines[at], _find_end(lines, at, pattern.ends))


def scan_all(text):
    """Every splat of a log, those on the list of allowed ones too."""
    lines = _kernel_lines(text)
    found, at, floor = [], 0, 0
    while at < len(lines):
        block = _block(lines, at)
        if not block:
            at += 1
            continue
        kind, line, end = block
        start = _lead(kind, lines, at, floor)
        text = line.text.strip()
        if kind == "stack dump":
            text = _dump_title(lines, at, end, floor)
        excerpt = "\n".join(item.text for item in lines[start:end])
        allowed = _allowed(kind, lines, start, end, floor)
        found.append(Splat(kind, text, line.number, excerpt, allowed))
        at = floor = end
    return found


def scan(text):
    """The splats of a log that are failures."""
    return [splat for splat in scan_all(text) if not splat.allowed]
