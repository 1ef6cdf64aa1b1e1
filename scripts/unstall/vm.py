# SPDX-License-Identifier: GPL-2.0
"""Boots a kernel in QEMU, runs steps in it, and brings back what they printed.

The guest is made anew for every boot: on x86-64 the host's root file system,
read-only over 9p with a tmpfs over it; elsewhere an initramfs of static
programs.  Nothing needs root and nothing is written outside the run's folder.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import common
from .common import CannotRun

GUEST_SOURCES = common.ROOT / "scripts" / "guest"
BOOT_TIMEOUT = 120
PROBE_TIMEOUT = 10
GRACE = 30          # what a guest gets beyond its steps' own limits
HOST_ARCH = {"amd64": "x86_64"}.get(os.uname().machine, os.uname().machine)

FRAME = re.compile(r"^@@unstall (ready|done|begin (\S+)|end (\S+) (\S+) (\d+))$", re.M)


@dataclass(frozen=True)
class Arch:
    """What differs between the guests of two architectures."""
    name: str
    qemu: str
    package: str
    machine: tuple
    console: str
    image: str
    cc: str
    cross: str
    host_root: bool     # the guest's root is the host's, over 9p
    cpu: str = "max"    # QEMU's best
    lacks: tuple = ()   # options of the fragments that it has not
    gate: bool = True   # each commit is compiled for it, and its machine code is looked at
    like: str = ""      # the one whose fragment comes before its own
    page: int = 4096    # size in bytes

    @property
    def compiler_package(self):
        """Debian's package that has its compiler."""
        return "-".join(["gcc", *self.cross.split("-")[:-1]])

    @property
    def folder(self):
        """Its folder in the kernel's arch/."""
        return self.image.split("/")[1]

    @property
    def variables(self):
        """What make is told in a kernel tree."""
        names = {"ARCH": self.name if self.folder == "x86" else self.folder}
        return names | ({"CROSS_COMPILE": self.cross} if self.cross else {})


ARCHES = {
    "x86_64": Arch("x86_64", "qemu-system-x86_64", "qemu-system-x86", ("-machine", "q35"),
                   "ttyS0", "arch/x86/boot/bzImage", "gcc", "", True),
    "arm64": Arch("arm64", "qemu-system-aarch64", "qemu-system-arm", ("-machine", "virt"),
                  "ttyAMA0", "arch/arm64/boot/Image", "aarch64-linux-gnu-gcc",
                  "aarch64-linux-gnu-", False),
    "riscv64": Arch("riscv64", "qemu-system-riscv64", "qemu-system-misc", ("-machine", "virt"),
                    "ttyS0", "arch/riscv/boot/Image", "riscv64-linux-gnu-gcc",
                    "riscv64-linux-gnu-", False, cpu="rv64", gate=False,
                    lacks=("HWPOISON_INJECT", "MEMORY_FAILURE")),
    "s390x": Arch("s390x", "qemu-system-s390x", "qemu-system-misc",
                  ("-machine", "s390-ccw-virtio"), "ttysclp0", "arch/s390/boot/bzImage",
                  "s390x-linux-gnu-gcc", "s390x-linux-gnu-", False, gate=False,
                  lacks=("HWPOISON_INJECT", "MEMORY_FAILURE", "NUMA")),
}
ARCHES["arm64-64k"] = replace(ARCHES["arm64"], name="arm64-64k", gate=False, like="arm64",
                              page=65536)


@dataclass
class Step:
    """One command in the guest, with the seconds that it may take.

    The guest ends it by its own clock. Under icount that one leaps while the guest
    waits for the host, so there it may get another limit, and the host keeps time.
    """
    name: str
    command: str
    seconds: int = 600
    guest_seconds: int = 0      # 0: the same


@dataclass
class StepResult:
    """How a step ended: its exit status, "timeout", or "died" with the guest."""
    name: str
    status: str
    seconds: float
    output: str

    @property
    def ended(self):
        return self.status not in ("died", "timeout")


@dataclass
class Boot:
    """What to boot, and how."""
    image: Path
    arch: Arch
    smp: int = 2
    mem: int = 4096                 # MiB
    numa: int = 1
    accel: str = "tcg"
    icount: bool = False
    append: str = ""
    modules: Path = None            # a folder to show as /lib/modules
    programs: tuple = ()            # static programs for the initramfs' /bin
    disks: bool = True
    boot_timeout: int = BOOT_TIMEOUT


@dataclass
class Run:
    """A boot that ended."""
    folder: Path
    seconds: float
    booted: bool
    done: bool                      # the guest reached the end of its job
    why: str                        # why not, in words
    steps: list = field(default_factory=list)

    @property
    def console(self):
        return self.folder / "console.log"


def settings_from_environment(boot):
    """Applies SMP=, MEM=, NUMA= and ACCEL= to a Boot."""
    boot.smp = wanted_cpus(boot.smp)
    boot.mem = common.number("MEM", boot.mem, 512, 1 << 20)
    boot.numa = nodes()
    if boot.numa > 1 and boot.mem // boot.numa < 256:
        raise CannotRun(f"NUMA={boot.numa} leaves less than 256 MiB a node; "
                        f"set MEM={256 * boot.numa} or more.")
    free = memory_available()
    if boot.mem > free:
        raise CannotRun(f"MEM={boot.mem} MiB is more than the {free} MiB free on this machine.")
    return boot


def check_settings():
    """Refuses impossible values before somebody has waited for a build."""
    settings_from_environment(Boot(None, None))
    wanted_accelerator()


def wanted_cpus(default=2):
    """SMP=, the number of the guest's CPUs."""
    return common.number("SMP", default, 1, 64)


def nodes():
    """NUMA=, the number of the guest's memory nodes."""
    return common.number("NUMA", 1, 1, 8)


def memory_available():
    """MiB that this machine can still give."""
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s+(\d+)", text, re.M)[1]) // 1024


def die_with_parent():
    """Run in QEMU's process: it must not outlive us, however we end."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


def need(program, package):
    if not shutil.which(program):
        raise CannotRun(f"{program} is not installed; run 'make deps', "
                        f"or 'apt-get install {package}'.")
    return program


def guest_program(name, arch):
    """Compiles a program of scripts/guest statically, unless that is done."""
    source = GUEST_SOURCES / f"{name}.c"
    binary = common.BUILD / "guest" / arch.name / name
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    need(arch.cc, arch.compiler_package)
    part = binary.with_suffix(".part")
    common.run(arch.cc, "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", part, source)
    part.replace(binary)
    return binary


def make_initramfs(folder, boot, steps):
    """Packs init, the job and the static programs of the guest."""
    root = folder / "initramfs"
    (root / "unstall").mkdir(parents=True)
    shutil.copy2(guest_program("init", boot.arch), root / "init")
    job = "".join(f"{s.name}\t{s.guest_seconds or s.seconds}\t{s.command}\n" for s in steps)
    (root / "unstall" / "job").write_text(job)
    for d in ("proc", "sys", "dev", "tmp", "run", "bin"):
        (root / d).mkdir()
    for program in boot.programs:
        shutil.copy2(program, root / "bin" / Path(program).name)
    need("cpio", "cpio")
    names = "\n".join(str(p.relative_to(root)) for p in sorted(root.rglob("*")))
    with open(folder / "initramfs.cpio", "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root,
                       input=names.encode(), stdout=out, check=True)
    shutil.rmtree(root)
    return folder / "initramfs.cpio"


def make_disks(folder, page):
    """A scratch ext4 and a swap disk for pages of that size, sparse and new for every boot."""
    made = []
    for name, size, tool in (("scratch", 2 << 30, ("mkfs.ext4", "-q", "-F", "-O", "^has_journal")),
                             ("swap", 1 << 30, ("mkswap", "-q", "-p", str(page)))):
        disk = folder / f"{name}.img"
        with open(disk, "wb") as f:
            f.truncate(size)
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        if not shutil.which(tool[0], path=path):
            raise CannotRun(f"{tool[0]} is not installed; run 'make deps'.")
        common.run(*tool, disk, env=dict(os.environ, PATH=path))
        made.append((name, disk))
    return made


def folders_in_tmp(*paths):
    """The folders right in /tmp that hold some of the paths: the guest has a /tmp of its own."""
    real = [Path(p).resolve().parts for p in paths if p]
    return sorted({f"/tmp/{parts[2]}" for parts in real if parts[:2] == ("/", "tmp") and len(parts) > 2})


def kernel_command_line(boot, shell):
    words = [f"console={boot.arch.console}", "panic=-1", "oops=panic", "loglevel=7",
             "rdinit=/init", "log_buf_len=4M"]
    if boot.arch.host_root:
        words.append("unstall.root=9p")
    if boot.modules:
        words.append(f"unstall.modules={boot.modules}")
    kept = folders_in_tmp(common.ROOT, common.BUILD, boot.modules)
    if boot.arch.host_root and kept:
        words.append(f"unstall.keep={','.join(kept)}")
    if shell:
        words.append("unstall.shell")
    if boot.append:
        words.append(boot.append)
    return " ".join(words)


def accelerator(boot):
    if boot.icount:
        # The same random numbers and the same date in each boot.
        return ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu",
                boot.arch.cpu,
                "-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]
    if boot.accel == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", boot.arch.cpu]


def cpus(boot):
    """A socket for each CPU where there are nodes: one that spans two makes Linux warn."""
    return f"{boot.smp},sockets={boot.smp},cores=1" if boot.numa > 1 else str(boot.smp)


def numa_nodes(boot):
    """As many CPUs in each node, the rest in the last; nodes beyond the CPUs have none."""
    args = []
    share, cpus_each = boot.mem // boot.numa, max(1, boot.smp // boot.numa)
    for node in range(boot.numa):
        first = node * cpus_each
        last = boot.smp - 1 if node == boot.numa - 1 else first + cpus_each - 1
        size = boot.mem - share * (boot.numa - 1) if node == 0 else share
        own = f",cpus={first}-{last}" if first < boot.smp else ""
        args += ["-object", f"memory-backend-ram,id=mem{node},size={size}M",
                 "-numa", f"node,nodeid={node},memdev=mem{node}{own}"]
    return args


def qemu_command(folder, boot, steps, shell=False):
    """QEMU's command line; its files are made in the folder."""
    need(boot.arch.qemu, boot.arch.package)
    cmd = [boot.arch.qemu, *boot.arch.machine, *accelerator(boot), "-smp", cpus(boot),
           "-m", f"{boot.mem}M", "-nodefaults", "-display", "none", "-no-reboot",
           "-kernel", str(boot.image), "-initrd", str(make_initramfs(folder, boot, steps)),
           "-append", kernel_command_line(boot, shell)]
    if boot.numa > 1:
        cmd += numa_nodes(boot)
    if boot.arch.host_root:
        cmd += ["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
                "-device", "virtio-9p-pci,fsdev=root,mount_tag=hostfs"]
    if boot.disks:
        for name, disk in make_disks(folder, boot.arch.page):
            cmd += ["-drive", f"file={disk},if=none,id={name},format=raw,cache=unsafe",
                    "-device", f"virtio-blk,drive={name},serial={name}"]
    if shell:
        return cmd + ["-serial", "mon:stdio"]
    return cmd + ["-serial", f"file:{folder / 'console.log'}",
                  "-device", "virtio-serial",
                  "-chardev", f"file,id=output,path={folder / 'output'}",
                  "-device", "virtserialport,chardev=output,name=unstall.output"]


class Watch:
    """Follows what a running guest says, and says when it said nothing too long."""

    def __init__(self, folder, steps, boot_timeout, on_begin, on_text):
        self.path = folder / "output"
        self.limits = {s.name: s.seconds for s in steps}
        self.on_begin, self.on_text = on_begin, on_text
        self.offset, self.rest = 0, ""
        self.ready = self.done = False
        self.deadline = time.monotonic() + boot_timeout
        self.running = None

    def poll(self):
        try:
            with open(self.path, "rb") as f:
                f.seek(self.offset)
                data = f.read()
        except FileNotFoundError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest + data.decode(errors="replace")).split("\n")
        for line in lines:
            self.line(line)

    def line(self, line):
        m = FRAME.match(line)
        if not m:
            self.on_text(self.running, line)
            return
        now = time.monotonic()
        if m[1] == "ready":
            self.ready, self.deadline = True, now + GRACE
        elif m[1] == "done":
            self.done, self.deadline = True, now + GRACE
        elif m[2]:
            self.running, self.deadline = m[2], now + self.limits.get(m[2], 0) + GRACE
            self.on_begin(m[2])
        else:
            self.running, self.deadline = None, now + GRACE

    def overdue(self):
        return time.monotonic() > self.deadline

    def why(self, exited):
        """Why the guest did not reach the end of its job, in words."""
        if not self.ready:
            return ("the guest stopped before it was up" if exited else
                    "the guest did not come up in time")
        where = f"in step '{self.running}'" if self.running else "between two steps"
        return (f"the guest died {where}" if exited else
                f"the guest no longer answered {where}")


def split_output(text, steps):
    """Cuts the guest's output into steps; what never began is "died" too."""
    results, open_step, start = {}, None, 0
    for m in FRAME.finditer(text):
        if m[2]:
            open_step, start = m[2], m.end() + 1
        elif m[3]:
            out = text[start:m.start()]
            out = out[:-1] if out.endswith("\n") else out
            results[m[3]] = StepResult(m[3], m[4], int(m[5]) / 1000, out)
            open_step = None
    if open_step:
        results[open_step] = StepResult(open_step, "died", 0, text[start:])
    return [results.get(s.name) or StepResult(s.name, "died", 0, "") for s in steps]


def spawn(cmd, **kwargs):
    return subprocess.Popen(cmd, preexec_fn=die_with_parent, **kwargs)  # pylint: disable=W1509


def stop(qemu):
    if qemu.poll() is None:
        qemu.kill()
    qemu.wait()


def boot_and_run(boot, steps, folder, on_begin=lambda name: None, on_text=lambda step, line: None):
    """Boots, runs the steps, and returns a Run; QEMU is gone afterwards.

    The folder is emptied first and keeps console.log, output and the command
    line.  A guest that dies or hangs is no exception here: the Run says so.
    """
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cmd = qemu_command(folder, boot, steps)
    (folder / "command").write_text(" ".join(cmd) + "\n")
    start = time.monotonic()
    watch = Watch(folder, steps, boot.boot_timeout, on_begin, on_text)
    with open(folder / "qemu.log", "wb") as log:
        qemu = spawn(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while qemu.poll() is None and not watch.overdue():
                time.sleep(0.05)
                watch.poll()
            exited = qemu.poll() is not None
        finally:
            stop(qemu)
            for leftover in ("scratch.img", "swap.img", "initramfs.cpio"):
                (folder / leftover).unlink(missing_ok=True)
    watch.poll()
    error = (folder / "qemu.log").read_text(errors="replace").strip()
    if qemu.returncode and exited and not watch.ready:
        raise CannotRun(f"QEMU ended with status {qemu.returncode}: {error or 'it gave no reason'}")
    output = folder / "output"
    text = output.read_text(errors="replace").replace("\r\n", "\n") if output.exists() else ""
    return Run(folder, time.monotonic() - start, watch.ready, watch.done,
               "" if watch.done else watch.why(exited), split_output(text, steps))


def interactive(boot):
    """A shell in the guest on this terminal; Ctrl-A X ends it."""
    with tempfile.TemporaryDirectory(prefix="shell-", dir=ensure(common.BUILD / "vm")) as folder:
        cmd = qemu_command(Path(folder), boot, [], shell=True)
        qemu = spawn(cmd)
        try:
            while True:
                try:
                    return qemu.wait()
                except KeyboardInterrupt:
                    continue            # Ctrl-C belongs to the guest's shell
        finally:
            stop(qemu)


def ensure(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kvm_works(boot):
    """Whether a kernel boots under KVM here: an openable /dev/kvm proves nothing.

    The verdict of a probe boot is kept until the machine is booted again.
    """
    if boot.arch.name != HOST_ARCH or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    verdict = common.BUILD / "vm" / "kvm"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if verdict.exists() and verdict.read_text().startswith(boot_id):
        return verdict.read_text().endswith("yes\n")
    common.say(f"  kvm    a probe boot shows whether KVM works (at most {PROBE_TIMEOUT} s)")
    probe = Boot(boot.image, boot.arch, smp=1, mem=512, accel="kvm", disks=False,
                 boot_timeout=PROBE_TIMEOUT)
    try:
        works = boot_and_run(probe, [], common.BUILD / "vm" / "probe").done
    except CannotRun:
        works = False
    common.write_whole(verdict, f"{boot_id} {'yes' if works else 'no'}\n")
    common.say(f"  kvm    {'works' if works else 'does not boot a kernel here; TCG it is'}")
    return works


def wanted_accelerator():
    return common.choice("ACCEL", ("auto", "tcg", "kvm"), "auto")


def choose_accelerator(boot):
    """ACCEL=auto (default), tcg or kvm."""
    wanted = wanted_accelerator()
    if wanted == "kvm" and not kvm_works(boot):
        raise CannotRun("ACCEL=kvm: no kernel boots under KVM on this machine; use ACCEL=tcg.")
    boot.accel = "kvm" if wanted == "kvm" or wanted == "auto" and kvm_works(boot) else "tcg"
    return boot
