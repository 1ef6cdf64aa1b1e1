# SPDX-License-Identifier: GPL-2.0
"""What is asked of each architecture's page fault handler."""

import tempfile
import unittest
from pathlib import Path

from unstall import handlers

HANDLER = """\
static void other(void)
{
	flags |= FAULT_FLAG_TRIED;
}

static int do_page_fault(unsigned long addr, struct pt_regs *regs)
{
	perf_sw_event(PERF_COUNT_SW_PAGE_FAULTS, 1, regs, addr);
	if (!(flags & FAULT_FLAG_USER))
		goto lock_mmap;

retry_vma:
	vma = lock_vma_under_rcu(mm, addr);
	if (!vma)
		goto lock_mmap;

	fault = handle_mm_fault(vma, addr, flags | FAULT_FLAG_VMA_LOCK, regs);
	if (!(fault & VM_FAULT_RETRY))
		goto done;
	count_vm_vma_lock_event(VMA_LOCK_RETRY);

	/* What fault_signal_pending() does */
	if (fault_signal_pending(fault, regs))
		return 0;
	if (fault_retry_vma(fault, &flags))
		goto retry_vma;
lock_mmap:
retry:
	fault = handle_mm_fault(vma, addr, flags, regs);
	if (fault_signal_pending(fault, regs))
		return 0;
	flags |= FAULT_FLAG_TRIED;
	goto retry;
}
"""
SIGNALS = """\
	if (fault_signal_pending(fault, regs))
		return 0;
"""
RETRY = """\
	if (fault_retry_vma(fault, &flags))
		goto retry_vma;
"""


class Handlers(unittest.TestCase):

    def assert_problem(self, text, regex):
        self.assertNotEqual(text, HANDLER)
        self.assertRegex(handlers.problem(text) or "", regex)

    def test_one_with_all_steps(self):
        self.assertIsNone(handlers.problem(HANDLER))

    def test_retry_that_is_forgotten(self):
        self.assert_problem(HANDLER.replace(RETRY, "").replace("retry_vma:\n", ""),
                            "'retry_vma:' is there 0 times")

    def test_retry_before_signals_are_looked_for(self):
        self.assert_problem(HANDLER.replace(SIGNALS + RETRY, RETRY + SIGNALS, 1),
                            r"'if \(fault_retry_vma.*too early")

    def test_retry_that_is_not_counted(self):
        self.assert_problem(HANDLER.replace("\tcount_vm_vma_lock_event(VMA_LOCK_RETRY);\n", ""),
                            "VMA_LOCK_RETRY.* 0 times")

    def test_fault_that_is_counted_again(self):
        event = "\tperf_sw_event(PERF_COUNT_SW_PAGE_FAULTS, 1, regs, addr);\n"
        self.assert_problem(HANDLER.replace(event, "")
                            .replace("retry_vma:\n", "retry_vma:\n" + event), "too early")

    def test_retry_of_the_mmap_lock_that_is_given_up(self):
        self.assert_problem(HANDLER.replace("(VMA_LOCK_RETRY);\n", "(VMA_LOCK_RETRY);\n"
                                            "\tflags |= FAULT_FLAG_TRIED;\n"), "FAULT_FLAG_TRIED")

    def test_second_pass_with_other_flags(self):
        self.assert_problem(HANDLER.replace("flags | FAULT_FLAG_VMA_LOCK", "flags"),
                            "FAULT_FLAG_VMA_LOCK")

    def test_each_architecture_of_a_tree(self):
        with tempfile.TemporaryDirectory() as temp:
            tree = Path(temp)
            self.assertRegex(handlers.problems(tree), "have they moved")
            for name, text in (("arm", HANDLER), ("mips", "int no_vma_lock;\n"),
                               ("s390", HANDLER.replace(SIGNALS, "", 1))):
                (tree / "arch" / name / "mm").mkdir(parents=True)
                (tree / "arch" / name / "mm" / "fault.c").write_text(text)
            self.assertRegex(handlers.problems(tree), r"\Aarch/s390/mm/fault.c: .*signal.*\Z")
            self.assertEqual(len(handlers.handlers(tree)), 2)
