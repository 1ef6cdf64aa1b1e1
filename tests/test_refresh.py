# SPDX-License-Identifier: GPL-2.0
"""The way back: from commits to patch files, overlay files and pins."""

import os
from unittest import mock

from fakekernel import (BASE, FILES, KSFT, KSM, KUNIT, SUBJECTS, FakeKernel, commit, git, put,
                        snapshot)
from unstall import common, compose, refresh, series, tree

UTIL = "mm/util.c"


class Refreshed(FakeKernel):
    """self.linux has the series on its branch 'work'."""

    def refresh(self, topic=None, folder=None):
        return refresh.refresh(BASE, folder or self.linux, topic)

    def composed(self):
        """A tree of the pristine base with the composed series, by plain git am."""
        known = self.load()
        git(self.linux, "switch", "-q", "-C", "again", "base")
        git(self.linux, "am", "-q", data=b"".join(m.text for m in compose.mails(known)))

    def amend(self, number, **changes):
        """Changes a commit of the series as 'git rebase -i' does; what follows stays."""
        git(self.linux, "checkout", "-q", f"work~{4 - number}")
        for path, text in changes.pop("files", {}).items():
            put(self.linux, path, text, os.access(self.linux / path, os.X_OK))
        git(self.linux, "add", "-A")
        message = changes.pop("message", None)
        git(self.linux, "commit", "-q", "--amend", *(["-m", message] if message else ["--no-edit"]))
        git(self.linux, "cherry-pick", *([f"work~{4 - number}..work"] if number < 4 else ["HEAD"])) \
            if number < 4 else None
        git(self.linux, "branch", "-f", "work")
        git(self.linux, "switch", "-q", "work")

    def changed(self, func):
        """The paths below the repository that a call changes."""
        before = snapshot(self.repo)
        func()
        after = snapshot(self.repo)
        return sorted(p for p in {*before, *after} if before.get(p) != after.get(p))


class Identity(Refreshed):

    def test_compose_and_back_changes_nothing(self):
        before = snapshot(self.repo)
        self.composed()
        self.assertEqual(self.refresh(), [])
        self.assertEqual(snapshot(self.repo), before)

    def test_files_are_made_again_as_they_were(self):
        before = snapshot(self.repo)
        self.composed()
        for path in (KSM, KUNIT, KSFT, *(f"patches/{BASE}/{p.file}" for p in self.load().patches)):
            put(self.repo, path, "spoilt\n") if "patches" not in path else None
        (self.repo / KSFT).chmod(0o644)
        self.assertEqual(self.refresh(), sorted([KSFT, KSM, KUNIT]))
        self.assertEqual(snapshot(self.repo), before)

    def test_series_with_everything_that_is_odd(self):
        """No newline at the end, an empty file, mode changes, a deleted file, blank context."""
        put(self.linux, "mm/empty.c", "")
        put(self.linux, UTIL, "int util;\nint no_newline;", True)
        (self.linux / "mm/tracked.o").unlink()
        commit(self.linux, "mm: odd things", "\nText.\n\nTrailer: x\nOther-Trailer: y\n")
        self.refresh()
        before = snapshot(self.repo)
        self.assertIn(f"patches/{BASE}/reloc/mm-odd-things.patch", before)
        tip = git(self.linux, "rev-parse", "HEAD^{tree}")
        self.composed()
        self.assertEqual(git(self.linux, "rev-parse", "HEAD^{tree}"), tip)
        self.refresh()
        self.assertEqual(snapshot(self.repo), before)

    def test_user_s_configuration_has_no_influence(self):
        signed = git(self.linux, "cat-file", "commit", "work").replace("\n\n", "\ngpgsig x\n\n", 1)
        git(self.linux, "reset", "-q", "--hard", git(
            self.linux, "hash-object", "-t", "commit", "-w", "--stdin", data=signed.encode()).strip())
        self.as_strange_user()
        self.strange_tree(self.linux)
        self.assertEqual(self.refresh(), [])
        self.assertFalse((self.top / "hooked").exists())

    def test_tree_is_only_read(self):
        own = self.linux / ".git"
        (self.linux / "mm/mremap.c").touch()
        before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in own.rglob("*") if p.is_file()}
        self.refresh()
        self.assertEqual(before, {p: (p.read_bytes(), p.stat().st_mtime_ns)
                                  for p in own.rglob("*") if p.is_file()})


class Edited(Refreshed):

    def test_changed_hunk_changes_its_patch_and_those_index_lines_that_follow(self):
        text = (self.linux / "mm/mremap.c").read_text().replace("int batches;", "long batches;")
        git(self.linux, "checkout", "-q", "work~4")
        put(self.linux, "mm/mremap.c", FILES["mm/mremap.c"].replace(
            "int mremap_10;", "long batches;\nint mremap_10;"))
        git(self.linux, "commit", "-q", "-a", "--amend", "--no-edit")
        git(self.linux, "cherry-pick", "work~4..work~1")
        put(self.linux, "mm/mremap.c", text)
        git(self.linux, "commit", "-q", "-a", "-C", "work")
        names = self.changed(self.refresh)
        self.assertEqual(names, sorted(f"patches/{BASE}/{self.load().patches[i].file}" for i in (0, 4)))
        self.assertIn("+long batches;", self.patch_file(0).read_text())
        self.assertIn("Date: Tue, 14 Nov 2023 23:13:20 +0100", self.patch_file(0).read_text())

    def test_changed_new_file_changes_the_overlay_alone(self):
        self.amend(3, files={KSM: "int walk;\nint other;\n"})
        self.assertEqual(self.changed(self.refresh), [KSM])

    def test_changed_message_changes_its_patch_alone(self):
        self.amend(3, message=f"{SUBJECTS[3]}\n\nA better reason.")
        self.assertEqual(self.changed(self.refresh), [f"patches/{BASE}/{self.load().patches[3].file}"])
        self.assertIn("\n\nA better reason.\n---\n", self.patch_file(3).read_text())

    def test_date_stays_where_only_the_date_changed(self):
        git(self.linux, "commit", "-q", "--amend", "--no-edit", "--date=2001-01-01T00:00:00")
        self.assertEqual(self.refresh(), [])

    def test_new_commit_goes_to_the_topic_before_it(self):
        put(self.linux, UTIL, "int util2;\n")
        put(self.linux, "mm/new.c", "int new;\n", True)
        commit(self.linux, "mm/util: more: of it.")
        self.refresh()
        patch = self.load().patches[5]
        self.assertEqual(patch.file, "reloc/mm-util-more-of-it.patch")
        self.assertEqual((patch.author, patch.adds), (refresh.PROJECT, ("mm/new.c",)))
        self.assertTrue(os.access(self.repo / "mm/new.c", os.X_OK))
        self.assertIn(UTIL, self.load().pin.blobs)

    def test_new_commit_goes_to_the_topic_that_is_given(self):
        put(self.linux, UTIL, "int util2;\n")
        commit(self.linux, "mm/util: more")
        self.refused("TOPIC=No Name is no name", self.refresh, "No Name")
        self.refresh("lru")
        self.assertEqual([p.topic for p in self.load().patches][4:], ["reloc", "lru"])
        self.assertIn("\ntopic lru\n", (self.patches / "series").read_text())
        self.assertIn("# moves\ntopic reloc needs mremap\n", (self.patches / "series").read_text())

    def test_first_commit_of_all_needs_a_topic(self):
        self.amend(0, message="mm/mremap: another subject\n\nText.")
        self.refused("is the first.*TOPIC=name", self.refresh)

    def test_two_commits_of_one_subject_get_two_files(self):
        for text in ("int util2;\n", "int util3;\n"):
            put(self.linux, UTIL, text)
            commit(self.linux, "mm/util: more")
        self.refresh()
        before = snapshot(self.repo)
        self.assertEqual([p.name for p in self.load().patches][5:],
                         ["mm-util-more.patch", "mm-util-more-2.patch"])
        self.assertEqual(self.refresh(), [])
        self.assertEqual(snapshot(self.repo), before)

    def test_dropped_commit_takes_its_patch_files_and_pins_along(self):
        name = f"patches/{BASE}/{self.load().patches[2].file}"
        git(self.linux, "rebase", "-q", "--onto", "work~3", "work~2", "work")
        names = self.changed(self.refresh)
        self.assertTrue({name, KSFT, f"patches/{BASE}/base", f"patches/{BASE}/series"} <= set(names))
        self.assertFalse((self.repo / "tools").exists())
        self.assertNotIn("run.sh", (self.patches / "base").read_text())
        self.load()

    def test_reordered_commits_reorder_the_series_file(self):
        git(self.linux, "checkout", "-q", "--detach", "base")
        for commit_ in ("work~3", "work~2", "work~4", "work~1", "work"):
            git(self.linux, "cherry-pick", commit_)
        self.refresh()
        self.assertEqual([p.subject for p in self.load().patches],
                         [SUBJECTS[i] for i in (1, 2, 0, 3, 4)])
        self.assertEqual(series.stale_index_lines(self.load()), [])

    def test_signoff_of_a_signed_tree_is_left_out(self):
        self.amend(4, message=f"{SUBJECTS[4]}\n\nBecause.\n\nSigned-off-by: A Hacker <a@hacker.example>")
        self.assertEqual(self.refresh(), [])

    def test_comments_in_the_series_file_stay_with_their_patch(self):
        name = self.load().patches[3].name
        self.edit(self.patches / "series", f"\t{name}", f"# slow\n\t{name}")
        put(self.linux, UTIL, "int util2;\n")
        commit(self.linux, "mm/util: more")
        self.refresh()
        self.assertIn(f"# slow\n\t{name}\n", (self.patches / "series").read_text())


class Selected(Refreshed):

    def test_tree_of_one_topic_leaves_the_others_alone(self):
        git(self.linux, "checkout", "-q", "-b", "ksm", "base")
        os.environ["TOPICS"] = "ksm"
        git(self.linux, "am", "-q", data=b"".join(m.text for m in compose.mails(self.load())))
        put(self.linux, KSM, "int other;\n")
        git(self.linux, "commit", "-q", "-a", "--amend", "--no-edit")
        put(self.linux, UTIL, "int util2;\n")
        commit(self.linux, "mm/ksm: and more")
        self.refresh()
        del os.environ["TOPICS"]
        known = self.load()
        self.assertEqual([p.topic for p in known.patches],
                         ["mremap"] * 3 + ["ksm", "ksm", "reloc"])
        self.assertEqual((self.repo / KSM).read_text(), "int other;\n")
        self.assertTrue((self.repo / KUNIT).exists())

    def test_topic_that_vanishes_needs_force(self):
        git(self.linux, "rebase", "-q", "--onto", "work~2", "work~1", "work")
        self.refused("the tree has no commit of ksm.*TOPICS=.*FORCE=1", self.refresh)
        os.environ["FORCE"] = "1"
        self.refresh()
        self.assertEqual(list(self.load().topics), ["mremap", "reloc"])
        self.assertFalse((self.repo / KSM).exists())


class Refused(Refreshed):
    """Each refusal leaves the repository as it was."""

    def refused(self, pattern, func, *args, **kwargs):
        before = snapshot(self.repo)
        why = super().refused(pattern, func, *args, **kwargs)
        self.assertEqual(snapshot(self.repo), before)
        return why

    def test_change_of_a_file_that_the_series_adds(self):
        put(self.linux, KSM, "int other;\n")
        commit(self.linux, "mm/ksm: mend")
        self.refused(f"'mm/ksm: mend' changes {KSM}, which commit 'mm/ksm: walk.*squash", self.refresh)
        git(self.linux, "rm", "-q", KSM)
        commit(self.linux, "mm/ksm: drop")
        self.refused("squash", self.refresh)

    def test_uncommitted_changes_in_the_tree(self):
        put(self.linux, "mm/new.c", "int new;\n")
        self.refused("changes that are in no commit: mm/new.c.*FORCE=1", self.refresh)
        put(self.linux, "mm/mremap.c", "int x;\n")
        self.refused("mm/mremap.c, mm/new.c", self.refresh)
        os.environ["FORCE"] = "1"
        self.assertEqual(self.refresh(), [])

    def test_tree_in_the_middle_of_a_rebase(self):
        os.environ["FORCE"] = "1"
        put(self.linux, "mm/mremap.c", "int other;\n")
        commit(self.linux, "mm/mremap: change all")
        with self.assertRaises(AssertionError):
            git(self.linux, "rebase", "-q", "--onto", "base", "work~1", "work")
        self.refused("is in the middle of a rebase; finish or abort", self.refresh)

    def test_edits_in_the_repository_that_are_not_committed(self):
        git(self.repo, "init", "-q")
        commit(self.repo, "save")
        put(self.repo, KSM, "int edited;\n")
        put(self.repo, "mm/mine.txt", "not of the series\n")
        self.refused(f"would be overwritten: {KSM}. .*FORCE=1", self.refresh)
        os.environ["FORCE"] = "1"
        self.assertEqual(self.refresh(), [KSM])

    def test_what_refresh_wrote_is_no_edit(self):
        git(self.repo, "init", "-q")
        commit(self.repo, "save")
        for text in ("int a;\n", "int b;\n"):
            self.amend(3, files={KSM: text})
            self.assertEqual(self.refresh(), [KSM])

    def test_tree_that_names_no_base(self):
        git(self.linux, "branch", "-q", "-m", "base", "elsewhere")
        self.refused("git -C .* branch base COMMIT", self.refresh)
        git(self.linux, "branch", "-q", "base", git(self.linux, "commit-tree", "-m", "x",
                                                    "work^{tree}").strip())
        self.refused("'base' is not below HEAD", self.refresh)
        git(self.linux, "branch", "-q", "-f", "base", "work")
        self.refused("no commit above 'base'", self.refresh)
        self.refused("is no git tree", self.refresh, None, self.top)

    def test_base_that_is_another(self):
        git(self.linux, "switch", "-q", "base")
        self.edit(self.linux / "mm/mremap.c", "int mremap_30;", "int drifted;")
        git(self.linux, "commit", "-q", "-a", "-m", "drift")
        git(self.linux, "rebase", "-q", "base", "work")
        self.refused("'base' in .* is not v1.0 in mm/mremap.c", self.refresh)

    def test_base_that_is_another_in_a_file_that_is_new_to_the_series(self):
        tree.base_tree(BASE)
        git(self.linux, "switch", "-q", "base")
        put(self.linux, UTIL, "int drifted;\n")
        git(self.linux, "commit", "-q", "-a", "-m", "drift")
        git(self.linux, "rebase", "-q", "base", "work")
        put(self.linux, UTIL, "int changed;\n")
        commit(self.linux, "mm/util: change")
        self.refused("is not v1.0 in mm/util.c", self.refresh)

    def test_merge_empty_commit_and_odd_files(self):
        git(self.linux, "commit", "-q", "--allow-empty", "-m", "mm: nothing\n\nText.")
        self.refused("'mm: nothing' changes nothing", self.refresh)
        git(self.linux, "reset", "-q", "--hard", "HEAD~1")
        git(self.linux, "checkout", "-q", "-b", "side", "work~1")
        put(self.linux, UTIL, "int side;\n")
        commit(self.linux, "mm: side")
        git(self.linux, "switch", "-q", "work")
        git(self.linux, "merge", "-q", "--no-edit", "side")
        self.refused("has the merge", self.refresh)
        git(self.linux, "reset", "-q", "--hard", "HEAD~1")
        (self.linux / "mm/link").symlink_to("util.c")
        commit(self.linux, "mm: link")
        self.refused("mm/link is no regular file", self.refresh)
        git(self.linux, "reset", "-q", "--hard", "HEAD~1")
        put(self.linux, "crypto/x.c", "int x;\n")
        commit(self.linux, "crypto: x")
        self.refused("'crypto/x.c' is not below one of", self.refresh)

    def test_message_that_mail_cannot_carry(self):
        for message, pattern in (("mm: x\n\nText.\n\ndiff --git a b", "ends the message"),
                                 ("[PATCH] mm: x\n\nText.", "one line of subject"),
                                 ("mm: x\nmore\n\nText.", "one line of subject")):
            with self.subTest(message):
                self.amend(4, message=message)
                self.refused(pattern, self.refresh)


class Script(Refreshed):

    def test_script_says_what_it_wrote(self):
        self.amend(3, files={KSM: "int other;\n"})
        done = self.run_script("refresh", TREE=str(self.linux))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"write  {KSM}\n", done.stdout)
        done = self.run_script("refresh", TREE=str(self.linux))
        self.assertIn("nothing changed", done.stdout)

    def test_no_tree_yet(self):
        done = self.run_script("refresh")
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("'make tree' makes a tree", done.stderr)

    def test_hack_tree_of_make_tree(self):
        with mock.patch.object(common, "ROOT", self.repo):
            path = tree.hack_tree(BASE)
        put(path, KSM, "int hacked;\n")
        git(path, "commit", "-q", "-a", "-m", "fixup", "--fixup=HEAD~1")
        git(path, "-c", "sequence.editor=true", "rebase", "-q", "-i", "--autosquash", "base")
        self.assertEqual(self.refresh(folder=path), [KSM])
