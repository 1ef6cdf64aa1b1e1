# SPDX-License-Identifier: GPL-2.0
"""A kernel of a few files and a repository with a series for it, for quick tests.

The series has three topics: 'mremap' (three commits), 'ksm' (one) and 'reloc'
(one), which needs 'mremap'.  It is made once, by refresh, and copied for each test.
"""

import atexit
import functools
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

from unstall import common, refresh, series, tree

BASE = "v1.0"
HERE = Path(__file__).resolve().parent
MREMAP = [f"int mremap_{n};" if n != 11 else "" for n in range(60)]
KCONFIG = [f"config OPTION_{n}" for n in range(60)]
FILES = {
    "Makefile": "VERSION = 1\n",
    ".gitignore": "*.o\n",
    "mm/mremap.c": "\n".join(MREMAP) + "\n",
    "mm/Kconfig": "\n".join(KCONFIG) + "\n",
    "mm/util.c": "int util;\n",
    "mm/run.sh": "echo the end of another file's path\n",
    "mm/tracked.o": "tracked although it is ignored\n",
    "tools/testing/selftests/mm/run.sh": "#!/bin/sh\n" + "".join(f"echo {n}\n" for n in range(30)),
}
EXECUTABLE = ("tools/testing/selftests/mm/run.sh", "tools/testing/selftests/mm/ksft_batch.sh")
KUNIT = "mm/tests/batch_kunit.c"
KSFT = "tools/testing/selftests/mm/ksft_batch.sh"
KSM = "mm/ksm_walk.c"
SUBJECTS = ("mm/mremap: count the batches", "mm/mremap: add KUnit tests of the batches",
            "selftests/mm: add ksft_batch.sh — ünïcode",
            "mm/ksm: walk only what is mapped, with a subject that is long enough to be folded",
            "mm/mremap_relocate: move")

PIN = """\
# SPDX-License-Identifier: GPL-2.0
# A base for tests.

version 1.0
tarball {sum} {size} linux_1.0.orig.tar.xz
url https://localhost:1/linux-1.0.tar.xz
debian-source linux
debian-suite nowhere
"""
VARIABLES = ("ALLOW_DRIFT", "BASE", "FORCE", "LINUX", "SIGNOFF", "TOPIC", "TOPICS", "TREE",
             "UNSTALL_BUILD", "UNSTALL_OUT", "UNSTALL_TARGET", "XDG_CACHE_HOME", "V")

STRANGE_CONFIG = """\
[user]
	name = Somebody Else
	email = else@else.example
[core]
	autocrlf = true
	attributesFile = {top}/attributes
	hooksPath = {top}/hooks
	fsmonitor = {top}/hooks/fsmonitor
	excludesFile = {top}/excludes
	quotePath = true
	abbrev = 5
[commit]
	gpgSign = true
	template = /nonexistent
[am]
	threeWay = true
	messageid = true
[apply]
	whitespace = fix
[diff]
	noprefix = true
	mnemonicPrefix = true
	context = 9
	interHunkContext = 40
	algorithm = patience
	renames = copies
	external = /bin/false
	orderFile = {top}/order
	suppressBlankEmpty = true
[format]
	signOff = true
	numbered = false
	attach = true
	useAutoBase = true
[color]
	ui = always
[mailinfo]
	scissors = true
[log]
	showSignature = true
[gpg]
	program = /bin/false
[pack]
	compression = 0
	threads = 7
	window = 0
[transfer]
	fsckObjects = true
[i18n]
	commitEncoding = ISO-8859-1
	logOutputEncoding = ISO-8859-1
[init]
	defaultBranch = elsewhere
"""


def git(folder, *args, data=None, **env):
    """git as a user with a name and without any configuration."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    clean.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1",
                 GIT_AUTHOR_NAME="A Hacker", GIT_AUTHOR_EMAIL="a@hacker.example",
                 GIT_COMMITTER_NAME="A Hacker", GIT_COMMITTER_EMAIL="a@hacker.example", **env)
    done = subprocess.run(["git", "-C", str(folder), *args], env=clean, capture_output=True,
                          input=data, check=False)
    if done.returncode:
        raise AssertionError(f"git {args}: {done.stdout}{done.stderr}")
    return done.stdout.decode()


def put(folder, path, text, executable=False):
    file = Path(folder) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755 if executable else 0o644)


def commit(folder, subject, body="Because.", **more):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", f"{subject}\n\n{body}".strip(), **more)


def with_line(lines, at, line):
    return "\n".join(lines[:at] + [line] + lines[at:]) + "\n"


def snapshot(folder):
    """{path: (executable, content)} of the files below a folder."""
    folder = Path(folder)
    return {str(p.relative_to(folder)): (bool(p.stat().st_mode & 0o100), p.read_bytes())
            for p in sorted(folder.rglob("*")) if p.is_file() and ".git" not in p.parts}


def kernel(folder):
    """The pristine base as a git repository of somebody's own."""
    for path, text in FILES.items():
        put(folder, path, text, path in EXECUTABLE)
    git(folder, "init", "-q", "--template=", "-b", "base")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "Linux 1.0")
    return folder


def tarball(folder):
    path = folder / "linux_1.0.orig.tar.xz"
    with tarfile.open(path, "w:xz", preset=0) as archive:
        for name in sorted(FILES):
            info = tarfile.TarInfo(f"linux-1.0/{name}")
            info.mode, info.size = 0o775 if name in EXECUTABLE else 0o664, len(FILES[name])
            archive.addfile(info, io.BytesIO(FILES[name].encode()))
    return path


def hack(folder):
    """The series' commits, as developers make them; yields the topic to refresh with."""
    put(folder, "mm/mremap.c", with_line(MREMAP, 10, "int batches;"))
    commit(folder, SUBJECTS[0], "Counting is cheap.\n\n  indented text\n\nAnd that is all.",
           GIT_AUTHOR_DATE="1700000000 +0100")
    put(folder, KUNIT, "int test;\n")
    put(folder, "mm/Kconfig", with_line(KCONFIG, 5, "config BATCH_KUNIT"))
    commit(folder, SUBJECTS[1], "", GIT_AUTHOR_DATE="1700000100 +0000")
    put(folder, KSFT, "#!/bin/sh\necho batch\n", True)
    run = "tools/testing/selftests/mm/run.sh"
    put(folder, run, FILES[run].replace("echo 7\n", "echo 7\n./ksft_batch.sh\n"), True)
    commit(folder, SUBJECTS[2], "Ünïcode.\n\nLink: https://example.org/", GIT_AUTHOR_DATE="1700000200 +0000")
    yield "mremap"
    put(folder, KSM, "int walk;\nint more;")        # no newline at the end of the file
    put(folder, "mm/Kconfig", with_line(with_line(KCONFIG, 40, "config KSM_WALK").splitlines(), 5,
                                        "config BATCH_KUNIT"))
    commit(folder, SUBJECTS[3], "Because of ü.", GIT_AUTHOR_DATE="1700000300 +0000")
    yield "ksm"
    put(folder, "mm/mremap.c", with_line(with_line(MREMAP, 45, "int relocated;").splitlines(), 10,
                                         "int batches;"))
    commit(folder, SUBJECTS[4], GIT_AUTHOR_DATE="1700000400 +0000")
    yield "reloc"


@functools.cache
def template():
    """The folder from which each test copies: repo/, linux/, cache/."""
    top = Path(tempfile.mkdtemp(prefix="unstall-test-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    repo, linux, cache = top / "repo", kernel(top / "linux"), top / "cache" / "unstall" / "tarballs"
    cache.mkdir(parents=True)
    archive = tarball(cache)
    put(repo, f"patches/{BASE}/base", PIN.format(
        sum=hashlib.sha256(archive.read_bytes()).hexdigest(), size=archive.stat().st_size))
    put(repo, f"patches/{BASE}/series", "# SPDX-License-Identifier: GPL-2.0\n# The order.\n")
    git(linux, "switch", "-q", "-c", "work")
    with rooms(top):
        for topic in hack(linux):
            refresh.refresh(BASE, linux, topic)
    file = repo / "patches" / BASE / "series"
    file.write_text(file.read_text().replace("topic reloc", "# moves\ntopic reloc needs mremap"))
    shutil.rmtree(top / "build")
    return top


def rooms(top):
    """Points the scripts' modules at the rooms below a folder."""
    return mock.patch.multiple(common, ROOT=top / "repo", PATCHES=top / "repo" / "patches",
                               BUILD=top / "build", OUT=top / "out",
                               CACHE=top / "cache" / "unstall")


class FakeKernel(unittest.TestCase):
    """self.repo: our repository; self.linux: a user's tree, on branch 'work' with the series."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="unstall-test-")
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name).resolve() / "it"
        for start in (mock.patch.dict(os.environ), redirect_stdout(io.StringIO())):
            start.__enter__()
            self.addCleanup(start.__exit__, None, None, None)
        for name in VARIABLES:
            os.environ.pop(name, None)
        shutil.copytree(template(), self.top, symlinks=True)
        for patch in (rooms(self.top), mock.patch.object(tree, "TREE_BYTES", 1 << 20)):
            patch.start()
            self.addCleanup(patch.stop)
        self.repo, self.linux, self.build = self.top / "repo", self.top / "linux", self.top / "build"
        self.patches, self.out = self.repo / "patches" / BASE, self.top / "out" / BASE

    def load(self):
        return series.load(BASE)

    def refused(self, pattern, func, *args, **kwargs):
        with self.assertRaisesRegex(common.CannotRun, pattern) as raised:
            func(*args, **kwargs)
        return str(raised.exception)

    def edit(self, path, old, new):
        """Replaces text in a file, which must be there."""
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))

    def patch_file(self, number):
        return self.patches / series.read(BASE).patches[number].file

    # ---- what needs the scripts themselves

    def environment(self, **env):
        clean = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        return {**clean, "XDG_CACHE_HOME": str(self.top / "cache"),
                "UNSTALL_BUILD": str(self.build), "UNSTALL_OUT": str(self.top / "out"), **env}

    def script(self, name):
        """The path of a script that belongs to self.repo."""
        if not (self.repo / "scripts").exists():
            shutil.copytree(HERE.parent / "scripts", self.repo / "scripts",
                            ignore=shutil.ignore_patterns("__pycache__", "guest"))
        return str(self.repo / "scripts" / name)

    def run_script(self, name, cwd="/", umask=-1, **env):
        return subprocess.run([self.script(name)], text=True, capture_output=True, cwd=cwd,
                              env=self.environment(**env), check=False, umask=umask)

    def strange_config(self):
        """A user whose git is configured in every way that could hurt, as environment."""
        home = self.top / "home"
        for hook in ("applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit",
                     "commit-msg", "post-checkout", "reference-transaction", "post-commit",
                     "fsmonitor"):
            put(self.top, f"hooks/{hook}", f"#!/bin/sh\necho {hook} >> {self.top}/hooked\nexit 1\n",
                True)
        put(self.top, "excludes", "*.mine\n")
        put(self.top, "order", "tools/*\nmm/tests/*\n")
        for place in ("attributes", "home/.config/git/attributes"):
            put(self.top, place, "* text eol=crlf\n*.c diff=odd -diff\n")
        put(home, ".gitconfig", STRANGE_CONFIG.format(top=self.top))
        return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"),
                "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "GIT_DIR": "/nonexistent",
                "GIT_AUTHOR_NAME": "Wrong", "GIT_COMMITTER_DATE": "1 +0000",
                "GIT_DIFF_OPTS": "--unified=0", "GIT_EXTERNAL_DIFF": "/bin/false"}

    def strange_tree(self, folder):
        """Gives a tree the strange settings as its own."""
        self.strange_config()
        with open(folder / ".git" / "config", "a", encoding="utf-8") as f:
            f.write(STRANGE_CONFIG.format(top=self.top))

    def as_strange_user(self):
        """From here on, git in this process is that user's (not that of the tests)."""
        os.environ.update(self.strange_config())
