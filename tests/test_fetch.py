# SPDX-License-Identifier: GPL-2.0
"""Where the base comes from, and the trees that are made of it."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from unittest import mock

from fakekernel import (BASE, EXECUTABLE, FILES, KSM, SUBJECTS, FakeKernel, commit, git, put,
                        snapshot)
from unstall import apply, common, compose, refresh, tarball, tree

GOOD = "linux_1.0.orig.tar.xz"


class Base(FakeKernel):

    def setUp(self):
        super().setUp()
        self.cache = common.CACHE / "tarballs"
        self.base = self.build / BASE / "base"

    def check_base(self):
        """The base is complete: the files, one commit, and nothing left over."""
        have = {p: c for p, (_, c) in snapshot(self.base).items()}
        self.assertEqual(have, {p: c.encode() for p, c in FILES.items()})
        for path in EXECUTABLE[:1]:
            self.assertTrue(os.access(self.base / path, os.X_OK))
        self.assertEqual(git(self.base, "rev-list", "--count", "base"), "1\n")
        self.assertEqual(git(self.base, "rev-parse", "base^{tree}"),
                         git(self.linux, "rev-parse", "base^{tree}"))
        self.assertEqual(git(self.base, "status", "--porcelain"), "")
        self.assertEqual([p.name for p in (self.build / BASE).iterdir()], ["base"])

    def stub(self, name, text):
        put(self.top, f"bin/{name}", f"#!/bin/sh\n{text}\n", True)
        os.environ["PATH"] = f"{self.top}/bin:{os.environ['PATH'].replace(f'{self.top}/bin:', '')}"

    def empty_cache(self):
        """Moves the good tarball out of the cache, for stubs to bring back."""
        (self.cache / GOOD).rename(self.top / GOOD)

    def nothing_is_left(self):
        self.assertEqual([p for p in (self.build / BASE).iterdir() if p.name != "applied.json"]
                         if (self.build / BASE).exists() else [], [])
        self.assertEqual([p.name for p in self.cache.iterdir() if p.name.startswith(".fetch")], [])


class Cached(Base):

    def test_base_is_made_of_the_cached_tarball(self):
        self.assertEqual(tree.base_tree(BASE), self.base)
        self.check_base()
        put(self.base, "guest/x", "built\n")
        put(self.base, "kunit-x/x", "built\n")
        self.assertEqual(git(self.base, "status", "--porcelain"), "")

    def test_commit_is_the_same_everywhere(self):
        tree.base_tree(BASE)
        first = git(self.base, "rev-parse", "base")
        shutil.rmtree(self.base)
        self.as_strange_user()
        tree.base_tree(BASE)
        self.assertEqual(git(self.base, "rev-parse", "base"), first)
        self.check_base()

    def test_tarball_under_the_name_of_the_release(self):
        (self.cache / GOOD).rename(self.cache / "linux-1.0.tar.xz")
        tree.base_tree(BASE)
        self.check_base()

    def test_second_call_makes_nothing(self):
        tree.base_tree(BASE)
        with mock.patch.object(tree, "_make_base", side_effect=AssertionError):
            tree.base_tree(BASE)

    def test_wrong_sum_is_named_and_the_file_put_aside(self):
        (self.cache / GOOD).write_bytes(b"not it")
        why = self.refused("has the sha256", tree.base_tree, BASE)
        self.assertIn(hashlib.sha256(b"not it").hexdigest(), why)
        self.assertIn(self.load().pin.tarballs[0].sha256, why)
        self.assertFalse((self.cache / GOOD).exists())
        self.assertEqual((self.cache / (GOOD + ".wrong")).read_bytes(), b"not it")
        self.nothing_is_left()

    def test_tarball_that_cannot_be_unpacked(self):
        (self.cache / GOOD).write_bytes(b"not it")
        digest = hashlib.sha256(b"not it").hexdigest()
        self.edit(self.patches / "base", self.load().pin.tarballs[0].sha256, digest)
        self.refused("cannot be unpacked", tree.base_tree, BASE)
        self.nothing_is_left()

    def test_tarball_of_another_release_is_refused_naming_the_files(self):
        self.edit(self.patches / "base", self.load().pin.blobs["mm/mremap.c"][1], "1" * 40)
        self.refused("the tarball is not v1.0 in 1 of the files .*: mm/mremap.c", tree.base_tree, BASE)
        self.nothing_is_left()

    def test_full_disk_is_said_before_anything_is_written(self):
        usage = shutil.disk_usage("/")._replace(free=1 << 19)
        with mock.patch("shutil.disk_usage", return_value=usage):
            self.refused("the tree of v1.0 needs 1 MiB and the disk of .* has 0 MiB free; .*UNSTALL_BUILD",
                         tree.base_tree, BASE)
        self.assertFalse(self.build.exists())

    def test_full_disk_at_the_download(self):
        self.empty_cache()
        self.stub("apt-get", "exit 100")
        self.stub("curl", "exit 99")
        usage = shutil.disk_usage("/")._replace(free=2 << 20)
        with mock.patch("shutil.disk_usage", return_value=usage):
            self.refused("the download needs 64 MiB", tree.base_tree, BASE)

    def test_some_files_without_a_tree(self):
        files = tree.base_files(self.load(), ["mm/Kconfig", "mm/mremap.c"])
        self.assertEqual(files["mm/mremap.c"], FILES["mm/mremap.c"].encode())
        self.nothing_is_left()

    def test_some_files_of_which_one_path_ends_like_another(self):
        known, paths = self.load(), ["mm/run.sh", "tools/testing/selftests/mm/run.sh"]
        known.pin.blobs[paths[0]] = ("100644", compose.blob_id(FILES[paths[0]].encode()))
        self.assertEqual(tree.base_files(known, paths), {p: FILES[p].encode() for p in paths})


class Fetched(Base):

    def test_no_network_and_nothing_cached(self):
        self.empty_cache()
        self.stub("apt-get", "echo 'E: Unable to connect' >&2; exit 100")
        self.stub("curl", "echo 'curl: (6) Could not resolve host' >&2; exit 6")
        why = self.refused("the source of 1.0 cannot be fetched", tree.base_tree, BASE)
        for part in ("apt: ", "Could not resolve host", "Give LINUX=/path",
                     f"put the tarball at {self.cache}/linux-1.0.tar.xz",
                     self.load().pin.tarballs[0].sha256):
            self.assertIn(part, why)
        self.nothing_is_left()
        done = self.run_script("fetch", PATH=os.environ["PATH"])
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("Give LINUX=/path", done.stderr)

    def test_neither_apt_nor_curl_is_installed(self):
        self.empty_cache()
        with mock.patch("shutil.which", return_value=None):
            why = self.refused("cannot be fetched", tree.base_tree, BASE)
        self.assertIn("there is no apt-get here", why)
        self.assertIn("curl is not installed", why)

    def test_download_from_the_release_s_url(self):
        self.empty_cache()
        self.stub("apt-get", "exit 100")
        self.stub("curl", f"""while [ "$1" != --output ]; do shift; done; cp {self.top}/{GOOD} "$2"
            echo "$3" > {self.top}/url""")
        tree.base_tree(BASE)
        self.check_base()
        self.assertEqual((self.top / "url").read_text(), "https://localhost:1/linux-1.0.tar.xz\n")
        self.assertTrue((self.cache / "linux-1.0.tar.xz").exists())

    def test_download_with_a_wrong_sum(self):
        self.empty_cache()
        self.stub("apt-get", "exit 100")
        self.stub("curl", 'while [ "$1" != --output ]; do shift; done; echo error page > "$2"')
        self.refused("has the sha256", tree.base_tree, BASE)
        self.assertFalse((self.cache / "linux-1.0.tar.xz").exists())
        self.nothing_is_left()

    def apt(self, sources, mirrors="http://mirror.example/debian/|Debian|Debian|main"):
        """An apt that knows one mirror and has what `sources` says."""
        self.empty_cache()
        self.stub("curl", "echo 'curl: (6) Could not resolve host' >&2; exit 6")
        (self.top / "showsrc").write_text(sources)
        self.stub("apt-cache", f"cat {self.top}/showsrc")
        (self.top / "mirrors").write_text(mirrors + "\n")
        self.stub("apt-get", f"""
            echo "$@" >> {self.top}/log
            case "$*" in
            *indextargets*) cat {self.top}/mirrors ;;
            *update*) for o; do case $o in *sourcelist=*) cp "${{o#*=}}" {self.top}/list ;; esac; done ;;
            *source*) cp {self.top}/{GOOD} . ;;
            esac""")

    def stanza(self, version="1.0-1~bpo1", digest=None):
        digest = digest or self.load().pin.tarballs[0].sha256
        return f"Package: linux\nVersion: {version}\nChecksums-Sha256:\n {digest} 616 {GOOD}\n"

    def test_apt_s_source_package(self):
        self.apt(self.stanza("0.9-1", "0" * 64) + "\n" + self.stanza() + "\n")
        tree.base_tree(BASE)
        self.check_base_but_apt()
        self.assertRegex((self.top / "list").read_text(),
                         r"^deb-src (\[signed-by=\S+\] )?http://mirror.example/debian/ nowhere main$")
        log = (self.top / "log").read_text()
        self.assertIn("source --download-only --tar-only linux=1.0-1~bpo1", log)
        for option in ("Dir::State::lists=", "Dir::Cache::archives="):
            self.assertIn(f"-o{option}{self.build}/apt/", log)

    def check_base_but_apt(self):
        self.check_base()
        self.assertTrue((self.build / "apt").is_dir())

    def test_suite_that_has_moved_on(self):
        self.apt(self.stanza("1.1-1", "0" * 64))
        why = self.refused("cannot be fetched", tree.base_tree, BASE)
        self.assertIn("apt: nowhere has linux 1.1-1, and none of them is made of the pinned", why)

    def test_only_mirrors_of_debian_are_asked(self):
        vendor = "http://vendor.example/debian/|Vendor|Vendor|main"
        self.apt(self.stanza(), vendor)
        self.refused("configured for no mirror of Debian", tree.base_tree, BASE)
        self.assertNotIn("update", (self.top / "log").read_text())
        # apt that was never updated does not know whose the repositories are
        self.assertEqual(self.mirrors("http://m.example/debian/|||main\nhttp://v.example/apt/|||main"),
                         ["http://m.example/debian/"])
        self.assertEqual(self.mirrors(f"{vendor}\nhttp://m.example/deb/|Debian|Debian|main\n"
                                      "http://m.example/deb/|Debian|Debian|main\n"
                                      "http://s.example/debian-security/|Debian|Debian-Security|main"),
                         ["http://m.example/deb/"])

    def mirrors(self, text):
        (self.top / "mirrors").write_text(text + "\n")
        return tarball.debian_mirrors()


class FromTree(Base):

    def linux_is(self, path):
        os.environ["LINUX"] = str(path)

    def test_git_tree_is_copied_and_not_touched(self):
        git(self.linux, "switch", "-q", "base")
        put(self.linux, "mm/util.c", "uncommitted\n")
        put(self.linux, "untracked", "x\n")
        before = (snapshot(self.linux), (self.linux / ".git/index").stat().st_mtime_ns,
                  git(self.linux, "for-each-ref"))
        self.linux_is(self.linux)
        tree.base_tree(BASE)
        self.check_base()
        tree.base_tree(BASE)
        self.assertEqual((snapshot(self.linux), (self.linux / ".git/index").stat().st_mtime_ns,
                          git(self.linux, "for-each-ref")), before)

    def test_git_tree_with_strange_settings(self):
        git(self.linux, "switch", "-q", "base")
        self.strange_tree(self.linux)
        self.linux_is(self.linux)
        tree.base_tree(BASE)
        self.check_base()

    def test_git_tree_that_drifted_names_all_files(self):
        self.linux_is(self.linux)       # it has the series
        self.refused("LINUX=.* is not v1.0 in 3 of the files that the series touches: mm/Kconfig, "
                     "mm/mremap.c, tools/.*/run.sh", tree.base_tree, BASE)
        self.nothing_is_left()

    def test_plain_folder(self):
        git(self.linux, "switch", "-q", "base")
        git(self.linux, "rm", "-q", "--cached", "mm/tracked.o")
        shutil.rmtree(self.linux / ".git")
        self.linux_is(self.linux)
        tree.base_tree(BASE)
        self.assertEqual((self.base / "mm/mremap.c").read_text(), FILES["mm/mremap.c"])
        tree.base_tree(BASE)
        os.environ["LINUX"] = str(self.repo)
        self.refused("made from another source than LINUX=", tree.base_tree, BASE)

    def test_plain_folder_that_drifted_or_was_built_in(self):
        shutil.rmtree(self.linux / ".git")
        self.linux_is(self.linux)
        self.refused("is not v1.0 in 3 of the files", tree.base_tree, BASE)
        put(self.linux, ".config", "CONFIG_X=y\n")
        self.refused("make mrproper", tree.base_tree, BASE)
        self.linux_is(self.top / "none")
        self.refused("is no folder", tree.base_tree, BASE)

    def test_base_of_another_source_is_not_replaced_silently(self):
        tree.base_tree(BASE)
        git(self.linux, "switch", "-q", "base")
        self.linux_is(self.linux)
        tree.base_tree(BASE)            # the same files
        put(self.linux, "mm/util.c", "int other;\n")
        git(self.linux, "commit", "-q", "-a", "-m", "more")
        self.refused("was made from another source than LINUX=", tree.base_tree, BASE)


class Drifted(Base):

    def test_base_that_somebody_changed_names_the_files(self):
        tree.base_tree(BASE)
        put(self.base, "mm/mremap.c", "int x;\n")
        self.refused("must stay the pristine base, and differs in mm/mremap.c", tree.base_tree, BASE)
        git(self.base, "commit", "-q", "-a", "-m", "x")
        self.refused("is not v1.0 in 1 of the files that the series touches: mm/mremap.c",
                     tree.base_tree, BASE)

    def test_pins_that_changed(self):
        tree.base_tree(BASE)
        self.edit(self.patches / "base", self.load().pin.blobs["mm/Kconfig"][1], "1" * 40)
        self.refused("is not v1.0 in 1 .*: mm/Kconfig", tree.ours_tree, BASE)
        self.assertFalse((self.build / BASE / "ours").exists())

    def test_folder_that_is_no_base(self):
        put(self.base, "mm/mremap.c", "int x;\n")
        self.refused("is not what scripts/fetch makes", tree.base_tree, BASE)


class Interrupted(Base):

    def slow(self, name):
        """A command that begins its work and then hangs."""
        real = shutil.which(name)
        self.stub(name, f"case \"$*\" in *extract*|*--output*|*' add '*) ;; *) exec {real} \"$@\" ;; esac\n"
                        f"while [ $# -gt 0 ]; do [ \"$1\" = --directory ] && echo half > \"$2/half\"; shift; done\n"
                        f"echo $$ > {self.top}/started\nexec sleep 60")

    def interrupt(self, number):
        """Runs scripts/fetch until the slow command hangs, and sends a signal."""
        env = self.environment(PATH=os.environ["PATH"])
        with subprocess.Popen([self.script("fetch")], env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, start_new_session=True,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
                              ) as process:
            begin = time.monotonic()
            started = self.top / "started"
            while not (started.exists() and started.read_text().endswith("\n")):
                self.assertIsNone(process.poll(), process.poll() is not None and process.stdout.read())
                self.assertLess(time.monotonic() - begin, 60)
                time.sleep(0.02)
            slow = int(started.read_text())
            process.send_signal(number)
            process.wait(60)
            if number == signal.SIGKILL:
                os.kill(slow, signal.SIGKILL)
            self.assert_ended(slow)
            output = process.stdout.read()
        self.assertFalse(self.base.exists())
        return process.returncode, output

    def assert_ended(self, pid):
        """An orphan is reaped a moment after its end."""
        for _ in range(1500):
            if not os.path.exists(f"/proc/{pid}"):
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        self.fail("the command runs on")

    def recover(self):
        shutil.rmtree(self.top / "bin", ignore_errors=True)
        tree.base_tree(BASE)
        self.check_base()

    def check_base(self):
        (self.build / ".lock").unlink(missing_ok=True)
        super().check_base()

    def test_ctrl_c_while_unpacking(self):
        self.slow("tar")
        status, output = self.interrupt(signal.SIGINT)
        self.assertEqual(status, common.EXIT_INTERRUPTED, output)
        self.assertIn("interrupted", output)
        self.nothing_is_left()
        self.recover()

    def test_kill_while_unpacking(self):
        self.slow("tar")
        self.interrupt(signal.SIGKILL)
        self.assertTrue((self.build / BASE / ".base.part" / "half").exists())
        self.recover()

    def test_ctrl_c_while_downloading(self):
        self.empty_cache()
        self.stub("apt-get", "exit 100")
        put(self.top, "bin/curl", f"#!/bin/sh\necho $$ > {self.top}/started\nexec sleep 60\n", True)
        status, output = self.interrupt(signal.SIGINT)
        self.assertEqual(status, common.EXIT_INTERRUPTED, output)
        self.nothing_is_left()
        (self.top / GOOD).rename(self.cache / GOOD)
        self.recover()

    def test_interruption_while_committing(self):
        with mock.patch.object(tree, "exclude_outputs", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, tree.base_tree, BASE)
        self.nothing_is_left()
        self.recover()

    def test_two_runs_do_not_collide(self):
        with common.lock():
            done = self.run_script("fetch")
        self.assertEqual(done.returncode, common.EXIT_CANNOT_RUN)
        self.assertIn("another job", done.stderr)
        self.assertFalse(self.base.exists())

    def test_leftovers_of_a_download_go(self):
        put(self.cache, ".fetch.1/linux-1.0.tar.xz", "half")
        tree.base_tree(BASE)
        self.nothing_in_cache_but(GOOD)

    def nothing_in_cache_but(self, *names):
        self.assertEqual(sorted(p.name for p in self.cache.iterdir()), sorted([*names, ".lock"]))


class Ours(Base):

    def setUp(self):
        super().setUp()
        self.ours = self.build / BASE / "ours"

    def times(self):
        return {p: (self.ours / p).stat().st_mtime_ns for p in snapshot(self.ours)}

    def age(self):
        for path in snapshot(self.ours):
            os.utime(self.ours / path, (1, 1))
        git(self.ours, "update-index", "-q", "--refresh")

    def test_ours_is_the_base_with_the_series(self):
        self.assertEqual(tree.ours_tree(BASE), self.ours)
        self.assertEqual(git(self.ours, "rev-parse", "HEAD^{tree}"),
                         git(self.linux, "rev-parse", "work^{tree}"))
        self.assertEqual(git(self.ours, "log", "--reverse", "--format=%s", "base..HEAD").splitlines(),
                         list(SUBJECTS))
        self.assertEqual(git(self.ours, "status", "--porcelain"), "")
        self.assertEqual(git(self.base, "rev-parse", "--abbrev-ref", "HEAD"), "base\n")

    def test_second_call_does_nothing(self):
        tree.ours_tree(BASE)
        before = self.times()
        with mock.patch.object(apply, "series_on", side_effect=AssertionError):
            tree.ours_tree(BASE)
        self.assertEqual(self.times(), before)

    def test_only_files_that_differ_are_written(self):
        tree.ours_tree(BASE)
        put(self.ours, "guest/mm/mremap.o", "built\n")
        self.age()
        before = self.times()
        put(self.repo, KSM, "int other;\n")
        tree.ours_tree(BASE)
        after = self.times()
        self.assertEqual({p for p in after if after[p] != before.get(p)}, {KSM})
        self.assertEqual((self.ours / KSM).read_text(), "int other;\n")
        self.assertTrue((self.ours / "guest/mm/mremap.o").exists())

    def test_topics_come_and_go(self):
        tree.ours_tree(BASE)
        self.age()
        before = self.times()
        os.environ["TOPICS"] = "mremap"
        tree.ours_tree(BASE)
        self.assertFalse((self.ours / KSM).exists())
        self.assertNotIn("relocated", (self.ours / "mm/mremap.c").read_text())
        self.assertEqual(self.times()["mm/util.c"], before["mm/util.c"])
        del os.environ["TOPICS"]
        tree.ours_tree(BASE)
        self.assertTrue((self.ours / KSM).exists())

    def test_commits_are_the_same_everywhere(self):
        tree.ours_tree(BASE)
        first = git(self.ours, "rev-parse", "HEAD")
        shutil.rmtree(self.build)
        self.as_strange_user()
        tree.ours_tree(BASE)
        self.assertEqual(git(self.ours, "rev-parse", "HEAD"), first)
        self.assertFalse((self.top / "hooked").exists())

    def test_uncommitted_work_is_never_lost(self):
        tree.ours_tree(BASE)
        self.strange_tree(self.base)    # which hides *.mine
        for path in ("mm/util.c", "mm/new.c", "mm/new.mine"):
            put(self.ours, path, "work\n")
            self.refused(f"changes that are in no commit: .*{path}.*stash", tree.ours_tree, BASE)
            self.assertEqual((self.ours / path).read_text(), "work\n")

    def test_commits_that_are_not_in_patches_are_never_lost(self):
        tree.ours_tree(BASE)
        put(self.ours, "mm/util.c", "work\n")
        commit(self.ours, "work")
        self.refused("has commits that patches/v1.0 does not have.*make refresh", tree.ours_tree, BASE)
        git(self.ours, "reset", "-q", "--hard", "HEAD~1")
        git(self.ours, "commit", "-q", "--amend", "-m", "another message")
        self.refused("has commits that patches/v1.0 does not have", tree.ours_tree, BASE)

    def test_commits_that_were_taken_in_are_no_obstacle(self):
        tree.ours_tree(BASE)
        put(self.ours, KSM, "int hacked;\n")
        git(self.ours, "commit", "-q", "-a", "--fixup=HEAD~1")
        git(self.ours, "-c", "sequence.editor=true", "rebase", "-q", "-i", "--autosquash", "base")
        refresh.refresh(BASE, self.ours)
        tree.ours_tree(BASE)
        self.assertEqual((self.ours / KSM).read_text(), "int hacked;\n")

    def test_patch_that_does_not_apply_leaves_the_tree(self):
        tree.ours_tree(BASE)
        before = snapshot(self.ours), git(self.ours, "rev-parse", "HEAD")
        self.edit(self.patch_file(3), " config OPTION_39", " config NONSENSE")
        why = self.refused("mm-ksm-walk.*patch does not apply to v1.0", tree.ours_tree, BASE)
        self.assertIn("mm/Kconfig", why)
        self.assertEqual((snapshot(self.ours), git(self.ours, "rev-parse", "HEAD")), before)
        self.assertFalse((self.build / BASE / ".apply.part").exists())

    def test_interrupted_worktree_does_not_count(self):
        tree.base_tree(BASE)
        real = tree.git.git

        def stopping(where, *args, **kwargs):
            if args[:2] == ("worktree", "move"):
                raise KeyboardInterrupt
            return real(where, *args, **kwargs)
        with mock.patch.object(tree.git, "git", stopping):
            self.assertRaises(KeyboardInterrupt, tree.ours_tree, BASE)
        self.assertFalse(self.ours.exists())
        # ... and one that was killed, with what it had then
        git(self.base, "worktree", "add", "-q", "--detach", str(self.build / BASE / ".ours.part"))
        tree.ours_tree(BASE)
        self.assertEqual(len(git(self.base, "worktree", "list").splitlines()), 2)

    def test_no_patches_yet(self):
        for path in ("mm", "tools"):
            shutil.rmtree(self.repo / path)
        (self.patches / "series").write_text("# SPDX\n")
        text = (self.patches / "base").read_text()
        (self.patches / "base").write_text(text[:text.index("blob ")])
        tree.ours_tree(BASE)
        self.assertEqual(git(self.ours, "rev-parse", "HEAD"), git(self.base, "rev-parse", "base"))


class Hack(Base):

    def setUp(self):
        super().setUp()
        self.hack = self.build / BASE / "hack"

    def test_worktree_on_a_branch_of_its_own(self):
        done = self.run_script("tree")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("5 commits on top of branch 'base'", done.stdout)
        self.assertIn("make refresh", done.stdout)
        self.assertEqual(git(self.hack, "rev-parse", "--abbrev-ref", "HEAD"), "hack-1\n")
        tree.ours_tree(BASE)
        self.assertEqual(git(self.hack, "rev-parse", "HEAD"),
                         git(self.build / BASE / "ours", "rev-parse", "HEAD"))

    def test_tree_without_work_follows_the_series(self):
        tree.hack_tree(BASE)
        put(self.repo, KSM, "int other;\n")
        tree.hack_tree(BASE)
        self.assertEqual((self.hack / KSM).read_text(), "int other;\n")
        self.assertEqual(git(self.hack, "rev-parse", "--abbrev-ref", "HEAD"), "hack-1\n")

    def test_work_is_never_lost(self):
        tree.hack_tree(BASE)
        put(self.hack, "mm/util.c", "work\n")
        self.refused("changes that are in no commit: mm/util.c", tree.hack_tree, BASE)
        commit(self.hack, "work")
        self.refused("has commits that patches/v1.0 does not have", tree.hack_tree, BASE)
        self.assertEqual(git(self.hack, "log", "-1", "--format=%s"), "work\n")

    def test_branch_of_a_removed_worktree_stays(self):
        tree.hack_tree(BASE)
        put(self.hack, "mm/util.c", "work\n")
        commit(self.hack, "work")
        git(self.base, "worktree", "remove", "--force", str(self.hack))
        tree.hack_tree(BASE)
        self.assertEqual(git(self.hack, "rev-parse", "--abbrev-ref", "HEAD"), "hack-2\n")
        self.assertEqual(git(self.base, "log", "-1", "--format=%s", "hack-1"), "work\n")
