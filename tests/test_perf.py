# SPDX-License-Identifier: GPL-2.0
"""make perf: which workloads, what is read from perf, and what is shown of it."""

import itertools
import math
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from unstall import common, profiles, series, vm, workloads

TOPICS = ("mremap", "ksm", "lru", "fault")
POPULATE = ("populate_churn", "entry_SYSCALL_64_after_hwframe", "do_syscall_64", "vm_mmap_pgoff",
            "__mm_populate", "lru_add_drain", "folio_batch_move_lru", "_raw_spin_unlock_irqrestore")
UNMAP = ("populate_churn", "entry_SYSCALL_64_after_hwframe", "do_syscall_64", "__x64_sys_munmap",
         "__vm_munmap", "folios_put_refs", "__page_cache_release.part.0")


def script(*samples):
    """Samples as perf script prints them, callee first."""
    return "\n\n".join("\n".join([f"{s[0]} ", *(f"\tffffffff81632333 {f}" for f in reversed(s[1:]))])
                       for s in samples) + "\n\n"


OUTPUT = f"""noise
@printed
metric cycles 3100
@stat
12.50,msec,task-clock,12500000,100.00,0.9,CPUs utilized
49,,page-faults,694730,100.00,70.531,K/sec
<not counted>,,kmem:mm_page_alloc,0,100.00,,
@counters
pgfault 51
@samples
{script(POPULATE, POPULATE, UNMAP)}
@locks
 contended   total wait
"""


def workload(name):
    return next(w for w in workloads.ALL if w.name == name)


class Selection(unittest.TestCase):

    def names(self, *words):
        return [w.name for w in profiles.select(words, TOPICS)]

    def test_a_topic_stands_for_a_few(self):
        self.assertEqual(self.names("lru"), list(workloads.PROFILES["lru"].workloads))

    def test_any_workload_by_name(self):
        self.assertEqual(self.names("tasks-16", "bigheap"), ["tasks-16", "bigheap"])

    def test_nothing_and_what_is_unknown_are_refused(self):
        with self.assertRaisesRegex(common.CannotRun, "W= is empty"):
            self.names()
        with self.assertRaisesRegex(common.CannotRun, "W=lur is no topic"):
            self.names("lur")

    def test_a_guest_without_perf_is_refused(self):
        with self.assertRaisesRegex(common.CannotRun, "x86-64"):
            self.names("move-arm64-order-4")

    def test_every_topic_of_the_table_has_a_profile_of_its_own_workloads(self):
        topics = {w.topic for w in workloads.ALL}
        self.assertEqual(topics, set(workloads.PROFILES))
        for topic, how in workloads.PROFILES.items():
            for name in how.workloads:
                self.assertEqual(workload(name).topic, topic)

    def test_tracepoints_of_ours_are_in_the_series(self):
        files = [f for t in series.load(common.base_name()).topics
                 for f in series.load(common.base_name()).added_files(t)]
        text = "".join((common.ROOT / f).read_text() for f in files
                       if f.startswith("include/trace/events/"))
        for how in workloads.PROFILES.values():
            for event in (e.split(":") for e in how.events):
                if event[0] in ("rmap", "fault_retry"):
                    self.assertIn(event[1], text)

    def test_the_line_for_the_guest(self):
        line = profiles.command_line(workload("fault-thrash"), "/w")
        self.assertNotRegex(line, r"[\n\t]")
        self.assertIn(" -l 'slow_disk 2000 128 fault_thrash ", line)
        self.assertTrue(line.startswith("PATH=/w:"))
        line = profiles.command_line(workload("populate-1"), "/w")
        self.assertNotIn(" -l ", line)
        self.assertTrue(line.endswith("'populate_churn -q -c 9300 -p 1'"))

    def test_no_two_clocks_meet_often(self):
        self.assertTrue(all(math.gcd(a, b) == 1 for a, b in
                            itertools.combinations(profiles.PERIODS, 2)))


class Parsing(unittest.TestCase):

    def setUp(self):
        self.parts = profiles.sections(OUTPUT)

    def test_sections(self):
        self.assertEqual(set(self.parts), {"printed", "stat", "counters", "samples", "locks"})
        self.assertEqual(self.parts["printed"], "metric cycles 3100")

    def test_counts(self):
        self.assertEqual(profiles.counted(self.parts),
                         {"task-clock, msec": 12.5, "page-faults": 49, "kmem:mm_page_alloc": None,
                          "vmstat pgfault": 51})

    def test_stacks_are_from_caller_to_callee(self):
        self.assertEqual(profiles.stacks(self.parts["samples"]), {POPULATE: 2, UNMAP: 1})

    def test_no_samples(self):
        self.assertEqual(profiles.stacks(""), {})

    def test_a_path_is_in_order_and_of_whole_names(self):
        self.assertTrue(profiles.passes(POPULATE, ("__mm_populate", "folio_batch_move_lru")))
        self.assertFalse(profiles.passes(POPULATE, ("folio_batch_move_lru", "__mm_populate")))
        self.assertFalse(profiles.passes(POPULATE, ("lru_add",)))
        self.assertTrue(profiles.passes(UNMAP, ("munmap", "__page_cache_release")))

    def test_a_stack_in_words_begins_behind_the_entry(self):
        self.assertEqual(profiles.chain(UNMAP), "__x64_sys_munmap > __vm_munmap > "
                         "folios_put_refs > __page_cache_release.part.0")

    def test_a_function_is_counted_once_for_a_sample(self):
        self.assertEqual(profiles.inclusive({("x", "a", "b", "a"): 3}), {"a": 3, "b": 3})


class Shown(unittest.TestCase):

    def setUp(self):
        self.base = profiles.sections(OUTPUT)
        self.ours = {"samples": script(UNMAP)}
        self.workload = workload("populate-1")

    def test_both_sides_beside_each_other(self):
        found = dict(profiles.tables(self.workload, self.base, self.ours))
        paths = {line[0]: line[1:] for line in found["samples on a path"]}
        self.assertEqual(paths["all"], ("3", "1", "0.333"))
        self.assertEqual(paths["populate -> drain -> lruvec lock"], ("2", "0", "0.000"))
        self.assertEqual(paths["munmap -> release -> lruvec lock"], ("1", "1", "1.000"))
        self.assertIn(("page-faults", "49", "-", "-"), found["counted"])
        self.assertEqual(found["stacks, the heaviest"][0][1:3], ("2", "0"))
        names = [line[0] for line in found["functions and what they call, the most different"]]
        self.assertIn("lru_add_drain", names)
        self.assertNotIn("__page_cache_release.part.0", names)      # as often in both

    def test_text_has_every_table_and_the_locks(self):
        text = profiles.text(self.workload, self.base, self.ours)
        for word in ("counted", "samples on a path", "stacks", "functions", "lock contention, base"):
            self.assertIn(word, text)
        self.assertNotIn("lock contention, ours", text)

    def test_samples_survive_the_way_to_the_flame_graph(self):
        found = profiles.stacks(self.base["samples"])
        self.assertEqual(profiles.script(found).count("cpu-clock:"), 3)
        self.assertRegex(profiles.script(found).splitlines()[0],
                         r"^\S+\s+\d+\s+\d+\.\d+:(\s+\d+)? \S+:\s*$")      # what flamegraph knows

    def test_the_svg_has_no_script_and_names_of_its_own(self):
        raw = ('<?xml?>\n<svg id="x" onload="init(evt)"><linearGradient id="background"/>'
               '<script type="a">\nlet b;\n</script><g onmouseover="typeof s === \'f\'" data-x="1">'
               '<title>f (2 samples), 7.1%)</title></g><rect fill="url(#background)"/></svg>')
        svg = profiles.clean(raw, "w-base")
        for word in ("script", "onload", "onmouse", "data-", "<?xml", "background"):
            self.assertNotIn(word, svg)
        self.assertIn('id="w-base"', svg)
        self.assertIn("url(#w-base)", svg)
        self.assertIn("<title>f (2 samples, 7.1%</title>", svg)

    @unittest.skipUnless(shutil.which("node") and (common.BUILD / "npm" / "node_modules").exists(),
                         "needs npm's flamegraph; 'make perf' fetches it")
    def test_a_flame_graph(self):
        svg = profiles.flame_graph(profiles.stacks(self.base["samples"]), 6, "p")
        self.assertIn("<title>lru_add_drain (2 samples, 66.7%</title>", svg)
        self.assertIn('width="500"', svg)       # three samples where six are 1000 pixels
        self.assertNotIn("<script", svg)


class Guest(unittest.TestCase):
    """The guest's programs, as far as they need no guest."""

    def test_their_awk_adds_up_holds(self):
        """A lock in another, two tasks at once, and what it costs to note a call."""
        trace = """# tracer: function
          a-b c-11   [000] d..1. 1000: folio_lruvec_lock_irqsave <-x
          a-b c-11   [000] d..1. 1010: _raw_spin_lock_irqsave <-folio_lruvec_lock_irqsave
             d-2     [001] d..1. 1012: _raw_spin_lock <-y
             d-2     [001] d..1. 1013: _raw_spin_unlock <-y
          a-b c-11   [000] d..1. 1110: _raw_spin_unlock_irqrestore <-z
          a-b c-11   [000] ...1. 1200: folio_lruvec_lock_irqsave <-x
          a-b c-11   [000] ...1. 1210: _raw_spin_lock_irqsave <-folio_lruvec_lock_irqsave
          a-b c-11   [000] d.h1. 1220: irq_enter_rcu <-i
          a-b c-11   [000] d.h1. 1230: _raw_spin_lock <-i
          a-b c-11   [000] d.h1. 1240: _raw_spin_unlock <-i
          a-b c-11   [000] d..1. 8310: _raw_spin_unlock_irqrestore <-z
             d-2     [001] d..1. 2000: folio_lruvec_lock_irqsave <-x
             d-2     [001] d..1. 2015: _raw_spin_lock_irqsave <-folio_lruvec_lock_irqsave
             d-2     [001] d..1. 2030: _raw_spin_lock <-y
             d-2     [001] d..1. 2050: _raw_spin_unlock <-y
             d-2     [001] d..1. 2115: _raw_spin_unlock_irqrestore <-z
"""
        source = (vm.GUEST_SOURCES / "bin" / "held").read_text()
        code = re.search(r"awk -v names=\"\$locks\" '\n(.*?)' \"\$HERE/trace\"", source, re.S)[1]
        with tempfile.TemporaryDirectory() as temp:
            path = Path(temp) / "trace"
            path.write_text(trace)
            done = subprocess.run(["awk", "-v", "names=folio_lruvec_lock_irqsave", code, path],
                                  text=True, capture_output=True, check=True)
        # 100 less a note of 10, and 100 less three; and their mean for the interrupted one
        self.assertEqual(done.stdout.split(), ["3", "240", "90"])

    def test_they_say_how_they_are_used(self):
        for name in ("held", "profile"):
            done = subprocess.run([vm.GUEST_SOURCES / "bin" / name], text=True,
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, 125)
            self.assertIn(f"usage: {name} ", done.stderr)


class Npm(unittest.TestCase):

    def test_the_tool_is_fetched_once(self):
        with tempfile.TemporaryDirectory() as temp, mock.patch.object(common, "BUILD", Path(temp)), \
                mock.patch.object(common, "run") as run, mock.patch.object(common, "say"):
            path = profiles.program()
            run.assert_called_once()
            self.assertIn(profiles.FLAMEGRAPH, run.call_args.args)
            os.makedirs(path.parent)
            path.write_text("")
            self.assertEqual(profiles.program(), path)
            run.assert_called_once()


if __name__ == "__main__":
    unittest.main()
