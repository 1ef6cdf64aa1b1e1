# SPDX-License-Identifier: GPL-2.0
"""Progress of builds and tests, and the first error of a failed build."""

import io
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import ktap, progress    # noqa: E402

DATA = HERE / "data"


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def ticker(tty=False, interval=5.0):
    clock = Clock()
    return progress.Ticker(io.StringIO(), tty=tty, interval=interval, clock=clock), clock


class TickerTest(unittest.TestCase):
    def test_at_most_one_line_in_an_interval(self):
        tick, clock = ticker()
        for _ in range(60):
            tick.show("x")
            clock.now += 0.25
        self.assertEqual(tick.out.getvalue(), "x\nx\nx\n")

    def test_a_terminal_rewrites_one_line(self):
        tick, clock = ticker(tty=True, interval=0.2)
        tick.show("one")
        clock.now += 1
        tick.show("two")
        tick.close()
        self.assertEqual(tick.out.getvalue(), "\r\033[Kone\r\033[Ktwo\n")

    def test_a_line_that_stays_replaces_the_rewritten_one(self):
        tick, _ = ticker(tty=True)
        tick.show("one")
        tick.keep("stays")
        self.assertEqual(tick.out.getvalue(), "\r\033[Kone\r\033[Kstays\n")

    def test_no_escape_codes_without_a_terminal(self):
        tick, _ = ticker()
        tick.show("one")
        tick.keep("stays")
        tick.close()
        self.assertEqual(tick.out.getvalue(), "one\nstays\n")

    def test_forced(self):
        tick, _ = ticker()
        tick.show("one")
        tick.show("two", force=True)
        self.assertEqual(tick.out.getvalue(), "one\ntwo\n")


    def test_a_terminal_is_written_to_more_often(self):
        quick = progress.Ticker(io.StringIO(), tty=True)
        slow = progress.Ticker(io.StringIO())
        self.assertFalse(slow.tty)      # a StringIO is none
        self.assertLess(quick.interval, 1)
        self.assertGreaterEqual(slow.interval, 5)


class BuildTest(unittest.TestCase):
    def test_lines_that_make_an_object(self):
        for line in ("  CC      mm/mremap.o", "  CC [M]  mm/ksm.o",
                     "  AS      arch/x86/entry/entry.o",
                     "  LD      vmlinux.o", "  AR      mm/built-in.a",
                     "  HOSTCC  scripts/basic/fixdep",
                     "  VDSO2C  arch/x86/entry/vdso/vdso-image-64.c"):
            self.assertTrue(progress.makes_object(line), line)

    def test_lines_that_do_not(self):
        for line in ("  CALL    scripts/checksyscalls.sh", "mm/mremap.c:12: warning: x", "",
                     "  SYNC    include/config/auto.conf",
                     "  UPD     include/config/kernel.release",
                     "  CHK     kernel/kheaders", "  CLEAN   .", "  INSTALL usr/include",
                     "make[1]: Entering directory 'x'", "  DESCEND objtool", "    at this point",
                     "  231 |   x", "  Building modules"):
            self.assertFalse(progress.makes_object(line), line)

    def test_the_line_of_the_specification(self):
        tick, clock = ticker()
        build = progress.BuildProgress("build", 1380, tick)
        build.done = 511
        clock.now += 147.4
        build.feed("  CC      mm/mremap.o")
        self.assertEqual(tick.out.getvalue(), "  build  512/1380 objects, 37%, ETA 4 min 10 s\n")

    def test_no_guess_from_the_first_objects(self):
        tick, clock = ticker()
        build = progress.BuildProgress("build", 1380, tick)
        clock.now += 30
        build.feed("  CC      mm/mremap.o")
        self.assertEqual(tick.out.getvalue(), "  build  1/1380 objects, 0%\n")

    def test_more_objects_than_expected(self):
        tick, clock = ticker()
        build = progress.BuildProgress("build", 2, tick)
        build.done = 2
        clock.now += 61
        build.feed("  CC      mm/mremap.o")
        self.assertEqual(tick.out.getvalue(), "  build  3 objects, 1 min 01 s\n")

    def test_a_rebuild_of_unknown_size(self):
        tick, _ = ticker()
        progress.BuildProgress("build", None, tick).feed("  CC      mm/mremap.o")
        self.assertEqual(tick.out.getvalue(), "  build  1 objects, 0 s\n")

    def test_finish(self):
        tick, clock = ticker()
        build = progress.BuildProgress("build", 10, tick)
        for line in ktap.read_log(DATA / "build-compiler.log").splitlines():
            build.feed(line)
        clock.now += 5
        self.assertEqual(build.finish(), 9)
        self.assertTrue(tick.out.getvalue().endswith("  build  9 objects in 5 s\n"))

    def test_the_total_is_remembered(self):
        with tempfile.TemporaryDirectory() as room:
            path = Path(room) / "build" / "objects.json"
            self.assertIsNone(progress.load_total(path, "guest"))
            progress.save_total(path, "guest", 1380)
            progress.save_total(path, "debug", 1500)
            self.assertEqual(progress.load_total(path, "guest"), 1380)
            self.assertEqual(progress.load_total(path, "debug"), 1500)

    def test_a_damaged_file_of_totals_is_no_trouble(self):
        with tempfile.TemporaryDirectory() as room:
            path = Path(room) / "objects.json"
            for text in ("{", "[1]", '{"guest": "many"}', '{"guest": -1}', ""):
                path.write_text(text)
                self.assertIsNone(progress.load_total(path, "guest"), text)
            path.write_text("[1]")
            progress.save_total(path, "guest", 7)
            self.assertEqual(progress.load_total(path, "guest"), 7)


class FollowTest(unittest.TestCase):
    def setUp(self):
        self.room = tempfile.TemporaryDirectory()
        self.addCleanup(self.room.cleanup)
        self.path = Path(self.room.name) / "tap"
        self.tick, self.clock = ticker(interval=0)
        self.follower = progress.TapFollower(self.path, self.tick)

    def output(self):
        text = self.tick.out.getvalue()
        self.tick.out.seek(0)
        self.tick.out.truncate()
        return text

    def append(self, text):
        with open(self.path, "a", encoding="utf-8") as tap:
            tap.write(text)
        self.clock.now += 10
        self.follower.poll()

    def test_no_file_yet(self):
        self.follower.poll()
        self.assertEqual(self.output(), "")

    def test_the_test_that_runs_now(self):
        self.append("TAP version 13\n1..2\n# timeout set to 45\n"
                    "# selftests: mm: ksft_mremap_batch.sh\n")
        self.assertEqual(self.output(),
                         "  test  mm/mremap_batch: 0 passed, 0 failed, 0 skipped, 10 s\n")
        self.append("# TAP version 13\n# # running ./mremap_batch\n# # TAP version 13\n# # 1..2\n"
                    "# # #  RUN           b.small.contents ...\n")
        self.assertIn("mm/mremap_batch/mremap_batch/b.small.contents: 0 passed", self.output())
        self.append("# # #            OK  b.small.contents\n# # ok 1 b.small.contents\n")
        self.assertIn("  test  mm/mremap_batch/mremap_batch: 1 passed, 0 failed", self.output())
        self.append("# # ok 2 b.large # SKIP no\n# ok 1 mremap_batch\n# 1..1\n")
        self.assertIn("  test  mm/mremap_batch: 1 passed, 0 failed, 1 skipped", self.output())

    def test_half_a_line_waits_for_its_end(self):
        self.append("# selftests: mm: ksft_a.sh\n# o")
        self.append("k 1 prog\n")
        self.assertEqual(self.follower.counts["pass"], 1)

    def test_a_failure_is_shown_at_once(self):
        self.append("# selftests: mm: ksft_x.sh\n# # running ./x\n# # not ok 1 a.b\n"
                    "# not ok 1 x # exit=1\n"
                    "not ok 1 selftests: mm: ksft_x.sh # exit=1\n")
        self.assertEqual(self.output(), "  not ok  mm/x/x/a.b\n")
        self.assertEqual(self.follower.counts["fail"], 1)

    def test_a_program_without_subtests_counts_once(self):
        self.append("# selftests: mm: ksft_x.sh\n# # running ./x\n# # text\n"
                    "# not ok 1 x # exit=139\n"
                    "not ok 1 selftests: mm: ksft_x.sh # exit=1\n")
        self.assertEqual(self.output(), "  not ok  mm/x/x (exit=139 (signal 11))\n")

    def test_counts_agree_with_the_parser(self):
        self.append(ktap.read_log(DATA / "kselftest-mixed.tap").replace("uffdok 4",
                                                                        "uffd\n# # ok 4"))
        counts = ktap.count(ktap.parse_kselftest(ktap.read_log(self.path)))
        self.assertEqual(self.follower.counts["pass"], counts["pass"])

    def test_kunit_in_a_kernel_log(self):
        self.append("[    1.000000] KTAP version 1\n[    1.000001] 1..1\n"
                    "[    1.000002]     KTAP version 1\n"
                    "[    1.000003]     # Subtest: mremap_batch\n[    1.000004]     1..2\n"
                    "[    1.000005]     ok 1 a\n")
        self.assertEqual(self.output(),
                         "  test  mremap_batch: 1 passed, 0 failed, 0 skipped, 10 s\n")
        self.append("[    1.000006]     ok 2 b\n[    1.000007] ok 1 mremap_batch\n")
        self.assertEqual(self.follower.text(), "")

    def test_nothing_is_repeated_without_a_terminal(self):
        self.append("# selftests: mm: ksft_x.sh\n")
        self.output()
        self.append("# # text\n")
        self.assertEqual(self.output(), "")

    def test_a_file_that_begins_anew(self):
        self.append("# selftests: mm: ksft_long_name_of_a_category.sh\n")
        self.path.write_text("# selftests: mm: ksft_x.sh\n")
        self.append("")
        self.assertIn("mm/x", self.follower.text())

    def test_lines_are_no_longer_than_100_columns(self):
        self.append(f"# selftests: mm: ksft_x.sh\n# # running ./{'y' * 300}\n"
                    f"# # not ok 1 {'z' * 300}\n")
        self.assertTrue(all(len(line) <= 100 for line in self.output().splitlines()))

    def test_the_thread_follows_and_stops(self):
        self.follower.ticker.interval = 0.01
        self.follower.start()
        self.path.write_text("# selftests: mm: ksft_x.sh\n")
        self.clock.now += 10
        for _ in range(500):
            if "mm/x" in self.tick.out.getvalue():
                break
            time.sleep(0.01)
        self.assertIn("mm/x", self.output())
        self.follower.stop()
        self.path.write_text("# selftests: mm: ksft_y.sh\n")
        self.assertFalse(self.follower._thread.is_alive())
        self.assertEqual(self.output(), "")

    def test_stop_takes_what_is_left(self):
        self.path.write_text("# selftests: mm: ksft_x.sh\nnot ok 1 selftests: mm: ksft_x.sh\n")
        self.follower.stop()
        self.assertEqual(self.output(), "  not ok  mm/x\n")

    def test_a_rewritten_line_is_gone_at_the_end(self):
        self.follower.ticker.tty = True
        self.append("# selftests: mm: ksft_x.sh\n")
        self.follower.stop()
        self.assertTrue(self.output().endswith("\r\033[K"))


class FirstErrorTest(unittest.TestCase):
    def first(self, text):
        error = progress.first_error(text)
        self.assertIsNotNone(error, text)
        return error

    def test_compiler_error_with_its_context(self):
        error = self.first(ktap.read_log(DATA / "build-compiler.log"))
        self.assertEqual((error.kind, error.number, error.target), ("compiler", 9, "mm/mremap.o"))
        self.assertEqual(error.excerpt.splitlines(), [
            "In file included from mm/internal.h:12,",
            "                 from mm/mremap.c:24:",
            "mm/mremap.c: In function 'move_ptes':",
            error.line,
            "  231 |         pte_batch_hnt(old_ptep, old_pte);",
            "      |         ^~~~~~~~~~~~~",
            "      |         pte_batch_hint"])

    def test_linker_error(self):
        error = self.first(ktap.read_log(DATA / "build-linker.log"))
        self.assertEqual(error.kind, "linker")
        self.assertIn("undefined reference to `mremap_batch_len'", error.line)
        self.assertIn("in function `move_page_tables'", error.excerpt)
        self.assertEqual(error.target, "vmlinux.unstripped")

    KNOWN = (
        ("compiler", "mm/ksm.c:12:10: fatal error: linux/nothing.h: No such file or directory"),
        ("compiler", "<stdin>:1520:2: error: #warning syscall not implemented [-Werror=cpp]"),
        ("compiler", "cc1: error: unrecognized command-line option '-foo'"),
        ("compiler", "gcc: fatal error: Killed signal terminated program cc1"),
        ("compiler", "mm/ksm.c:12:1: internal compiler error: in foo, at bar.cc:12"),
        ("compiler", "error[E0425]: cannot find value `x` in this scope"),
        ("assembler", "arch/x86/entry/entry_64.S:12: Error: no such instruction: `foo'"),
        ("assembler", "{standard input}:12: Error: junk at end of line"),
        ("linker", "ld: error: undefined symbol: mremap_batch_len"),
        ("linker", "ld.lld: error: undefined symbol: mremap_batch_len"),
        ("linker",
         "ld: mm/a.o:(.bss+0x0): multiple definition of `x'; mm/b.o: first defined here"),
        ("linker", "ld: section .x LMA [1,2] overlaps section .y LMA [1,3]"),
        ("modpost",
         'ERROR: modpost: "mremap_batch_len" [mm/tests/mremap_batch_kunit.ko] undefined!'),
        ("objtool",
         "mm/mremap.o: error: objtool: move_ptes+0x12: call without frame pointer save/setup"),
        ("kconfig", "mm/Kconfig:1420: syntax error"),
        ("kconfig", 'mm/Kconfig:1420: unknown statement "tristat"'),
        ("kconfig", "mm/Kconfig:12: error: recursive dependency detected!"),
        ("kconfig", "Kconfig:31: can't open file \"mm/tests/Kconfig\""),
        ("tool missing", "/bin/sh: 1: flex: not found"),
        ("tool missing", "scripts/x.sh: line 3: bc: command not found"),
        ("make",
         "make[3]: *** No rule to make target 'mm/gone.o', needed by 'mm/built-in.a'.  Stop."),
        ("make", "mm/Makefile:12: *** missing separator.  Stop."),
        ("killed", "make[3]: *** [scripts/Makefile.build:287: mm/mremap.o] Killed"),
        ("BTF", "FAILED: load BTF from vmlinux: Invalid argument"),
        ("build", "*** Configuration file \".config\" not found!"),
    )

    def test_each_kind_of_error_is_found_before_makes_own(self):
        for kind, line in self.KNOWN:
            log = f"  CC      mm/a.o\n{line}\nmake[2]: *** [Makefile.build:544: mm] Error 2\n"
            error = self.first(log)
            self.assertEqual((error.kind, error.line, error.number), (kind, line, 2))

    def test_warnings_and_names_are_no_errors(self):
        log = ("  CC      lib/error.o\nmm/a.c:1:2: warning: unused\n"
               "mm/a.o: warning: objtool: error path\nmake[2]: *** [mm/a.o] Error 1\n")
        error = self.first(log)
        self.assertEqual((error.kind, error.line), ("make", "make[2]: *** [mm/a.o] Error 1"))
        self.assertIn("mm/a.c:1:2: warning: unused", error.excerpt)     # the best there is

    def test_a_full_disk_comes_before_what_it_causes(self):
        error = self.first("mm/a.c:1:2: error: expected ';'\n"
                           "fatal error: error writing to /tmp/x.s: "
                           "No space left on device\n")
        self.assertEqual(error.kind, "disk full")

    def test_a_killed_job(self):
        error = self.first("  CC      mm/a.o\n"
                           "make[3]: *** [scripts/Makefile.build:287: mm/a.o] Killed\n")
        self.assertEqual((error.kind, error.target), ("killed", "mm/a.o"))

    def test_notes_of_the_linker_below(self):
        error = self.first("ld.lld: error: undefined symbol: x\n>>> referenced by mremap.c:12\n"
                           ">>>               vmlinux.o:(move_ptes)\n  CC      a.o\n"
                           "make: *** [x] Error 1\n")
        self.assertEqual(len(error.excerpt.splitlines()), 3)

    def test_another_files_error_is_not_in_the_excerpt(self):
        error = self.first("a.c:1:1: error: one\n    1 | x\nb.c:1:1: error: two\n    1 | y\n")
        self.assertEqual(error.excerpt, "a.c:1:1: error: one\n    1 | x")

    def test_only_what_leads_to_an_error_stands_before_it(self):
        error = self.first("  CC      mm/a.o\nsome other output\nmm/a.c: In function 'f':\n"
                           "mm/a.c:1:2: error: one\n")
        self.assertEqual(error.excerpt, "mm/a.c: In function 'f':\nmm/a.c:1:2: error: one")

    def test_a_log_without_an_error(self):
        self.assertIsNone(progress.first_error("  CC      mm/a.o\n  LD      vmlinux\n"))
        self.assertIsNone(progress.first_error(""))


if __name__ == "__main__":
    unittest.main()
