# SPDX-License-Identifier: GPL-2.0
"""The composed series: the same bytes everywhere, and what git makes of them."""

import os
import re
from email.header import decode_header, make_header
from pathlib import Path
from unittest import mock

from fakekernel import (BASE, KSFT, KSM, KUNIT, SUBJECTS, FakeKernel, git, put, snapshot)
from unstall import common, compose, git as ours, tree

JANE = "Jane Doe <jane@doe.example>"


class Composed(FakeKernel):

    def compose(self, topics=None, sign=None, bundle=True):
        """Composes as scripts/compose does; returns the folder."""
        known = self.load()
        composed = compose.mails(known, topics, sign)
        files = tree.base_files(known, known.touched_files([m.patch for m in composed]))
        return compose.write(known, composed, topics, files if bundle else None)

    def plain(self, name="plain"):
        """Somebody's tree of the pristine base."""
        git(self.top, "clone", "-q", "-b", "base", str(self.linux), str(self.top / name))
        git(self.top / name, "switch", "-q", "-c", "mine")
        return self.top / name


class Bytes(Composed):

    def test_same_bytes_whatever_the_surroundings(self):
        first = self.run_script("compose")
        self.assertEqual(first.returncode, 0, first.stderr)
        before = snapshot(self.out)
        strange = self.strange_config()
        second = self.run_script("compose", cwd=self.top, umask=0o077, TZ="Asia/Tokyo",
                                 LC_ALL="C.UTF-8", LANG="de_DE", COLUMNS="33", **strange)
        self.assertEqual(second.returncode, 0, second.stderr)
        self.assertEqual({k: v[1] for k, v in before.items()},
                         {k: v[1] for k, v in snapshot(self.out).items()})
        self.assertEqual([n for n in sorted(before)], [
            "0001-mm-mremap-count-the-batches.patch",
            "0002-mm-mremap-add-KUnit-tests-of-the-batches.patch",
            "0003-selftests-mm-add-ksft_batch.sh-n-code.patch",
            "0004-mm-ksm-walk-only-what-is-mapped-with-a-subject-that-.patch",
            "0005-mm-mremap_relocate-move.patch", "series.bundle", "series.mbox"])
        self.assertFalse((self.top / "hooked").exists())

    def test_patches_need_no_tree_and_no_network(self):
        for archive in (self.top / "cache").rglob("*.xz"):
            archive.unlink()
        put(self.top, "bin/apt-get", "#!/bin/sh\nexit 100\n", True)
        put(self.top, "bin/curl", "#!/bin/sh\nexit 6\n", True)
        done = self.run_script("compose", PATH=f"{self.top}/bin:{os.environ['PATH']}")
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("the patches and series.mbox are in", done.stderr)
        self.assertEqual(len(list(self.out.glob("*.patch"))), 5)
        self.assertFalse((self.out / "series.bundle").exists())

    def test_patches_look_as_those_of_git_format_patch(self):
        folder = self.compose(bundle=False)
        git(self.linux, "format-patch", "-q", "-o", str(self.top / "git"), "--full-index",
            "--zero-commit", "--signature=unstall", "base..work")
        theirs = snapshot(self.top / "git")
        self.assertEqual(len(theirs), 5)
        for name, (_, data) in theirs.items():
            want = data.decode().replace("A Hacker <a@hacker.example>", f"{ours.NAME} <{ours.MAIL}>")
            have = (folder / name).read_text()
            self.assertEqual(unfolded(have), unfolded(want))

    def test_diffstat_is_scaled_as_git_does(self):
        plain = self.plain()
        put(plain, "mm/" + "long/" * 20 + "name.c", "x\n" * 300)
        put(plain, "mm/mremap.c", "y\n" * 40)
        put(plain, "mm/empty.c", "")
        git(plain, "add", "-A")
        git(plain, "commit", "-q", "-m", "x")
        want = git(plain, "format-patch", "--stdout", "-1").split("---\n", 1)[1].split("\ndiff")[0]
        files = git(plain, "diff-tree", "-r", "--numstat", "--no-commit-id", "HEAD").splitlines()
        changes = []
        for added, deleted, path in (line.split("\t") for line in files):
            new = f" create mode 100644 {path}\n" if path != "mm/mremap.c" else ""
            changes.append(compose.Change(path, "", int(added), int(deleted), new))
        self.assertEqual(compose.diffstat(changes), want)


def unfolded(mail):
    """A mail with its headers decoded: git may fold and encode them otherwise."""
    head, body = mail.split("\n\n", 1)
    head = re.sub(r"\n[ \t]", " ", head)
    return "\n".join(str(make_header(decode_header(h))) for h in head.split("\n")) + "\n\n" + body


class Applied(Composed):

    def test_git_am_gives_the_developer_s_trees_at_every_commit(self):
        folder = self.compose()
        plain = self.plain()
        for number, patch in enumerate(sorted(folder.glob("0*.patch")), 1):
            git(plain, "am", "-q", str(patch))
            self.assertEqual(git(plain, "rev-parse", "HEAD^{tree}"),
                             git(self.linux, "rev-parse", f"work~{5 - number}^{{tree}}"))
        form = "--format=%s%n%b%ad"
        self.assertEqual(git(plain, "log", form, "base.."), git(self.linux, "log", form, "base..work"))
        self.assertTrue(os.access(plain / KSFT, os.X_OK))

    def test_mailbox_of_a_whole_series(self):
        folder = self.compose()
        plain = self.plain()
        git(plain, "am", "-q", str(folder / "series.mbox"))
        self.assertEqual(git(plain, "rev-parse", "HEAD^{tree}"),
                         git(self.linux, "rev-parse", "work^{tree}"))

    def test_bundle_is_picked_into_a_tree_that_drifted(self):
        folder = self.compose()
        plain = self.plain()
        self.edit(plain / "mm/mremap.c", "int mremap_30;\n", "int drifted;\n")
        put(plain, "README", "Another kernel.\n")
        git(plain, "add", "-A")
        git(plain, "commit", "-q", "-m", "drift")
        git(plain, "fetch", "-q", str(folder / "series.bundle"), "refs/*:refs/unstall/*")
        tip, root = f"refs/unstall/heads/unstall-{BASE}", f"refs/unstall/tags/unstall-{BASE}-root"
        self.assertEqual(git(plain, "ls-tree", "-r", "--name-only", root).split(),
                         ["mm/Kconfig", "mm/mremap.c", "tools/testing/selftests/mm/run.sh"])
        git(plain, "cherry-pick", f"{root}..{tip}")
        text = (plain / "mm/mremap.c").read_text()
        self.assertTrue("int drifted;" in text and "int batches;" in text)
        self.assertEqual((plain / "README").read_text(), "Another kernel.\n")

    def test_each_topic_applies_alone(self):
        for topic, want in (("mremap", 3), ("ksm", 1), ("reloc", 4)):
            folder = self.compose([topic])
            plain = self.plain(topic)
            git(plain, "am", "-q", str(folder / "series.mbox"))
            self.assertEqual(len(git(plain, "rev-list", "base..").split()), want)

    def test_message_that_git_reads_otherwise_is_refused(self):
        known = self.load()
        composed = compose.mails(known)
        odd = compose.Mail(composed[0].patch, composed[0].source, composed[0].name,
                           composed[0].text.replace(b"Counting is", b"Counting was"),
                           composed[0].message)
        files = tree.base_files(known, known.touched_files())
        with self.assertRaisesRegex(common.CannotRun, "reads another message than .*count-the"):
            with compose.commits(known, None, [odd, *composed[1:]], files):
                pass

    def test_patch_that_does_not_apply_names_patch_and_file(self):
        self.edit(self.patch_file(0), " int mremap_9;", " int nonsense;")
        why = self.refused("count-the-batches.patch does not apply to the pinned files", self.compose)
        self.assertIn("mm/mremap.c", why)
        self.assertFalse(self.out.exists())


class Selected(Composed):

    def test_topics_are_composed_beside_the_whole(self):
        whole = self.compose()
        folder = self.compose(["reloc"])
        self.assertEqual(folder, self.out / "topics" / "mremap+reloc")
        self.assertEqual(len(list(folder.glob("*.patch"))), 4)
        self.assertEqual(len(list(whole.glob("*.patch"))), 5)
        self.assertIn("[PATCH 4/4]", (folder / "0004-mm-mremap_relocate-move.patch").read_text())
        self.compose()
        self.assertTrue(folder.exists())

    def test_single_patch_has_no_number(self):
        folder = self.compose(["ksm"])
        self.assertIn("Subject: [PATCH] mm/ksm: ", (folder / "series.mbox").read_text())

    def test_unknown_topic_is_refused_by_the_script(self):
        done = self.run_script("compose", TOPICS="foo")
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("the topics are: mremap, ksm, reloc", done.stderr)

    def test_signoff_is_the_last_trailer(self):
        text = (self.compose(sign=JANE) / "series.mbox").read_text()
        self.assertEqual(text.count(f"Signed-off-by: {JANE}\n---\n"), 5)
        self.assertIn(f"\nAnd that is all.\n\nSigned-off-by: {JANE}\n---\n", text)
        self.assertIn(f"\nLink: https://example.org/\nSigned-off-by: {JANE}\n---\n", text)
        # A message without text.
        self.assertIn(f"Subject: [PATCH 2/5] {SUBJECTS[1]}\n\nSigned-off-by: {JANE}\n---\n", text)

    def test_signoff_stands_once(self):
        self.assertEqual(compose.signed(f"Text.\n\nSigned-off-by: {JANE}", JANE),
                         f"Text.\n\nSigned-off-by: {JANE}")
        self.assertEqual(compose.signed("a: b c\nno trailer", JANE),
                         f"a: b c\nno trailer\n\nSigned-off-by: {JANE}")

    def test_signoff_that_cannot_be_one(self):
        for bad in ("Jane", "Jane <jane>", "<jane@doe.example>", "jane@doe.example",
                    "Jane <jane@doe.example>\nX: y", " <a@b.example>", "Jane <a@b> <c@d>",
                    "Jane <a@b> x", "Jane <a@b@c>", " Jane <a@b.example>"):
            with mock.patch.dict(os.environ, SIGNOFF=bad), self.subTest(bad):
                self.refused("cannot be a sign-off", compose.signoff)
        for good in (JANE, "Jörg Ö. O'Neil <j+k@doe.example>"):
            with mock.patch.dict(os.environ, SIGNOFF=good):
                self.assertEqual(compose.signoff(), good)

    def test_signoff_and_name_that_are_not_ascii(self):
        self.edit(self.patch_file(0), "unstall developers", "Jörg Müller")
        folder = self.compose(sign="Jörg Ö <j@doe.example>")
        plain = self.plain()
        git(plain, "am", "-q", str(folder / "series.mbox"))
        self.assertEqual(git(plain, "log", "--format=%an", "-1", "HEAD~4"), "Jörg Müller\n")
        self.assertEqual(git(plain, "log", "--format=%s", "-1", "HEAD~2"), SUBJECTS[2] + "\n")
        self.assertIn("Signed-off-by: Jörg Ö <j@doe.example>", git(plain, "log", "-1"))

    def test_cover_letter(self):
        (self.patches / "cover").write_text("mm: no stalls\n\nWhy: – because.\n")
        folder = self.compose()
        letter = (folder / "0000-cover-letter.patch").read_text()
        for part in ("Subject: [PATCH 0/5] mm: no stalls\n", "Why: – because.\n",
                     f"unstall developers (5):\n  {SUBJECTS[0]}\n", " 6 files changed, 10 insertions(+)",
                     f" create mode 100755 {KSFT}\n", "Date: Tue, 14 Nov 2023 22:20:00 +0000",
                     "charset=UTF-8"):
            self.assertIn(part, letter)
        self.assertNotIn("no stalls", (folder / "series.mbox").read_text())
        self.assertFalse((self.compose(["reloc"]) / "0000-cover-letter.patch").exists())
        known = self.load()
        known.patches = known.patches[:1]       # with a cover letter, even one patch is numbered
        self.assertIn(b"[PATCH 1/1] mm/mremap", compose.mails(known)[0].text)
        (self.patches / "cover").write_text("only a subject\n")
        self.refused("cover must hold a subject", self.compose)

    def test_no_patches_yet(self):
        known = self.load()
        known.patches = []
        self.refused("has no patches yet", compose.mails, known)


class Files(Composed):

    def test_new_files_arrive_as_they_are(self):
        (self.repo / KUNIT).write_text("")
        (self.repo / KUNIT).chmod(0o755)
        (self.repo / KSM).write_text("int walk;\n \n\n\n+\n-- \n--- a\n+++ b\n@@ -1 +1 @@\nFrom x 00:00:00 2000\n")
        folder = self.compose()
        plain = self.plain()
        git(plain, "am", "-q", str(folder / "series.mbox"))
        for path in (KUNIT, KSM, KSFT):
            self.assertEqual((plain / path).read_bytes(), (self.repo / path).read_bytes())
        self.assertTrue(os.access(plain / KUNIT, os.X_OK))
        self.assertFalse(os.access(plain / KSM, os.X_OK))

    def test_line_ends_that_mail_would_lose_are_refused(self):
        (self.repo / KSM).write_bytes(b"int walk;\r\n")
        self.refused("carriage return", self.compose)


class Folder(Composed):

    def test_stale_patches_go_and_results_stay(self):
        self.compose()
        put(self.out, "0009-old.patch", "old")
        put(self.out, "0000-cover-letter.patch", "old")
        put(self.out, "run/x86_64-guest/kunit.ktap", "TAP")
        self.compose()
        self.assertFalse((self.out / "0009-old.patch").exists())
        self.assertFalse((self.out / "0000-cover-letter.patch").exists())
        self.assertEqual((self.out / "run/x86_64-guest/kunit.ktap").read_text(), "TAP")
        self.assertEqual([p.name for p in self.out.parent.iterdir()], [BASE])

    def test_failure_leaves_the_old_folder(self):
        self.compose()
        before = snapshot(self.out)
        with mock.patch.object(compose, "write_bundle", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.compose)
        self.assertEqual(snapshot(self.out), before)

    def test_interrupted_exchange_is_repaired(self):
        for stop in range(3):
            self.compose()
            put(self.out, "run/results", "kept")
            before = snapshot(self.out)
            with self.subTest(stop), mock.patch.object(Path, "rename", stopping(stop)):
                self.assertRaises(KeyboardInterrupt, self.compose)
            self.compose()
            self.assertEqual(snapshot(self.out), before)
            self.assertEqual([p.name for p in self.out.parent.iterdir()], [BASE])


def stopping(after):
    """Path.rename() that is killed at its nth call."""
    real, calls = Path.rename, [0]

    def rename(path, target):
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return real(path, target)
    return rename
