# SPDX-License-Identifier: GPL-2.0
"""Reads KTAP and TAP as the kernel's tests print it, down to the single sub-test.

Two dialects nest their sub-tests in two ways, and one parser reads both:

* KUnit, in the kernel log or in debugfs, indents a sub-test's lines;
* kselftest's runner puts "# " before each line of a test, run_vmtests.sh puts
  another "# " before each line of a program, and a program's own diagnostics
  start with "# " too.

In both, the lines of a test stand before its result line. So a level collects
what is no TAP of its own, and when a result line comes, the collected block is
either another level of TAP or the log of that test.

A test passes only when its own result line says "ok" and nothing else is odd.
Statuses are:

    pass     the result line says so
    fail     it says "not ok", or it is not to be believed (two results with one
             number, a result that the plan does not know, XPASS)
    skip     SKIP; XFAIL and TODO with "ok" are told apart by their reason
    crashed  it was started and gave no result
    missing  a plan announced it and no result came, or nothing ran at all
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

PASS, FAIL, SKIP, CRASHED, MISSING = "pass", "fail", "skip", "crashed", "missing"
BAD = (CRASHED, FAIL, MISSING)

STAMP = re.compile(r"(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?")
HEADER = re.compile(r"K?TAP version \d+\s*$")
SUBTEST = re.compile(r"# Subtest: (.*\S)\s*$")
PLAN = re.compile(r"1\.\.(\d+)\s*(?:#\s*SKIP\b[:\s]*(.*))?$", re.IGNORECASE)
RESULT = re.compile(r"(not ok|ok) (\d+)\b ?(.*)$")
BAIL = re.compile(r"Bail out!\s*(.*)$")
DIRECTIVE = re.compile(
    r"(?:^|\s)#\s*(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR|exit=\d+)\b[:\s]*(.*)$", re.IGNORECASE)
INDENTED = re.compile(r"( +)(?:K?TAP version \d+\s*$|# Subtest: )")
TOTALS = re.compile(r"# (?:Totals: |Planned tests != run tests|\d+ skipped test\(s\) detected)")

# How a test announces that it starts, one form for each level.
MARKERS = (
    re.compile(r"# (selftests: \S+: .*\S)"),
    re.compile(r"# running (?:bash )?(?:\./)?(.*\S)"),
    re.compile(r"#  RUN +(.*\S) \.\.\.\s*$"),
    re.compile(r"# \[RUN\]\s+(.*\S)"),
)

# Tests that run_vmtests.sh leaves out without a result line. The first form
# takes a number of the plan, the second one does not and is printed in every
# category although it belongs to mlock.
LEFT_OUT = re.compile(r"# \[SKIP\] \./(.*\S)")
LEFT_OUT_MLOCK = re.compile(r"# SKIP \./(.*\S)")
LEFT_OUT_REASON = "run_vmtests.sh left it out and does not count it"

SKIP_WORD = re.compile(r"\bskip", re.IGNORECASE)
REASON_WORD = re.compile(
    r"\b(no|not|needs?|require[sd]?|un\w+able|unsupported|missing|cannot|can't|must|fail\w*)\b",
    re.IGNORECASE)
NOISE = re.compile(r"#?\s*(\[(PASS|SKIP|FAIL)\]|-+|running .*|SUMMARY: .*|# Totals: .*|"
                   r"\[RUN\].*|RUN .*|OK .*|FAIL .*|)\s*$")


@dataclass
class Test:
    """A test, a program, a suite or the whole run: a node of the result tree."""

    name: str
    status: str = PASS
    reason: str = ""
    children: list = field(default_factory=list)
    log: list = field(default_factory=list)
    number: int = 0
    directive: str = ""     # SKIP, XFAIL, XPASS, TODO, TIMEOUT, ERROR, exit=N, BAIL, DUPLICATE
    own: str = PASS         # what its own result line says, children aside
    nameless: bool = False  # the result line had no name, only what stands after '#'
    hidden: bool = False    # its name is no part of its children's full names
    complete: bool = True   # (of a run) its output did not end in the middle


class Result(NamedTuple):
    """One line of the flat list: flatten()."""

    name: str
    status: str
    reason: str
    test: Test


def read_log(path):
    """The text of a log, whatever bytes are in it; CR of serial consoles removed."""
    with open(path, "rb") as log:
        return log.read().decode("utf-8", "backslashreplace").replace("\r", "")


# ---------------------------------------------------------------- result lines

def _describe_exit(directive):
    """exit=139 becomes "exit=139 (signal 11)"."""
    code = int(directive.partition("=")[2])
    return f"exit={code} (signal {code - 128})" if 128 < code < 193 else f"exit={code}"


def _judge(passed, directive):
    """The status that "ok" or "not ok" and a directive give together."""
    if directive == "SKIP":
        return SKIP
    if not passed or directive in ("XPASS", "TIMEOUT", "ERROR") or directive.startswith("exit="):
        return FAIL
    return SKIP if directive in ("XFAIL", "TODO") else PASS


def _reason(directive, data, nameless):
    """What the part after '#' says about the result."""
    data = "" if nameless or data == "unknown" else data    # the harness's word for no reason
    if directive.startswith("exit="):
        return _describe_exit(directive)
    if directive in ("", "SKIP"):
        return data
    if directive == "TIMEOUT":
        return f"TIMEOUT {data}".strip()
    return f"{directive}: {data}" if data else directive


def _split_description(text):
    """Splits "name # DIRECTIVE data" into (name, directive, data)."""
    text = TOTALS.split(text)[0]
    found = DIRECTIVE.search(text)
    if found:
        directive = found.group(1)
        directive = directive.lower() if "=" in directive else directive.upper()
        return text[:found.start()], directive, found.group(2).strip()
    name, _, data = text.partition(" # ")
    return name, "", data.strip()


def make_test(verdict, number, description):
    """The Test of one result line, before its log is looked at."""
    name, directive, data = _split_description(description)
    name = " ".join(name.removeprefix("- ").split())
    nameless = not name
    own = _judge(verdict == "ok", directive)
    reason = _reason(directive, data, nameless)
    return Test(name or data or f"test {number}", own, reason, number=number,
                directive=directive, own=own, nameless=nameless)


def _split_glued(text, number):
    """Cuts a result line behind which the next result stands (its newline was forgotten)."""
    glued = re.search(rf"(?<=\S)(?:not ok|ok) {number + 1} \S", text)
    return (text[:glued.start()], text[glued.start():]) if glued else (text, "")


# ---------------------------------------------------------------------- levels

@dataclass
class _Stream:
    """The TAP of one program: from one version line to the next."""

    name: str = ""
    header: bool = False
    plan: int = None
    skip_all: str = None
    bail: str = None
    tests: list = field(default_factory=list)
    numbers: set = field(default_factory=set)
    highest: int = 0
    lost: int = 0           # suites without a result line before the last result
    unfinished: bool = False

    def pristine(self):
        return not (self.header or self.tests or self.plan is not None or self.bail is not None)

    def fulfilled(self):
        return self.plan is not None and len(self.numbers) >= self.plan

    def short(self):
        return self.plan is not None and not self.fulfilled()

    def next_number(self):
        return self.highest + 1

    def use(self, number):
        self.numbers.add(number)
        self.highest = max(self.highest, number)


class _Level:
    """Parses the lines of one nesting level; what lies deeper is parsed by another."""

    def __init__(self, parent="", cut=False, why=""):
        self.parent = parent    # name of the test that these lines belong to, where known
        self.cut = cut          # nothing follows: the end of the lines is the end of the log
        self.why = why          # how the test that these lines belong to ended
        self.streams = [_Stream()]
        self.pending = []
        self.log = []

    @property
    def stream(self):
        return self.streams[-1]

    def parse(self, lines):
        for text, tap in lines:
            if not (tap and self._take(text)):
                self.pending.append((text, tap))
        self._end_stream()
        self.log += [text for text, _ in self.pending]
        return self

    def tests(self):
        return [test for stream in self.streams for test in stream.tests]

    def _take(self, text):
        """Handles a line of this level's own TAP; False if it is none."""
        result = RESULT.match(text)
        if result:
            return self._result(*result.groups())
        if HEADER.match(text):
            return self._header()
        for pattern, handler in (
                (SUBTEST, self._subtest), (PLAN, self._plan), (BAIL, self._bail),
                (LEFT_OUT, self._left_out), (LEFT_OUT_MLOCK, self._left_out_mlock)):
            found = pattern.match(text)
            if found:
                return handler(found)
        return self._salvage(text)

    def _header(self):
        if not self.stream.pristine():
            self._new_stream()
        self.stream.header = True
        self.log += [text for text, _ in self.pending]
        self.pending = []
        return True

    def _new_stream(self):
        self._end_stream()
        self.streams.append(_Stream())

    def _subtest(self, found):
        self.stream.name = found.group(1)
        return True

    def _plan(self, found):
        if self.stream.plan is not None:
            self._new_stream()
        self.stream.plan = int(found.group(1))
        if found.group(2) is not None and not self.stream.plan:
            self.stream.skip_all = found.group(2).strip()
        return True

    def _bail(self, found):
        self.stream.bail = found.group(1).strip()
        self.log.append(found.group(0))
        return True

    def _left_out(self, found):
        self._add_left_out(found.group(1), self.stream.next_number())
        return True

    def _left_out_mlock(self, found):
        if not self.parent or "mlock" in self.parent:
            self._add_left_out(found.group(1), 0)
        return True

    def _add_left_out(self, name, number):
        test = Test(name, SKIP, LEFT_OUT_REASON, number=number, directive="SKIP", own=SKIP)
        self.stream.tests.append(test)
        if number:
            self.stream.use(number)

    def _salvage(self, text):
        """Finds a result behind text whose newline was forgotten ("Checking...ok 3 foo")."""
        number = self.stream.next_number()
        if f"ok {number} " not in text or text.startswith(("#", " ")):
            return False
        before, after = _split_glued(text, number - 1)
        if not after:
            return False
        self.pending.append((before, True))
        return self._take(after)

    def _result(self, verdict, number, description):
        number = int(number)
        if number == 1 and self.stream.plan and self.stream.fulfilled():
            self._new_stream()
        description, glued = _split_glued(description, number)
        self._add(make_test(verdict, number, description))
        return self._take(glued) if glued else True

    def _add(self, test):
        block, self.pending = self.pending, []
        lost = _fill(test, block)
        self.stream.tests += lost
        self.stream.lost += len(lost)
        if test.number in self.stream.numbers:
            test.own = test.status = FAIL
            test.directive = "DUPLICATE"
            test.reason = f"a second result with number {test.number}"
        self.stream.use(test.number)
        self.stream.tests.append(test)

    # What a stream announced is compared with what it gave.

    def _end_stream(self):
        stream = self.stream
        lost = _unfinished(self.pending, self.cut, self.why, stream.fulfilled())
        if lost:
            stream.tests += lost
            stream.unfinished = True
            self.pending = []
        stream.tests += self._planned_but_missing(stream) + self._unplanned(stream)

    def _planned_but_missing(self, stream):
        last = stream.highest if stream.plan is None else stream.plan
        missing = [n for n in range(1, last + 1) if n not in stream.numbers]
        del missing[:stream.lost]       # they stand in the list under their own names
        if stream.unfinished and missing:
            after = [n for n in missing if n >= stream.next_number()]
            missing.remove(after[0] if after else missing[0])
        if not missing:
            return []
        status = CRASHED if self.cut and not stream.unfinished else MISSING
        test = Test(f"({_ranges(missing)} of {last})", status, own=status, number=missing[0])
        test.reason = self._why_missing(stream, len(missing), last)
        test.log = [_strip_hash(text) for text, _ in self.pending]
        return [test]

    def _why_missing(self, stream, count, last):
        if stream.bail is not None:
            return f"Bail out! {stream.bail}".strip()
        reason = f"no result for {count} of {last} planned tests"
        if self.cut:
            return f"{reason}; the log ends here"
        return f"{reason}; {self.why}" if self.why else reason

    @staticmethod
    def _unplanned(stream):
        if stream.plan is None:
            return []
        extra = sorted(n for n in stream.numbers if n > stream.plan)
        if not extra:
            return []
        reason = f"{_ranges(extra)} came, but the plan is 1..{stream.plan}"
        return [Test("(plan)", FAIL, reason, own=FAIL)]


def _ranges(numbers):
    """[3, 5, 6, 7] becomes "tests 3, 5-7"."""
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
    return f"{'tests' if len(numbers) > 1 else 'test'} {text}"


def _is_tap(text):
    return HEADER.match(text) or RESULT.match(text) or PLAN.match(text)


def _nested(block):
    """The block one level deeper, or None where it holds no TAP."""
    if any(tap and text.startswith("# ") and _is_tap(text[2:])
           for text, tap in block):
        return [(_strip_hash(text), tap) for text, tap in block]
    indent = next((m.group(1) for m in (INDENTED.match(t) for t, tap in block if tap) if m), None)
    if indent:
        return [(text[len(indent):], True) if tap and text.startswith(indent) else (text, False)
                for text, tap in block]
    return None


def _strip_hash(text):
    """A line one level deeper, or a diagnostic as a line of a log."""
    return text[2:] if text.startswith("# ") else text


def _fill(test, block):
    """Gives a test its sub-tests and its log; returns the suites that were lost before it."""
    inner = _nested(block)
    if inner is None:
        test.log = [_strip_hash(text) for text, _ in block]
        _explain(test)
        return []
    why = test.reason if test.status == FAIL else ""
    level = _Level(test.name, cut=False, why=why).parse(inner)
    test.log = level.log
    lost = [stream for stream in level.streams if stream.name not in ("", test.name)]
    for stream in level.streams:
        if stream not in lost:
            test.children += stream.tests
            _apply_stream(test, stream)
    if not test.children:
        _check_empty(test, level.streams)
        _explain(test)
    return [_lost_suite(stream) for stream in lost]


def _lost_suite(stream):
    """A suite that was begun and has no result line before another one's."""
    return Test(stream.name, CRASHED, "it gave no result", stream.tests, own=CRASHED)


def _apply_stream(test, stream):
    """What a program said about itself as a whole belongs to its own result."""
    if stream.bail is not None:
        bail = f"Bail out! {stream.bail}".strip()
        test.reason = f"{bail}; {test.reason}" if test.reason else bail
        test.own = test.status = FAIL
        test.directive = "BAIL"
    if stream.skip_all is not None and test.status in (PASS, SKIP):
        test.own = test.status = SKIP
        test.reason = stream.skip_all or test.reason


def _check_empty(test, streams):
    """A program that passes without a single result did not test anything."""
    if test.status != PASS:
        return
    planned = any(stream.plan == 0 for stream in streams)
    test.own = test.status = MISSING
    test.reason = "no tests: the plan is 1..0" if planned else "no tests: a TAP header, no result"


def _explain(test):
    """Finds in the log why a test was skipped, where its result line does not say."""
    if test.status != SKIP or test.reason:
        return
    lines = [_strip_hash(line) for line in test.log if not NOISE.match(line)]
    lines = [line.strip() for line in lines if not line.startswith(("\t", "    "))]
    skips = [line for line in lines if SKIP_WORD.search(line)]
    hints = [line for line in lines if REASON_WORD.search(line)]
    fallback = test.name if test.nameless else "no reason given"
    found = (skips or hints or [fallback])[-1]
    if found.endswith(":") and found in lines[:-1]:
        found += " " + lines[lines.index(found) + 1]
    test.reason = re.sub(r"^\[?SKIP\]?:?\s+", "", found)


def _unfinished(block, cut, why, fulfilled):
    """The tests that a block has begun and given no result for."""
    marker = _marker(block)
    inner = _nested(block)
    if inner is not None:
        return _unfinished_nested(inner, marker, cut, why)
    if marker and not fulfilled:
        log = [_strip_hash(text) for text, _ in block]
        return [Test(marker, CRASHED, _lost_reason(cut, why), log=log, own=CRASHED)]
    return []


def _unfinished_nested(inner, marker, cut, why):
    level = _Level(marker, cut, why).parse(inner)
    by_name = {}
    for stream in level.streams:
        name = stream.name or marker or "unknown"
        test = by_name.setdefault(name, Test(name, CRASHED, _lost_reason(cut, why), own=CRASHED))
        test.children += stream.tests
    tests = list(by_name.values())
    tests[-1].log = level.log
    return tests


def _lost_reason(cut, why):
    if cut:
        return "it was running when the log ended"
    return f"it gave no result; {why}" if why else "it gave no result"


def _marker(block):
    """The name of the last test that a block announces."""
    for text, tap in reversed(block):
        found = tap and next((m for m in (p.match(text) for p in MARKERS) if m), None)
        if found:
            return found.group(1)
    return ""


# ------------------------------------------------------------------- the trees

def _number_equal_names(tests):
    """Tests of one name in one parent become "name", "name [2]", ..."""
    seen = Counter()
    for test in tests:
        seen[test.name] += 1
        if seen[test.name] > 1:
            test.name += f" [{seen[test.name]}]"


def settle(test):
    """Derives the status of every test that has sub-tests. Returns the test."""
    for child in test.children:
        settle(child)
    _number_equal_names(test.children)
    states = {child.status for child in test.children}
    if test.children:
        states.add(test.own if test.own != SKIP else "")
        order = (CRASHED, FAIL, MISSING) + (() if _only_skips(test) else (PASS,)) + (SKIP,)
        test.status = next(status for status in order if status in states)
    return test


def _only_skips(test):
    return all(child.status == SKIP for child in test.children)


def _root(level, root, what):
    """Closes a tree: a run without a single result is missing, not passed."""
    root.log = level.log
    if not root.children:
        root.own = root.status = MISSING
        root.reason = f"no {what} results in the log"
    lost = any(stream.unfinished or stream.short() for stream in level.streams)
    root.complete = bool(root.children) and not lost
    return settle(root)


def _kernel_lines(text):
    """Log lines without their time stamps; where there are stamps, others are foreign."""
    lines = text.splitlines()
    stamped = any(STAMP.match(line) for line in lines)
    for line in lines:
        found = STAMP.match(line)
        if found:
            yield line[found.end():].rstrip("\r"), True
        else:
            yield line.rstrip("\r"), not stamped


def _from_first_header(lines):
    """Drops what stands before the first KTAP version line, indented or not.

    A suite that was run through debugfs has an indented one only.
    """
    started = False
    for text, tap in lines:
        started = started or (tap and text.lstrip().startswith("KTAP version "))
        if started:
            yield text, tap


def parse_kunit(text, name="kunit"):
    """The tree of KUnit's results in a kernel log or a debugfs results file.

    Several files of debugfs may be concatenated.
    """
    level = _Level(cut=True).parse(_from_first_header(_kernel_lines(text)))
    return _root(level, Test(name, children=level.tests()), "KUnit")


def category(program):
    """ksft_mremap_batch.sh is mm's wrapper of the category mremap_batch."""
    found = re.fullmatch(r"ksft_(.+)\.sh", program)
    return found.group(1) if found else program


def _collect(tests):
    """Groups "selftests: mm: ksft_x.sh" as category x of the collection mm."""
    collections, result = {}, []
    for test in tests:
        found = re.fullmatch(r"selftests: (\S+): (.+)", test.name)
        if not found:
            result.append(test)
            continue
        collection = found.group(1)
        if collection not in collections:
            collections[collection] = Test(collection)
            result.append(collections[collection])
        test.name = category(found.group(2))
        collections[collection].children.append(test)
    return result


def parse_kselftest(text, name="kselftest"):
    """The tree of run_kselftest.sh's output: collection / category / program / sub-test.

    The output of run_vmtests.sh or of one test program is read as well.
    """
    level = _Level(cut=True).parse((line.rstrip("\r"), True) for line in text.splitlines())
    root = Test(name, children=_collect(level.tests()), hidden=True)
    return _root(level, root, "kselftest")


def parse(text):
    """Reads a text of either dialect, or of both; returns a list of trees."""
    lines = [re.sub(STAMP, "", line, count=1) for line in text.splitlines()]
    kunit = any(line.lstrip().startswith("KTAP version ") for line in lines)
    trees = [parse_kunit(text)] if kunit else []
    if not kunit or any(line.startswith("TAP version ") for line in text.splitlines()):
        trees.append(parse_kselftest(text))
    return trees


def _explained(test, status):
    """Whether a sub-test accounts for the status that a test's own line gives."""
    bad = status in BAD
    return any((child.status in BAD) if bad else child.status == status or _explained(child, status)
               for child in test.children)


def flatten(test, prefix=""):
    """Yields a Result for every test that has no sub-tests, with its full name.

    A test that has sub-tests is among them only when its own result line says
    something that none of them accounts for: it failed or was skipped as a whole.
    """
    name = prefix if test.hidden and test.children else f"{prefix}/{test.name}".lstrip("/")
    if not test.children:
        yield Result(name, test.status, test.reason, test)
        return
    for child in test.children:
        yield from flatten(child, name)
    if test.own != PASS and not _explained(test, test.own):
        yield Result(name, test.own, test.reason, test)


def suites(tree):
    """Yields (full name, test) of each KUnit suite and each kselftest category."""
    if not tree.children:
        yield tree.name, tree
    elif tree.hidden:
        for child in tree.children:
            yield from suites(child)
    else:
        for child in tree.children:
            yield f"{tree.name}/{child.name}", child


def count(test):
    """Counts the flat list: a Counter with the statuses as keys."""
    return Counter(result.status for result in flatten(test))


# --------------------------------------------------------------- what is stable

# Parts of a test's name that change from run to run. Numbers in general do not:
# "Split huge pages to order 3" is another test than that of order 4.
VOLATILE = (
    (re.compile(r"\b0x[0-9a-fA-F]{6,}\b"), "ADDR"),
    (re.compile(r"\b[0-9a-f]{12,16}\b"), "ADDR"),
    (re.compile(r"\b(pid|tid|PID|TID)([ :=]+)\d+"), r"\1\2N"),
    (re.compile(r"(/tmp/\w*_)[A-Za-z0-9]{6}\b"), r"\1*"),
    (re.compile(r"\b\d+(\.\d+)? ?(ns|us|usec|ms|msec|s|secs?|seconds|[KMG]i?B/s(ec)?)\b"), r"N \2"),
    (re.compile(r"\b\d+\.\d+ ?%"), "N%"),
    (re.compile(r"\b(count|[Ee]xtra pages|extra thread faults|iter) \d+"), r"\1 N"),
    (re.compile(r"\b\d+(MB of memory)"), r"N\1"),
)
NUMBER = re.compile(r"\b(0x)?[0-9a-fA-F]*\d[0-9a-fA-F]*\b")


def stable(name):
    """A test's name without what changes from run to run."""
    for pattern, by in VOLATILE:
        name = pattern.sub(by, name)
    return name


def reason_class(reason):
    """A reason without its numbers, addresses and spacing: two of one class are the same."""
    return " ".join(NUMBER.sub("N", stable(reason)).split()).rstrip(" .")


NO_RESULT = re.compile(r"\((tests?) [-\d, ]+ of \d+\)$")


def by_stable_name(results, known=()):
    """{stable name: Result} of a flat list, in its order.

    A skip often prints "ok 7 # SKIP fork (no swap)" where a pass prints "ok 7 fork":
    a result without a name of its own takes that name from `known` which it begins with.
    """
    named = {}
    for result in results:
        name = NO_RESULT.sub("(tests without a result)", stable(result.name))
        at = 2
        while name in named:
            name, at = f"{re.sub(r' <[0-9]+>$', '', name)} <{at}>", at + 1
        named[name] = result
    free = [name for name in known if name not in named]
    return {_borrow(name, result, free): result for name, result in named.items()}


def _borrow(name, result, free):
    if not result.test.nameless or not free:
        return name
    found = max((k for k in free if name.startswith(k)), key=len, default="")
    if not found:
        return name
    free.remove(found)
    return found
