# SPDX-License-Identifier: GPL-2.0
"""The gate's reading of disassembly, on small pieces of it."""

import unittest
from unittest import mock

from unstall import common, machinecode

X86 = """
/x/mremap.o:     file format elf64-x86-64

Disassembly of section .text:

0000000000000010 <get_old_pud>:
  10:\tret

0000000000000020 <move_ptes.isra.0>:
  20:\tcall   25 <move_ptes.isra.0+0x5>
\t\t\t21: R_X86_64_PLT32\tvm_normal_folio-0x4
  25:\tmov    0x0(%rip),%rax
\t\t\t28: R_X86_64_PC32\tvmemmap_base-0x4

0000000000000040 <move_page_tables>:
  40:\tcall   10 <get_old_pud>
  45:\tcall   20 <move_ptes.isra.0>

0000000000000060 <unrelated>:
  60:\tcall   65 <unrelated+0x5>
\t\t\t61: R_X86_64_PLT32\tvm_normal_page-0x4
"""

ARM64 = """
0000000000000000 <move_page_tables>:
   0:\tmov\tx3, #0xffffffffc0000000    \t// #-1073741824
   4:\tmovk\tx3, #0xc1ff, lsl #32
   c:\tmov\tx4, #0xfffffffffffff000    \t// #-4096
  10:\tbl\t0 <_raw_spin_lock>
\t\t\t10: R_AARCH64_CALL26\t_raw_spin_lock
"""

CONFIG = "CONFIG_ARM64_VA_BITS=52\nCONFIG_PAGE_SHIFT=12\n"


def functions(text):
    with mock.patch.object(common, "run", return_value=text):
        return machinecode.disassemble("objdump", "x.o")


def offences(arch, found, frames):
    with mock.patch.object(machinecode, "inlined_from", return_value=frames):
        return list(machinecode.offences(arch, found, CONFIG, "addr2line", "x.o"))


class Reachable(unittest.TestCase):

    def test_local_calls_are_followed_and_others_are_not_looked_at(self):
        reached = machinecode.reachable(functions(X86), machinecode.ROOTS)
        self.assertEqual(sorted(reached), ["get_old_pud", "move_page_tables", "move_ptes.isra.0"])

    def test_nothing_to_look_at_is_an_error(self):
        self.assertEqual(machinecode.reachable(functions(X86), ("move_pte",)), {})


class Offences(unittest.TestCase):

    def test_call_and_data_reference(self):
        reached = machinecode.reachable(functions(X86), machinecode.ROOTS)
        found = offences("x86_64", reached, ["move_ptes", "move_page_tables"])
        self.assertEqual([(o.address, o.what) for o in found],
                         [(0x20, "refers to vm_normal_folio"), (0x25, "refers to vmemmap_base")])

    def test_lock_of_a_page_table_is_no_offence(self):
        reached = machinecode.reachable(functions(X86), machinecode.ROOTS)
        frames = ["pmd_pgtable_page", "pmd_lockptr", "pmd_lock", "move_normal_pmd"]
        self.assertEqual(offences("x86_64", reached, frames), [])

    def test_constant_in_the_vmemmap(self):
        found = offences("arm64", functions(ARM64), ["move_ptes"])
        self.assertEqual([o.address for o in found], [4])

    def test_arm64_constants(self):
        code = functions(ARM64)["move_page_tables"].code
        self.assertEqual([hex(v) for _, v, _ in machinecode.constants(code)],
                         ["0xffffffffc0000000", "0xffffc1ffc0000000", "0xfffffffffffff000"])

    def test_vmemmap_range(self):
        low, high = machinecode.vmemmap_range(CONFIG)
        self.assertEqual(hex(low), "0xffffc1ffc0000000")
        self.assertFalse(low <= 0xffff000000000000 < high, "the linear map")
        self.assertFalse(low <= 0xfffffffffffff000 < high, "a page mask")


if __name__ == "__main__":
    unittest.main()
