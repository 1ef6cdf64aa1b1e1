# SPDX-License-Identifier: GPL-2.0
"""Applies the series on top of a commit of a tree, with plain 'git am'.

The work is done in a repository of our own that borrows the tree's objects and
checks out only the files that the series touches.  The tree itself, its index,
its configuration and its hooks have no part in it; in the end it receives the
new objects, and its owner decides what to do with them.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from . import common, git
from .common import CannotRun

# Commits of our own are the same on every machine and at every time.
OWN_DATES = ("--committer-date-is-author-date",)


def am(repo, composed, what, *options, env=None):
    """Runs 'git am' on composed mails; a failure names the patch file and the files."""
    box = Path(git.path_of(repo, "unstall.mbox"))
    box.write_bytes(b"".join(m.text for m in composed))
    done = git.attempt(repo, "am", "--quiet", *options, box, env=env)
    if done.returncode:
        raise CannotRun(_am_problem(repo, composed, what, git.text(done.stdout + done.stderr)))
    box.unlink()


def _am_problem(repo, composed, what, output):
    try:
        number = int(Path(git.path_of(repo, "rebase-apply/next")).read_text())
        name = composed[number - 1].source
    except (FileNotFoundError, ValueError, IndexError):
        return f"'git am' cannot read the series:\n{output.strip()}"
    wrong = [line[len("error: "):] for line in output.splitlines() if line.startswith("error: ")]
    unmerged = git.text(git.attempt(repo, "diff", "--name-only", "--diff-filter=U").stdout)
    wrong += [f"{path}: both sides changed the same lines" for path in unmerged.splitlines()]
    wrong = [w for w in wrong if not re.search(r"patch does not apply$|^Failed to merge in", w)] or wrong
    return f"{name} does not apply to {what}:\n" + "\n".join(f"  {w}" for w in wrong or [output])


@contextlib.contextmanager
def workshop(base, tree, commit, paths, more_objects=()):
    """A repository of our own at `commit` of `tree`, with only `paths` checked out."""
    repo = common.BUILD / base / ".apply.part"
    shutil.rmtree(repo, ignore_errors=True)
    repo.mkdir(parents=True)
    try:
        git.git(repo, "init", "--quiet", "--template=", "--initial-branch=series")
        _borrow(repo, [git.path_of(tree, "objects"), *more_objects])
        git.git(repo, "config", "core.sparseCheckout", "true")
        common.write_whole(repo / ".git" / "info" / "sparse-checkout",
                           "".join(f"/{path}\n" for path in paths))
        git.git(repo, "update-ref", "refs/heads/series", commit)
        git.git(repo, "read-tree", "-m", "-u", "HEAD")
        yield repo
    finally:
        shutil.rmtree(repo, ignore_errors=True)


def _borrow(repo, folders):
    info = repo / ".git" / "objects" / "info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "alternates").write_text("".join(f"{os.path.realpath(f)}\n" for f in folders))


def hand_over(repo, tree, commit, tip):
    """Gives a tree the objects of commit..tip; no reference of it changes."""
    if tip == commit:
        return
    pack = git.binary(repo, "pack-objects", "--quiet", "--revs", "--thin", "--stdout",
                      data=f"{tip}\n^{commit}\n".encode())
    git.binary(tree, "unpack-objects", "-q", data=pack)


def drifted(known, tree, commit, patches=None):
    """The files that the series touches and that are not the base's at a commit."""
    paths = known.touched_files(patches)
    have = git.ls_tree(tree, commit, paths)
    return [p for p in paths if have.get(p, ("", ""))[1] != known.pin.blobs[p][1]]


def already_there(patches, tree, commit):
    """The files that patches add and that a commit has already."""
    return sorted(git.ls_tree(tree, commit, [f for p in patches for f in p.adds]))


def series_on(known, tree, commit, composed, what, options=OWN_DATES, env=None, more_objects=()):
    """Commits the composed series on top of a commit of a tree; returns the new tip."""
    patches = [m.patch for m in composed]
    there = already_there(patches, tree, commit)
    if there:
        raise CannotRun(f"{what} already has {', '.join(there)}, which the series adds; "
                        "is the series, or a part of it, applied there?")
    paths = sorted({d.path for p in patches for d in p.diffs} | {f for p in patches for f in p.adds})
    with workshop(known.base, tree, commit, paths, more_objects) as repo:
        am(repo, composed, what, *options, env=env)
        tip = git.git(repo, "rev-parse", "HEAD")
        hand_over(repo, tree, commit, tip)
    return tip
