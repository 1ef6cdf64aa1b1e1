# SPDX-License-Identifier: GPL-2.0
"""Shows that a test kills each mutant of tests/mutants/ (make mutants).

A mutant is a patch against a file of the series with a mistake that somebody could
make. Its header says which tests notice it, one line for each kind:

	Killed by: mm/CATEGORY TEST...	kselftests of the program CATEGORY
	Killed by: kunit/SUITE TEST...	KUnit tests
	Killed by: gate x86_64 arm64	the machine code, which make check looks at
	Killed by: vma TEST...		tools/testing/vma, which make check runs

Each test that is named must fail, in one of its variants at least. They run by
themselves: the whole category would take minutes.
"""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from . import checks, common, kernel as kernels, ktap, targets, testrun, vm
from .common import CannotRun, ROOT

FOLDER = ROOT / "tests" / "mutants"
KILLER = re.compile(r"^Killed by: (\S+)((?: \S+)+)$", re.M)
PROGRAM = "/mnt/scratch/ksft/mm"
SECONDS = 400


@dataclass(frozen=True)
class Killer:
    """Tests that notice a mutant: of a category, a suite, the gate or the VMA tests."""
    kind: str
    tests: tuple

    @property
    def name(self):
        """Of the category or suite."""
        return self.kind.partition("/")[2]

    def is_in_guest(self):
        return self.kind.startswith(("mm/", "kunit/"))


@dataclass
class Mutant:
    """A patch, and who kills it."""
    path: Path
    what: str               # the mistake, in words
    killers: list = field(default_factory=list)

    @property
    def name(self):
        return self.path.stem


def read(path):
    """A mutant from its file."""
    header = path.read_text().partition("\n--- ")[0]
    tests_of = {}           # A long line of one kind is several.
    for kind, tests in KILLER.findall(header):
        tests_of.setdefault(kind, []).extend(tests.split())
    killers = [Killer(kind, tuple(tests)) for kind, tests in tests_of.items()]
    for killer in killers:
        if not re.fullmatch(r"(mm|kunit)/\w+|gate|vma", killer.kind):
            raise CannotRun(f"{path.name}: nobody knows how '{killer.kind}' kills.")
    if not killers:
        raise CannotRun(f"{path.name} does not say what kills it: 'Killed by: mm/CATEGORY TEST'.")
    return Mutant(path, header.partition("Killed by:")[0].strip(), killers)


def select(words, folder=FOLDER):
    """The mutants that match any of the words, which may have wildcards; all by default."""
    known = [read(path) for path in sorted(folder.glob("*.patch"))]
    for word in words:
        if not any(fnmatchcase(m.name, word) for m in known):
            raise CannotRun(f"M={word} matches no mutant; there are: "
                            f"{', '.join(m.name for m in known)}.")
    return [m for m in known if not words or any(fnmatchcase(m.name, w) for w in words)]


def patched_tree(mutant):
    """A worktree of the series with one mutant in it; what was in it before is gone."""
    ours, names = targets.tree("ours")
    tip = common.run("git", "-C", ours, "rev-parse", "HEAD").strip()
    path = checks.detached_tree(common.base_name(), tip, "mutant")
    common.run("patch", "-s", "-p1", "-d", path, "-i", mutant.path)
    return path, names


def step_of(killer):
    """The step in the guest that runs just the tests that are named."""
    if killer.kind.startswith("kunit/"):
        return vm.Step("kunit", "kunit", 60)
    options = " ".join(f"-t {t.rpartition('.')[2]}" for t in killer.tests)
    return vm.Step(killer.name, f"cd {PROGRAM} && ./{killer.name} {options}", SECONDS)


def names_of(test):
    """What a result may be called: a KUnit case by itself, FIXTURE.TEST and TEST in any variant."""
    found = set()
    for part in test.split("/"):
        words = part.split(".")
        found |= {part, words[-1], f"{words[0]}.{words[-1]}"}
    return found


def survived(killer, step):
    """The tests of one step that did not fail.

    One in which the program hangs, or the guest dies, has noticed; those behind it had
    no chance to. If that was in no test, something else went wrong.
    """
    parse = ktap.parse_kunit if step.name == "kunit" else ktap.parse_kselftest
    failed = [r for r in ktap.flatten(parse(step.output)) if r.status in ktap.BAD]
    known = set().union(*(names_of(r.name) for r in failed))
    ended = any(r.status == ktap.CRASHED and names_of(r.name) & set(killer.tests) for r in failed)
    if ended and step.status in ("died", "timeout"):
        return []
    return [f"{killer.kind} {t}" for t in killer.tests if t not in known]


def judge(mutant, done, folder):
    """None if all tests that are named failed; else which did not."""
    steps = {s.name: s for s in done.steps}
    if steps["install"].status != "0":
        return f"the tests could not be copied: {steps['install'].output or done.why}"
    missed = []
    for killer in filter(Killer.is_in_guest, mutant.killers):
        step = steps[step_of(killer).name]
        common.write_whole(folder / f"{step.name}.ktap", step.output)
        missed += survived(killer, step)
        if step.status == "died" and not missed:
            break               # It has noticed, and nothing else could run.
    return f"not noticed by {', '.join(missed)}" if missed else None


def run_in_guest(mutant):
    """Builds a mutant, boots it and runs the tests that should fail."""
    path, names = patched_tree(mutant)
    kernel = kernels.build(kernels.Kernel(path, targets.arch(), common.flag("DEBUG"), names),
                           mutant.name)
    tests = kernels.install_selftests(targets.build("ours"))
    steps = [testrun.installed_copy(tests)]
    steps += [step_of(k) for k in mutant.killers if k.is_in_guest()]
    folder = common.OUT / common.base_name() / "mutants" / mutant.name
    how = targets.boot(kernel, numa=2)
    how.numa = max(how.numa, 2)     # Some tests move pages from node to node.
    return judge(mutant, vm.boot_and_run(how, steps, folder / "vm"), folder)


def elsewhere(mutant, killer):
    """What make check does with the mutants that need no guest."""
    if killer.kind == "vma":
        return checks.vma_tests_see_mutant(targets.tree("ours")[0], mutant.path.name, killer.tests)
    for arch in killer.tests:
        problem = checks.gate_sees_mutant(arch)
        if problem:
            return f"{arch}: {problem}"
    return None


def problem_of(mutant):
    """None if a mutant is killed by all that should; else what is wrong."""
    found = [elsewhere(mutant, k) for k in mutant.killers if not k.is_in_guest()]
    if any(k.is_in_guest() for k in mutant.killers):
        found.append(run_in_guest(mutant))
    return "\n".join(p for p in found if p) or None
