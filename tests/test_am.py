# SPDX-License-Identifier: GPL-2.0
"""The series on a user's own tree: a branch appears, and nothing else changes."""

import os
import subprocess
from unittest import mock

from fakekernel import BASE, KSFT, SUBJECTS, FakeKernel, git, put, snapshot
from unstall import am, apply, common

BRANCH = f"unstall-{BASE}"


class UsersTree(FakeKernel):

    def setUp(self):
        super().setUp()
        self.tip = git(self.linux, "rev-parse", "work^{tree}")
        git(self.linux, "switch", "-q", "base")
        git(self.linux, "branch", "-q", "-D", "work")
        put(self.linux, "README", "Mine.\n")
        git(self.linux, "add", "README")
        git(self.linux, "commit", "-q", "-m", "Work of the user")
        # Work in every state, also on a file that the series touches.
        put(self.linux, "mm/mremap.c", "uncommitted\n")
        put(self.linux, "mm/util.c", "staged\n")
        git(self.linux, "add", "mm/util.c")
        put(self.linux, "untracked", "x\n")
        self.before = self.state()

    def state(self):
        """Everything of the user's that must not change: files, index, references, settings."""
        own = self.linux / ".git"
        files = {str(p.relative_to(own)): (p.read_bytes(), p.stat().st_mtime_ns)
                 for p in own.rglob("*") if p.is_file() and "objects" not in p.parts}
        return snapshot(self.linux), files

    def am(self, **env):
        with mock.patch.dict(os.environ, LINUX=str(self.linux), **env):
            path = am.users_tree()
            return am.branch_with(self.load(), path, env.get("SIGNOFF"))

    def refused(self, pattern, func, *args, **kwargs):
        why = super().refused(pattern, func, *args, **kwargs)
        self.assertEqual(self.state(), self.before)
        self.assertFalse((self.build / BASE / ".apply.part").exists())
        return why

    def only_the_branch_is_new(self):
        files, own = self.state()
        for name in (f"refs/heads/{BRANCH}", f"logs/refs/heads/{BRANCH}"):
            del own[name]
        self.assertEqual((files, own), self.before)

    def log(self, form):
        return git(self.linux, "log", f"--format={form}", f"base..{BRANCH}").splitlines()


class Good(UsersTree):

    def test_branch_appears_and_nothing_else_changes(self):
        self.assertEqual(self.am(), (BRANCH, 5))
        self.only_the_branch_is_new()
        self.assertEqual(self.log("%s"), list(reversed(SUBJECTS)))
        self.assertEqual(git(self.linux, "rev-parse", f"{BRANCH}~5"),
                         git(self.linux, "rev-parse", "base"))
        self.assertIn("100755", git(self.linux, "ls-tree", BRANCH, KSFT))
        self.assertEqual(git(self.linux, "show", f"{BRANCH}:README"), "Mine.\n")
        git(self.linux, "fsck", "--strict")

    def test_tree_of_the_branch_is_the_developers(self):
        git(self.linux, "reset", "-q", "--hard", "base~1")
        self.before = self.state()
        self.am()
        self.only_the_branch_is_new()
        self.assertEqual(git(self.linux, "rev-parse", f"{BRANCH}^{{tree}}"), self.tip)

    def test_user_s_settings_and_hooks_have_no_influence(self):
        self.as_strange_user()
        self.strange_tree(self.linux)
        self.before = self.state()
        self.am()
        self.only_the_branch_is_new()
        self.assertFalse((self.top / "hooked").exists())
        self.assertEqual(git(self.linux, "show", f"{BRANCH}:mm/tests/batch_kunit.c"),
                         "int test;\n")

    def test_user_is_the_committer(self):
        git(self.linux, "config", "user.name", "Jörg")
        git(self.linux, "config", "user.email", "j@doe.example")
        self.am()
        self.assertEqual(set(self.log("%cn %ce %an")), {"Jörg j@doe.example unstall developers"})

    def test_signoff_and_topics(self):
        self.am(SIGNOFF="Jane <j@doe.example>", TOPICS="ksm")
        self.assertEqual(self.log("%s"), [SUBJECTS[3]])
        self.assertIn("Signed-off-by: Jane <j@doe.example>", git(self.linux, "log", "-1", BRANCH))

    def test_linked_worktree_and_shallow_clone(self):
        git(self.linux, "worktree", "add", "-q", "--detach", str(self.top / "linked"), "HEAD")
        git(self.top, "clone", "-q", "--depth=1", f"file://{self.linux}", str(self.top / "shallow"))
        for name in ("linked", "shallow"):
            self.linux = self.top / name
            self.am()
            self.assertEqual(git(self.linux, "log", "-1", "--format=%s", BRANCH).strip(), SUBJECTS[4])
            git(self.linux, "branch", "-q", "-D", BRANCH)

    def test_tree_without_the_base_s_history_merges_three_ways(self):
        """The drift is in the context of a hunk; the tree never had the base's file."""
        self.drift(orphan=True)
        self.refused("does not apply|is not v1.0", self.am)
        self.am(ALLOW_DRIFT="1")
        self.only_the_branch_is_new()
        text = git(self.linux, "show", f"{BRANCH}:mm/mremap.c")
        self.assertTrue("int drifted;" in text and "int batches;" in text and "relocated" in text)

    def test_one_topic_merges_three_ways(self):
        """Its index lines name files as they are with the other topics before it."""
        self.drift(orphan=True, path="mm/Kconfig", old="config OPTION_41")
        self.am(ALLOW_DRIFT="1", TOPICS="ksm")
        self.assertIn("config KSM_WALK", git(self.linux, "show", f"{BRANCH}:mm/Kconfig"))

    def drift(self, orphan=False, path="mm/mremap.c", old="int mremap_12;"):
        git(self.linux, "reset", "-q", "--hard")
        if orphan:
            git(self.linux, "checkout", "-q", "--orphan", "fresh")
        self.edit(self.linux / path, old, "int drifted;")
        git(self.linux, "add", "-A")
        git(self.linux, "commit", "-q", "-m", "drift")
        if orphan:
            git(self.linux, "branch", "-q", "-D", "base")
            git(self.linux, "reflog", "expire", "--expire=now", "--all")
            git(self.linux, "gc", "-q", "--prune=now")
        put(self.linux, "mm/util.c", "uncommitted\n")
        self.before = self.state()


class Bad(UsersTree):

    drift = Good.drift

    def test_no_tree(self):
        self.refused("LINUX=/path/to/your", am.users_tree)
        for path in (self.linux / "mm", self.top, self.top / "none"):
            with mock.patch.dict(os.environ, LINUX=str(path)):
                self.refused("is no git tree", am.users_tree)
        git(self.top, "init", "-q", str(self.top / "empty"))
        with mock.patch.dict(os.environ, LINUX=str(self.top / "empty")):
            self.refused("has no commit yet", am.users_tree)

    def test_branch_that_is_there(self):
        git(self.linux, "branch", "-q", BRANCH)
        self.before = self.state()
        self.refused(f"has a branch {BRANCH} already", self.am)

    def test_branch_that_appears_meanwhile(self):
        real = apply.series_on

        def slow(*args, **kwargs):
            git(self.linux, "branch", "-q", BRANCH)
            return real(*args, **kwargs)
        with mock.patch.object(apply, "series_on", slow):
            self.assertRaises(common.CannotRun, self.am)
        self.assertEqual(git(self.linux, "rev-parse", BRANCH), git(self.linux, "rev-parse", "HEAD"))

    def test_tree_in_the_middle_of_something(self):
        for name, what in (("rebase-apply", "am or a rebase"), ("rebase-merge", "rebase"),
                           ("MERGE_HEAD", "merge")):
            (self.linux / ".git" / name).mkdir()
            self.before = self.state()
            self.refused(f"in the middle of an? {what}", self.am)
            (self.linux / ".git" / name).rmdir()

    def test_drift_names_all_files(self):
        git(self.linux, "reset", "-q", "--hard")
        self.edit(self.linux / "mm/mremap.c", "int mremap_59;", "int drifted;")
        git(self.linux, "rm", "-q", "mm/Kconfig")
        git(self.linux, "commit", "-q", "-a", "-m", "drift")
        self.before = self.state()
        why = self.refused("is not v1.0 in 2 of the files", self.am)
        self.assertIn("  mm/Kconfig\n  mm/mremap.c\n", why)
        self.assertIn("ALLOW_DRIFT=1", why)

    def test_drift_in_a_file_that_the_topic_does_not_touch(self):
        self.drift()
        self.am(TOPICS="ksm")

    def test_three_way_merge_that_conflicts(self):
        git(self.linux, "reset", "-q", "--hard")
        self.edit(self.linux / "mm/mremap.c", "int mremap_9;\nint mremap_10;", "int x;\nint batches3;")
        git(self.linux, "commit", "-q", "-a", "-m", "drift")
        self.before = self.state()
        why = self.refused("count-the-batches.patch does not apply", self.am, ALLOW_DRIFT="1")
        self.assertIn("mm/mremap.c", why)

    def test_file_that_the_series_adds_is_there(self):
        git(self.linux, "reset", "-q", "--hard")
        put(self.linux, KSFT, "mine\n")
        git(self.linux, "add", "-A")
        git(self.linux, "commit", "-q", "-m", "mine")
        self.before = self.state()
        self.refused(f"already has {KSFT}, which the series adds", self.am)

    def test_patch_that_does_not_apply_names_patch_and_file(self):
        self.edit(self.patch_file(4), " int mremap_44;", " int nonsense;")
        why = self.refused("mm-mremap_relocate-move.patch does not apply", self.am)
        self.assertIn("mm/mremap.c", why)

    def test_interruption_leaves_the_tree_as_it_was(self):
        with mock.patch.object(apply, "hand_over", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.am)
        self.assertEqual(self.state(), self.before)
        self.am()

    def test_no_fuzz(self):
        """A hunk whose context differs is not applied, not even by a lenient user's git."""
        self.drift()
        self.as_strange_user()
        with mock.patch.object(am, "refuse_drift"):
            self.refused("count-the-batches.patch does not apply", self.am)

    def test_script(self):
        done = self.run_script("am", LINUX=str(self.linux), SIGNOFF="Jane")
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("cannot be a sign-off", done.stderr)
        done = self.run_script("am", LINUX=str(self.linux))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"git -C {self.linux} switch {BRANCH}", done.stdout)
        self.only_the_branch_is_new()
        done = subprocess.run(["git", "-C", str(self.linux), "switch", "-q", BRANCH], check=False,
                              capture_output=True, text=True)
        self.assertIn("mm/mremap.c", done.stderr)      # git protects what is uncommitted
