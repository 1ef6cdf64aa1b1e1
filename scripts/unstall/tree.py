# SPDX-License-Identifier: GPL-2.0
"""The kernel trees under build/<base>/: the base, the base with the series, a hacker's.

    base/   a git repository with one commit, the pristine base, on branch 'base'
    ours/   a worktree of it that holds exactly the composed series
    hack/   a worktree of it for people, on a branch 'hack-N'

Kernels are built in folders inside these trees, so a tree is never made anew
where it can be brought up to date: only files that differ are written.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from . import apply, common, compose, git, progress, series, tarball
from .common import CannotRun, say

TREE_BYTES = 4 << 30            # the files, git's pack, and the worktree of the series
BASE_DATE = "946684800 +0000"
OUTPUTS = ("guest*", "debug*", "kunit*")        # kernels are built here, inside the trees
PLACED = "refs/worktree/unstall"                # the commit that we put into a worktree
SHOWN = 10                      # files named in one sentence


def listed(paths):
    """Some paths for a sentence."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


# ------------------------------------------------------------------------ base

def base_tree(base):
    """The git repository of the pristine base; made when it is not there."""
    known = series.read(base)
    path = common.BUILD / base / "base"
    shutil.rmtree(_part(path), ignore_errors=True)      # of a run that was interrupted
    source = linux_given()
    if path.exists():
        _check_base(known, path, source)
    else:
        _make_base(known, path, source)
    return path


def linux_given():
    """The tree that LINUX= names, or None."""
    given = os.environ.get("LINUX")
    if not given:
        return None
    path = Path(given).resolve()
    if not path.is_dir():
        raise CannotRun(f"LINUX={given} is no folder.")
    return path


def _part(path):
    return path.with_name(f".{path.name}.part")


def _check_base(known, path, source):
    """Refuses a base that is not the pinned one, or not the one asked for."""
    if not git.is_top(path) or not git.succeeds(path, "rev-parse", "-q", "--verify", "base^{commit}"):
        raise CannotRun(f"{path} is not what scripts/fetch makes; remove it and run this again.")
    if source and not _same_source(path, source):
        raise CannotRun(f"{path} was made from another source than LINUX={source}; set "
                        "UNSTALL_BUILD=/elsewhere for that tree, or start over with "
                        "'make distclean'.")
    changed = git.git(path, "status", "--porcelain", "-z", "--untracked-files=no").split("\0")
    changed = [c[3:] for c in changed if c]
    if changed or git.git(path, "rev-parse", "HEAD") != git.git(path, "rev-parse", "base"):
        what = listed(changed) or "its HEAD"
        raise CannotRun(f"{path} must stay the pristine base, and differs in {what}; "
                        f"'git -C {path} checkout --force base' restores it ('make tree' makes a "
                        "tree to hack on).")
    refuse_drift(known, path, "base", path)


def refuse_drift(known, tree, commit, what, remedy=None):
    """Refuses a tree that differs from the base in a file that the series touches."""
    files = apply.drifted(known, tree, commit)
    if files:
        raise CannotRun(f"{what} is not {known.base} in {len(files)} of the files that the series "
                        f"touches: {', '.join(files)}. " + (remedy or
                        f"Take a tree of {known.pin.version}."))


def _same_source(path, source):
    """Whether a base was made from the tree that LINUX= names, as that is now."""
    if git.is_top(source):
        return git.git(path, "rev-parse", "base^{tree}") == git.git(source, "rev-parse", "HEAD^{tree}")
    return git.attempt(path, "config", "unstall.source").stdout == git.raw(f"{source}\n")


def _make_base(known, path, source):
    tarball.need_space(path, TREE_BYTES, f"the tree of {known.base}")
    part = _part(path)
    part.mkdir(parents=True)
    start = time.monotonic()
    try:
        if source is None:
            unpack(tarball.obtain(known.pin), part)
        else:
            _import(known, source, part)
        _refuse_drifted_files(known, part, source)
        _commit_base(part, known, source)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"  base   {path}: {known.base}, ready in {common.duration(time.monotonic() - start)}")


def unpack(archive, part):
    """Unpacks a release tarball, without its top folder."""
    say(f"  unpack {archive.name}")
    decompress = {".xz": "--xz", ".gz": "--gzip"}.get(archive.suffix, "--auto-compress")
    _feed(["tar", "--extract", decompress, "--strip-components=1", "--no-same-owner",
           "--no-same-permissions", "--directory", str(part)], archive)


def _feed(command, archive):
    """Feeds a file to a command, showing how far it is."""
    ticker, total = progress.Ticker(), archive.stat().st_size
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with open(archive, "rb") as f, contextlib.suppress(BrokenPipeError):
                while chunk := f.read(1 << 20):
                    process.stdin.write(chunk)
                    ticker.show(f"  unpack {100 * f.tell() // total}%")
            error = process.communicate()[1].decode(errors="replace").strip()
        finally:
            ticker.close(erase=True)
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise CannotRun(f"{archive} cannot be unpacked:\n{error}")


def _import(known, source, part):
    """Copies LINUX=: what HEAD of a git tree holds, or a plain folder of source."""
    if git.is_top(source):
        refuse_drift(known, source, "HEAD", f"LINUX={source}",
                     f"Check out {known.base} there; 'make am' can apply the series to a tree "
                     "that drifted, and TREE= can test it.")
        say(f"  import {source}: HEAD as git has it, without uncommitted changes")
        command = ["git", "-C", str(source), "archive", "HEAD"]
    else:
        if (source / ".config").exists() or (source / "include" / "config").exists():
            raise CannotRun(f"LINUX={source} was built in; clean it with 'make mrproper', or "
                            "give a git tree.")
        say(f"  import {source}")
        command = ["tar", "--create", "--directory", str(source), "--exclude=./.git", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=git.environment()) as archive:
        done = subprocess.run(["tar", "--extract", "--no-same-owner", "--no-same-permissions",
                               "--directory", str(part)], stdin=archive.stdout, check=False)
    if archive.returncode or done.returncode:
        raise CannotRun(f"LINUX={source} cannot be copied; see above.")


def _refuse_drifted_files(known, part, source):
    """The blob check for files that are in no repository yet."""
    wrong = [path for path, (_, blob) in sorted(known.pin.blobs.items())
             if not (part / path).is_file() or compose.blob_id((part / path).read_bytes()) != blob]
    if wrong:
        what = f"LINUX={source}" if source else "the tarball"
        raise CannotRun(f"{what} is not {known.base} in {len(wrong)} of the files that the series "
                        f"touches: {', '.join(wrong)}. Give a tree of {known.pin.version}.")


def _commit_base(part, known, source):
    say("  commit the base, as a git repository")
    git.git(part, "init", "--quiet", "--template=", "--initial-branch=base")
    git.git(part, "config", "gc.auto", "0")
    git.git(part, "config", "unstall.source", source or known.pin.tarballs[0].name)
    # A threshold of 1 streams all blobs into one pack instead of 95,000 files.
    git.git(part, "-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "add",
            *([] if source and not git.is_top(source) else ["--force"]), ".")
    dates = {"GIT_AUTHOR_DATE": BASE_DATE, "GIT_COMMITTER_DATE": BASE_DATE}
    git.git(part, "commit", "--quiet", "--no-verify", "-m", f"Linux {known.pin.version}", env=dates)
    exclude_outputs(part)


def exclude_outputs(repo):
    """Keeps git from seeing what is built inside the trees, in all worktrees."""
    path = Path(git.path_of(repo, "info/exclude"))
    path.parent.mkdir(exist_ok=True)
    have = path.read_text().splitlines() if path.exists() else []
    path.write_text("\n".join(dict.fromkeys(have + [f"/{o}/" for o in OUTPUTS])) + "\n")


def base_files(known, paths):
    """{path: bytes} of the base's files, from whatever of it is there or can be fetched."""
    repo = common.BUILD / known.base / "base"
    if not paths:
        return {}
    if git.is_top(repo) and not apply.drifted(known, repo, "base"):
        return _files_of_commit(repo, "base", paths)
    source = linux_given()
    if source and git.is_top(source) and not apply.drifted(known, source, "HEAD"):
        return _files_of_commit(source, "HEAD", paths)
    return _files_of_tarball(known, paths)


def _files_of_commit(repo, commit, paths):
    found = git.blobs(repo, [f"{commit}:{p}" for p in paths])
    return {p: found[f"{commit}:{p}"] for p in paths}


def _files_of_tarball(known, paths):
    part = common.BUILD / known.base / ".files.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        archive = tarball.obtain(known.pin)
        say(f"  unpack {len(paths)} files of {archive.name}")
        # Anchored: else mm/Makefile also takes tools/testing/selftests/mm/Makefile, and tar
        # says of the pattern that comes second that nothing matched it.
        common.run("tar", "--extract", "--file", archive, "--directory", part, "--anchored",
                   "--strip-components=1", "--wildcards", "--no-wildcards-match-slash",
                   *[f"*/{p}" for p in paths])
        files = {p: (part / p).read_bytes() for p in paths}
    finally:
        shutil.rmtree(part, ignore_errors=True)
    wrong = [p for p in paths if compose.blob_id(files[p]) != known.pin.blobs[p][1]]
    if wrong:
        raise CannotRun(f"{archive} and the blob ids in patches/{known.base}/base do not agree "
                        f"on {', '.join(wrong)}.")
    return files


# ------------------------------------------------------------------------ ours

def ours_tree(base, topics=None):
    """A tree with exactly the composed series; made or brought up to date."""
    known = series.load(base)
    repo = base_tree(base)
    path = common.BUILD / base / "ours"
    put(known, repo, path, series_commit(known, repo, topics))
    return path


def series_commit(known, repo, topics=None):
    """The commit in our repository that has the composed series on top of the base."""
    if not known.patches:
        return git.git(repo, "rev-parse", "base")
    composed = compose.mails(known, topics)
    base = git.git(repo, "rev-parse", "base")
    digest = hashlib.sha256(b"".join([base.encode()] + [m.text for m in composed])).hexdigest()
    stamp = common.BUILD / known.base / "applied.json"
    done = _stamped(stamp)
    if done.get("digest") == digest and git.succeeds(repo, "cat-file", "-e", done["tip"]):
        return done["tip"]
    say(f"  am     {len(composed)} patches on {known.base}")
    refuse_drift(known, repo, "base", repo)
    tip = apply.series_on(known, repo, base, composed, known.base)
    common.write_whole(stamp, json.dumps({"digest": digest, "tip": tip}) + "\n")
    return tip


def _stamped(stamp):
    try:
        return json.loads(stamp.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def put(known, repo, path, tip, branch=None):
    """Makes a worktree hold a commit; only files that differ are written.

    Refuses where that would lose work: changes that are not committed, and
    commits that are not in patches/.
    """
    if not path.exists():
        _add_worktree(repo, path, tip, branch)
        return
    if not git.is_top(path):
        raise CannotRun(f"{path} is no git worktree; remove it and run this again.")
    head = git.git(path, "rev-parse", "HEAD")
    refuse_work(known, path, head, tip)
    if head != tip:
        on_branch = git.succeeds(path, "symbolic-ref", "-q", "HEAD")
        if on_branch and branch:
            git.git(path, "reset", "--quiet", "--keep", tip)
        else:
            git.git(path, "checkout", "--quiet", "--detach", tip)
    git.git(path, "update-ref", PLACED, tip)


def refuse_work(known, path, head, tip):
    """Refuses to change a worktree that holds somebody's work."""
    changed = git.work_in(path)
    if changed:
        raise CannotRun(f"{path} has changes that are in no commit: {listed(changed)}. Commit them "
                        f"and run 'make refresh TREE={path}', or put them away with "
                        f"'git -C {path} stash -u'.")
    placed = git.text(git.attempt(path, "rev-parse", "-q", "--verify", PLACED).stdout).strip()
    if head in (tip, placed, git.git(path, "rev-parse", "base")):
        return
    if commits_of(path, head) != commits_of(path, tip):
        raise CannotRun(f"{path} has commits that patches/{known.base} does not have. Take them in "
                        f"with 'make refresh TREE={path}', or drop them with "
                        f"'git -C {path} checkout --detach {placed or tip}'.")


def commits_of(path, tip):
    """What the commits on top of the base are: their trees, authors' dates and messages."""
    return git.git(path, "log", "--format=%T %ad %B", "--date=raw", f"base..{tip}")


def _add_worktree(repo, path, tip, branch):
    """Adds a worktree; it gets its name only when it is complete."""
    tarball.need_space(path, TREE_BYTES // 2, f"the tree {path.name}")
    part = _part(path)
    git.attempt(repo, "worktree", "remove", "--force", "--force", part)
    shutil.rmtree(part, ignore_errors=True)
    git.git(repo, "worktree", "prune")
    say(f"  tree   {path}")
    exclude_outputs(repo)
    where = ["-B", branch] if branch else ["--detach"]
    try:
        git.git(repo, "worktree", "add", "--quiet", *where, part, tip)
        git.git(part, "update-ref", PLACED, tip)
        git.git(repo, "worktree", "move", part, path)
    except BaseException:
        git.attempt(repo, "worktree", "remove", "--force", "--force", part)
        shutil.rmtree(part, ignore_errors=True)
        raise


# ------------------------------------------------------------------------ hack

def hack_tree(base, topics=None):
    """A worktree of the series for people; one with work in it is refused."""
    known = series.load(base)
    repo = base_tree(base)
    path = common.BUILD / base / "hack"
    put(known, repo, path, series_commit(known, repo, topics), _free_branch(repo))
    return path


def _free_branch(repo):
    """A branch name that nobody's commits are on."""
    number = 1
    while git.succeeds(repo, "rev-parse", "-q", "--verify", f"refs/heads/hack-{number}"):
        number += 1
    return f"hack-{number}"
