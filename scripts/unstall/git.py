# SPDX-License-Identifier: GPL-2.0
"""git, always with the same settings whatever the user's configuration says.

A user's diff.noprefix, commit.gpgSign, core.autocrlf or a hook must not change
what is composed, applied or read back. Of the user's configuration only
safe.directory counts, and the name under which 'make am' commits.
"""

import os
import subprocess

from .common import CannotRun

NAME, MAIL = "unstall developers", "unstall@unstall.example"

# The user's own configuration and the system's are not read at all.  What stands
# here overrides the configuration of the tree that git works in, or git's default.
SETTINGS = {
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.excludesFile": os.devnull,
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "diff.suppressBlankEmpty": "false",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "pack.threads": "1",
}

# What git keeps while it is not done, and with what.
UNFINISHED = {"rebase-apply": "an am or a rebase", "rebase-merge": "a rebase",
              "CHERRY_PICK_HEAD": "a cherry-pick", "MERGE_HEAD": "a merge",
              "REVERT_HEAD": "a revert"}

# The one way in which a commit becomes the text of a patch, with 'git diff-tree'.
DIFF = ("--patch", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--diff-algorithm=myers", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/",
        "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=none")


def safe_directories():
    """What the user's own configuration trusts: git's check of ownership stays as it is."""
    done = subprocess.run(["git", "config", "--get-all", "safe.directory"],
                          capture_output=True, text=True, check=False, cwd="/")
    return done.stdout.splitlines()


_SAFE = None


def environment(**more):
    """The caller's environment without what steers git, and with the settings above."""
    global _SAFE
    if _SAFE is None:
        _SAFE = safe_directories()
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, GIT_ATTR_NOSYSTEM="1",
               GIT_LITERAL_PATHSPECS="1", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0",
               GIT_NO_REPLACE_OBJECTS="1", LC_ALL="C", TZ="UTC",
               GIT_AUTHOR_NAME=NAME, GIT_AUTHOR_EMAIL=MAIL,
               GIT_COMMITTER_NAME=NAME, GIT_COMMITTER_EMAIL=MAIL)
    settings = list(SETTINGS.items()) + [("safe.directory", d) for d in _SAFE]
    env["GIT_CONFIG_COUNT"] = str(len(settings))
    for i, (key, value) in enumerate(settings):
        env[f"GIT_CONFIG_KEY_{i}"], env[f"GIT_CONFIG_VALUE_{i}"] = key, value
    env.update(more)
    return env


def attempt(tree, *args, data=None, env=None):
    """Runs git in a tree and returns what happened, in bytes."""
    cmd = ["git", "-C", str(tree), *map(str, args)]
    try:
        return subprocess.run(cmd, input=data or b"", capture_output=True, check=False,
                              env=environment(**(env or {})))
    except FileNotFoundError as err:
        raise CannotRun("'git' is not installed; 'make deps' installs it.") from err


def binary(tree, *args, data=None, env=None):
    """Runs git in a tree and returns its output as it is; a failure raises CannotRun."""
    done = attempt(tree, *args, data=data, env=env)
    if done.returncode:
        detail = text(done.stderr or done.stdout).strip()
        raise CannotRun(f"'git {' '.join(map(str, args))}' in {tree} failed with status "
                        f"{done.returncode}:\n{detail}")
    return done.stdout


def git(tree, *args, data=None, env=None):
    """Runs git in a tree and returns its output without the last newline."""
    return text(binary(tree, *args, data=data, env=env)).removesuffix("\n")


def text(data):
    """Bytes as text; bytes that are no UTF-8 survive the way there and back."""
    return data.decode("utf-8", "surrogateescape")


def raw(string):
    return string.encode("utf-8", "surrogateescape")


def succeeds(tree, *args):
    return attempt(tree, *args).returncode == 0


def ls_tree(tree, commit, paths):
    """{path: (mode, blob id)} of those paths that a commit has."""
    if not paths:
        return {}
    found = {}
    for line in git(tree, "ls-tree", "-r", "-z", commit, "--", *sorted(paths)).split("\0"):
        if line:
            about, path = line.split("\t", 1)
            mode, _, blob = about.split()
            found[path] = (mode, blob)
    return found


def blobs(tree, names):
    """{name: bytes} of blobs, each named by its id or as COMMIT:PATH."""
    found, names = {}, list(names)
    out = binary(tree, "cat-file", "--batch", data=raw("".join(f"{n}\n" for n in names)))
    for name in names:
        head, _, out = out.partition(b"\n")
        words = head.split()
        if len(words) != 3 or words[1] != b"blob":
            raise CannotRun(f"{tree} has no file {name}.")
        size = int(words[2])
        found[name], out = out[:size], out[size + 1:]
    return found


def log(tree, commits, *fields):
    """One tuple of fields (as in --format) for each of some commits, oldest first."""
    form = "%x00".join(fields) + "%x00%x00"
    out = git(tree, "log", "--reverse", f"--format=tformat:{form}", commits)
    return [tuple(entry.split("\0")) for entry in out.removesuffix("\0\0").split("\0\0\n") if entry]


def is_top(path):
    """Whether a folder is the top of a git tree."""
    done = attempt(path, "rev-parse", "--show-toplevel")
    return done.returncode == 0 and os.path.realpath(text(done.stdout).strip()) == os.path.realpath(path)


def refuse_unfinished(tree):
    """A tree in the middle of something is not what its user means by it."""
    places = git(tree, "rev-parse", *[w for name in UNFINISHED for w in ("--git-path", name)])
    for place, what in zip(places.splitlines(), UNFINISHED.values()):
        if os.path.exists(os.path.join(tree, place)):
            raise CannotRun(f"{tree} is in the middle of {what}; finish or abort that first.")


def path_of(tree, name):
    """Where a tree keeps something of git's own, as an absolute path."""
    return os.path.join(os.path.realpath(tree), git(tree, "rev-parse", "--git-path", name))


def work_in(tree):
    """The files of a tree that differ from its commit, or that git does not know."""
    status = git(tree, "status", "--porcelain", "-z", "--untracked-files=normal",
                 "--no-renames", "--ignore-submodules=none")
    return [entry[3:] for entry in status.split("\0") if entry]


def work_in_paths(tree, paths):
    """Those of some paths that differ from the tree's commit, or that git does not know."""
    if not paths:
        return []
    status = git(tree, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames",
                 "--", *paths)
    return [entry[3:] for entry in status.split("\0") if entry]
