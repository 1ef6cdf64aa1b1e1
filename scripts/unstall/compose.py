# SPDX-License-Identifier: GPL-2.0
"""From patches/<base>/ and the overlay's files to mails, a mailbox and a bundle.

The mails depend on nothing but the files of the checkout: the same checkout
gives the same bytes, whatever the machine's locale, time zone, umask or git
configuration.  Only the bundle needs the base's files, and git.
"""

import contextlib
import hashlib
import os
import re
import shutil
import textwrap
from dataclasses import dataclass
from email.charset import QP, Charset
from email.header import Header
from email.utils import parsedate_to_datetime

from . import apply, common, git, series
from .common import CannotRun

FROM = "From " + "0" * 40 + " Mon Sep 17 00:00:00 2001\n"
SIGNATURE = "-- \nunstall\n\n"
NAME_MAX = 64 - len(".patch") - 1       # of NNNN-slug, as git format-patch has it
STAT_WIDTH = 72
TRAILER = re.compile(r"[A-Za-z][A-Za-z0-9-]*: \S|\s+\S")
COMPOSED = re.compile(r"\d{4}-.*\.patch|series\.(mbox|bundle)")

# The root commit of the bundle; any fixed date will do.
ROOT_DATE = "946684800 +0000"
ROOT_MESSAGE = """\
unstall: files of {version} that the series changes

This is no kernel, only what the commits above need as their base, so that
'git cherry-pick' can merge them into any kernel tree.
"""


@dataclass(frozen=True)
class Change:
    """One file of a commit, for the diffstat and the diff."""
    path: str
    text: str
    added: int
    deleted: int
    summary: str = ""


@dataclass(frozen=True)
class Mail:
    """One composed patch."""
    patch: series.Patch
    source: str                 # the patch file, as the user knows it
    name: str                   # of the composed file
    text: bytes
    message: str                # of the commit that 'git am' makes


# ------------------------------------------------------------------------ mails

def signoff():
    """The importing human's sign-off from SIGNOFF=, checked, or None."""
    value = os.environ.get("SIGNOFF", "")
    if not value:
        return None
    if not series.ADDRESS.fullmatch(value) or value != value.strip():
        raise CannotRun(f"SIGNOFF={value!r} cannot be a sign-off; give a name and a mail address "
                        "as in SIGNOFF=\"Name <mail@host>\".")
    return value


def mails(known, topics=None, sign=None):
    """The composed patches of the selected topics, in order."""
    chosen = known.selected_patches(topics)
    if not chosen:
        raise CannotRun(f"patches/{known.base} has no patches yet; commit in the tree of "
                        "'make tree' and take the commits in with 'make refresh TOPIC=name'.")
    cover = bool(known.cover) and known.is_whole(topics)
    return [_mail(known, patch, Place(n, len(chosen), cover), sign)
            for n, patch in enumerate(chosen, 1)]


@dataclass(frozen=True)
class Place:
    """Where a mail stands in the series."""
    number: int
    total: int
    cover: bool

    @property
    def prefix(self):
        if self.total == 1 and not self.cover:
            return "[PATCH] "
        return f"[PATCH {self.number:0{len(str(self.total))}d}/{self.total}] "


def _mail(known, patch, place, sign):
    body = signed(patch.body, sign)
    changes = sorted(_changes(known, patch), key=lambda c: git.raw(c.path))
    after = diffstat(changes) + "\n" + "".join(c.text for c in changes) + SIGNATURE
    text = FROM + headers(patch.author, patch.date, place.prefix, patch.subject, body + after)
    text += (f"{body}\n" if body else "") + "---\n" + after
    name = f"{place.number:04d}-{series.sanitized(patch.subject)}"[:NAME_MAX] + ".patch"
    message = patch.subject + "\n" + (f"\n{body}\n" if body else "")
    return Mail(patch, known.where(patch), name, git.raw(text), message)


def headers(author, date, prefix, subject, content):
    """The head of a mail, as git format-patch writes it."""
    name, address = author.rsplit(" ", 1)
    lines = [f"From: {encoded(name, 'From: ')} {address}", f"Date: {date}",
             "Subject: " + folded_subject(prefix, subject)]
    if not content.isascii():
        lines += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=UTF-8",
                  "Content-Transfer-Encoding: 8bit"]
    return "\n".join(lines) + "\n\n"


def encoded(text, lead):
    """A header's text in RFC 2047's form, where it is not plain ASCII."""
    if text.isascii():
        return text
    charset = Charset("utf-8")
    charset.header_encoding = QP
    return Header(text, charset, header_name=lead.rstrip(": "), maxlinelen=76).encode()


def folded_subject(prefix, subject):
    if not subject.isascii():
        return prefix + encoded(subject, "Subject: " + prefix)
    first = "Subject: " + prefix
    lines = textwrap.wrap(first + subject, 78, subsequent_indent=" ", break_long_words=False,
                          break_on_hyphens=False)
    return "\n".join(lines)[len("Subject: "):]


def signed(body, sign):
    """The message with the sign-off as its last trailer."""
    if not sign:
        return body
    line = f"Signed-off-by: {sign}"
    lines = body.split("\n") if body else []
    if lines and lines[-1] == line:
        return body
    last = body.rsplit("\n\n", 1)[-1].split("\n") if body else []
    trailers = bool(last) and not last[0][:1].isspace() and all(TRAILER.match(x) for x in last)
    return "\n".join(lines + ([] if trailers or not lines else [""]) + [line])


# ------------------------------------------------------------------------ diffs

def _changes(known, patch):
    for diff in patch.diffs:
        mode = re.search(r"^deleted file mode (\d+)$", diff.text, re.M)
        summary = f" delete mode {mode[1]} {diff.path}\n" if mode and diff.removes else ""
        yield Change(diff.path, diff.text, diff.added, diff.deleted, summary)
    for path in patch.adds:
        yield _new_file(known.root, path)


def mode_of(file):
    return "100755" if file.stat().st_mode & 0o100 else "100644"


def blob_id(data):
    """What 'git hash-object' says."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _new_file(root, path):
    data, mode = (root / path).read_bytes(), mode_of(root / path)
    if b"\r\n" in data:
        raise CannotRun(f"{path} has lines that end with a carriage return; mail would lose it.")
    text = f"diff --git a/{path} b/{path}\nnew file mode {mode}\nindex {'0' * 40}..{blob_id(data)}\n"
    lines = git.text(data).split("\n")
    whole = lines[-1] == ""
    lines = lines[:-1] if whole else lines
    if lines:
        count = f",{len(lines)}" if len(lines) != 1 else ""
        text += f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1{count} @@\n"
        text += "".join(f"+{line}\n" for line in lines)
        text += "" if whole else "\\ No newline at end of file\n"
    return Change(path, text, len(lines), 0, f" create mode {mode} {path}\n")


def diffstat(changes):
    """'git diff --stat --summary' at the width of mail."""
    most = max((c.added + c.deleted for c in changes), default=0)
    digits = len(str(most))
    width = max(len(c.path) for c in changes)
    graph = min(most, STAT_WIDTH)
    if width + digits + 6 + graph > STAT_WIDTH:
        graph = max(min(graph, STAT_WIDTH * 3 // 8 - digits - 6), 6)
        if width > STAT_WIDTH - digits - 6 - graph:
            width = STAT_WIDTH - digits - 6 - graph
        else:
            graph = STAT_WIDTH - digits - 6 - width
    text = "".join(_stat_line(c, width, digits, graph, most) for c in changes)
    added, deleted = sum(c.added for c in changes), sum(c.deleted for c in changes)
    return text + _stat_total(len(changes), added, deleted) + "".join(c.summary for c in changes)


def _stat_line(change, width, digits, graph, most):
    name = change.path
    if len(name) > width:
        name = name[len(name) - width + 3:]
        name = "..." + (name[name.index("/"):] if "/" in name else name)
    added, deleted = change.added, change.deleted
    if graph <= most:
        total = _scaled(added + deleted, graph, most)
        total = 2 if total < 2 and added and deleted else total
        if added < deleted:
            added = _scaled(added, graph, most)
            deleted = total - added
        else:
            deleted = _scaled(deleted, graph, most)
            added = total - deleted
    bar = "+" * added + "-" * deleted
    return f" {name:<{width}} | {change.added + change.deleted:>{digits}}{' ' if bar else ''}{bar}\n"


def _scaled(lines, width, most):
    return 1 + lines * (width - 1) // most if lines else 0


def _stat_total(files, added, deleted):
    def count(n, what):
        return f", {n} {what}{'' if n == 1 else 's'}"
    text = f" {files} file{'' if files == 1 else 's'} changed"
    if added or not deleted:
        text += count(added, "insertion") + "(+)"
    if deleted or not added:
        text += count(deleted, "deletion") + "(-)"
    return text + "\n"


# ----------------------------------------------------------------- cover letter

def cover_letter(known, composed):
    """0000-cover-letter.patch: the text of 'cover', a short log and a diffstat."""
    subject, _, body = known.cover.partition("\n")
    if not subject.strip() or not body.strip():
        raise CannotRun(f"patches/{known.base}/cover must hold a subject, a blank line and a text.")
    patches = [m.patch for m in composed]
    date = max((p.date for p in patches), key=parsedate_to_datetime)
    place = Place(0, len(patches), True)
    text = f"{body.strip()}\n\n{_short_log(patches)}\n{_whole_diffstat(known, patches)}\n{SIGNATURE}"
    author = f"{git.NAME} <{git.MAIL}>"
    return git.raw(FROM + headers(author, date, place.prefix, subject.strip(), text) + text)


def _short_log(patches):
    names = {}
    for patch in patches:
        names.setdefault(patch.author.rsplit(" ", 1)[0], []).append(patch.subject)
    return "".join(f"{name} ({len(subjects)}):\n" + "".join(f"  {s}\n" for s in subjects) + "\n"
                   for name, subjects in sorted(names.items())).rstrip("\n") + "\n"


def _whole_diffstat(known, patches):
    """The sum of the patches' own figures: a line changed twice counts twice."""
    total = {}
    for patch in patches:
        for c in _changes(known, patch):
            old = total.get(c.path, Change(c.path, "", 0, 0))
            total[c.path] = Change(c.path, "", old.added + c.added, old.deleted + c.deleted,
                                   old.summary + c.summary)
    return diffstat([total[p] for p in sorted(total, key=git.raw)])


# ----------------------------------------------------------------------- bundle

@contextlib.contextmanager
def commits(known, topics, composed, files):
    """A repository with the touched files as root commit and the series on top.

    files: {path: bytes} of the base.  Gone when the block ends.
    """
    repo = common.BUILD / known.base / ".compose.part"
    shutil.rmtree(repo, ignore_errors=True)
    repo.mkdir(parents=True)
    try:
        git.git(repo, "init", "--quiet", "--template=", f"--initial-branch=unstall-{known.base}")
        root = _root_commit(known, topics, repo, files)
        git.git(repo, "reset", "--quiet", "--hard", root)
        git.git(repo, "tag", f"unstall-{known.base}-root", root)
        apply.am(repo, composed, f"the pinned files of {known.base}", *apply.OWN_DATES)
        check_commits(known, repo, root, composed)
        yield repo
    finally:
        shutil.rmtree(repo, ignore_errors=True)


def _root_commit(known, topics, repo, files):
    stream = []
    paths = known.touched_files(known.selected_patches(topics))
    who = f"{git.NAME} <{git.MAIL}> {ROOT_DATE}\n".encode()
    message = ROOT_MESSAGE.format(version=known.base).encode()
    stream += [b"commit refs/heads/root\nauthor ", who, b"committer ", who,
               b"data %d\n" % len(message), message, b"\n"]
    for path in paths:
        mode = known.pin.blobs[path][0]
        stream += [f"M {mode} inline {path}\ndata {len(files[path])}\n".encode(), files[path], b"\n"]
    git.git(repo, "fast-import", "--quiet", data=b"".join(stream) + b"done\n")
    root = git.git(repo, "rev-parse", "refs/heads/root")
    git.git(repo, "update-ref", "-d", "refs/heads/root")
    return root


def check_commits(known, repo, root, composed):
    """Refuses commits that are not what the patch files and the overlay say."""
    made = git.log(repo, f"{root}..HEAD", "%an <%ae>", "%B")
    if len(made) != len(composed):
        raise CannotRun(f"'git am' made {len(made)} commits of {len(composed)} patches.")
    for (author, message), mail in zip(made, composed):
        if message.strip("\n") != mail.message.strip("\n"):
            raise CannotRun(f"'git am' reads another message than {mail.source} holds:\n{message}")
        if author != mail.patch.author:
            raise CannotRun(f"'git am' reads another author than {mail.source} holds: {author}")
    tip = git.ls_tree(repo, "HEAD", [p for m in composed for p in m.patch.adds])
    for path, (mode, blob) in tip.items():
        file = known.root / path
        if (mode, blob) != (mode_of(file), blob_id(file.read_bytes())):
            raise CannotRun(f"'git am' makes another file of {path} than the repository has; "
                            "is it plain text?")


def write_bundle(known, repo, path):
    git.git(repo, "bundle", "create", "--quiet", path.resolve(), f"refs/heads/unstall-{known.base}",
            f"refs/tags/unstall-{known.base}-root")


# ----------------------------------------------------------------------- output

def folder(known, topics=None):
    """Where a selection is composed: out/<base>/, or topics/<names>/ below it."""
    top = common.OUT / known.base
    if known.is_whole(topics):
        return top
    return top / "topics" / "+".join(known.selected_topics(topics))


def write(known, composed, topics=None, files=None):
    """Writes the composed folder; without `files` of the base it has no bundle."""
    target = folder(known, topics)
    repair(target)
    part, _ = beside(target)
    part.mkdir(parents=True)
    if known.cover and known.is_whole(topics):
        (part / "0000-cover-letter.patch").write_bytes(cover_letter(known, composed))
    for mail in composed:
        (part / mail.name).write_bytes(mail.text)
    (part / "series.mbox").write_bytes(b"".join(m.text for m in composed))
    if files is not None:
        with commits(known, topics, composed, files) as repo:
            write_bundle(known, repo, part / "series.bundle")
    replace(target)
    return target


def beside(target):
    """The names under which a folder is made, and the old one is put away."""
    return target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.old")


def replace(target):
    """Puts the new folder in the old one's place; what others keep in it stays."""
    part, old = beside(target)
    if target.exists():
        target.rename(old)
    part.rename(target)
    _take_over(old, target)


def _take_over(old, target):
    """Moves what compose did not write, as test results, from the old folder."""
    if not old.exists():
        return
    for entry in old.iterdir():
        if not COMPOSED.fullmatch(entry.name):
            entry.rename(target / entry.name)
    shutil.rmtree(old)


def repair(target):
    """Ends what an interrupted run of compose began."""
    part, old = beside(target)
    if old.exists() and not target.exists():
        old.rename(target)
    _take_over(old, target)
    shutil.rmtree(part, ignore_errors=True)
