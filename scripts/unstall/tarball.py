# SPDX-License-Identifier: GPL-2.0
"""Gets the base's release tarball: from the cache, through apt, or from its URL.

Whatever the source, the file counts only when its sha256 is one of the pinned.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from . import common, progress
from .common import CannotRun, say

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIB = 1 << 20


class Unavailable(Exception):
    """This source does not have the tarball; the next one may."""


def folder():
    return common.CACHE / "tarballs"


def names(pin):
    """The file names under which the tarball may lie in the cache."""
    found = [t.name for t in pin.tarballs]
    if pin.url:
        found.append(pin.url.rsplit("/", 1)[-1])
    return list(dict.fromkeys(found))


def obtain(pin):
    """The path of the base's tarball, whose sum is right."""
    folder().mkdir(parents=True, exist_ok=True)
    with _one_at_a_time():
        found = cached(pin)
        if found:
            return found
        reasons = []
        for source in (from_apt, from_url):
            try:
                return source(pin)
            except Unavailable as err:
                reasons.append(str(err))
    raise CannotRun(
        f"the source of {pin.version} cannot be fetched:\n" + "".join(f"  {r}\n" for r in reasons) +
        f"Give LINUX=/path/to/a/tree/of/{pin.version}, or put the tarball at "
        f"{folder() / names(pin)[-1]} (sha256 {pin.tarballs[0].sha256}) and run this again.")


@contextlib.contextmanager
def _one_at_a_time():
    """The cache is shared by all checkouts of a user."""
    with open(folder() / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  fetch  another checkout fetches the base; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder().glob(".fetch.*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def cached(pin):
    """The tarball in the cache, or None; one with a wrong sum is put aside and refused."""
    for name in names(pin):
        path = folder() / name
        if path.exists():
            return verified(pin, path)
    return None


def sha256(path):
    digest, total = hashlib.sha256(), path.stat().st_size
    ticker = progress.Ticker()
    with open(path, "rb") as f:
        while chunk := f.read(4 * MIB):
            digest.update(chunk)
            if total > 64 * MIB:
                ticker.show(f"  check  {path.name}: {100 * f.tell() // total}%")
    ticker.close(erase=True)
    return digest.hexdigest()


def verified(pin, path):
    """Returns a tarball whose sum is right; else puts it aside and refuses."""
    have = sha256(path)
    wanted = [t.sha256 for t in pin.tarballs]
    if have in wanted:
        return path
    aside = path.with_name(path.name + ".wrong")
    path.replace(aside)
    raise CannotRun(f"{path} has the sha256\n  {have}\nand the base pins\n  " +
                    "\n  ".join(wanted) + f"\nIt is now {aside} and is not used; run this again "
                    "to fetch the tarball anew.")


def keep(pin, part, name):
    """Takes a download into the cache."""
    path = folder() / name
    part.replace(path)
    return verified(pin, path)


@contextlib.contextmanager
def _download_folder():
    """A place in the cache for a download; leftovers go at the next start."""
    path = folder() / f".fetch.{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def need_space(path, size, what):
    """Refuses a job that the disk has no room for."""
    path = Path(path)
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < size:
        raise CannotRun(f"{what} needs {size // MIB} MiB and the disk of {path} has {free // MIB} "
                        "MiB free; free some, or set UNSTALL_BUILD (trees) or XDG_CACHE_HOME "
                        "(downloads) to a place that has more.")


def follow(command, watched, size, label, **kwargs):
    """Runs a download and shows how far it is; returns (status, what it printed)."""
    ticker = progress.Ticker()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", stdin=subprocess.DEVNULL, **kwargs) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=0.2)
                    return process.returncode, output
                except subprocess.TimeoutExpired:
                    done = sum(f.stat().st_size for f in watched.rglob("*") if f.is_file())
                    ticker.show(f"  fetch  {label}: {done // MIB} of {size // MIB} MiB, "
                                f"{min(100, 100 * done // size)}%")
        finally:
            ticker.close(erase=True)
            if process.poll() is None:
                process.terminate()
                process.wait()


# ------------------------------------------------------------------------- apt

def from_apt(pin):
    """The distribution's source package; apt checks the chain of signatures."""
    if not pin.source:
        raise Unavailable("apt: the base names no source package.")
    if not shutil.which("apt-get"):
        raise Unavailable("apt: there is no apt-get here.")
    mirrors = debian_mirrors()
    if not mirrors:
        raise Unavailable("apt: this machine is configured for no mirror of Debian.")
    for mirror in mirrors:
        apt = Apt(mirror, pin.suite)
        try:
            return apt.fetch(pin)
        except Unavailable as err:
            last = err
    raise last


def debian_mirrors():
    """The mirrors of Debian that apt is configured for, without their names in any file."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)",
         "Created-By: Packages"], capture_output=True, text=True, check=False)
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 3]
    sure = [r[0] for r in rows if r[1:3] == ["Debian", "Debian"]]
    # Before the first 'apt-get update' apt does not know whose a repository is; the
    # signature tells then.
    open_ = [r[0] for r in rows if r[1].startswith("$(") or not r[1]]
    return list(dict.fromkeys(sure or [u for u in open_ if u.rstrip("/").endswith("/debian")]))


class Apt:
    """apt with a state of its own under build/: the machine's stays as it is."""

    def __init__(self, mirror, suite):
        self.state = common.BUILD / "apt"
        self.suite = suite
        for name in ("lists/partial", "archives/partial"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        common.write_whole(self.state / "sources.list",
                           f"deb-src {signed}{mirror} {suite} main\n")

    def command(self, tool, *args):
        options = {"Dir::Etc::sourcelist": self.state / "sources.list",
                   "Dir::Etc::sourceparts": "-", "Dir::State::lists": self.state / "lists",
                   "Dir::Cache::archives": self.state / "archives", "Dir::Cache::pkgcache": "",
                   "Dir::Cache::srcpkgcache": "", "Acquire::Retries": "1",
                   "Acquire::http::Timeout": "20", "Acquire::https::Timeout": "20",
                   "Acquire::Languages": "none"}
        if os.geteuid() == 0:
            options["APT::Sandbox::User"] = "root"
        return [tool, "-q", *[f"-o{k}={v}" for k, v in options.items()], *map(str, args)]

    def run(self, tool, *args):
        done = subprocess.run(self.command(tool, *args), capture_output=True, text=True,
                              errors="replace", check=False, stdin=subprocess.DEVNULL)
        wrong = re.search(r"^E: .*|^W: Failed to fetch.*", done.stderr, re.M)
        if done.returncode or wrong:
            what = wrong[0] if wrong else f"status {done.returncode}"
            raise Unavailable(f"apt: '{tool} {args[0]}' for {self.suite} failed: {what}")
        return done.stdout

    def fetch(self, pin):
        say(f"  fetch  asking the configured Debian mirror for {pin.version} in {pin.suite}")
        self.run("apt-get", "update")
        stanzas = self.run("apt-cache", "showsrc", "--only-source", pin.source).split("\n\n")
        version, tarball = choose(pin, stanzas)
        need_space(folder(), tarball.size + 64 * MIB, "the download")
        start = time.monotonic()
        with _download_folder() as part:
            status, output = follow(
                self.command("apt-get", "source", "--download-only", "--tar-only",
                             f"{pin.source}={version}"), part, tarball.size, tarball.name, cwd=part)
            if status or not (part / tarball.name).exists():
                wrong = re.search(r"^E: .*", output, re.M)
                raise Unavailable(f"apt: the download of {tarball.name} failed: "
                                  f"{wrong[0] if wrong else output[-200:].strip()}")
            path = keep(pin, part / tarball.name, tarball.name)
        say(f"  fetch  {tarball.name}: {tarball.size // MIB} MiB in "
            f"{common.duration(time.monotonic() - start)}")
        return path


def choose(pin, stanzas):
    """(version, tarball) of the source package that has a pinned tarball."""
    seen = []
    for stanza in stanzas:
        version = re.search(r"^Version: (\S+)$", stanza, re.M)
        if not version:
            continue
        seen.append(version[1])
        for tarball in pin.tarballs:
            if re.search(rf"^ {tarball.sha256} \d+ {re.escape(tarball.name)}$", stanza, re.M):
                return version[1], tarball
    raise Unavailable(f"apt: {pin.suite} has {pin.source} {', '.join(seen) or 'in no version'}, "
                      f"and none of them is made of the pinned tarball of {pin.version}.")


# ------------------------------------------------------------------------- URL

def from_url(pin):
    """The tarball from where the release is published."""
    if not pin.url:
        raise Unavailable("download: the base names no URL.")
    if not shutil.which("curl"):
        raise Unavailable("download: curl is not installed; 'make deps' installs it.")
    name, size = names(pin)[-1], pin.tarballs[0].size
    need_space(folder(), size + 64 * MIB, "the download")
    say(f"  fetch  {pin.url}")
    start = time.monotonic()
    with _download_folder() as part:
        status, output = follow(
            ["curl", "-q", "--fail", "--silent", "--show-error", "--location", "--proto", "=https",
             "--connect-timeout", "10", "--speed-limit", "1000", "--speed-time", "30",
             "--output", str(part / name), pin.url], part, size, name)
        if status:
            raise Unavailable(f"download: {output.strip() or f'curl failed with status {status}'}")
        path = keep(pin, part / name, name)
    say(f"  fetch  {name}: {size // MIB} MiB in {common.duration(time.monotonic() - start)}")
    return path
