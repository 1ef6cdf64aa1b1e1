# SPDX-License-Identifier: GPL-2.0
"""The checks that need no guest: style, the series as patches, every commit as source.

A check is a function that returns None, or what is wrong as a text.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import common, compose, handlers, kernel as kernels, machinecode, series, tables, targets
from . import testrun, tree as trees, vm, vmatests
from .common import ROOT

# Structures lack what it uses without its option. The debug kernel has that.
ONLY_WITH = {"mm/memcontrol-v1.o": "CONFIG_MEMCG_V1"}
WITH_WARNINGS = ("W=1", "C=1")      # the compiler's, and sparse's
WARNING = re.compile(r"^(?:\.\./)*(\S+?\.[chS]):\d+(?::\d+)?: (?:warning|error): (.*)$", re.M)
NO_SPDX = re.compile(r"^(COPYING|README|CONTRIBUTING|MAINTAINERS|.*\.patch|.*kunitconfig|"
                     r"Documentation/ABI/.*|Documentation/results/.*\.json|"
                     r"tests/(data|expected)/.*|patches/[^/]+/cover)$")


def command(*cmd, **kwargs):
    """Runs a command; returns None when it succeeded, else what it printed."""
    done = subprocess.run([str(c) for c in cmd], text=True, stdout=subprocess.PIPE, errors="replace",
                          stderr=subprocess.STDOUT, check=False, **kwargs)
    return None if done.returncode == 0 else done.stdout.strip() or f"status {done.returncode}"


# ------------------------------------------------------------------ the repo

def repo_files():
    out = common.run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    return [f for f in out.splitlines() if (ROOT / f).is_file()]


def first_line(name):
    with open(ROOT / name, errors="replace", encoding="utf-8") as f:
        return f.readline()


def shell_scripts():
    return [f for f in repo_files() if re.match(r"#!\s*/bin/(ba)?sh", first_line(f))
            and not f.startswith("tools/")]


def python_files():
    return [f for f in repo_files() if f.endswith(".py") or "python3" in first_line(f)]


def spdx():
    """Every file names its licence in its first lines."""
    bad = []
    for name in repo_files():
        if NO_SPDX.match(name):
            continue
        with open(ROOT / name, errors="replace", encoding="utf-8") as f:
            if not any("SPDX-License-Identifier: " in f.readline() for _ in range(3)):
                bad.append(name)
    return "no SPDX line: " + ", ".join(bad) if bad else None


def help_is_complete():
    """Each target of the Makefile has its line in 'make help'."""
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", text, re.M)[1].replace("\\\n", " ").split()
    shown = re.findall(r"^([a-z0-9-]+):\s+## ", text, re.M)
    odd = set(phony) ^ set(shown) - {"help"}
    odd.discard("help")
    return f"not both declared and described: {', '.join(sorted(odd))}" if odd else None


def tables_are_of_results():
    """The tables of README and the documents are what the committed results give."""
    path = tables.kept_file(ROOT)
    if not path.exists():
        return f"there is no {path.relative_to(ROOT)}; 'make bench bench-keep' makes it"
    odd = tables.stale(ROOT, json.loads(path.read_text()))
    if not odd:
        return None
    return (f"the tables of {', '.join(str(p.relative_to(ROOT)) for p in odd)} are not those of "
            f"{path.relative_to(ROOT)}; 'make bench-keep' writes both")


def messages_fit():
    """The lines of messages that are too long, which checkpatch would say much later."""
    wide = []
    for patch in sorted((ROOT / "patches").glob("*/*/*.patch")):
        message = patch.read_text().partition("\n---\n")[0]
        wide += [f"{patch.name}:{number}: {len(line)} columns instead of 75"
                 for number, line in enumerate(message.splitlines(), 1)
                 if len(line) > 75 and not line.startswith(("Subject:", "From:", "Link:"))]
    return "\n".join(wide) or None


def style():
    yield "SPDX", spdx
    yield "messages fit in 75 columns", messages_fit
    yield "make help is complete", help_is_complete
    yield "the tables are those of the results", tables_are_of_results
    yield "shellcheck", lambda: command("shellcheck", *shell_scripts(), cwd=ROOT)
    yield "pyflakes", lambda: command("/usr/bin/python3", "-m", "pyflakes", *python_files(), cwd=ROOT)
    documents = [f for f in repo_files() if re.fullmatch(r"README(\.rst)?|MAINTAINERS\.rst|"
                                                         r"CONTRIBUTING(\.rst)?", f)]
    for doc in documents:
        yield f"{doc} is valid reStructuredText", lambda d=doc: command(
            "/usr/bin/python3", "-m", "docutils", "--writer=null", "--halt=warning", d, cwd=ROOT)


# ------------------------------------------------------ the series as patches

def composed(temp, name, **env):
    """Runs 'make series' into a folder of its own; what it made, by name."""
    out = Path(temp) / name
    build = Path(temp) / f"build-{name}" / common.base_name()
    build.mkdir(parents=True)
    (build / "base").symlink_to(common.BUILD / common.base_name() / "base")
    common.run(ROOT / "scripts" / "compose", env={**os.environ, "UNSTALL_OUT": str(out),
                                                  "UNSTALL_BUILD": str(build.parent), **env})
    return {f.name: f.read_bytes() for f in (out / common.base_name()).iterdir() if f.is_file()}


def composer_is_deterministic():
    """Two runs under different clocks, locales and git settings give the same bytes."""
    with tempfile.TemporaryDirectory() as temp:
        (Path(temp) / ".gitconfig").write_text("[diff]\n\tnoprefix = true\n[user]\n\tname = X\n")
        first = composed(temp, "one", TZ="UTC", LC_ALL="C")
        second = composed(temp, "two", TZ="Asia/Tokyo", LC_ALL="C.UTF-8", HOME=temp, COLUMNS="40",
                          XDG_CACHE_HOME=str(common.CACHE.parent))
    differ = [n for n in sorted(set(first) | set(second)) if first.get(n) != second.get(n)]
    return "not the same twice: " + ", ".join(differ) if differ else None


def refresh_is_the_inverse():
    """compose, git am and refresh give this repository again."""
    ours = trees.ours_tree(common.base_name())
    with tempfile.TemporaryDirectory() as temp:
        copy = Path(temp) / "copy"
        common.run("git", "clone", "-q", "--no-hardlinks", ROOT, copy)
        for name in repo_files():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        common.run("git", "-C", copy, "add", "-A")
        before = common.run("git", "-C", copy, "write-tree")
        common.run(copy / "scripts" / "refresh", env={
            **os.environ, "TREE": str(ours), "FORCE": "1", "TOPIC": "", "TOPICS": "",
            "UNSTALL_BUILD": f"{temp}/build", "UNSTALL_OUT": f"{temp}/out"})
        common.run("git", "-C", copy, "add", "-A")
        if common.run("git", "-C", copy, "write-tree") == before:
            return None
        return common.run("git", "-C", copy, "diff", "--stat", before.strip())


def applies(topics=None):
    """Plain git am, one mail after the other, to a tree of just the touched files."""
    known = series.load(common.base_name())
    mails = compose.mails(known, topics)
    files = trees.base_files(known, known.touched_files([m.patch for m in mails]))
    with tempfile.TemporaryDirectory() as temp:
        for name, data in files.items():
            (Path(temp) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(temp) / name).write_bytes(data)
            if known.pin.blobs[name][0] == "100755":
                (Path(temp) / name).chmod(0o755)
        identity = ("-c", "user.name=check", "-c", "user.email=check@unstall.example")
        common.run("git", "-C", temp, "init", "-q")
        common.run("git", "-C", temp, "add", "-A", "-f")
        common.run("git", "-C", temp, *identity, "commit", "-q", "-m", "base")
        for mail in mails:
            done = subprocess.run(["git", "-C", temp, *identity, "am"], input=mail.text,
                                  capture_output=True, check=False)
            if done.returncode:
                return f"{mail.name}: {done.stderr.decode(errors='replace')}"
    return None


def series_as_patches():
    yield "compose is deterministic", composer_is_deterministic
    yield "compose, git am, refresh is the identity", refresh_is_the_inverse
    yield "git am takes each patch on the base's files", applies
    for topic in series.load(common.base_name()).topics:
        yield f"topic {topic} applies with no more than it needs", lambda t=topic: applies([t])


# ----------------------------------------------------------------- each commit

def series_commits(tree):
    out = common.run("git", "-C", tree, "log", "--reverse", "--format=%H %s", "base..HEAD")
    return [tuple(line.split(" ", 1)) for line in out.splitlines()]


def changed_files(tree, commit):
    out = common.run("git", "-C", tree, "diff-tree", "-r", "--no-commit-id", "--name-only",
                     "--no-renames", "--diff-filter=d", commit)
    return out.splitlines()


def detached_tree(base, tip, name):
    """A worktree of our own that holds one commit; what else was in it is gone."""
    path = common.BUILD / base / name
    git = common.BUILD / base / "base"
    if not (path / "Makefile").exists():
        shutil.rmtree(path, ignore_errors=True)
        common.run("git", "-C", git, "worktree", "prune")
        common.run("git", "-C", git, "worktree", "add", "--detach", path, "base")
    common.run("git", "-C", path, "checkout", "--quiet", "--force", "--detach", tip)
    return path


def touched_objects(path, files, arch):
    """The objects that the touched C files are compiled to, as far as they are in the tree."""
    objects = []
    for name in files:
        source = path / name
        if not name.endswith(".c") or name.startswith(("tools/", "Documentation/", "samples/")):
            continue
        if name.startswith("arch/") and not name.startswith(f"arch/{arch.folder}/"):
            continue
        if source.exists() and compiled_by_itself(path, name):
            objects.append(name[:-1] + "o")
    return objects


def compiled_by_itself(path, name):
    """Not a file that another one includes, as KUnit tests of static functions are."""
    stem = Path(name).stem
    for makefile in (path / name).parent, (path / name).parent.parent:
        text = (makefile / "Makefile").read_text() if (makefile / "Makefile").exists() else ""
        if re.search(rf"\b{stem}\.o\b", text):
            return True
    return False


def warnings(text):
    """Warnings and errors without their line numbers, which move."""
    return {(m[1].split("/../")[-1], m[2]) for m in WARNING.finditer(text)}


def compile_objects(kernel, objects, *flags):
    """Compiles objects; returns what the compiler and sparse printed, and the status."""
    if not objects:
        return "", 0
    done = subprocess.run(kernels.make_command(kernel, "-s", "-k", *flags, *objects), text=True,
                          env=kernels.environment(kernel), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="replace", check=False)
    return done.stdout, done.returncode


def prepare(kernel, files):
    """Makes a commit's tree ready to compile; its options, where they are not made already.

    `files` are those of the series: of its options, only what is among them can have changed.
    """
    parts = [f.read_bytes() for f in kernel.fragments()]
    parts += [(kernel.tree / f).read_bytes() for f in files
              if Path(f).name.startswith("Kconfig") and (kernel.tree / f).exists()]
    now = hashlib.sha256(b"\0".join(parts)).hexdigest()
    kernel.out.mkdir(exist_ok=True)
    made_of = kernel.out / "options.sha256"
    if not made_of.exists() or made_of.read_text() != now:
        made_of.unlink(missing_ok=True)
        kernels.configure(kernel)
        made_of.write_text(now)
    common.run(*kernels.make_command(kernel, "-s", "prepare"), env=kernels.environment(kernel))


def is_possible(kernel, name):
    """Can an object be compiled with a kernel's options at all?"""
    option = ONLY_WITH.get(name)
    return not option or f"{option}=y" in (kernel.out / ".config").read_text().splitlines()


def compile_again(kernel, objects, *flags):
    """compile_objects(), up to date or not, as far as they are possible."""
    objects = [o for o in objects if is_possible(kernel, o)]
    for o in objects:
        (kernel.out / o).unlink(missing_ok=True)
    return compile_objects(kernel, objects, *flags)


def compile_commit(kernel, objects, files, known):
    """Compiles the objects of a commit; what is new against `known`."""
    prepare(kernel, files)
    text, status = compile_again(kernel, objects, *WITH_WARNINGS)
    new = warnings(text) - known
    if status:
        return f"does not compile for {kernel.arch.name}:\n{text}"
    return "\n".join(f"{kernel.arch.name}: {f}: {w}" for f, w in sorted(new)) or None


def build_selftests(kernel, files):
    """Compiles the selftest programs that a commit touches, without warnings."""
    folder = Path("tools/testing/selftests/mm")
    programs = [Path(f).stem for f in files if Path(f).parent == folder and f.endswith(".c")
                and re.search(rf"\b{Path(f).stem}\b", (kernel.tree / folder / "Makefile").read_text())]
    if not programs:
        return None
    out = kernel.out / "commit-selftests"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    common.run(*kernels.make_command(kernel, "-s", "headers"), env=kernels.environment(kernel))
    text = command("make", "-s", "-C", kernel.tree / folder, f"OUTPUT={out}",
                   f"CC={kernel.arch.cc}", "EXTRA_CFLAGS=-Werror -Wextra -Wno-sign-compare "
                   "-Wno-unused-parameter -Wno-missing-field-initializers",
                   f"KHDR_INCLUDES=-isystem {kernel.out}/usr/include",
                   *[out / p for p in programs], env=kernels.environment(kernel))
    return text


def affected(path, commit, files):
    """The C files to compile for a commit: its own, or all of the series' behind a header."""
    own = changed_files(path, commit)
    wide = any(f.endswith(".h") for f in own if not f.startswith(("tools/", "Documentation/")))
    return files if wide else own


def gated():
    """The architectures that each commit is checked for."""
    return [arch for arch in vm.ARCHES.values() if arch.gate]


def one_commit(path, commit, files, known):
    """A commit compiles on each architecture, with the topics' options and without."""
    common.run("git", "-C", path, "checkout", "--quiet", "--force", "--detach", commit)
    chosen = affected(path, commit, files)
    for arch in gated():
        objects = touched_objects(path, chosen, arch)
        for topics in {topics_at(path), ()} if objects else ():
            # A folder for each, or all that sees a changed option is made again each time.
            kernel = kernels.Kernel(path, arch, topics=topics, folder="topics" if topics else "")
            problem = compile_commit(kernel, objects, files, known[arch.name])
            if problem:
                return f"with the options of {' '.join(topics) or 'no topic'}: {problem}"
    own = changed_files(path, commit)
    return (build_selftests(kernels.Kernel(path, vm.ARCHES["x86_64"]), own)
            or (any(map(vmatests.is_tested, own)) and vma_tests(path) or None))


def topics_at(path):
    """The topics whose options Kconfig knows at this commit."""
    found = []
    for topic in targets.topics():
        fragment = kernels.CONFIGS / "topics" / f"{topic}.config"
        symbols = re.findall(r"^CONFIG_(\w+)=", fragment.read_text(), re.M) if fragment.exists() else []
        kconfig = (path / "mm" / "Kconfig").read_text()
        if symbols and all(re.search(rf"^config {s}$", kconfig, re.M) for s in symbols):
            found.append(topic)
    return tuple(found)


def each_commit():
    base = common.base_name()
    ours = trees.ours_tree(base)
    tip = common.run("git", "-C", ours, "rev-parse", "HEAD").strip()
    commits = series_commits(ours)
    files = sorted({f for c, _ in commits for f in changed_files(ours, c)})
    path = detached_tree(base, "base", "commits")
    known = {}

    def baseline():
        for arch in gated():
            kernel = kernels.Kernel(path, arch)
            prepare(kernel, files)
            text, status = compile_again(kernel, touched_objects(path, files, arch),
                                         *WITH_WARNINGS)
            known[arch.name] = warnings(text)
            if status:
                return f"the base does not compile for {arch.name}:\n{text}"
        return None

    yield "the base's own warnings", baseline
    for commit, subject in commits:
        yield (f"compiles, W=1, sparse: {subject}",
               lambda c=commit: one_commit(path, c, files, known))
    # Not in turns with the above: each change of the tree costs make its time stamps.
    for commit, subject in commits:
        yield f"checkpatch: {subject}", lambda c=commit: checkpatch(path, tip, c)
    yield "kernel-doc", lambda: kernel_doc(path, tip, files)
    if "include/linux/fault_retry.h" in files:
        yield "the handlers of page faults are alike", lambda: handlers.problems(ours)
    yield from each_topic_alone()


# What checkpatch reports of every file of a kind: the layout that all trace headers
# share, iterators, and words that are right in a program.
FALSE_ALARMS = (("include/trace/events/", "", "PARENTHESIS_ALIGNMENT|OPEN_ENDED_LINE"),
                ("mm/", r"#define \w+_for_?each", "MACRO_ARG_REUSE"),
                ("tools/testing/", "", "VOLATILE"),
                ("tools/testing/", "PRI[dux]64", "CAMELCASE"),
                ("tools/testing/", "#define __", "PREFER_DEFINED_ATTRIBUTE_MACRO"),
                ("tools/testing/selftests/", r"FIXTURE_(DATA|VARIANT)\(", "SPACING"),
                ("", "DAMON|uptodate", "TYPO_SPELLING"))


def is_false_alarm(path, commit, line):
    """A line of checkpatch --terse --showfile --show-types that means nothing.

    It numbers the lines of a file as the commit leaves it, whatever comes later.
    """
    m = re.match(r"(\S+?):(\d+): [A-Z]+:(\w+): ", line)
    if not m:
        return False
    text = common.run("git", "-C", path, "show", f"{commit}:{m[1]}").splitlines()[int(m[2]) - 1]
    return any(m[1].startswith(folder) and re.search(word, text) and re.fullmatch(kinds, m[3])
               for folder, word, kinds in FALSE_ALARMS)


def checkpatch(path, tip, commit):
    """scripts/checkpatch.pl --strict; the importer signs off, and MAINTAINERS is mainline's."""
    common.run("git", "-C", path, "checkout", "--quiet", "--force", "--detach", tip)
    text = command("perl", "scripts/checkpatch.pl", "--strict", "--codespell", "--terse",
                   "--showfile", "--show-types", "--no-summary",
                   "--ignore", "MISSING_SIGN_OFF,FILE_PATH_CHANGES", "--git", commit, cwd=path,
                   env=dict(os.environ, PATH=f"/usr/bin:{os.environ['PATH']}"))
    return "\n".join(line for line in (text or "").splitlines()
                     if line and not is_false_alarm(path, commit, line)) or None


def kernel_doc(path, tip, files):
    """No kernel-doc warning that the base does not have."""
    found = {}
    for at in ("base", tip):
        common.run("git", "-C", path, "checkout", "--quiet", "--force", "--detach", at)
        have = [f for f in files if f.endswith((".c", ".h")) and (path / f).exists()
                and not f.startswith("tools/")]
        done = subprocess.run(["scripts/kernel-doc", "-none", "-Wall", *have], cwd=path, text=True,
                              capture_output=True, check=False)
        text = re.sub(r":\d+ ", ": ", done.stdout + done.stderr)
        found[at] = {line for line in text.splitlines() if "arning" in line or "rror" in line}
    return "\n".join(sorted(found[tip] - found["base"])) or None


# ------------------------------------------------------------ each topic alone

def builds_alone(topic):
    """The kernel with one topic and what it needs, and with its options."""
    before = {name: os.environ.get(name) for name in ("TOPICS", "TREE")}
    os.environ.update(TOPICS=topic, TREE="")
    try:
        targets.build("ours")
    finally:
        os.environ.update({name: value or "" for name, value in before.items()})


def each_topic_alone():
    """Only with LONG=1, and not where the selection is the whole series."""
    known = series.load(common.base_name())
    for topic in known.topics if common.flag("LONG") else ():
        if not known.is_whole([topic]):
            yield f"topic {topic} builds with no more than it needs", lambda t=topic: builds_alone(t)


# ------------------------------------------------------------ VMAs in userland

def vma_tests(path, mutant=None):
    """The kernel's tests of mm/vma.c on a tree, or on a mutant of it."""
    with tempfile.TemporaryDirectory() as temp:
        farm = vmatests.link_tree(path, Path(temp) / "tree")
        if mutant:
            vmatests.mutate(farm, ROOT / "tests" / "mutants" / mutant)
        return vmatests.run(farm)


def vma_tests_see_mutant(path, mutant, tests):
    """Each of these tests must fail on a mutant of mm/vma.c."""
    problem = vma_tests(path, mutant) or "all pass"
    unseen = [t for t in tests if f"Test {t} FAILED" not in problem]
    return f"{', '.join(unseen)} did not fail: {problem}" if unseen else None


def userland():
    path, _ = targets.tree("ours")
    yield "tools/testing/vma", lambda: vma_tests(path)
    yield "tools/testing/vma: a mutant is seen", lambda: vma_tests_see_mutant(
        path, "vma-merges-two-anon-vmas.patch", ["anon_vma_non_mergeable"])


# --------------------------------------------------------------- machine code

def built(arch):
    """Our kernel for an architecture, whatever ARCH= says."""
    path, names = targets.tree("ours")
    kernel = kernels.Kernel(path, vm.ARCHES[arch], topics=names)
    return kernels.build(kernel, f"ours {kernel.flavour}")


def gate(arch):
    _, found = machinecode.gate(built(arch))
    return "\n".join(map(str, found)) or None


def gate_sees_mutant(arch):
    """The gate must fail on a move that reads the flags of each page."""
    kernel = built(arch)
    with tempfile.TemporaryDirectory() as folder:
        mutant = Path(folder) / "mremap.c"
        common.run("patch", "-s", "-o", mutant, kernel.tree / "mm/mremap.c",
                   ROOT / "tests/mutants/mremap-reads-page-flags.patch")
        _, found = machinecode.gate(kernel, mutant)
    return None if found else "a move that reads each page's flags passes the gate"


def machine_code():
    for arch in gated():
        yield f"gate {arch.name}", lambda a=arch.name: gate(a)
        yield f"gate {arch.name}: a mutant is seen", lambda a=arch.name: gate_sees_mutant(a)


# ------------------------------------------------------- a guest that goes wrong

def guest_run(name, command, seconds=20, **changes):
    """One step in our x86-64 guest, judged as a kselftest category is."""
    kernel = built("x86_64")
    boot = vm.Boot(kernel.image, kernel.arch, **changes)
    folder = common.BUILD / "vm" / f"check-{name}"
    done = vm.boot_and_run(boot, [vm.Step(name, command, seconds)], folder / "vm")
    return testrun.judge(testrun.Plan(kernel, [name], kunit=False), done, folder, [])


GOOD_TAP = "printf 'TAP version 13\\n1..1\\nok 1 fine\\n'"


def must(*pairs):
    """None when every (what, is so) pair is so; else what is not."""
    wrong = [what for what, so in pairs if not so]
    return "not so: " + "; ".join(wrong) if wrong else None


def panic_at_boot():
    found = guest_run("boot-panic", GOOD_TAP, append="rdinit=/there/is/none")
    return must(("the run says that the guest did not come up", not found.run.booted),
                ("the panic is reported", any("panic" in s.line for s in found.splats)),
                ("nothing passed", not testrun.passed(found)))


def panic_in_a_test():
    found = guest_run("test-panic", f"{GOOD_TAP}; echo c > /proc/sysrq-trigger; sleep 60")
    return must(("the run names the step", "died in step 'test-panic'" in found.run.why),
                ("the panic is reported", any("panic" in s.line for s in found.splats)),
                ("a cut stream is no success", testrun.failed(found) > 0))


def warning_while_tests_pass():
    found = guest_run("warning", f"{GOOD_TAP}; echo '<4>WARNING: mm/mremap.c:1 at move_ptes+0x1/0x2, "
                      "CPU#0: test/1' > /dev/kmsg")
    return must(("the test itself passed", testrun.passed(found) == 1),
                ("the splat counts as a failure", testrun.failed(found) == 1))


def test_that_hangs():
    found = guest_run("hang", f"{GOOD_TAP}; sleep 600", seconds=3)
    return must(("the guest lives on", found.run.done),
                ("the step timed out", found.run.steps[0].status == "timeout"),
                ("that is a failure", testrun.failed(found) > 0))


def all_is_well():
    found = guest_run("well", GOOD_TAP)
    return must(("the test passed", testrun.passed(found) == 1),
                ("and nothing failed", testrun.failed(found) == 0))


def guest_failures():
    yield "a run in which all is well passes", all_is_well
    yield "a kernel that panics at boot", panic_at_boot
    yield "a kernel that panics in a test", panic_in_a_test
    yield "a WARNING while all tests pass", warning_while_tests_pass
    yield "a test that hangs", test_that_hangs


GROUPS = (("style", style), ("the series as patches", series_as_patches),
          ("VMAs in userland", userland), ("every commit", each_commit),
          ("machine code", machine_code),
          ("a guest that goes wrong", guest_failures))
