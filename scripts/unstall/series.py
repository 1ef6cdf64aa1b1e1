# SPDX-License-Identifier: GPL-2.0
"""The model of patches/<base>/: which base, which topics, which commits.

    base                what the series stands on: release, tarballs, blob ids
    series              the order of the commits, by topic
    cover               the cover letter: subject, blank line, text (optional)
    <topic>/*.patch     one commit each, as mail

A patch holds hunks against files that the base has.  A file that the series adds
stands whole in the repository at its in-tree path; the patch that brings it in
names it in an 'adds:' line between '---' and the first 'diff'.
"""

import os
import re
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from pathlib import Path

from . import common, git
from .common import CannotRun

# The rooms of the repository whose files are meant for the kernel tree.
OVERLAY = ("Documentation", "arch", "fs", "include", "kernel", "lib", "mm", "tools")

TOPIC_NAME = re.compile(r"[a-z][a-z0-9_-]*")
FILE_PATH = re.compile(r"[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")
ADDRESS = re.compile(r"""[^\x00-\x1f\x7f<>"]*[^\x00-\x20\x7f<>"] <[^\s<>@"]+@[^\s<>@"]+>""")
BLOB = re.compile(r"[0-9a-f]{40}")
LITTER = re.compile(r"(~|\.sw[op]|\.orig|\.rej|/#[^/]*)$")      # what editors and patch leave

# What 'git am' would take for something else than text of the message.
ENDS_MESSAGE = re.compile(r"diff -|Index: |--- \S|---\s*$")
SCISSORS = re.compile(r"\s*-[- ]*(>8|8<|>%|%<)[- ]*-\s*$")
HEADER_IN_BODY = re.compile(r"(?i:from|date|subject):|\[PATCH\]")
FROM_LINE = re.compile(r"From .*\d\d:\d\d")

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
INDEX = re.compile(r"index ([0-9a-f]{40})\.\.([0-9a-f]{40})(?: (\d{6}))?$")


class Malformed(CannotRun):
    """A file under patches/ that cannot be read, with the line that is wrong."""

    def __init__(self, where, number, what):
        super().__init__(f"{where}:{number}: {what}")


# ------------------------------------------------------------------------ base

@dataclass(frozen=True)
class Tarball:
    sha256: str
    size: int
    name: str


@dataclass(frozen=True)
class Pin:
    """The base that the series stands on."""
    header: str                     # the comment at the top of the file
    version: str
    tarballs: tuple                 # any of them will do
    url: str = ""
    source: str = ""                # Debian's source package, and the suite that has it
    suite: str = ""
    blobs: dict = field(default_factory=dict)   # path: (mode, blob id)


def parse_pin(text, where):
    """Reads patches/<base>/base."""
    header, known, tarballs, blobs = [], {}, [], {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") and not known and not tarballs:
            header.append(line)
        if not line.strip() or line.startswith("#"):
            continue
        key, _, value = line.partition(" ")
        words = value.split()
        if key == "tarball":
            tarballs.append(_tarball(words, where, number))
        elif key == "blob":
            path, about = _pinned_blob(value, where, number)
            blobs[path] = about
        elif key in ("version", "url", "debian-source", "debian-suite"):
            if len(words) != 1 or key in known:
                raise Malformed(where, number, f"'{key}' wants one word, once.")
            known[key] = words[0]
        else:
            raise Malformed(where, number, f"'{key}' is not known; a line begins with version, "
                            "tarball, url, debian-source, debian-suite or blob.")
    if "version" not in known or not tarballs:
        raise CannotRun(f"{where} must give a version and at least one tarball.")
    return Pin("\n".join(header), known["version"], tuple(tarballs), known.get("url", ""),
               known.get("debian-source", ""), known.get("debian-suite", ""), blobs)


def _tarball(words, where, number):
    if len(words) != 3 or not re.fullmatch(r"[0-9a-f]{64}", words[0]) or not words[1].isdecimal() \
            or "/" in words[2]:
        raise Malformed(where, number, "'tarball' wants a sha256, a size in bytes and a file name.")
    return Tarball(words[0], int(words[1]), words[2])


def _pinned_blob(value, where, number):
    words = value.split(" ", 2)
    if len(words) != 3 or words[0] not in ("100644", "100755") or not BLOB.fullmatch(words[1]):
        raise Malformed(where, number, "'blob' wants a mode, a blob id of 40 digits and a path.")
    return words[2], (words[0], words[1])


def format_pin(pin):
    """The text of patches/<base>/base."""
    lines = [pin.header, "", f"version {pin.version}"]
    lines += [f"tarball {t.sha256} {t.size} {t.name}" for t in pin.tarballs]
    for key, value in (("url", pin.url), ("debian-source", pin.source), ("debian-suite", pin.suite)):
        lines += [f"{key} {value}"] if value else []
    lines += ["", "# What 'git hash-object' gives for each existing file that the series touches;",
              "# 'make refresh' writes this list."]
    lines += [f"blob {mode} {blob} {path}" for path, (mode, blob) in sorted(pin.blobs.items())]
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------- patch

@dataclass(frozen=True)
class FileDiff:
    """One file's part of a patch, as git wrote it."""
    path: str
    text: str
    old: str = ""               # blob ids; empty where only the mode changes
    new: str = ""
    added: int = 0              # lines
    deleted: int = 0
    removes: bool = False       # the whole file


@dataclass(frozen=True)
class Patch:
    """One commit of the series."""
    topic: str
    name: str                   # of the file
    author: str
    date: str
    subject: str
    body: str                   # without blank lines at either end
    adds: tuple = ()
    diffs: tuple = ()

    @property
    def file(self):
        return f"{self.topic}/{self.name}"

    @property
    def message(self):
        return self.subject + "\n" + (f"\n{self.body}\n" if self.body else "")


def strip_space(text):
    """A message as 'git stripspace' leaves it: no trailing blanks, single blank lines."""
    lines = [line.rstrip() for line in text.split("\n")]
    kept = [line for i, line in enumerate(lines) if line or i and lines[i - 1]]
    return "\n".join(kept).strip("\n")


def message_problem(body):
    """(line number from 0, why) of what 'git am' would not take as the message; or None."""
    lines = body.split("\n")
    if HEADER_IN_BODY.match(lines[0]):
        return 0, "the message begins like a mail header, and 'git am' would take it for one."
    for number, line in enumerate(lines):
        if ENDS_MESSAGE.match(line):
            return number, f"'git am' ends the message at '{line}'; indent the line."
        if SCISSORS.match(line):
            return number, "'git am' may drop what stands above scissors; change the line."
        if FROM_LINE.match(line):
            return number, "a mailbox begins a new mail at this line; change it."
    return None


class Reader:
    """The lines of a file, with the number of the current one."""

    def __init__(self, text, where):
        self.lines = text.split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.where = where
        self.at = 0

    @property
    def line(self):
        return self.lines[self.at] if self.at < len(self.lines) else None

    def next(self):
        line = self.line
        self.at += 1
        return line

    def wrong(self, what, at=None):
        return Malformed(self.where, (self.at if at is None else at) + 1, what)


def parse_patch(text, topic, name, where):
    """Reads one patch mail."""
    reader = Reader(text, where)
    headers = _headers(reader)
    body = _body(reader)
    adds = _adds(reader)
    diffs = tuple(_diffs(reader))
    patch = Patch(topic, name, headers["From"], headers["Date"], headers["Subject"], body,
                  adds, diffs)
    if not adds and not diffs:
        raise reader.wrong("the patch neither changes a file nor adds one.")
    paths = [d.path for d in diffs] + list(adds)
    for path in paths:
        if paths.count(path) > 1:
            raise CannotRun(f"{where} names {path} twice.")
    return patch


def _headers(reader):
    found = {}
    while reader.line:
        at, line = reader.at, reader.next()
        key, colon, value = line.partition(": ")
        if not colon or key not in ("From", "Date", "Subject") or key in found:
            raise reader.wrong("a patch begins with the lines From:, Date: and Subject:, "
                               "one of each, and a blank line.", at)
        while reader.line and reader.line[0] in " \t":
            value += " " + reader.next().strip()
        found[key] = str(make_header(decode_header(value))) if "=?" in value else value.strip()
        problem = _header_problem(key, found[key])
        if problem:
            raise reader.wrong(problem, at)
    missing = [k for k in ("From", "Date", "Subject") if k not in found]
    if missing:
        raise reader.wrong(f"the header {missing[0]}: is missing.")
    return found


def _header_problem(key, value):
    if key == "From" and not ADDRESS.fullmatch(value):
        return "From: must be of the form 'Name <mail@host>'."
    if key == "Date":
        try:
            parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return f"'{value}' is no date as in mail."
    if key == "Subject" and (not value or re.match(r"\[|re:|\s", value, re.I)):
        return "Subject: must have text, and no [PATCH] or Re: before it."
    return None


def _body(reader):
    start, lines = reader.at, []
    while reader.line is not None and reader.line != "---":
        lines.append(reader.next())
    if reader.line is None:
        raise reader.wrong("the line '---' that ends the message is missing.")
    reader.next()
    body = strip_space("\n".join(lines))
    problem = message_problem(body)
    if problem:
        blank = next((i for i, line in enumerate(lines) if line.strip()), 0)
        raise reader.wrong(problem[1], start + blank + problem[0])
    return body


def _adds(reader):
    adds = []
    while reader.line is not None and not reader.line.startswith("diff --git "):
        line = reader.next()
        if not line.strip():
            continue
        key, _, path = line.partition(" ")
        if key != "adds:":
            raise reader.wrong("between '---' and the first 'diff --git' only lines "
                               "'adds: PATH' may stand.", reader.at - 1)
        problem = path_problem(path)
        if problem:
            raise reader.wrong(problem, reader.at - 1)
        adds.append(path)
    return tuple(adds)


def path_problem(path):
    """Why a file cannot be added under this path, or None."""
    if not FILE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        return f"'{path}' is no plain path in the kernel tree."
    if path.split("/")[0] not in OVERLAY or "/" not in path:
        return f"'{path}' is not below one of {', '.join(OVERLAY)}; the repository keeps " \
               "kernel files only there (series.OVERLAY)."
    return None


def _diffs(reader):
    while reader.line is not None:
        if not reader.line.startswith("diff --git "):
            raise reader.wrong("here the diff of the next file should begin, with 'diff --git'.")
        yield _file_diff(reader)


def _file_diff(reader):
    start = reader.at
    path = _diff_path(reader)
    old = new = ""
    removes, hunks = False, [0, 0]
    while reader.line is not None and not reader.line.startswith(("diff --git ", "@@ ")):
        line = reader.next()
        index = INDEX.match(line)
        if index:
            old, new = index[1], index[2]
        elif line.startswith("new file mode"):
            raise reader.wrong(f"{path} is new; a new file stands whole in the repository, "
                               f"with 'adds: {path}' here.", reader.at - 1)
        elif line.startswith("deleted file mode"):
            removes = True
        elif not line.startswith(("old mode ", "new mode ")) and line not in (
                f"--- a/{path}", f"+++ b/{path}") and not (removes and line == "+++ /dev/null"):
            raise reader.wrong(f"'{line}' does not belong into a diff of {path}; make it with "
                               "'make refresh' (full index lines, no renames, no binary files).",
                               reader.at - 1)
    while reader.line is not None and reader.line.startswith("@@ "):
        counts = _hunk(reader)
        hunks = [hunks[0] + counts[0], hunks[1] + counts[1]]
    if any(hunks) and not old:
        raise reader.wrong(f"the diff of {path} has no full index line.", start)
    text = "\n".join(reader.lines[start:reader.at]) + "\n"
    return FileDiff(path, text, old, new, hunks[0], hunks[1], removes)


def _diff_path(reader):
    at, names = reader.at, reader.next()[len("diff --git "):]
    half = len(names) // 2
    first, second = names[:half], names[half + 1:]
    if not first.startswith("a/") or second != "b/" + first[2:]:
        raise reader.wrong("a diff has the same file on both sides, as a/FILE b/FILE.", at)
    return first[2:]


def _hunk(reader):
    """Passes over one hunk; returns how many lines it adds and deletes."""
    at = reader.at
    head = HUNK.match(reader.next())
    if not head:
        raise reader.wrong("this is no hunk header.", at)
    old, new = (int(n) if n is not None else 1 for n in head.groups())
    added = deleted = 0
    while old > 0 or new > 0:
        line = reader.next()
        kind = line[:1] if line is not None else None
        if kind not in (" ", "+", "-", "\\", "") or line is None:
            raise reader.wrong("the hunk is shorter than its header says.", at)
        added, deleted = added + (kind == "+"), deleted + (kind == "-")
        old -= kind in (" ", "", "-")
        new -= kind in (" ", "", "+")
    if old or new:
        raise reader.wrong("the hunk is longer than its header says.", at)
    while reader.line is not None and reader.line.startswith("\\"):
        reader.next()
    if reader.line is not None and not reader.line.startswith(("@@ ", "diff --git ")):
        raise reader.wrong("the hunk is longer than its header says.")
    return added, deleted


def format_patch(patch):
    """The text of a patch file: what parse_patch() reads back as the same patch."""
    lines = [f"From: {patch.author}", f"Date: {patch.date}", f"Subject: {patch.subject}", ""]
    lines += [patch.body] if patch.body else []
    lines += ["---"] + [f"adds: {path}" for path in patch.adds]
    text = "\n".join(lines) + "\n"
    if patch.diffs:
        text += "\n" + "".join(d.text for d in patch.diffs)
    return text


def sanitized(subject):
    """A subject as 'git format-patch' makes a file name of it."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", subject, flags=re.A)
    slug = re.sub(r"\.+", ".", slug)
    return slug.lstrip("-").rstrip(".-")


# ---------------------------------------------------------------------- series

@dataclass
class Topic:
    name: str
    needs: tuple = ()
    comments: tuple = ("",)     # the lines above it: comments and blanks


@dataclass
class Series:
    """patches/<base>/ whole."""
    base: str
    root: Path                  # of the repository
    pin: Pin
    header: str = ""            # of the file 'series': everything before the first topic
    local: tuple = ()           # paths in the overlay's rooms that no commit adds
    topics: dict = field(default_factory=dict)      # name: Topic, in order
    patches: list = field(default_factory=list)     # in order
    comments: dict = field(default_factory=dict)    # patch file: comment lines above it
    footer: tuple = ()          # comment lines at the end
    cover: str = ""

    @property
    def folder(self):
        return self.root / "patches" / self.base

    def where(self, patch):
        """A patch file as the user knows it."""
        return f"patches/{self.base}/{patch.file}"

    def selected_topics(self, names=None):
        """The topics of TOPICS= (or `names`) and what they need, in the series' order."""
        if names is None:
            names = os.environ.get("TOPICS", "").split() or list(self.topics)
        for name in names:
            if name not in self.topics:
                raise CannotRun(f"TOPICS names '{name}', which is no topic of {self.base}; "
                                f"the topics are: {', '.join(self.topics) or 'none yet'}.")
        wanted = list(names)
        for name in wanted:
            wanted += [n for n in self.topics[name].needs if n not in wanted]
        return [name for name in self.topics if name in wanted]

    def selected_patches(self, names=None):
        topics = self.selected_topics(names)
        return [p for p in self.patches if p.topic in topics]

    def is_whole(self, names=None):
        return len(self.selected_topics(names)) == len(self.topics)

    def added_files(self, topic=None):
        """The paths of the new files that a topic brings, or that all do."""
        return [f for p in self.patches if topic in (None, p.topic) for f in p.adds]

    def touched_files(self, patches=None):
        """The paths of the base's files that patches change."""
        chosen = self.patches if patches is None else patches
        added = set(self.added_files())
        return sorted({d.path for p in chosen for d in p.diffs} - added)


def load(base, root=None):
    """Reads patches/<base>/ and refuses what contradicts itself."""
    known = read(base, root)
    check(known)
    return known


def read(base, root=None):
    """Reads patches/<base>/, without looking at the files that it adds."""
    root = Path(root or common.ROOT)
    folder = root / "patches" / base
    try:
        pin = parse_pin(_text(folder / "base"), f"patches/{base}/base")
    except FileNotFoundError:
        raise CannotRun(f"patches/{base}/base is missing; it pins the base of the series "
                        "(architecture: 'The base').") from None
    known = Series(base, root, pin)
    if (folder / "cover").exists():
        known.cover = _text(folder / "cover")
    if (folder / "series").exists():
        _parse_series(known, _text(folder / "series"))
    return known


def _text(path):
    return git.text(Path(path).read_bytes())


def _parse_series(known, text):
    where = f"patches/{known.base}/series"
    topic, comments, header, seen = None, [], [], set()
    local = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            comments.append(line)
        elif line[0] in " \t":
            if topic is None:
                raise Malformed(where, number, "a patch stands below the topic it belongs to; "
                                "there is none yet.")
            patch = _listed_patch(known, topic, line.strip(), where, number)
            if patch.file in seen:
                raise Malformed(where, number, f"{patch.file} stands here twice.")
            seen.add(patch.file)
            known.patches.append(patch)
            known.comments[patch.file] = tuple(comments)
            comments = []
        elif words[0] == "topic":
            if topic is None:
                header, comments = comments, []
            topic = _parse_topic(known, words[1:], comments, where, number)
            comments = []
        elif words[0] == "local" and len(words) == 2 and topic is None:
            local.append(words[1])
            comments.append(line)
        else:
            raise Malformed(where, number, "a line is 'topic NAME [needs OTHER ...]', an indented "
                            "patch file of that topic, 'local PATH' before the first topic, or "
                            "a comment.")
    known.header = "\n".join(header if topic else comments)
    known.footer = tuple(comments) if topic else ()
    known.local = tuple(local)


def _listed_patch(known, topic, name, where, number):
    if "/" in name or not name.endswith(".patch"):
        raise Malformed(where, number, f"'{name}' should be the name of a .patch file in "
                        f"patches/{known.base}/{topic}/.")
    try:
        text = _text(known.folder / topic / name)
    except FileNotFoundError:
        raise Malformed(where, number, f"patches/{known.base}/{topic}/{name} does not "
                        "exist.") from None
    return parse_patch(text, topic, name, f"patches/{known.base}/{topic}/{name}")


def _parse_topic(known, words, comments, where, number):
    if not words or not TOPIC_NAME.fullmatch(words[0]) or words[1:2] not in ([], ["needs"]) \
            or len(words) == 2:
        raise Malformed(where, number, "a topic is written 'topic NAME [needs OTHER ...]', "
                        "in small letters.")
    name, needs = words[0], tuple(words[2:])
    for other in needs:
        if other not in known.topics or other == name:
            raise Malformed(where, number, f"topic {name} needs '{other}', which is no topic "
                            "above it.")
    if name in known.topics:
        if needs:
            raise Malformed(where, number, f"what {name} needs stands where it begins; here it "
                            "only goes on.")
        return name
    known.topics[name] = Topic(name, needs, tuple(comments))
    return name


def format_series(known):
    """The text of patches/<base>/series."""
    lines, topic, begun = [known.header] if known.header else [], None, set()
    for patch in known.patches:
        if patch.topic != topic:
            lines += _topic_lines(known.topics[patch.topic], patch.topic in begun)
            topic = patch.topic
            begun.add(topic)
        lines += [*known.comments.get(patch.file, ()), f"\t{patch.name}"]
    return "\n".join([*lines, *known.footer]) + "\n"


def _topic_lines(topic, begun):
    if begun:
        return [f"topic {topic.name}"]
    needs = f" needs {' '.join(topic.needs)}" if topic.needs else ""
    return [*topic.comments, f"topic {topic.name}{needs}"]


# ------------------------------------------------------------------ what holds

def check(known):
    """Refuses a series that contradicts itself, its pins or the files in the repository."""
    adders = _adders(known)
    for path, patch in adders.items():
        _check_added_file(known, patch, path)
    for patch in known.patches:
        for diff in patch.diffs:
            if diff.path in adders:
                raise CannotRun(f"{known.where(patch)} changes {diff.path}, which "
                                f"{known.where(adders[diff.path])} adds; change the file in the "
                                "repository instead.")
    _check_pins(known)
    orphans = sorted(set(overlay_files(known.root)) - _all_added(known) - _kept_local(known))
    if orphans:
        raise CannotRun(f"no patch adds {', '.join(orphans)}; add 'adds: PATH' to one, or "
                        f"'local PATH' to patches/{known.base}/series where a file belongs to "
                        "the repository alone.")


def _adders(known):
    adders = {}
    for patch in known.patches:
        for path in patch.adds:
            if path in adders:
                raise CannotRun(f"{path} is added by {known.where(adders[path])} and by "
                                f"{known.where(patch)}; a file is added whole by one commit.")
            adders[path] = patch
    return adders


def _check_added_file(known, patch, path):
    file = known.root / path
    if path in known.pin.blobs:
        raise CannotRun(f"{known.where(patch)} adds {path}, but {known.base} has that file; "
                        "a file of the base is changed by hunks in the patch.")
    if file.is_symlink() or not file.is_file():
        raise CannotRun(f"{known.where(patch)} adds {path}, but the repository has no such file; "
                        "restore it, or drop the line.")
    if b"\0" in file.read_bytes():
        raise CannotRun(f"{path} holds zero bytes; only text can travel as a patch.")


def _check_pins(known):
    touched, pinned = set(known.touched_files()), set(known.pin.blobs)
    for paths, what in ((touched - pinned, "does not pin"), (pinned - touched, "pins")):
        if paths:
            raise CannotRun(f"patches/{known.base}/base {what} {', '.join(sorted(paths))}, which "
                            f"the series {'changes' if paths <= touched else 'does not change'}; "
                            "'make refresh' writes the list.")


def overlay_files(root):
    """The files in the overlay's rooms, as git knows them where the repository is one."""
    if (root / ".git").exists():
        out = git.git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard",
                      "--", *OVERLAY)
        found = [f for f in out.split("\0") if f and (root / f).is_file()]
    else:
        found = [str(Path(folder, name).relative_to(root)) for room in OVERLAY
                 for folder, _, names in os.walk(root / room) for name in names]
    return [f for f in found if not LITTER.search(f)]


def _all_added(known):
    """What any base's series adds: overlay files are shared."""
    added = set(known.added_files())
    for other in sorted((known.root / "patches").glob("*/base")):
        if other.parent.name != known.base:
            added |= set(read(other.parent.name, known.root).added_files())
    return added


def _kept_local(known):
    """The overlay files that the series file calls local."""
    return {f for f in overlay_files(known.root)
            if any(f == p or f.startswith(p.rstrip("/") + "/") for p in known.local)}


def stale_index_lines(known):
    """The patches whose index lines do not follow from those before them.

    Plain 'git am' does not look at them; 'git am -3' does.  They go stale when
    patches are reordered in the series file; 'make tree' and 'make refresh' renew them.
    """
    now = {path: blob for path, (_, blob) in known.pin.blobs.items()}
    stale = []
    for patch in known.patches:
        if any(d.old and d.old != now.get(d.path) for d in patch.diffs):
            stale.append(patch)
        now.update({d.path: d.new for d in patch.diffs if d.new})
    return stale
