# SPDX-License-Identifier: GPL-2.0
"""From the commits of a kernel tree back to patches/<base>/ and the overlay's files.

Each commit of base..HEAD becomes one patch file: its hunks on the base's files
stay in it, its new files go to the repository whole.  Nothing is written before
everything has been read and found good.  A series that was composed, applied and
refreshed again is the same, byte for byte.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import common, git, series
from .common import CannotRun
from .tree import listed

PROJECT = f"{git.NAME} <{git.MAIL}>"
SIGNED_OFF = re.compile(r"^Signed-off-by: .*\n?", re.M)
NAME_MAX = 57                   # of a patch file's name, without .patch


@dataclass
class Commit:
    """One commit of the tree, read."""
    id: str
    subject: str
    body: str
    date: str
    adds: dict = field(default_factory=dict)        # path: (mode, blob id)
    diffs: tuple = ()
    deletes: tuple = ()


# --------------------------------------------------------------- reading the tree

def read_commits(tree):
    """The commits base..HEAD of a tree, oldest first."""
    if not git.succeeds(tree, "rev-parse", "-q", "--verify", "base^{commit}"):
        raise CannotRun(f"{tree} does not say on which commit the series stands; name it with "
                        f"'git -C {tree} branch base COMMIT'.")
    if not git.succeeds(tree, "merge-base", "--is-ancestor", "base", "HEAD"):
        raise CannotRun(f"in {tree}, 'base' is not below HEAD; rebase the series onto it.")
    merges = git.git(tree, "rev-list", "--merges", "base..HEAD").split()
    if merges:
        raise CannotRun(f"{tree} has the merge {merges[0][:12]} above 'base'; a series is a line "
                        "of commits, so rebase it.")
    commits = git.log(tree, "base..HEAD", "%H", "%aD", "%B")
    if not commits:
        raise CannotRun(f"{tree} has no commit above 'base'; there is nothing to take in.")
    return [_read_commit(tree, *c) for c in commits]


def _read_commit(tree, commit, date, message):
    message = series.strip_space(message)
    subject, _, body = message.partition("\n\n")
    name = f"{commit[:12]} '{subject}'"
    if not subject or "\n" in subject or re.match(r"\[|re:", subject, re.I):
        raise CannotRun(f"the message of commit {name} must begin with one line of subject, "
                        "without [PATCH], and a blank line.")
    body = series.strip_space(SIGNED_OFF.sub("", body))
    problem = series.message_problem(body)
    if problem:
        raise CannotRun(f"in the message of commit {name}: {problem[1]}")
    read = Commit(commit, subject, body, date)
    changed, deletes = [], []
    for status, mode, blob, path in _changed_files(tree, commit):
        if status == "A":
            read.adds[path] = (mode, blob)
            continue
        if status == "D":
            deletes.append(path)
        elif status != "M":
            raise CannotRun(f"commit {name} changes what kind of file {path} is; "
                            "that cannot be kept as a patch.")
        changed.append(path)
    problem = _odd_file(tree, read.adds)
    if problem:
        raise CannotRun(f"commit {name}: {problem}")
    read.diffs, read.deletes = _diffs(tree, commit, changed, name), tuple(deletes)
    if not read.adds and not read.diffs:
        raise CannotRun(f"commit {name} changes nothing; drop it.")
    return read


def _changed_files(tree, commit):
    """(status, new mode, new blob, path) of each file that a commit changes."""
    words = git.git(tree, "diff-tree", "-r", "-z", "--raw", "--no-commit-id", "--no-renames",
                    "--no-abbrev", commit).split("\0")
    for about, path in zip(words[::2], words[1::2]):
        _, mode, _, blob, status = about.split(" ")
        yield status, mode, blob, path


def _odd_file(tree, adds):
    """Which new file cannot travel as a patch and why, or None."""
    data = git.blobs(tree, {blob for mode, blob in adds.values() if mode != "160000"}) if adds else {}
    for path, (mode, blob) in adds.items():
        if series.path_problem(path):
            return series.path_problem(path)
        if mode not in ("100644", "100755"):
            return f"{path} is no regular file."
        if b"\0" in data[blob] or b"\r\n" in data[blob]:
            return f"{path} is no plain text file with Unix line ends."
    return None


def _diffs(tree, commit, paths, name):
    if not paths:
        return ()
    text = git.git(tree, "diff-tree", "-r", "--no-commit-id", *git.DIFF, commit, "--", *paths) + "\n"
    mail = f"From: {PROJECT}\nDate: Sat, 1 Jan 2000 00:00:00 +0000\nSubject: x\n\n---\n\n{text}"
    return series.parse_patch(mail, "", "", f"the diff of commit {name}").diffs


# -------------------------------------------------------------- making the series

def make_series(old, commits, topic=None, partial=None):
    """The new series: of the tree's commits and, with `partial` topics, of the others' patches."""
    _check_whole_files(commits)
    new = replace(old, topics=dict(old.topics), patches=[], comments={})
    known = _by_subject(old, partial)
    current, names, made = None, _Names(old), []
    for commit in commits:
        before = known.get(commit.subject, [])
        previous = before.pop(0) if before else None
        current = previous.topic if previous else topic or current
        if not current:
            raise CannotRun(f"commit '{commit.subject}' is the first, and no patch of that subject "
                            "is known; say its topic with TOPIC=name.")
        _need_topic(new, current, partial)
        name = previous.name if previous else names.free(current, commit.subject)
        made.append((_patch(commit, current, name, previous), previous))
    new.patches = _merged(old, made, partial)
    new.comments = {p.file: old.comments[p.file] for p in new.patches if p.file in old.comments}
    _refuse_lost_topics(old, new)
    new.topics = {n: t for n, t in new.topics.items() if any(p.topic == n for p in new.patches)}
    return new


def _check_whole_files(commits):
    """A file that the series adds is added whole by one commit."""
    adders = {}
    for commit in commits:
        for path in [d.path for d in commit.diffs]:
            if path in adders:
                raise CannotRun(f"commit '{commit.subject}' changes {path}, which commit "
                                f"'{adders[path].subject}' adds; squash that change into the "
                                "commit that adds the file ('git rebase -i base').")
        for path in commit.adds:
            if path in adders:
                raise CannotRun(f"two commits add {path}; squash them.")
            adders[path] = commit
    deleted = {p for c in commits for p in c.deletes}
    for path in deleted & set(adders):
        raise CannotRun(f"{path} is both deleted and added; that is a change of the base's file, "
                        "squash the commits.")


def _by_subject(old, partial):
    known = {}
    for patch in old.patches:
        if partial is None or patch.topic in partial:
            known.setdefault(patch.subject, []).append(patch)
    return known


class _Names:
    """File names for patches that are new."""

    def __init__(self, old):
        self.taken = {p.file for p in old.patches}

    def free(self, topic, subject):
        slug = series.sanitized(subject)[:NAME_MAX].rstrip(".-") or "patch"
        number, name = 1, f"{slug}.patch"
        while f"{topic}/{name}" in self.taken:
            number += 1
            name = f"{slug}-{number}.patch"
        self.taken.add(f"{topic}/{name}")
        return name


def _need_topic(new, name, partial):
    if not series.TOPIC_NAME.fullmatch(name):
        raise CannotRun(f"TOPIC={name} is no name for a topic; use small letters, digits, - and _.")
    if partial is not None and name in new.topics and name not in partial:
        raise CannotRun(f"TOPIC={name} is not among TOPICS={' '.join(partial)}.")
    new.topics.setdefault(name, series.Topic(name))


def _patch(commit, topic, name, previous):
    """The patch of a commit; one that did not change keeps its headers as they are."""
    author = previous.author if previous else PROJECT
    patch = series.Patch(topic, name, author, commit.date, commit.subject, commit.body,
                         tuple(sorted(commit.adds)), commit.diffs)
    if previous and replace(previous, date="", adds=tuple(sorted(previous.adds))) == \
            replace(patch, date=""):
        return previous
    return patch


def _merged(old, made, partial):
    """The new patches in order; those of topics outside `partial` keep their places."""
    if partial is None:
        return [patch for patch, _ in made]
    result, others = [], [p for p in old.patches if p.topic not in partial]
    for patch, previous in made:
        if previous:
            at = old.patches.index(previous)
            result += [p for p in others if old.patches.index(p) < at and p not in result]
        result.append(patch)
    return result + [p for p in others if p not in result]


def _refuse_lost_topics(old, new):
    lost = [t for t in dict.fromkeys(p.topic for p in old.patches)
            if not any(p.topic == t for p in new.patches)]
    if lost and not common.flag("FORCE"):
        raise CannotRun(f"the tree has no commit of {', '.join(lost)}. If it holds only some "
                        "topics, name those with TOPICS=; FORCE=1 drops the others from the series.")


# ------------------------------------------------------------------------ writing

def pins(old, new, tree):
    """The blob ids of the base's files that the new series touches."""
    paths = {d.path for p in new.patches for d in p.diffs}
    blobs = git.ls_tree(tree, "base", paths)
    missing = sorted(paths - set(blobs))
    if missing:
        raise CannotRun(f"'base' in {tree} has no {listed(missing)}.")
    ours = common.BUILD / old.base / "base"
    sure = git.ls_tree(ours, "base", paths) if git.is_top(ours) else {}
    wrong = [path for path in sorted(paths)
             if blobs[path] != old.pin.blobs.get(path, sure.get(path, blobs[path]))]
    if wrong:
        raise CannotRun(f"'base' in {tree} is not {old.base} in {listed(wrong)}, which the series "
                        f"touches; rebase the commits onto {old.base} ('make tree' has it).")
    return blobs


def plan(old, new, commits, tree):
    """What to write and what to remove: ({path: (data, executable)}, {path})."""
    folder = f"patches/{old.base}"
    writes = {f"{folder}/base": (series.format_pin(new.pin).encode(), False),
              f"{folder}/series": (git.raw(series.format_series(new)), False)}
    for patch in new.patches:
        writes[f"{folder}/{patch.file}"] = (git.raw(series.format_patch(patch)), False)
    added = {path: about for commit in commits for path, about in commit.adds.items()}
    data = git.blobs(tree, {blob for _, blob in added.values()})
    writes.update({path: (data[blob], mode == "100755") for path, (mode, blob) in added.items()})
    removes = {f"{folder}/{p.file}" for p in old.patches} - set(writes)
    removes |= set(old.added_files()) - set(new.added_files()) - _added_elsewhere(old)
    return writes, {r for r in removes if (old.root / r).exists()}


def _added_elsewhere(old):
    """Files that the series of another base adds as well."""
    others = [b for b in sorted(p.parent.name for p in (old.root / "patches").glob("*/base"))
              if b != old.base]
    return {f for b in others for f in series.read(b, old.root).added_files()}


def _differs(root, path, data, executable):
    file = root / path
    if not file.is_file() or file.is_symlink():
        return True
    return file.read_bytes() != data or bool(file.stat().st_mode & 0o100) != executable


def _journal(base):
    return common.BUILD / base / "refreshed.json"


def refuse_edits(old, writes, removes):
    """Refuses to overwrite what somebody changed in the repository and did not commit.

    What an earlier refresh wrote is nobody's edit, also before it is committed.
    """
    if not (old.root / ".git").exists() or common.flag("FORCE"):
        return
    try:
        own = json.loads(_journal(old.base).read_text())
    except (FileNotFoundError, ValueError):
        own = {}
    edited = [path for path in git.work_in_paths(old.root, sorted(set(writes) | removes))
              if (old.root / path).is_file() and own.get(path) != _sum((old.root / path).read_bytes())]
    if edited:
        raise CannotRun(f"the repository has changes that are in no commit and that would be "
                        f"overwritten: {listed(edited)}. Commit them, or overwrite them with FORCE=1.")


def _sum(data):
    return hashlib.sha256(data).hexdigest()


def write(old, writes, removes):
    """Writes what differs; returns the paths that changed."""
    for path, (data, executable) in writes.items():
        common.write_whole(old.root / path, data)
        (old.root / path).chmod(0o755 if executable else 0o644)
    for path in removes:
        (old.root / path).unlink()
        _drop_empty_folders(old.root, (old.root / path).parent)
    return sorted(set(writes) | removes)


def _drop_empty_folders(root, folder):
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def refresh(base, tree, topic=None):
    """Rewrites patches/<base>/ and the overlay from a tree; returns the changed paths."""
    tree, old = Path(tree), series.read(base)
    if not git.is_top(tree):
        raise CannotRun(f"{tree} is no git tree; 'make tree' makes one to hack on, or name one "
                        "with TREE=/path.")
    git.refuse_unfinished(tree)
    changed = git.work_in(tree)
    if changed and not common.flag("FORCE"):
        raise CannotRun(f"{tree} has changes that are in no commit: {listed(changed)}. Commit or "
                        "stash them; FORCE=1 goes on without them.")
    partial = old.selected_topics() if os.environ.get("TOPICS") else None
    commits = read_commits(tree)
    new = make_series(old, commits, topic, partial)
    new.pin = replace(old.pin, blobs=pins(old, new, tree))
    writes, removes = plan(old, new, commits, tree)
    writes = {p: w for p, w in writes.items() if _differs(old.root, p, *w)}
    refuse_edits(old, writes, removes)
    result = write(old, writes, removes)
    own = {p: _sum(data) for p, (data, _) in writes.items()}
    _remember(base, own)
    return result


def _remember(base, own):
    journal = _journal(base)
    try:
        before = json.loads(journal.read_text())
    except (FileNotFoundError, ValueError):
        before = {}
    common.write_whole(journal, json.dumps({**before, **own}, indent=1, sort_keys=True) + "\n")
