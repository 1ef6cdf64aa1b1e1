# SPDX-License-Identifier: GPL-2.0
"""Runs KUnit suites and kselftest categories in a guest and judges the result."""

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import common, kernel as kernels, ktap, progress, splats, targets, vm
from .common import CannotRun

SECONDS = 1000          # for one category: mm's own settings give it 900
KSFT = "/mnt/scratch/ksft"


@dataclass
class Plan:
    """What to run on one kernel."""
    kernel: kernels.Kernel
    categories: list
    suites: list = field(default_factory=list)      # KUnit; what must be there
    kunit: bool = True
    before: str = ""            # shell, in which each category then runs


@dataclass
class Outcome:
    """What came of it."""
    plan: Plan
    run: vm.Run
    trees: list                     # ktap trees: KUnit's, then kselftest's
    splats: list
    folder: Path
    phases: list = field(default_factory=list)      # (name, seconds)


def installed_copy(folder):
    """Tests run on ext4, not on 9p: the guest copies them to its scratch disk."""
    return vm.Step("install", f"mkdir {KSFT} && cp -a {folder}/. {KSFT}", 120)


def step_of(plan, category):
    """The step that runs one kselftest category in this kernel's guest."""
    scale = 3 if plan.kernel.debug else 1
    if plan.kernel.arch.host_root:
        override = f" -o {900 * scale}" if scale > 1 else ""
        command = f"{plan.before}cd {KSFT} && ./run_kselftest.sh{override} -t mm:ksft_{category}.sh"
    else:
        command = f"/bin/{category}"
    return vm.Step(category, command, SECONDS * scale)


def steps_of(plan, installed):
    steps = [vm.Step("kunit", "kunit", 60)] if plan.kunit else []
    if plan.categories and installed:
        steps.append(installed_copy(installed))
    return steps + [step_of(plan, c) for c in plan.categories]


def output_folder(kernel, name="run"):
    return common.OUT / common.base_name() / name / f"{targets.guest()}-{kernel.flavour.split('-')[0]}"


def run(plan, folder, phases, **boot_changes):
    """Boots the kernel, runs the plan, parses what came out."""
    start = time.monotonic()
    boot = targets.boot(plan.kernel, **boot_changes)
    installed = None
    if plan.categories and boot.arch.host_root:
        installed = kernels.install_selftests(plan.kernel)
    elif plan.categories:
        boot.programs = tuple(kernels.static_program(plan.kernel, targets.SELFTESTS, c)
                              for c in plan.categories)
    phases.append(("selftests built", time.monotonic() - start))
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    common.say(f"  boot   {plan.kernel.flavour}: {boot.smp} CPUs, {boot.mem} MiB, "
               f"{boot.numa} node{'s' * (boot.numa > 1)}, {boot.accel}")
    follower = progress.TapFollower(folder / "vm" / "output", label="test ")
    verbose = common.flag("V")
    steps = steps_of(plan, installed)
    if not verbose:
        follower.start()
    try:
        done = vm.boot_and_run(boot, steps, folder / "vm",
                               on_text=(lambda _, line: print(line)) if verbose else lambda *_: None)
    finally:
        if not verbose:
            follower.stop()
    phases.append(("guest", time.monotonic() - start))
    return judge(plan, done, folder, phases)


def judge(plan, done, folder, phases):
    """Reads the steps' output and the console; writes the KTAP files."""
    console = done.console.read_text(errors="replace") if done.console.exists() else ""
    trees = []
    for step in done.steps:
        if step.name == "install":
            if step.ended and step.status != "0":
                raise CannotRun(f"the selftests could not be copied in the guest:\n{step.output}")
            continue
        text = step.output + ending(step, done)
        common.write_whole(folder / f"{step.name}.ktap", text)
        tree = kunit_tree(plan, text) if step.name == "kunit" else kselftest_tree(plan, step, text)
        if not step.ended and not bad_results(tree):
            tree.children.append(unfinished(step))
        trees.append(tree)
    found = splats.scan(console)
    return Outcome(plan, done, trees, found, folder, phases)


def read_back(kernel, names, folder):
    """The plan and the trees of the last run, from its KTAP files."""
    files = sorted(folder.glob("*.ktap"))
    if not files:
        raise CannotRun(f"{folder} has no results; 'make run' gives them.")
    names_run = [f.stem for f in files if f.stem != "kunit"]
    kunit = (folder / "kunit.ktap").exists()
    plan = Plan(kernel, names_run, targets.suite_names(kernel.tree, names), kunit)
    trees = [kunit_tree(plan, ktap.read_log(folder / "kunit.ktap"))] if kunit else []
    for name in names_run:
        step = vm.StepResult(name, "0", 0, "")
        trees.append(kselftest_tree(plan, step, ktap.read_log(folder / f"{name}.ktap")))
    return plan, trees


def bad_results(tree):
    return [r for r in ktap.flatten(tree) if r.status in ktap.BAD]


def unfinished(step):
    """Stands for a step that gave all its results and then did not end."""
    place = "kunit" if step.name == "kunit" else "mm"
    why = "it gave all results and did not end" if step.status == "timeout" else "the guest died"
    case = ktap.Test(step.name, ktap.CRASHED, why)
    return case if place == "kunit" else ktap.Test(place, ktap.CRASHED, children=[case])


def ending(step, done):
    """A step that did not end by itself leaves its stream cut; say why in it."""
    if step.status == "timeout":
        return f"\n# unstall: no result within the step's {int(step.seconds)} s\n"
    if step.status == "died":
        return f"\n# unstall: {done.why}\n"
    return ""


def kunit_tree(plan, text):
    """KUnit's results; a suite of ours that is not there counts as missing."""
    tree = ktap.parse_kunit(text)
    have = {t.name for t in tree.children}
    for name in plan.suites:
        if name not in have:
            tree.children.append(ktap.Test(name, ktap.MISSING, "the kernel has no such suite"))
    tree.children = [t for t in tree.children if t.status != ktap.MISSING or t.name in plan.suites]
    return tree


def kselftest_tree(plan, step, text):
    """One category's results; without the host's root the program itself was started."""
    tree = ktap.parse_kselftest(text)
    if not plan.kernel.arch.host_root:
        program = ktap.Test(step.name, children=tree.children)
        category = ktap.Test(step.name, children=[program])
        tree = ktap.Test("kselftest", children=[ktap.Test("mm", children=[category])], hidden=True)
        if not step.ended or step.status not in ("0", "1", "4") or not program.children:
            program.status = program.own = ktap.CRASHED
            program.reason = f"it ended with {step.status}"
        ktap.settle(tree)
    return tree


def plan_from_environment(kernel, names, ksft_only):
    """What T= selects: KUnit suites and categories by name; by default all of ours."""
    suites, ours = targets.suite_names(kernel.tree, names), targets.categories(names)
    wanted = os.environ.get("T", "").split()
    if not wanted:
        return Plan(kernel, ours, suites, not ksft_only)
    known = targets.known_categories(kernel.tree) if kernel.arch.host_root else ours
    for name in wanted:
        if name not in known and (ksft_only or name not in suites + ["kunit"]):
            raise CannotRun(f"T={name} is neither a kselftest category nor a KUnit suite of ours. "
                            f"The categories: {' '.join(known)}. The suites: {' '.join(suites)}.")
    chosen = [s for s in suites if s in wanted or "kunit" in wanted]
    return Plan(kernel, [c for c in wanted if c in known], chosen, bool(chosen) and not ksft_only)


def count(outcome, statuses):
    """How many tests of a run ended with one of the statuses."""
    return sum(r.status in statuses for tree in outcome.trees for r in ktap.flatten(tree))


def passed(outcome):
    return count(outcome, (ktap.PASS,))


def failed(outcome):
    """Bad tests and splats; a guest that died counts even if no test was cut."""
    bad = count(outcome, ktap.BAD) + len(outcome.splats)
    return bad if outcome.run.done else max(bad, 1)
