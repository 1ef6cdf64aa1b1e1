# SPDX-License-Identifier: GPL-2.0
"""The model of patches/<base>/: what is read, and what is refused."""

import os
from unittest import mock

from fakekernel import BASE, KSFT, KSM, KUNIT, SUBJECTS, FakeKernel, git, put
from unstall import series

HEAD = "From: A <a@b.example>\nDate: Sat, 1 Jan 2000 00:00:00 +0000\nSubject: x\n"
DIFF = """diff --git a/mm/util.c b/mm/util.c
index {0}..{0} 100644
--- a/mm/util.c
+++ b/mm/util.c
@@ -1 +1 @@
-int util;
+int util2;
""".format("1" * 40)


class Patches(FakeKernel):

    def parse(self, text):
        return series.parse_patch(text, "t", "x.patch", "patches/b/t/x.patch")

    def wrong(self, text, pattern):
        self.refused(pattern, self.parse, text)

    def test_text_of_a_patch_is_read_and_written_the_same(self):
        for patch in self.load().patches:
            text = (self.patches / patch.file).read_bytes().decode()
            self.assertEqual(series.format_patch(patch), text)

    def test_parts_of_a_patch(self):
        patch = self.parse(f"{HEAD}\n\nOne.  \n\n\n\nTwo.\n\n---\nadds: mm/a.c\nadds: mm/b.c\n\n{DIFF}")
        self.assertEqual((patch.subject, patch.body, patch.adds), ("x", "One.\n\nTwo.",
                                                                    ("mm/a.c", "mm/b.c")))
        self.assertEqual([(d.path, d.added, d.deleted) for d in patch.diffs], [("mm/util.c", 1, 1)])

    def test_encoded_and_folded_headers(self):
        patch = self.parse(HEAD.replace("Subject: x", "Subject: =?UTF-8?q?=C3=BCber?=\n alles")
                           + f"\n---\n{DIFF}")
        self.assertEqual(patch.subject, "über alles")

    def test_headers_that_are_wrong_name_their_line(self):
        tail = f"\n---\n{DIFF}"
        self.wrong("hello\n" + HEAD + tail, r"x.patch:1: a patch begins with")
        self.wrong(HEAD.replace("<a@b.example>", "a@b.example") + tail, r"x.patch:1: From: must be")
        self.wrong(HEAD.replace("Sat, 1 Jan", "Someday") + tail, r"x.patch:2: .*no date")
        self.wrong(HEAD.replace("x\n", "[PATCH 1/2] x\n") + tail, r"x.patch:3: Subject: must have")
        self.wrong(HEAD.replace("Subject: x\n", "") + tail, r"Subject: is missing")

    def test_message_that_git_am_would_misread_names_its_line(self):
        for line in ("diff --git a b", "Index: a", "--- a/x", "---  ", "-- >8 --",
                     "From a@b Sat Jan  1 00:00:00 2000"):
            self.wrong(f"{HEAD}\nText.\n\n{line}\n\n---\n{DIFF}", r"x.patch:7: ")
        self.wrong(f"{HEAD}\nDate: today is a good day\n---\n{DIFF}", r"x.patch:5: .*mail header")
        self.wrong(f"{HEAD}\nText.\n", r"x.patch:6: .*'---'")

    def test_what_stands_before_the_diff_is_only_adds(self):
        self.wrong(f"{HEAD}\n---\nadds: mm/a.c\n mm/a.c | 1 +\n\n{DIFF}", r"x.patch:7: .*adds: PATH")
        for path in ("/etc/passwd", "mm/../x", "mm/a b.c", "scripts/x", "Makefile", "mm"):
            self.wrong(f"{HEAD}\n---\nadds: {path}\n", rf"x.patch:6: '{path}'")

    def test_diff_of_another_kind_is_refused(self):
        for change, pattern in (
                (("index", "new file mode 100644\nindex"), r"x.patch:8: mm/util.c is new.*adds: mm/util.c"),
                (("index", "rename from a\nindex"), "x.patch:8: 'rename from a' does not belong"),
                (("1" * 40, "1" * 12), "does not belong"),
                (("b/mm/util.c\nindex", "b/mm/other.c\nindex"), "x.patch:7: a diff has the same file"),
                (("@@ -1 +1 @@", "@@ -1,2 +1 @@"), "x.patch:11: the hunk is shorter"),
                (("+int util2;\n", "+int util2;\n+int more;\n"), "x.patch:14: the hunk is longer"),
                (("+int util2;\n", "+int util2;\n-- \n2.39.5\n"), "x.patch:14: the hunk is longer"),
                (("index", "GIT binary patch\nindex"), "does not belong")):
            self.assertIn(change[0], DIFF)
            self.wrong(f"{HEAD}\n---\n\n{DIFF.replace(*change, 1)}", pattern)

    def test_patch_without_content_or_with_a_file_twice(self):
        self.wrong(f"{HEAD}\nText.\n---\n", "neither changes a file nor adds one")
        self.wrong(f"{HEAD}\n---\n{DIFF}{DIFF}", "names mm/util.c twice")

    def test_file_names_are_those_of_git_format_patch(self):
        subjects = ("mm/mremap: a b", "x...y.. z.", "-- (a) [b]", "ünï", "a" * 80, "v1.2-rc3_x/y",
                    "tr\u00fcb. ", "end---", "..start", "'quoted' \"text\"")
        want = []
        for subject in subjects:
            git(self.linux, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", subject)
            want.append(git(self.linux, "log", "-1", "--format=%f").strip())
        self.assertEqual([series.sanitized(s) for s in subjects], want)


class SeriesFile(FakeKernel):

    def write(self, text):
        (self.patches / "series").write_text(text)

    def wrong(self, text, pattern):
        self.write(text)
        self.refused(pattern, self.load)

    def test_text_is_read_and_written_the_same(self):
        text = (self.patches / "series").read_text()
        self.assertEqual(series.format_series(self.load()), text)
        first = self.load().patches[0]
        text = text.replace(f"\t{first.name}", f"# why\n\n\t{first.name}") + "# the end\n"
        self.write(text)
        self.assertEqual(series.format_series(self.load()), text)

    def test_topic_may_go_on_below_another(self):
        names = [f"\t{p.name}\n" for p in self.load().patches]
        text = f"topic ksm\n{names[3]}# fast\ntopic mremap\n{names[0]}{names[1]}" \
               f"topic reloc needs mremap\n{names[4]}topic mremap\n{names[2]}"
        self.write(text)
        self.assertEqual([p.topic for p in self.load().patches],
                         ["ksm", "mremap", "mremap", "reloc", "mremap"])
        self.assertEqual(series.format_series(self.load()), text)

    def test_errors_name_their_line(self):
        for text, pattern in (
                ("# x\n\n\ta.patch\n", r"series:3: a patch stands below"),
                ("topic a\nb.patch\n", r"series:2: a line is"),
                ("topic A\n", r"series:1: a topic is written"),
                ("topic a needs\n", r"series:1: a topic is written"),
                ("topic a needs b\n", r"series:1: topic a needs 'b', which is no topic above it"),
                ("topic a needs b\ntopic b\n", r"series:1: topic a needs 'b'"),
                ("topic a\ntopic a needs a\n", r"series:2: "),
                ("topic a\n\tnone.patch\n", r"series:2: .*a/none.patch does not exist"),
                ("topic a\n\t../x.patch\n", r"series:2: .*should be the name"),
                ("topic a\nlocal mm/x\n", r"series:2: a line is"),
                (f"topic ksm\n{2 * ('	' + self.load().patches[3].name + chr(10))}",
                 r"series:3: ksm/mm-ksm.* stands here twice")):
            with self.subTest(text):
                good = (self.patches / "series").read_text()
                self.wrong(text, pattern)
                self.write(good)

    def test_topics_select_what_they_need(self):
        known = self.load()
        self.assertEqual(known.selected_topics(), ["mremap", "ksm", "reloc"])
        for asked, want in (("ksm", ["ksm"]), ("reloc", ["mremap", "reloc"]),
                            ("reloc ksm", ["mremap", "ksm", "reloc"]), (" ", list(known.topics))):
            with mock.patch.dict(os.environ, TOPICS=asked):
                self.assertEqual(known.selected_topics(), want)
        with mock.patch.dict(os.environ, TOPICS="ksm foo"):
            self.refused("TOPICS names 'foo', which is no topic of v1.0; "
                         "the topics are: mremap, ksm, reloc", known.selected_patches)

    def test_files_of_a_topic(self):
        known = self.load()
        self.assertEqual(known.added_files("mremap"), [KUNIT, KSFT])
        self.assertEqual(known.added_files("reloc"), [])
        self.assertEqual(known.touched_files(known.selected_patches(["ksm"])), ["mm/Kconfig"])

    def test_no_series_yet(self):
        (self.patches / "series").unlink()
        for folder in ("mm", "tools"):
            os.rename(self.repo / folder, self.top / folder)
        self.edit(self.patches / "base", "blob ", "# blob ")
        known = series.read(BASE)
        self.assertEqual((known.patches, known.topics), ([], {}))
        (self.patches / "base").unlink()
        self.refused(f"patches/{BASE}/base is missing", self.load)


class Base(FakeKernel):

    def test_text_is_read_and_written_the_same(self):
        text = (self.patches / "base").read_text()
        self.assertEqual(series.format_pin(series.parse_pin(text, "base")), text)

    def test_errors_name_their_line(self):
        for old, new, pattern in (
                ("version 1.0", "version", "base:4: 'version' wants one word, once"),
                ("version 1.0", "release 1.0", "base:4: 'release' is not known"),
                ("tarball ", "tarball 12", "base:5: 'tarball' wants a sha256"),
                ("blob 100644", "blob 120000", "base:12: 'blob' wants a mode"),
                ("version 1.0", "", "must give a version")):
            with self.subTest(new):
                good = (self.patches / "base").read_text()
                self.edit(self.patches / "base", old, new)
                self.refused(pattern, self.load)
                (self.patches / "base").write_text(good)


class Contradictions(FakeKernel):
    """What a checkout must not hold; each is refused with a sentence."""

    def test_good_series_is_not_refused(self):
        self.load()

    def test_file_that_is_added_but_missing(self):
        (self.repo / KSM).unlink()
        self.refused(rf"mm-ksm-.*patch adds {KSM}, but the repository has no such file", self.load)

    def test_link_in_place_of_a_file(self):
        (self.repo / KSM).unlink()
        (self.repo / KSM).symlink_to("/etc/passwd")
        self.refused("has no such file", self.load)

    def test_file_that_two_commits_add(self):
        self.edit(self.patch_file(0), "\n---\n", f"\n---\nadds: {KSM}\n")
        self.refused(f"{KSM} is added by .*count-the-batches.patch and by .*mm-ksm", self.load)

    def test_file_that_no_patch_adds(self):
        put(self.repo, "mm/orphan.c", "int x;\n")
        put(self.repo, "Documentation/results/r.txt", "1\n")
        put(self.repo, "mm/.orphan.c.swp", "an editor's\n")
        self.refused("no patch adds Documentation/results/r.txt, mm/orphan.c;", self.load)
        text = (self.patches / "series").read_text()
        (self.patches / "series").write_text("local Documentation/results\n" + text)
        self.refused("no patch adds mm/orphan.c;", self.load)

    def test_orphan_of_git(self):
        git(self.repo, "init", "-q")
        (self.repo / ".gitignore").write_text("*.o\n")
        put(self.repo, "mm/built.o", "ignored\n")
        self.load()
        put(self.repo, "mm/orphan.c", "int x;\n")
        self.refused("no patch adds mm/orphan.c;", self.load)

    def test_file_that_another_base_adds_is_no_orphan(self):
        put(self.repo, "mm/newer.c", "int x;\n")
        other = self.repo / "patches" / "v2.0"
        put(other, "base", "# SPDX\nversion 2.0\ntarball " + "0" * 64 + " 1 x.tar.xz\n")
        put(other, "series", "topic a\n\ta.patch\n")
        put(other, "a/a.patch", f"{HEAD}\n---\nadds: mm/newer.c\n")
        self.load()

    def test_file_of_the_base_cannot_be_added(self):
        put(self.repo, "mm/mremap.c", "int x;\n")
        self.edit(self.patch_file(3), "\n---\n", "\n---\nadds: mm/mremap.c\n")
        self.refused("adds mm/mremap.c, but v1.0 has that file", self.load)

    def test_hunk_on_a_file_that_the_series_adds(self):
        with open(self.patch_file(4), "a", encoding="utf-8") as f:
            f.write(DIFF.replace("mm/util.c", KSM))
        self.refused(f"changes {KSM}, which .*mm-ksm.*adds", self.load)

    def test_pins_and_touched_files_are_the_same_list(self):
        with open(self.patch_file(4), "a", encoding="utf-8") as f:
            f.write(DIFF)
        self.refused("base does not pin mm/util.c, which the series changes", self.load)
        with open(self.patches / "base", "a", encoding="utf-8") as f:
            f.write(f"blob 100644 {'1' * 40} mm/util.c\nblob 100644 {'1' * 40} README\n")
        self.refused("base pins README, which the series does not change", self.load)

    def test_binary_file(self):
        (self.repo / KSM).write_bytes(b"a\0b\n")
        self.refused("zero bytes", self.load)

    def test_order_that_makes_index_lines_stale_is_found(self):
        self.assertEqual(series.stale_index_lines(self.load()), [])
        names = [p.name for p in self.load().patches]
        self.edit(self.patches / "series", f"\t{names[0]}\n", "")
        with open(self.patches / "series", "a", encoding="utf-8") as f:
            f.write(f"topic mremap\n\t{names[0]}\n")
        self.assertEqual([p.subject for p in series.stale_index_lines(self.load())],
                         [SUBJECTS[4], SUBJECTS[0]])
