# SPDX-License-Identifier: GPL-2.0
"""Applies the series to the user's own git tree, on a new branch.

The commits are made in a repository of our own (see apply.py).  All that happens
in the user's tree, in the end and at once, is that a branch appears: the
checkout, the index, the configuration and what is not committed stay untouched.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from . import apply, common, compose, git, tree
from .common import CannotRun, say


def users_tree():
    """LINUX=, which must be a git tree that has a commit."""
    given = os.environ.get("LINUX")
    if not given:
        raise CannotRun("say to which tree: make am LINUX=/path/to/your/kernel/tree.")
    path = Path(given).resolve()
    if not path.is_dir() or not git.is_top(path):
        raise CannotRun(f"LINUX={given} is no git tree (give the top of one); for plain files, "
                        "apply the patches of 'make series' with patch(1).")
    if not git.succeeds(path, "rev-parse", "-q", "--verify", "HEAD^{commit}"):
        raise CannotRun(f"LINUX={given} has no commit yet.")
    return path


def refuse_busy(path, branch):
    """A tree in the middle of something, or one that has our branch, is left alone."""
    git.refuse_unfinished(path)
    if git.succeeds(path, "show-ref", "--verify", "--quiet", f"refs/heads/{branch}"):
        raise CannotRun(f"{path} has a branch {branch} already; rename it, or delete it with "
                        f"'git -C {path} branch -D {branch}'.")


def committer(path):
    """The user's own name for the new commits, as their configuration has it."""
    found = {}
    for key, variable in (("user.name", "GIT_COMMITTER_NAME"), ("user.email", "GIT_COMMITTER_EMAIL")):
        done = subprocess.run(["git", "-C", str(path), "config", key], capture_output=True, check=False)
        value = os.environ.get(variable) or git.text(done.stdout).strip()
        if value:
            found[variable] = value
    return found if len(found) == 2 else {}


def refuse_drift(known, path, head, patches):
    files = apply.drifted(known, path, head, patches)
    if files:
        raise CannotRun(f"{path} is not {known.base} in {len(files)} of the files that the series "
                        f"touches:\n" + "".join(f"  {f}\n" for f in files) +
                        f"Check out {known.base}, or try a three-way merge "
                        "with ALLOW_DRIFT=1.")


def branch_with(known, path, sign=None):
    """Makes the branch unstall-<base> in the user's tree; returns (its name, commits)."""
    branch = f"unstall-{known.base}"
    refuse_busy(path, branch)
    head = git.git(path, "rev-parse", "HEAD")
    composed = compose.mails(known, sign=sign)
    if common.flag("ALLOW_DRIFT"):
        tip = _three_way(known, path, head, composed)
    else:
        refuse_drift(known, path, head, [m.patch for m in composed])
        tip = apply.series_on(known, path, head, composed, str(path), options=(),
                              env=committer(path))
    # The old value of 40 zeros makes git refuse a branch that somebody made meanwhile.
    git.git(path, "update-ref", "-m", f"unstall: {len(composed)} patches", f"refs/heads/{branch}",
            tip, "0" * 40)
    return branch, len(composed)


def _three_way(known, path, head, composed):
    """'git am -3' with the objects at hand that the patches' index lines name."""
    with contextlib.ExitStack() as stack:
        objects = []
        try:
            whole = compose.mails(known, list(known.topics))
            files = tree.base_files(known, known.touched_files())
            repo = stack.enter_context(compose.commits(known, list(known.topics), whole, files))
            objects.append(git.path_of(repo, "objects"))
        except CannotRun as err:
            say(f"  note   without the base's files ({err})\n"
                "         a three-way merge has only what the tree itself knows")
        return apply.series_on(known, path, head, composed, str(path), ("-3",),
                               committer(path), objects)
