# SPDX-License-Identifier: GPL-2.0
"""Whether every architecture's page fault handler retries under the lock of the VMA.

Guests run here for a few architectures only. So that no handler is forgotten when the
base changes, and none counts a fault twice, retries before it looks for signals, or
gives up the retry of the mmap_lock, each is compared with the steps that all share.
"""

import re

# In this order, and each once before the mmap_lock is taken.
STEPS = ("perf_sw_event(PERF_COUNT_SW_PAGE_FAULTS,", "goto lock_mmap;", "retry_vma:",
         "lock_vma_under_rcu(", "FAULT_FLAG_VMA_LOCK", "count_vm_vma_lock_event(VMA_LOCK_RETRY)",
         "fault_signal_pending(", "if (fault_retry_vma(fault, &", "goto retry_vma;",
         "\nlock_mmap:")
MAY_REPEAT = "goto lock_mmap;"

COMMENT = re.compile(r"/\*.*?\*/", re.S)
# The function that has the step: up to the brace that opens it, and to the next that ends one.
FUNCTION = re.compile(r"^\{\n(?:(?!^\}).*\n)*?.*\block_vma_under_rcu\((?:.*\n)*?^\}", re.M)


def handlers(tree):
    """The files of a tree that look for a VMA under RCU to handle a fault."""
    return [path for path in sorted(tree.glob("arch/*/mm/*.c"))
            if "lock_vma_under_rcu(" in path.read_text(errors="replace")]


def problem(text):
    """What is wrong with the handler in a file's text; None where nothing is."""
    found = FUNCTION.search(COMMENT.sub("", text))
    if not found:
        return "no function calls lock_vma_under_rcu()"
    code, end, _ = found[0].partition(STEPS[-1])
    code += end
    at = 0
    for step in STEPS:
        if step != MAY_REPEAT and code.count(step) != 1:
            return f"'{step.strip()}' is there {code.count(step)} times"
        at = code.find(step, at)
        if at < 0:
            return f"'{step.strip()}' comes too early"
    if "FAULT_FLAG_TRIED" in code:
        return "FAULT_FLAG_TRIED is fault_retry_vma()'s to set"
    return None


def problems(tree):
    """The handlers of a tree that are not as they should be, with the reason; or None."""
    files = handlers(tree)
    if not files:
        return f"no handler in {tree} calls lock_vma_under_rcu(); have they moved?"
    found = [(path.relative_to(tree), problem(path.read_text(errors="replace"))) for path in files]
    return "\n".join(f"{name}: {what}" for name, what in found if what) or None
