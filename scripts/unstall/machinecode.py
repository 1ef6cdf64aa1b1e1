# SPDX-License-Identifier: GPL-2.0
"""Reads the machine code of an object file: what can one function reach in it?

The gate of the mremap topic: moving page tables must reach no struct page of a
mapped page.  vm_normal_folio() and friends are calls; an open-coded pte_page()
is the address of the vmemmap: a variable on x86-64, a constant on arm64.  The
struct page of a page *table* is another matter, its lock is in there: the line
tables of the same code, compiled again with -g, tell which inlined function an
instruction belongs to.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from . import common, vm
from .common import CannotRun

SOURCE = Path("mm/mremap")
ROOTS = ("move_page_tables", "move_ptes")

FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
RELOCATION = re.compile(r"\bR_\w+\s+(\S+)")
TARGET = re.compile(r"<([\w.$]+)(?:[+-]0x[0-9a-f]+)?>")
WIDE_MOVE = re.compile(r"\b(mov|movk|movz|movn|orr)\s+[wx](\d+|zr), (?:[wx]zr, )?#(-?0x[0-9a-f]+|-?\d+)"
                       r"(?:, lsl #(\d+))?")

FORBIDDEN_CALLS = re.compile(r"^_?_?(vm_normal_(page|folio)\w*|folio_pte_batch\w*)(\.\w+)*$")
FORBIDDEN_DATA = {"x86_64": re.compile(r"^vmemmap_base$"), "arm64": None}
PAGE_TABLE_LOCK = re.compile(r"^p[tmu]d?e?_lockptr$")
ADDRESS = re.compile(r"^\s*([0-9a-f]+):")


@dataclass
class Function:
    """The instructions of one function: (address, text, symbols that it names)."""
    name: str
    code: list = field(default_factory=list)

    @property
    def symbols(self):
        return {s for _, _, symbols in self.code for s in symbols}


@dataclass
class Offence:
    """An instruction that should not be there, and the functions it was inlined from."""
    function: str
    address: int
    what: str
    inlined: list

    def __str__(self):
        return f"{self.function}: {self.what}\n    in {' <- '.join(self.inlined)}"


def disassemble(objdump, obj):
    """The functions of an object file, by name."""
    functions, current, address = {}, None, 0
    for line in common.run(objdump, "-dr", "--no-show-raw-insn", obj).splitlines():
        start = FUNCTION.match(line)
        if start:
            current = functions.setdefault(start[1], Function(start[1]))
        elif current and line.strip():
            # A relocation stands on a line of its own, behind its instruction.
            if not RELOCATION.search(line) and ADDRESS.match(line):
                address = int(ADDRESS.match(line)[1], 16)
            current.code.append((address, line.strip(), symbols_of(line)))
    return functions


def symbols_of(line):
    relocation = RELOCATION.search(line)
    if relocation:
        return {re.split(r"[+-]0x", relocation[1])[0]}
    return set(TARGET.findall(line))


def reachable(functions, roots):
    """The functions of the object that the roots reach, themselves among them."""
    found, todo = {}, [n for n in functions if n.split(".")[0] in roots]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = functions[name]
        todo += [s for s in functions[name].symbols if s in functions]
    return found


def constants(code):
    """64-bit constants that arm64 code builds with mov and movk, register by register."""
    registers = {}
    for address, line, _ in code:
        m = WIDE_MOVE.search(line)
        if not m:
            continue
        value, shift = int(m[3], 0) & (1 << 64) - 1, int(m[4] or 0)
        if m[1] == "movk":
            kept = registers.get(m[2], 0) & ~(0xffff << shift)
            value = kept | (value & 0xffff) << shift
        elif m[1] == "movn":
            value = ~(value << shift) & (1 << 64) - 1
        else:
            value = value << shift & (1 << 64) - 1
        registers[m[2]] = value
        yield address, value, line


def vmemmap_range(config):
    """Where arm64's struct pages are, from the kernel's configuration.

    As arch/arm64/include/asm/memory.h has it: 64 bytes for each page of the
    linear map, ending 1 GiB below the top of the address space.
    """
    bits = int(re.search(r"^CONFIG_ARM64_VA_BITS=(\d+)", config, re.M)[1])
    page_shift = int(re.search(r"^CONFIG_PAGE_SHIFT=(\d+)", config, re.M)[1])
    linear_map = (1 << bits) - (1 << min(bits, 48) - 1)
    end = (1 << 64) - (1 << 30)
    return end - (linear_map >> page_shift) * 64, end


def suspects(arch, function, config):
    """(address, what) of each instruction that names or builds what is forbidden."""
    data = FORBIDDEN_DATA[arch]
    for address, line, symbols in function.code:
        for symbol in symbols:
            if FORBIDDEN_CALLS.match(symbol) or data and data.match(symbol):
                yield address, f"refers to {symbol}"
    if arch == "arm64":
        low, high = vmemmap_range(config)
        for address, value, line in constants(function.code):
            if low <= value < high:
                yield address, f"builds an address in the vmemmap ({line})"


def inlined_from(addr2line, obj, address):
    """The functions that an instruction was inlined from, innermost first."""
    text = common.run(addr2line, "-i", "-f", "-j", ".text", "-e", obj, hex(address))
    return text.splitlines()[::2]


def offences(arch, functions, config, addr2line, obj):
    """What a set of functions does that touches the struct page of a mapped page."""
    for function in functions.values():
        for address, what in suspects(arch, function, config):
            frames = inlined_from(addr2line, obj, address)
            if not any(PAGE_TABLE_LOCK.match(f) for f in frames):
                yield Offence(function.name, address, what, frames)


def compile_with_lines(out, source, obj, replace=None):
    """Compiles a source of a built kernel again, as Kbuild did, with -g.

    `out` is the kernel's output folder, `source` the path without its suffix
    (mm/mremap), `replace` another file to compile in its place.
    """
    record = out / source.parent / f".{source.name}.o.cmd"
    saved = record.read_text().splitlines()[0].split(":=", 1)[1].split(" ; ")[0]
    words = [w for w in shlex.split(saved) if not w.startswith("-Wp,-MMD")]
    at = words.index("-o")
    words[at + 1] = str(obj)
    if replace:
        words[-1] = str(replace)
        words[at:at] = ["-iquote", str(out.parent / source.parent)]
    words.insert(at, "-g")
    common.run(*words, cwd=out)
    return obj


def same_code(kernel, functions):
    """-g must not change what is compiled, else the gate looks at other code."""
    built = disassemble(f"{kernel.arch.cross}objdump", (kernel.out / SOURCE).with_suffix(".o"))
    for name, function in built.items():
        if name not in functions or len(functions[name].code) != len(function.code):
            raise CannotRun(f"{name} is not the same with -g; the gate can't tell.")


def gate(kernel, other=None):
    """Looks at mm/mremap.o of a built kernel, or at `other` compiled in its place.

    Returns what the move of page tables reaches, by name, and its offences.
    """
    folder = vm.ensure(common.BUILD / "gate")
    obj = compile_with_lines(kernel.out, SOURCE, folder / f"mremap-{kernel.arch.name}.o", other)
    functions = disassemble(f"{kernel.arch.cross}objdump", obj)
    if not other:
        same_code(kernel, functions)
    reached = reachable(functions, ROOTS)
    if not reached:
        raise CannotRun(f"{obj} has none of {', '.join(ROOTS)}; the gate looks at nothing.")
    return reached, list(offences(kernel.arch.name, reached, (kernel.out / ".config").read_text(),
                                  f"{kernel.arch.cross}addr2line", obj))
