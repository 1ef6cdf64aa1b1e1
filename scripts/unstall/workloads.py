# SPDX-License-Identifier: GPL-2.0
"""What 'make bench' and 'make perf' run: data, no code.

A workload is a command that anybody can also run by hand, with our programs of
tools/testing/ on the PATH (make ab CMD="..."). A row is one figure of it: the sum
of what `keys` name (what measure prints: "ns", an event; or a "metric" line of the
command), divided by `per`, and by the sum of what `over` names. Published figures
are those of the reports that the topics answer; they were made on other machines,
and stand beside, not in a ratio.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guest:
    """A machine in which workloads run, all of them in one boot."""
    arch: str = "x86_64"
    smp: int = 1
    numa: int = 1
    mem: int = 4096     # MiB
    icount: bool = True     # else its clock is the wall's
    accel: str = "tcg"


@dataclass(frozen=True)
class Target:
    """A bound, upper ("<=") or lower (">="), of our figure or of ours / base."""
    of: str             # "ours" or "ratio"
    sense: str
    bound: float


@dataclass(frozen=True)
class Row:
    """A figure."""
    name: str
    keys: tuple
    unit: str
    per: float = 1
    over: tuple = ()            # keys that divide it, too
    better: str = "less"        # or "more"
    published: str = ""
    target: Target = None
    readme: bool = False        # one of the rows that README shows
    x: float = None             # where rows of one workload are a curve


@dataclass(frozen=True)
class Flatness:
    """A row of its own: the largest figure of a curve divided by its least."""
    curve: str
    row: str
    target: Target


@dataclass(frozen=True)
class Projection:
    """What project.py needs: the rows of an operation's instructions, and of those under the lock."""
    name: str
    total: tuple    # workload, row
    held: tuple
    measured: tuple = ()    # a curve by CPUs, and its row, to check it with


@dataclass(frozen=True)
class Profile:
    """What 'make perf' looks at in the workloads of a topic."""
    workloads: tuple            # those that the topic's name stands for
    events: tuple               # of perf stat
    paths: tuple                # a name, and regular expressions of functions from caller to callee
    counters: tuple = ()        # lines of /proc/vmstat
    locks: bool = False         # perf lock contention, too
    instead: tuple = ()         # text of a command, and what takes its place


@dataclass(frozen=True)
class Workload:
    """A command and what to read from it."""
    name: str
    topic: str
    guest: str
    command: str
    rows: tuple
    count: tuple = ()           # events for measure
    warm: int = 0               # runs before the counted ones
    rounds: int = 1             # counted runs: the figures are those of the median
    seconds: int = 300          # of real time, that it may take
    quick: bool = False         # in 'make bench-quick' too
    curve: str = ""             # workloads of one curve differ in x only
    x: float = 0
    x_unit: str = ""


# Two CPUs take turns in one thread of QEMU's: each makes progress only while the
# other does not. That shows counts, waits and orders that need two tasks, and no
# contention as two real CPUs have it.
GUESTS = {
    "one": Guest(),
    "nodes": Guest(numa=2),
    "two": Guest(smp=2),
    "arm64": Guest(arch="arm64"),
    # A thread of QEMU's for each CPU: as parallel as the host is.
    "parallel": Guest(smp=16, icount=False),
    # Only where a kernel boots under KVM.
    "kvm": Guest(icount=False, accel="kvm"),
}

NO_MORE = Target("ratio", "<=", 1.0)
_LOCKERS = ("folio_lruvec_lock", "folio_lruvec_lock_irq", "folio_lruvec_lock_irqsave")
LRU_LOCKS = tuple(f"func:{f}" for f in _LOCKERS)
LRU_DRAINS = ("func:lru_add_drain",)


# ------------------------------------------------------------------------- lru

def _churn(name, options, locks=None, **other):
    """A cycle of mmap() and munmap(): locks and instructions."""
    readme = other.pop("readme", False)
    return Workload(name, "lru", other.pop("guest", "one"), f"populate_churn {options}", (
        Row("lruvec lock round trips", ("locks-per-cycle",), "/cycle",
            target=locks, readme=readme, published=other.pop("published", "")),
        Row("instructions", ("ns-per-cycle",), "/cycle", target=NO_MORE, readme=readme)), **other)


def _parallel(cpus):
    """As many cycles on each number of CPUs, in time that passes."""
    return Workload(f"parallel-{cpus}", "lru", "parallel",
                    f"populate_churn -q -P {cpus} -c {64000 // cpus}",
                    (Row("wall time", ("ns-per-cycle",), "ns/cycle"),),
                    curve="parallel", x=cpus, x_unit="vCPUs, multi-threaded TCG")


def _wall(name, topic, command, key, unit, **other):
    """A workload in wall time, under KVM."""
    return Workload(f"{name}-wall", topic, "kvm", command, (
        Row("wall time", (key,), unit, **other),))


def _populate(pages, locks, **other):
    cycles = " -c 310" if pages > 64 else ""
    return _churn(f"populate-{pages}", f"-p {pages}{cycles}", locks, curve="populate", x=pages,
                  x_unit="pages mapped with MAP_POPULATE", **other)


def _at_most(bound):
    return Target("ours", "<=", bound)


def _held(pages, cycles):
    """Instructions under the lruvec lock in a cycle, as held.sh of the guest sees them."""
    most, least = 1.1 * cycles, 0.1 * cycles
    return Workload(f"held-{pages}", "lru", "one", "held "
                    f"-l 'populate_churn -q -p {pages} -c {least:.0f}' {' '.join(_LOCKERS)} -- "
                    f"populate_churn -q -p {pages} -c {most:.0f}", (
                        Row("lruvec lock held", ("hold-ns-sum",), "instructions/cycle",
                            per=cycles, target=NO_MORE),))


def _drains(name, options, target):
    """Drains in a cycle: apart from the locks, as the profiler costs instructions."""
    return Workload(f"drains-{name}", "lru", "one", f"populate_churn -d {options}", (
        Row("drains of the CPU's batches", ("drains-per-cycle",), "/cycle", target=target),))


def _mremap(workers, ops, options=""):
    return (f"stress-ng --mremap {workers} --mremap-bytes 4K --mremap-ops {ops} "
            f"--no-rand-seed {options}").strip()


def _stress_mremap(workers, ops, options="", at_most=0.25, **other):
    name = f"stress-mremap-{workers}" + ("-no-madvise" if options else "")
    return Workload(name, "lru", "one", _mremap(workers, ops, options), (
        Row("lruvec lock round trips", LRU_LOCKS, "/bogo op", per=ops,
            target=Target("ratio", "<=", at_most)),
        Row("instructions", ("ns",), "/bogo op", per=ops)),
                    count=LRU_LOCKS, warm=1, rounds=5, **other)


def _drains_of_stress_mremap(workers, ops):
    return Workload(f"drains-stress-mremap-{workers}", "lru", "one", _mremap(workers, ops), (
        Row("drains of the CPU's batches", LRU_DRAINS, "/bogo op", per=ops, target=NO_MORE),),
                    count=LRU_DRAINS, warm=1, rounds=5)


LRU = (
    _populate(1, _at_most(0), quick=True, readme=True),
    _populate(4, _at_most(0)),
    _populate(16, _at_most(0), readme=True),
    _populate(30, _at_most(0.1), quick=True, readme=True),
    _populate(31, None),
    _populate(64, _at_most(4.0), readme=True),
    _populate(512, None),
    _held(1, 9000),
    _held(16, 1000),
    _held(64, 300),
    _churn("madvise-1", "-m madvise -p 1", _at_most(0)),
    _churn("willneed-1", "-m willneed -p 1", _at_most(0)),
    _churn("touch-1", "-m touch -p 1", NO_MORE),
    _churn("touch-16", "-m touch -p 16", NO_MORE),
    _churn("touch-30", "-m touch -p 30", NO_MORE),
    _churn("touch-64", "-m touch -p 64", NO_MORE),
    _churn("touch-512", "-m touch -p 512 -c 310", NO_MORE),
    _churn("locked-1", "-m locked -p 1", NO_MORE, quick=True),
    _churn("locked-16", "-m locked -p 16", NO_MORE),
    _churn("surviving", "-m none -k 1", NO_MORE),
    _churn("surviving-and-4", "-p 4 -k 1", NO_MORE),
    _churn("file-1", "-m file -p 1", NO_MORE),
    _churn("file-16", "-m file -p 16", NO_MORE),
    _churn("file-31", "-m file -p 31", NO_MORE),
    _churn("file-512", "-m file -p 512 -c 310", NO_MORE),
    _churn("mbind-1", "-m mbind -p 1 -c 24800", NO_MORE, guest="nodes"),
    _churn("mbind-16", "-m mbind -p 16 -c 310", NO_MORE, guest="nodes"),
    _churn("tasks-4", "-p 1 -t 4", _at_most(0)),
    _churn("tasks-16", "-p 1 -t 16 -c 620", _at_most(0)),
    _churn("tasks-40", "-p 1 -t 40 -c 310"),
    _stress_mremap(1, 2000, quick=True),
    _stress_mremap(8, 2000),
    _stress_mremap(64, 2048),
    _stress_mremap(512, 4096, seconds=600),
    _stress_mremap(1, 2000, "--no-madvise", 1 / 30),
    _drains("populate-1", "-p 1", _at_most(0)),
    _drains("populate-30", "-p 30", _at_most(0)),
    _drains("populate-31", "-p 31", NO_MORE),
    _drains("populate-512", "-p 512 -c 310", NO_MORE),
    _drains("madvise-1", "-m madvise -p 1", _at_most(0)),
    _drains("willneed-1", "-m willneed -p 1", _at_most(0)),
    _drains("touch-1", "-m touch -p 1", NO_MORE),
    _drains("locked-1", "-m locked -p 1", NO_MORE),
    _drains("file-1", "-m file -p 1", NO_MORE),
    _drains_of_stress_mremap(1, 2000),
    _drains_of_stress_mremap(64, 2048),
    *map(_parallel, (1, 2, 4, 8, 16)),
    _wall("populate-1", "lru", "populate_churn -q -p 1 -c 93000", "ns-per-cycle", "ns/cycle"),
)


# ------------------------------------------------------------------------- ksm

KSM_STEPS = ("func:anon_vma_interval_tree_iter_next",)
KSM_LOOKUPS = ("func:anon_vma_interval_tree_iter_first",)


def _walk(vmas, sharers, target=None, published="", children=0, **other):
    rounds = 21 if vmas * sharers * (children + 1) <= 1000000 else 3
    name = f"ksm-{vmas}-{sharers}" + ("-forked" if children else "")
    forked = f" -c {children}" if children else ""
    return Workload(name, "ksm", "nodes", f"rmap_benchmark -N -n {vmas} -s {sharers} -i {rounds}"
                    f"{forked} -t ksm --metrics", (
                        Row("instructions, least", ("least-ksm-migrate-trigger",),
                            "/move_pages()", target=target, published=published,
                            readme=other.pop("readme", False)),), **other)


def _walk_256(vmas, **other):
    return _walk(vmas, 256, curve="ksm", x=vmas, x_unit="VMAs in the anon_vma", **other)


KSM = (
    *(_walk(vmas, 100, curve="ksm, 100 sharers", x=vmas, x_unit="VMAs in the anon_vma")
      for vmas in (100, 1000, 60000)),
    _walk_256(300),
    _walk_256(1000, quick=True, readme=True),
    _walk_256(20000, target=Target("ratio", "<=", 0.001), readme=True,
              published="walk: 705 ms to 1.67 ms, 422 times"),
    _walk_256(60000, seconds=600, readme=True),
    _walk(20000, 1),
    _walk(20000, 16),
    _walk(2, 1),
    _walk(1000, 256, children=10),
    Workload("ksm-counts", "ksm", "nodes",
             "rmap_benchmark -N -n 20000 -s 256 -i 1 -t ksm --metrics", (
                 Row("look-ups", KSM_LOOKUPS, "/move_pages()", target=_at_most(512)),
                 Row("tree steps", KSM_STEPS, "/move_pages()", target=_at_most(512),
                     readme=True)), count=KSM_LOOKUPS + KSM_STEPS, seconds=600),
    Workload("ksm-counts-forked", "ksm", "nodes",
             "rmap_benchmark -N -n 1000 -s 256 -i 1 -t ksm -c 10 --metrics", (
                 Row("look-ups", KSM_LOOKUPS, "/move_pages()"),
                 Row("tree steps", KSM_STEPS, "/move_pages()")),
             count=KSM_LOOKUPS + KSM_STEPS, seconds=600),
    Workload("ksm-scan", "ksm", "nodes",
             "rmap_benchmark -N -n 20000 -s 20000 -i 1 -t ksm -m scan --metrics", (
                 Row("instructions", ("ksm-scan-trigger",), "/merged page that ksmd scans",
                     per=20 * 20000),), seconds=600),
    _wall("ksm-20000-256", "ksm", "rmap_benchmark -N -n 20000 -s 256 -i 3 -t ksm --metrics",
          "ksm-migrate-trigger", "ns/move_pages()"),
)


# ----------------------------------------------------------------------- fault

MINOR = Target("ratio", "<=", 1.005)
GONE = Target("ours", "<=", 0.2)
MMAP_LOCK = ("trace:mmap_lock:mmap_lock_acquire_returned",)

FAULT = (
    Workload("fault-minor", "fault", "one", "fault_minor", (
        Row("instructions, anonymous", ("ns-per-anon-fault",), "/minor fault", target=MINOR,
            readme=True),
        Row("instructions, read of tmpfs", ("ns-per-tmpfs-read-fault",), "/minor fault",
            target=MINOR),
        Row("instructions, copy of tmpfs", ("ns-per-tmpfs-copy-fault",), "/minor fault",
            target=MINOR)), quick=True),
    Workload("fault-thrash", "fault", "two",
             "slow_disk 2000 128 fault_thrash -d {dir} -n 16 -s 2 -m 12 -T 2", (
                 Row("retries that found the folio gone", ("gone-percent",), "% of waits",
                     target=GONE, published="45% to 0.03%", readme=True),
                 Row("retries", ("retries",), "/major fault", over=("major-faults",), readme=True),
                 Row("mmap_lock taken", MMAP_LOCK, "/major fault", over=("major-faults",),
                     published="-71%", target=Target("ratio", "<=", 0.29)),
                 Row("major faults", ("major-faults",), "/s", per=2, better="more"),
                 Row("rounds", ("rounds",), "/s", per=2, better="more")), count=MMAP_LOCK),
    Workload("fault-swapin-disk", "fault", "two",
             "slow_disk 200 128 fault_swapin -S {disk} -s 32 -T 2 -c 0", (
                 Row("retries", ("retries-per-swapin",), "/swap-in", readme=True),
                 Row("mmap_lock taken", MMAP_LOCK, "/swap-in", over=("swap-ins",)),
                 Row("swap-ins", ("swap-ins",), "/s", per=2, better="more")), count=MMAP_LOCK),
    Workload("fault-swapin-zram", "fault", "two", "fault_swapin -S /dev/zram0 -s 32 -T 2", (
        Row("retries", ("retries-per-swapin",), "/swap-in"),
        Row("swap-ins", ("swap-ins",), "/s", per=2, better="more")), seconds=600),
    _wall("fault-minor", "fault", "fault_minor", "ns-per-anon-fault", "ns/minor fault"),
)


# ---------------------------------------------------------------------- mremap

LOOKUPS = ("func:vm_normal_folio",)
SIZES = (4, 256, 16384, 262144)     # KiB: 1, 64, 4096, 65536 pages


def _move(name, guest, options, **other):
    """A move, timed; where events are counted the time would be theirs too."""
    row = Row("instructions, least", ("least-ns-per-move",), "/move",
              readme=other.pop("readme", False))
    return Workload(name, "mremap", guest, f"move_ptes {options}", (row,), **other)


def _looked_up(name, options, **other):
    return Workload(name, "mremap", "arm64", f"move_ptes {options}", (
        Row("folio look-ups", LOOKUPS, "/move", per=102, target=_at_most(0),
            readme=other.pop("readme", False)),), count=LOOKUPS, **other)


MREMAP = (
    Workload("bigheap", "mremap", "one", "stress-ng --bigheap 1 --bigheap-ops 2000 --no-rand-seed", (
        Row("instructions", ("ns",), "/realloc()", per=2000, target=Target("ratio", "<=", 1.03),
            published="143,857 to 81,503 calls/s when it regressed"),), warm=1,
             rounds=9),
    *(_move(f"move-{kib >> 2}", "one", f"-s {kib} -n 20", curve="move", x=kib >> 2,
            x_unit="pages moved", quick=kib == 256) for kib in SIZES),
    _move("move-4096-unaligned", "one", "-s 16384 -n 20 -u"),
    *(_move(f"move-arm64-order-{order}", "arm64", f"-o {order}", readme=order in (0, 4, 9))
      for order in (0, *range(3, 10))),
    *(_move(f"move-arm64-order-{order}-off", "arm64", f"-o {order} -u") for order in (4, 9)),
    *(_looked_up(f"lookups-arm64-order-{order}", f"-o {order}", readme=order == 4)
      for order in (0, *range(3, 10))),
    *(_looked_up(f"lookups-arm64-order-{order}-off", f"-o {order} -u") for order in (4, 9)),
    _wall("bigheap", "mremap", "stress-ng --bigheap 1 --bigheap-ops 20000", "passed ns",
          "ns/realloc()", per=20000),
)

# ----------------------------------------------------------------------- reloc

def _relocate(name, options, ratio=None, merges=True, **other):
    """A move next to a page that it merges with, and the mappings that there are then."""
    readme = other.pop("readme", False)
    target = Target("ratio", "<=", ratio) if ratio else None
    return Workload(name, "reloc", "one", f"relocate_moves {options}", (
        Row("instructions, least", ("least-ns-per-move",), "/move", target=target, readme=readme),
        Row("mappings", ("vmas",), "", target=_at_most(1) if merges else None, readme=readme)),
                    **other)


def _relocate_pages(pages, ratio=None, **other):
    return _relocate(f"relocate-{pages}", f"-m merge -p {pages}", ratio, curve="relocate", x=pages,
                     x_unit="pages moved and relocated", **other)


# Those that Documentation/mm/mremap_relocate.rst names; in the ninth nothing has been
# mapped yet to merge with when the move happens.
CASES = range(1, 13)


def _merge_cases(mode):
    """The mappings that each case ends with, and the slab objects of a copy of all."""
    mappings = (Row(f"mappings, case {n}", (f"vmas-{n}",), "",
                    target=_at_most(2 if n == 9 and mode == "merge" else 1)) for n in CASES)
    memory = (Row(f"bytes of {name}", (f"{name}-bytes",), "", target=NO_MORE)
              for name in ("vm_area_struct", "anon_vma", "anon_vma_chain"))
    return Workload(f"merge-cases-{mode}", "reloc", "one", f"merge_cases -n 300 -m {mode}",
                    (Row("mappings, all cases", ("vmas",), "", readme=True), *mappings, *memory))


RELOC = (
    _relocate_pages(1, readme=True),
    _relocate_pages(8),
    _relocate_pages(64, 2.2, quick=True, readme=True),
    _relocate_pages(512, 5, readme=True),
    _relocate_pages(4096),
    _relocate("relocate-1-lonely", "-m merge -p 1 -l", 1.03),
    *(_relocate(f"relocate-{pages}-never", f"-m never -p {pages}", 1.005, merges=False)
      for pages in (1, 64, 512, 4096)),
    _relocate("relocate-1024-tables-never", "-m never -p 1024 -c", 1.005, merges=False),
    _relocate("relocate-1024-tables", "-m merge -p 1024 -c"),
    _relocate("relocate-1024-thp", "-m merge -p 1024 -c -H"),
    Workload("compact-heap", "reloc", "one", "compact_heap -m merge", (
        Row("mappings after eight compactions", ("vmas",), "", target=_at_most(1), readme=True),
        *(Row("mappings", (f"vmas-after-round-{n}",), f"after compaction {n}", x=n)
          for n in range(1, 9))), curve="compact-heap", x_unit="compactions"),
    _merge_cases("merge"),
    _merge_cases("always"),
    _wall("relocate-64", "reloc", "relocate_moves -m merge -p 64", "least-ns-per-move", "ns/move"),
)

ALL = LRU + KSM + FAULT + MREMAP + RELOC

FLATNESS = (
    Flatness("ksm, 100 sharers", "instructions, least", _at_most(2)),
    Flatness("ksm", "instructions, least", _at_most(2)),
)

PROJECTIONS = tuple(
    Projection(f"populate-{pages}", (f"populate-{pages}", "instructions"),
               (f"held-{pages}", "lruvec lock held"),
               ("parallel", "wall time") if pages == 1 else ()) for pages in (1, 16, 64))

# An interrupt that a lock holds off is taken where it is let go: time under the
# lruvec lock is seen in _raw_spin_unlock_irqrestore().
PROFILES = {
    "lru": Profile(
        ("populate-1", "populate-16", "stress-mremap-1"),
        ("kmem:mm_page_alloc", "kmem:mm_page_free", "kmem:mm_page_free_batched",
         "pagemap:mm_lru_insertion", "pagemap:mm_lru_activate"),
        (("populate -> drain -> lruvec lock",
          ("__mm_populate", "lru_add_drain", "folio_batch_move_lru")),
         ("populate -> drain", ("__mm_populate", "lru_add_drain")),
         ("munmap -> release -> lruvec lock",
          ("munmap", "__page_cache_release|folio_lruvec_lock.*")),
         ("munmap -> release", ("munmap", "folios_put_refs|free_pages_and_swap_cache")),
         ("page fault", ("handle_mm_fault",))),
        ("pgfault", "unevictable_pgs_culled", "pgfree"),
        # Its own use of the function profiler would fill the samples.
        instead=(("populate_churn ", "populate_churn -q -c 9300 "),)),
    "ksm": Profile(
        ("ksm-1000-256",),
        ("rmap:rmap_walk_start", "rmap:rmap_walk_end", "rmap:rmap_walk_lock",
         "migrate:mm_migrate_pages", "ksm:ksm_merge_with_ksm_page"),
        (("move_pages -> walk -> interval tree",
          ("move_pages|do_pages_move", "rmap_walk_ksm", "anon_vma_interval_tree_iter_.*")),
         ("move_pages -> walk", ("move_pages|do_pages_move", "rmap_walk_ksm")),
         ("move_pages", ("move_pages|do_pages_move",))),
        ("pgmigrate_success", "pgmigrate_fail")),
    "fault": Profile(
        ("fault-thrash", "fault-swapin-disk"),
        ("mmap_lock:mmap_lock_acquire_returned", "fault_retry:mm_fault_retry",
         "filemap:mm_filemap_add_to_page_cache", "filemap:mm_filemap_delete_from_page_cache"),
        (("fault -> mmap_lock", ("exc_page_fault", "lock_mm_and_find_vma|mmap_read_lock.*")),
         ("fault -> read",
          ("exc_page_fault", "page_cache_ra.*|swap.*_readahead|filemap_read_folio")),
         ("fault", ("exc_page_fault",)),
         ("mmap, munmap", ("do_mmap|__vm_munmap",))),
        ("pgmajfault", "vma_lock_success", "vma_lock_abort", "vma_lock_retry", "vma_lock_retry_vma",
         "vma_lock_retry_mmap", "vma_lock_retry_gone", "vma_lock_resume", "vma_lock_resume_fail",
         "vma_lock_wait"), locks=True),
    "mremap": Profile(
        ("bigheap", "move-4096"),
        ("tlb:tlb_flush", "kmem:mm_page_alloc"),
        (("mremap -> page tables", ("mremap", "move_page_tables|move_ptes")),
         ("mremap", ("mremap",)),
         ("page fault", ("handle_mm_fault",))),
        ("pgfault",)),
    "reloc": Profile(
        ("relocate-64", "compact-heap"),
        ("mremap:mremap_relocate", "tlb:tlb_flush", "kmem:mm_page_alloc"),
        (("mremap -> relocation -> folio lock",
          ("mremap", "mremap_relocate_page_tables", "folio_.*lock.*")),
         ("mremap -> relocation", ("mremap", "mremap_relocate_page_tables")),
         ("mremap -> survey", ("mremap", "mremap_relocate_prepare")),
         ("mremap -> page tables", ("mremap", "move_page_tables|move_ptes")),
         ("mremap", ("mremap",)),
         ("page fault", ("handle_mm_fault",))),
        ("pgfault",)),
}
