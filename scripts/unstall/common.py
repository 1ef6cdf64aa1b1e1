# SPDX-License-Identifier: GPL-2.0
"""What every host script shares: where things are, how to say no, how to end.

Exit codes, the same for every script:

    0    done, and every test passed
    1    it ran, and tests or checks failed
    2    it could not run: something is missing, wrong or was refused
    3    the virtual machine died or hung before the command ended
    130  interrupted

make(1) turns each of the first three failures into its own 2; it prints the
script's code as "Error N".
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

EXIT_OK, EXIT_FAILED, EXIT_CANNOT_RUN, EXIT_VM_DIED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

ROOT = Path(__file__).resolve().parents[2]
PATCHES = ROOT / "patches"
BUILD = Path(os.environ.get("UNSTALL_BUILD") or ROOT / "build")
OUT = Path(os.environ.get("UNSTALL_OUT") or ROOT / "out")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unstall"


class CannotRun(Exception):
    """A sentence that says what is missing or wrong, and what to do about it."""


class Failed(Exception):
    """It ran and something that was checked is not right."""


class VMDied(Exception):
    """The guest stopped before the command in it ended."""


def say(*words):
    """Prints one line of progress at once, also when the output is a pipe."""
    print(*words, flush=True)


def choice(name, allowed, default):
    """Reads the environment variable `name`, one of `allowed`; else refuses."""
    value = os.environ.get(name) or default
    if value not in allowed:
        raise CannotRun(f"{name}={value} is not known; it is one of: {', '.join(allowed)}.")
    return value


def number(name, default, low, high):
    """Reads a whole number in [low, high] from the environment; else refuses."""
    text = os.environ.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
        raise CannotRun(f"{name}={text} is not possible; give a whole number from {low} to {high}.")
    return int(text)


def flag(name):
    """Reads an on/off variable: unset, empty or 0 is off, 1 is on."""
    return choice(name, ("0", "1"), "0") == "1"


def bases():
    """The names of the bases that the series is kept for, oldest first."""
    return sorted(p.parent.name for p in PATCHES.glob("*/base"))


def base_name():
    """The base to work on: BASE=, or the newest that patches/ has."""
    known = bases()
    if not known:
        raise CannotRun("patches/ holds no base; this checkout is not complete.")
    return choice("BASE", known, known[-1])


def run(*cmd, **kwargs):
    """Runs a command and returns its output; a failure raises CannotRun with it."""
    cmd = [str(c) for c in cmd]
    try:
        done = subprocess.run(cmd, text=True, capture_output=True, check=False, **kwargs)
    except FileNotFoundError as err:
        raise CannotRun(f"'{cmd[0]}' is not installed; 'make doctor' names its package.") from err
    if done.returncode:
        detail = (done.stderr or done.stdout).strip()
        raise CannotRun(f"'{' '.join(cmd)}' failed with status {done.returncode}:\n{detail}")
    return done.stdout


def duration(seconds):
    """4 s, 3 min 05 s, 1 h 02 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def write_whole(path, text):
    """Writes a file so that nobody, not even after a crash, sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if isinstance(text, str):
        text = text.encode()
    part.write_bytes(text)
    part.replace(path)


@contextlib.contextmanager
def lock():
    """Only one job at a time works in build/: kernels need both the disk and the CPUs."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / ".lock", "a+", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            raise CannotRun(f"another job ({f.read().strip() or 'of this checkout'}) works in "
                            f"{BUILD}; wait for it, or stop it.") from None
        f.truncate(0)
        f.write(f"{Path(sys.argv[0]).name}, process {os.getpid()}\n")
        f.flush()
        yield


def last_times():
    """Seconds that each target of the Makefile took when it last ended well."""
    try:
        return json.loads((BUILD / "times.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def remember_time(seconds):
    target = os.environ.get("UNSTALL_TARGET")
    if target and BUILD.is_dir():
        write_whole(BUILD / "times.json", json.dumps({**last_times(), target: round(seconds, 1)},
                                                     indent=1, sort_keys=True) + "\n")


def script(func):
    """Runs a script's main function and turns what it raises into an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    start = time.monotonic()
    try:
        code = func() or EXIT_OK
    except CannotRun as err:
        print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr, flush=True)
        code = EXIT_CANNOT_RUN
    except Failed as err:
        print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr, flush=True)
        code = EXIT_FAILED
    except VMDied as err:
        print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr, flush=True)
        code = EXIT_VM_DIED
    except OSError as err:
        print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr, flush=True)
        code = EXIT_CANNOT_RUN
    except KeyboardInterrupt:
        print(f"\n{Path(sys.argv[0]).name}: interrupted after {duration(time.monotonic() - start)}.",
              file=sys.stderr, flush=True)
        code = EXIT_INTERRUPTED
    if code == EXIT_OK:
        remember_time(time.monotonic() - start)
    sys.exit(code)
