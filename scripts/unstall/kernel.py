# SPDX-License-Identifier: GPL-2.0
"""Configures and builds a kernel, and installs the selftests that run on it.

Output goes to a folder inside the source tree (O=guest), so that every path in
a compiler's command line is relative: two trees and two checkouts then share
what ccache holds.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import common, progress, vm
from .common import CannotRun, Failed

CONFIGS = common.ROOT / "configs"
FEW = 2                         # CPUs that the lean guest has
# KCSAN where the series is: elsewhere it would slow the kernel down and report what is not ours.
WATCH_MM = "KCSAN_SANITIZE=$(if $(filter mm,$(obj)),y,n)"
DISK_NEEDED = 3 << 30           # bytes, for one kernel's objects


@dataclass(frozen=True)
class Kernel:
    """One kernel to build: which source, for which machine, how checked."""
    tree: Path
    arch: vm.Arch
    debug: bool = False
    topics: tuple = ()          # whose KUnit suites are built in; none on the base
    folder: str = ""            # of its objects, where one tree has several kernels
    many: bool = False          # CPUs: more than FEW
    watched: bool = False       # for data races: KCSAN in mm
    start: str = "tinyconfig"   # what the fragments are merged over

    @property
    def flavour(self):
        words = ["debug" if self.debug else "guest"]
        if self.arch.name != "x86_64":
            words.append(self.arch.name)
        return "-".join(words + ["kcsan"] * self.watched + ["many"] * self.many)

    @property
    def out(self):
        return self.tree / (self.flavour + (f"-{self.folder}" if self.folder else ""))

    @property
    def image(self):
        return self.out / self.arch.image

    @property
    def modules(self):
        """What the guest sees as /lib/modules, or None."""
        folder = self.out / "modules" / "lib" / "modules"
        return folder if folder.is_dir() else None

    def fragments(self):
        names = ["guest", self.arch.like, self.arch.name]
        names += ["debug"] * self.debug + ["kcsan"] * self.watched + ["many"] * self.many
        files = [CONFIGS / f"{n}.config" for n in names]
        files += [CONFIGS / "topics" / f"{t}.config" for t in self.topics]
        return [f for f in files if f.exists()]

    def promised(self):
        """The fragments of which Kconfig must drop nothing."""
        return self.fragments()


def environment(kernel=None):
    """The environment of every make in a kernel tree: nothing of the caller's."""
    env = {k: v for k, v in os.environ.items()
           if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARCH",
                        "CROSS_COMPILE", "KBUILD_OUTPUT", "O", "V", "CC", "TARGETS", "DEBUG",
                        "LLVM")}
    env.update(CCACHE_DIR=env.get("CCACHE_DIR") or str(common.CACHE / "ccache"),
               CCACHE_NOHASHDIR="1", CCACHE_COMPILERCHECK="content",
               KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970",
               KBUILD_BUILD_USER="unstall", KBUILD_BUILD_HOST="unstall", LC_ALL="C")
    if kernel:
        env.update(kernel.arch.variables)
    return env


def compiler(cc):
    """A compiler as make's CC, by way of ccache where that is installed."""
    return f"ccache {cc}" if shutil.which("ccache") else cc


def make_command(kernel, *targets):
    return ["make", "-C", str(kernel.tree), f"O={kernel.out.name}", f"-j{os.cpu_count()}",
            f"CC={compiler(kernel.arch.cc)}", *[WATCH_MM] * kernel.watched, *targets]


def wanted_lines(fragments):
    for fragment in fragments:
        for line in fragment.read_text().splitlines():
            if line.startswith("CONFIG_") or re.fullmatch(r"# CONFIG_\w+ is not set", line):
                yield fragment, line


def config_is_honoured(kernel):
    """Refuses a .config that dropped what a fragment asks for."""
    have = set((kernel.out / ".config").read_text().splitlines())
    last = {}
    for fragment, line in wanted_lines(kernel.promised()):
        last[re.search(r"CONFIG_\w+", line)[0]] = (fragment, line)
    names = {line.split("=")[0] for line in have if line.startswith("CONFIG_")}
    for symbol, (fragment, line) in last.items():
        if symbol.removeprefix("CONFIG_") in kernel.arch.lacks:
            continue
        off = line.startswith("#")
        if symbol in names if off else line not in have:
            raise CannotRun(f"{fragment.name} asks for '{line}', and this kernel's Kconfig does "
                            "not grant it; mend the fragment (what does it depend on?).")


def configure(kernel):
    """Writes .config from where the kernel starts, and the fragments."""
    env = environment(kernel)
    common.run(*make_command(kernel, "-s", kernel.start), env=env)
    common.run("scripts/kconfig/merge_config.sh", "-m", "-O", kernel.out.name,
               f"{kernel.out.name}/.config", *kernel.fragments(), cwd=kernel.tree, env=env)
    common.run(*make_command(kernel, "-s", "olddefconfig"), env=env)
    config_is_honoured(kernel)


def digest(kernel):
    """Names what a build would be made of; None when the tree has uncommitted work."""
    state = subprocess.run(["git", "-C", kernel.tree, "status", "--porcelain"],
                           capture_output=True, text=True, check=False)
    if state.returncode or state.stdout:
        return None
    head = common.run("git", "-C", kernel.tree, "rev-parse", "HEAD^{tree}")
    h = hashlib.sha256(head.encode())
    for f in kernel.fragments():
        h.update(f.read_bytes())
    h.update(common.run(kernel.arch.cc, "--version").encode())
    return h.hexdigest()


def read_stamp(kernel):
    try:
        return json.loads((kernel.out / "unstall.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def config_digest(kernel):
    return hashlib.sha256(b"".join(f.read_bytes() for f in kernel.fragments())).hexdigest()


def first_error(log):
    """The first error of a failed build, as text for the user."""
    found = progress.first_error(Path(log).read_text(errors="replace"))
    return found.excerpt if found else f"(no error was recognised in {log})"


def run_make(kernel, label, targets, log, total):
    """Runs make with progress; the first error of a failed build is shown."""
    bar = progress.BuildProgress("build", total)
    with open(log, "w", encoding="utf-8", errors="replace") as out:
        make = vm.spawn(make_command(kernel, *targets), env=environment(kernel), text=True,
                        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        start_new_session=True)
        try:
            for line in make.stdout:
                out.write(line)
                if common.flag("V"):
                    print(line, end="")
                else:
                    bar.feed(line)
            make.wait()
        finally:
            if make.poll() is None:
                os.killpg(make.pid, signal.SIGTERM)
                make.wait()
    done = bar.finish()
    if make.returncode:
        raise Failed(f"{label} does not build; the first error is:\n\n{first_error(log)}\n\n"
                     f"The whole log is {log}.")
    return done


def build(kernel, label):
    """Builds a kernel and its modules unless nothing changed; returns the kernel."""
    vm.need(kernel.arch.cc, kernel.arch.compiler_package)
    now, stamp = digest(kernel), read_stamp(kernel)
    if now and stamp.get("digest") == now and kernel.image.exists():
        common.say(f"  build  {label}: nothing changed")
        return kernel
    if shutil.disk_usage(kernel.tree).free < DISK_NEEDED and not kernel.image.exists():
        raise CannotRun(f"a kernel's build needs {DISK_NEEDED >> 30} GiB, and the disk of "
                        f"{kernel.tree} has less; free some, or set UNSTALL_BUILD=/elsewhere.")
    start = time.monotonic()
    kernel.out.mkdir(exist_ok=True)
    (kernel.out / "unstall.json").unlink(missing_ok=True)
    total = None if kernel.image.exists() else stamp.get("objects", progress.DEFAULT_OBJECTS)
    if stamp.get("config") != config_digest(kernel) or not (kernel.out / ".config").exists():
        common.say(f"  config {label}: {', '.join(f.name for f in kernel.fragments())}")
        configure(kernel)
    targets = [Path(kernel.arch.image).name]
    if "CONFIG_MODULES=y" in (kernel.out / ".config").read_text():
        targets.append("modules")
    common.say(f"  build  {label}: {' '.join(targets)}")
    done = run_make(kernel, label, targets, kernel.out / "build.log", total)
    if "modules" in targets:
        install_modules(kernel)
    common.write_whole(kernel.out / "unstall.json", json.dumps(
        {"digest": now, "config": config_digest(kernel), "objects": max(done, stamp.get("objects", 0))}))
    common.say(f"  build  {label}: done in {common.duration(time.monotonic() - start)}")
    return kernel


def install_modules(kernel):
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    shutil.rmtree(kernel.out / "modules", ignore_errors=True)
    common.run(*make_command(kernel, "-s", "modules_install",
                             f"INSTALL_MOD_PATH={kernel.out / 'modules'}"),
               env=dict(environment(kernel), PATH=path))


def install_selftests(kernel):
    """Installs mm's selftests as 'make kselftest-install' does; returns the folder."""
    folder = kernel.out / "kselftest-installed"
    stamp = kernel.out / "kselftest.json"
    now = digest(kernel)
    if now and stamp.exists() and stamp.read_text() == now and folder.is_dir():
        common.say("  ksft   selftests: nothing changed")
        return folder
    start = time.monotonic()
    common.say("  ksft   building mm's selftests")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    log = kernel.out / "kselftest.log"
    with open(log, "wb") as out:
        for targets in (["headers"], ["kselftest-install", "TARGETS=mm", f"INSTALL_PATH={folder}"]):
            done = subprocess.run(make_command(kernel, "-s", *targets), env=environment(kernel),
                                  stdout=out, stderr=out, check=False)
            if done.returncode:
                break
    missing = [p for p in our_programs(kernel) if not (folder / "mm" / p).exists()]
    if done.returncode or missing or not (folder / "run_kselftest.sh").exists():
        raise Failed(f"mm's selftests do not build; the first error is:\n\n{first_error(log)}\n\n"
                     f"The whole log is {log}.")
    if now:
        common.write_whole(stamp, now)
    common.say(f"  ksft   selftests: done in {common.duration(time.monotonic() - start)}")
    return folder


def our_programs(kernel):
    """The selftest programs that the series adds and this tree has."""
    folder = common.ROOT / "tools" / "testing" / "selftests" / "mm"
    names = (p.name for p in folder.glob("ksft_*.sh"))
    return [n for n in names
            if (kernel.tree / "tools" / "testing" / "selftests" / "mm" / n).exists()]


def static_program(kernel, source, name):
    """Builds a program of tools/testing statically, for an initramfs."""
    folder = kernel.out / "static"
    stamp = folder / f"{name}.json"
    now = digest(kernel)
    if now and stamp.exists() and stamp.read_text() == now and (folder / name).exists():
        return folder / name
    folder.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    env = environment(kernel)
    common.run(*make_command(kernel, "-s", "headers"), env=env)
    log = folder / f"{name}.log"
    with open(log, "wb") as out:
        subprocess.run(["make", "-s", "-C", str(kernel.tree / source), f"OUTPUT={folder}",
                        f"CC={kernel.arch.cc}", "EXTRA_CFLAGS=-static",
                        f"KHDR_INCLUDES=-isystem {kernel.out}/usr/include", f"{folder}/{name}"],
                       env=env, stdout=out, stderr=out, check=False)
    if not (folder / name).exists():
        raise Failed(f"{name} does not build statically for {kernel.arch.name}; "
                     f"the first error is:\n\n{first_error(log)}")
    if now:
        common.write_whole(stamp, now)
    return folder / name


def build_workloads(kernel, source):
    """Builds a folder of benchmark workloads; returns where the programs are."""
    folder = kernel.out / "workloads"
    folder.mkdir(exist_ok=True)
    common.run("make", "-s", "-C", kernel.tree / source, f"OUTPUT={folder}",
               f"CC={kernel.arch.cc}", env=environment(kernel))
    return folder
