# SPDX-License-Identifier: GPL-2.0
"""What counts as a splat in a kernel log, and what only looks like one."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import ktap, splats    # noqa: E402

DATA = HERE / "data"


def log(*messages):
    """A kernel log with time stamps of these messages."""
    return "".join(f"[{100 + n / 1000:12.6f}] {m}\n" for n, m in enumerate(messages))


def kinds(text):
    return [splat.kind for splat in splats.scan(text)]


class FixtureTest(unittest.TestCase):
    maxDiff = None

    def test_x86_log(self):
        text = ktap.read_log(DATA / "splats-x86.log")
        self.assertEqual(kinds(text), [
            "WARNING", "refcount", "KASAN", "lockdep: circular locking", "bad rss-counter",
            "bad page",
            "stack dump", "sleeping in atomic context", "kmemleak", "soft lockup", "RCU stall",
            "hung task", "list corruption", "oops", "kernel panic"])

    def test_arm64_log(self):
        text = ktap.read_log(DATA / "splats-arm64.log")
        self.assertEqual(kinds(text),
                         ["oops", "sleeping in atomic context", "UBSAN", "page_table_check"])

    def test_what_is_allowed_has_a_reason(self):
        text = ktap.read_log(DATA / "splats-x86.log")
        allowed = [splat for splat in splats.scan_all(text) if splat.allowed]
        self.assertEqual([splat.kind for splat in allowed], ["stack dump", "stack dump"])
        self.assertIn("fault injection", allowed[0].allowed)
        self.assertIn("sysrq", allowed[1].allowed)

    def test_line_number_and_first_line(self):
        rows = ktap.read_log(DATA / "splats-x86.log").splitlines()
        for splat in splats.scan("\n".join(rows)):
            first = splat.line.partition(" somebody")[0]
            self.assertIn(first, rows[splat.number - 1])

    def test_the_excerpt_is_the_whole_block_and_no_more(self):
        text = ktap.read_log(DATA / "splats-x86.log")
        by_kind = {splat.kind: splat.excerpt.splitlines() for splat in splats.scan(text)}
        self.assertEqual(by_kind["WARNING"][0], "------------[ cut here ]------------")
        self.assertEqual(by_kind["WARNING"][-1], "---[ end trace 0000000000000000 ]---")
        self.assertEqual(len(by_kind["WARNING"]), 14)
        self.assertTrue(by_kind["KASAN"][0].startswith("==="))
        self.assertTrue(by_kind["KASAN"][-1].startswith("==="))
        self.assertEqual(by_kind["lockdep: circular locking"][-1], " </TASK>")
        self.assertIn(" #0: ffff888101a0c198 (&mm->mmap_lock){++++}-{4:4}, at: "
                      "__do_sys_mremap+0x1a5/0x8e0", by_kind["lockdep: circular locking"])
        self.assertEqual(len(by_kind["bad rss-counter"]), 1)
        self.assertEqual(by_kind["RCU stall"][-1], " </TASK>")

    def test_an_arm64_trace_ends_where_its_frames_end(self):
        text = ktap.read_log(DATA / "splats-arm64.log")
        atomic = splats.scan(text)[1]
        self.assertEqual(atomic.excerpt.splitlines()[-1], " __might_sleep+0x48/0x7c")

    def test_a_bare_stack_names_its_first_frame(self):
        text = ktap.read_log(DATA / "splats-x86.log")
        dump = next(splat for splat in splats.scan(text) if splat.kind == "stack dump")
        self.assertEqual(dump.line, "Call Trace: somebody_dumps_a_stack+0x5/0x20")


class KindsTest(unittest.TestCase):
    KNOWN = (
        ("WARNING", "WARNING: CPU: 0 PID: 1 at mm/mremap.c:12 move_ptes+0x1/0x2"),
        ("WARNING", "WARNING: at move_ptes+0x1/0x2, CPU#0: swapper/1"),
        ("WARNING", "WARNING: kernel stack regs at 00000000abc in x:1 has bad 'bp' value 0000"),
        ("KCSAN", "BUG: KCSAN: data-race in lru_add / lru_del"),
        ("KFENCE", "BUG: KFENCE: out-of-bounds read in move_ptes+0x1/0x2"),
        ("KMSAN", "BUG: KMSAN: uninit-value in move_ptes+0x1/0x2"),
        ("UBSAN", "UBSAN: array-index-out-of-bounds in mm/swap.c:1:2"),
        ("lockdep: recursive locking", "WARNING: possible recursive locking detected"),
        ("lockdep: inconsistent lock state", "WARNING: inconsistent lock state"),
        ("lockdep: lock order", "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
        ("lockdep: suspicious RCU usage", "WARNING: suspicious RCU usage"),
        ("lockdep", "WARNING: bad unlock balance detected!"),
        ("lockdep: wait context", "[ BUG: Invalid wait context ]"),
        ("lockdep limit", "BUG: MAX_LOCKDEP_CHAINS too low!"),
        ("bad page", "BUG: Bad page map in process cow  pte:00:80000001"),
        ("sleeping in atomic context", "BUG: scheduling while atomic: cow/12/0x00000002"),
        ("hard lockup", "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1"),
        ("workqueue lockup",
         "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!"),
        ("RCU stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
        ("RCU stall", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }"),
        ("hung task", "INFO: task ksmd:38 blocked in I/O wait for more than 120 seconds."),
        ("slab corruption", "BUG anon_vma (Not tainted): Poison overwritten"),
        ("slab corruption", "BUG kmalloc-64 (Tainted: G        W          ): Redzone overwritten"),
        ("oops",
         "Oops: general protection fault, probably for address 0xdead: 0000 [#1] SMP"),
        ("oops", "general protection fault: 0000 [#1] SMP"),
        ("oops", "BUG: unable to handle page fault for address: ffff888100000000"),
        ("oops",
         "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000"),
        ("oops", "Internal error: synchronous external abort: 0000000096000210 [#1] SMP"),
        ("oops", "traps: PANIC: double fault, error_code: 0x0"),
        ("kernel BUG", "kernel BUG at mm/rmap.c:1522!"),
        ("list corruption", "list_del corruption, ffff888100000000->next is LIST_POISON1"),
        ("kernel panic", "Kernel panic - not syncing: VFS: Unable to mount root fs"),
        ("BUG", "BUG: using smp_processor_id() in preemptible [00000000] code: cow/12"),
        ("lockdep", "INFO: trying to register non-static key."),
        ("refcount", "refcount_t: addition on 0; use-after-free."),
    )
    ENDS = {"ruler": ("KASAN", "KCSAN", "KFENCE", "KMSAN"),
            "line": ("lockdep limit", "workqueue lockup", "bad rss-counter", "kmemleak"),
            "end": ("UBSAN", "oops", "kernel BUG", "list corruption", "refcount", "kernel panic")}

    def ends(self, kind, message):
        """How the block of a message ends: that of a WARN with `end trace`."""
        if kind == "WARNING":
            return "end" if " at " in message and "kernel stack" not in message else "trace"
        return next((ends for ends, kinds in self.ENDS.items() if kind in kinds), "trace")

    def test_each_block_ends_where_it_should(self):
        ruler, mark, frames = "=" * 66, "---[ end trace 0000000000000000 ]---", \
            ("Call Trace:", " <TASK>", " a+0x1/0x2", " </TASK>")
        for kind, message in self.KNOWN:
            ends = self.ends(kind, message)
            tail = {"ruler": (*frames, ruler), "line": (), "trace": frames,
                    "end": (*frames, "x", mark)}[ends]
            found = splats.scan(log("boot", message, *tail, "usb 1-1: new device"))
            self.assertEqual([splat.excerpt.splitlines() for splat in found], [[message, *tail]],
                             message)

    def test_each_kind_is_known(self):
        for kind, message in self.KNOWN:
            self.assertEqual(kinds(log("boot", message, "next")), [kind], message)

    def test_and_without_time_stamps(self):
        for kind, message in self.KNOWN:
            self.assertEqual(kinds(f"boot\n{message}\nnext\n"), [kind], message)

    def test_what_is_none(self):
        for message in ("ACPI BIOS Warning (bug): length mismatch",
                        "Spectre V2 : WARNING: data leaks",
                        "[Firmware Bug]: TSC_DEADLINE disabled",
                        "traps: a[1] general protection fault ip:1",
                        "Out of memory: Killed process 12 (cow)", "page dumped because: gup_test",
                        "Memory failure: 0x1: Sending SIGBUS to a:1 due to memory corruption",
                        "a[12]: segfault at 0 ip 1 sp 2 error 4",
                        "kmemleak: Automatic memory scanning "
                        "thread started", "# # BUG: x", "    not ok 1 BUG: x",
                        "Warning: unable to open",
                        "systemd: BUG: quoted", "rcu: \tOffload RCU callbacks from CPUs: (none).",
                        "WARNING: Flushing system-wide workqueues will be prohibited.",
                        "WARNING: polling idle and HT enabled, performance may degrade",
                        "WARNING: kernel not compiled with MITIGATION_SRSO.",
                        "WARNING: Spectre-v2 mitigation is off, disabling ITS",
                        "WARNING: BIOS bug: CPU MTRRs don't cover all of memory",
                        "WARNING: bogus zero IO-APIC address found in MPTABLE"):
            self.assertEqual(kinds(log("boot", message)), [], message)

    def test_user_text_does_not_count_in_a_log_with_stamps(self):
        self.assertEqual(kinds(log("boot") + "BUG: x\nWARNING: y\nKernel panic - not syncing\n"),
                         [])

    def test_user_text_that_quotes_a_stamped_line(self):
        self.assertEqual(kinds(log("boot") + "# # [   12.345678] BUG: quoted by a test\n"), [])

    def test_a_caller_id_in_the_stamp(self):
        self.assertEqual(kinds("[   12.345678][   T12] BUG: x\n"), ["BUG"])


class BlockTest(unittest.TestCase):
    def test_an_oops_that_the_log_ends_in_is_one_splat(self):
        text = log("BUG: kernel NULL pointer dereference, address: 0", "#PF: read",
                   "Oops: Oops: 0000 [#1] SMP", "Call Trace:", " <TASK>", " move_ptes+0x1/0x2")
        self.assertEqual(kinds(text), ["oops"])

    def test_two_warnings_without_a_gap(self):
        block = ("------------[ cut here ]------------",
                 "WARNING: mm/a.c:1 at a+0x1/0x2, CPU#0: b/1",
                 "---[ end trace 0000000000000000 ]---")
        self.assertEqual(kinds(log(*block, *block)), ["WARNING", "WARNING"])

    def test_a_block_that_lost_its_end_does_not_hide_the_next(self):
        text = log("------------[ cut here ]------------",
                   "WARNING: mm/a.c:1 at a+0x1/0x2, CPU#0: b/1",
                   "------------[ cut here ]------------", "kernel BUG at mm/b.c:2!",
                   "---[ end trace 0000000000000000 ]---")
        self.assertEqual(kinds(text), ["WARNING", "kernel BUG"])

    def test_a_line_without_a_trace_does_not_take_that_of_the_next_report(self):
        text = log("BUG: something small", "usb 1-1: new device", "WARNING: suspicious RCU usage",
                   "Call Trace:", " a+0x1/0x2", "next")
        self.assertEqual([(s.kind, len(s.excerpt.splitlines())) for s in splats.scan(text)],
                         [("BUG", 1), ("lockdep: suspicious RCU usage", 3)])

    def test_a_line_without_a_trace_does_not_take_the_next_block(self):
        text = log("BUG: something small", "usb 1-1: new device",
                   "------------[ cut here ]------------",
                   "list_del corruption. prev is wrong",
                   "WARNING: lib/list_debug.c:1 at a+0x1/0x2, CPU#0: b/1",
                   "Call Trace:", " a+0x1/0x2", "---[ end trace 0000000000000000 ]---")
        self.assertEqual([(s.kind, len(s.excerpt.splitlines())) for s in splats.scan(text)],
                         [("BUG", 1), ("list corruption", 6)])

    def test_a_cut_here_alone_counts(self):
        self.assertEqual(kinds(log("------------[ cut here ]------------")), ["WARNING"])

    def test_a_line_takes_no_trace_of_much_later(self):
        text = ("[    1.000000] BUG: something small\n"
                "[  100.000000] Call Trace:\n[  100.000001]  a+0x1/0x2\n")
        self.assertEqual(kinds(text), ["BUG", "stack dump"])

    def test_a_message_and_its_bug_are_one(self):
        text = log("list_add corruption. next is NULL", "------------[ cut here ]------------",
                   "kernel BUG at lib/list_debug.c:32!", "---[ end trace 0000000000000000 ]---")
        self.assertEqual(kinds(text), ["list corruption"])

    def test_allowed_messages_do_not_cover_a_warning_beside_them(self):
        text = log("FAULT_INJECTION: forcing a failure.", "Call Trace:", " a+0x1/0x2",
                   "WARNING: mm/a.c:1 at a+0x1/0x2, CPU#0: b/1")
        self.assertEqual(kinds(text), ["WARNING"])

    def test_the_unwinder_in_the_function_profiler(self):
        stumbles = "WARNING: stack going in the wrong direction? at {}+0x46/0x50"
        self.assertEqual(kinds(log(stumbles.format("return_to_handler"))), [])
        self.assertEqual(kinds(log(stumbles.format("move_ptes"))), ["WARNING"])
        text = log(stumbles.format("return_to_handler"),
                   "WARNING: mm/a.c:1 at a+0x1/0x2, CPU#0: b/1", "Call Trace:", " a+0x1/0x2")
        self.assertEqual([s.line.split()[1] for s in splats.scan(text)], ["mm/a.c:1"])

    def test_each_stack_that_is_dumped_on_purpose(self):
        for message in ("cow invoked oom-killer: gfp_mask=0xcc0",
                        "FAULT_INJECTION: forcing a failure.",
                        "Memory failure: 0x12: recovery action for dirty LRU page: Recovered",
                        "cow: page allocation failure: order:9, mode:0x1",
                        "sysfs: cannot create duplicate filename '/devices/platform/kunit-2'",
                        "NMI backtrace for cpu 1", "task:ksmd state:S stack:0"):
            text = log(message, "CPU: 0 UID: 0", "Call Trace:", " <TASK>", " a+0x1/0x2", " </TASK>")
            self.assertEqual(kinds(text), [], message)
            self.assertEqual(len(splats.scan_all(text)), 1, message)

    def test_a_bare_stack_is_named_by_the_message_before_it(self):
        text = log("usb 1-1: new device", "something: looks odd", "CPU: 0 UID: 0",
                   "Hardware name: QEMU",
                   "Call Trace:", " <TASK>", " dump_stack_lvl+0x1/0x2", " a+0x1/0x2", " </TASK>",
                   "next")
        found = splats.scan(text)
        self.assertEqual([(s.kind, s.line, s.number) for s in found],
                         [("stack dump", "something: looks odd", 5)])
        self.assertEqual(found[0].excerpt.splitlines()[-1], " </TASK>")
        self.assertIn("something: looks odd", found[0].excerpt)

    def test_a_lockdep_assertion_in_a_warning(self):
        text = log("------------[ cut here ]------------",
                   "DEBUG_LOCKS_WARN_ON(lock->magic != lock)",
                   "WARNING: kernel/locking/mutex.c:1 at a+0x1/0x2, CPU#0: b/1",
                   "---[ end trace 0000000000000000 ]---")
        self.assertEqual(kinds(text), ["lockdep"])

    def test_each_allowed_message_says_why(self):
        self.assertTrue(all(len(entry.reason) > 20 for entry in splats.ALLOWED))

    def test_an_empty_log(self):
        self.assertEqual(splats.scan(""), [])


if __name__ == "__main__":
    unittest.main()
