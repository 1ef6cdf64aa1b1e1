# SPDX-License-Identifier: GPL-2.0
"""make bench: its table, its plan, its bounds, and what it says of figures."""

import os
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from results import recorded
from unstall import bench, common, figures, measuring, page, progress, project, series, vm, workloads
from unstall.workloads import Row, Target, Workload


class Table(unittest.TestCase):
    """The table of workloads."""

    def test_names_are_unique_and_words(self):
        names = [w.name for w in workloads.ALL]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertRegex(name, r"^[a-z0-9-]+$")

    def test_no_name_is_a_topic(self):
        self.assertFalse({w.name for w in workloads.ALL} & {w.topic for w in workloads.ALL})

    def test_topics_are_those_of_the_series(self):
        known = set(series.load(common.base_name()).topics)
        self.assertLessEqual({w.topic for w in workloads.ALL}, known)

    def test_guests_are_known(self):
        for w in workloads.ALL:
            self.assertIn(w.guest, workloads.GUESTS)
            self.assertIn(workloads.GUESTS[w.guest].arch, vm.ARCHES)

    def test_commands_are_one_line_for_the_guest_s_job(self):
        for w in workloads.ALL:
            self.assertNotRegex(w.command, r"[\n\t]")

    def test_a_guest_without_a_shell_runs_our_programs(self):
        folders = (common.ROOT / "tools" / "testing").iterdir()
        programs = {f.stem for folder in folders for f in folder.glob("*.c")}
        for w in workloads.ALL:
            if workloads.GUESTS[w.guest].arch == "arm64":
                self.assertIn(w.command.split()[0], programs)

    def test_every_event_of_a_row_is_counted(self):
        for w in workloads.ALL:
            for key in (k for r in w.rows for k in r.keys if ":" in k):
                self.assertIn(key, w.count, w.name)

    def test_the_profiler_tells_the_functions_apart(self):
        for w in workloads.ALL:
            functions = [e[5:35] for e in w.count if e.startswith("func:")]
            self.assertEqual(len(functions), len(set(functions)), w.name)

    def test_every_projection_names_rows_of_the_table(self):
        known = {(w.name, r.name) for w in workloads.ALL for r in w.rows}
        for p in workloads.PROJECTIONS:
            self.assertLessEqual({p.total, p.held}, known)

    def test_each_worker_of_stress_ng_gets_as_many_operations(self):
        for w in workloads.ALL:
            found = re.search(r"--mremap (\d+) .*--mremap-ops (\d+)", w.command)
            if found:
                self.assertEqual(int(found[2]) % int(found[1]), 0, w.name)

    def test_a_curve_has_one_row_for_each_x(self):
        seen = [(w.curve, w.x) for w in workloads.ALL if w.curve]
        self.assertEqual(len(seen), len(set(seen)))

    def test_targets_and_directions(self):
        for row in (r for w in workloads.ALL for r in w.rows):
            self.assertIn(row.better, ("less", "more"))
            if row.target:
                self.assertIn(row.target.of, ("ours", "ratio"))
                self.assertIn(row.target.sense, ("<=", ">="))


class Selection(unittest.TestCase):

    def names(self, words, quick=False, topics=("lru", "ksm", "mremap", "fault", "reloc")):
        return [w.name for w in bench.select(words, topics, quick)]

    def test_all_by_default(self):
        self.assertEqual(self.names([]), [w.name for w in workloads.ALL])

    def test_by_topic_and_by_name(self):
        found = self.names(["ksm", "bigheap"])
        self.assertIn("ksm-counts", found)
        self.assertIn("bigheap", found)
        self.assertNotIn("populate-1", found)

    def test_only_topics_that_the_tree_holds(self):
        self.assertEqual({w.topic for w in bench.select([], ("ksm",))}, {"ksm"})

    def test_a_mistyped_word_is_refused_with_the_list(self):
        with self.assertRaisesRegex(common.CannotRun, "W=ksn is no topic.*ksm"):
            self.names(["ksn", "lru"])

    def test_quick_needs_few_boots(self):
        chosen = bench.select([], ("lru", "ksm", "mremap", "fault"), quick=True)
        self.assertTrue(all(w.quick for w in chosen))
        self.assertEqual({workloads.GUESTS[w.guest].arch for w in chosen}, {"x86_64"})
        self.assertLessEqual(len(bench.Plan(chosen, 2).jobs()), 8)

    def test_all_is_measured_once_before_anything_is_repeated(self):
        jobs = bench.Plan(bench.select(["ksm-counts", "populate-1"], ("lru", "ksm")), 2).jobs()
        self.assertEqual([j.repetition for j in jobs], [1] * 4 + [2] * 4)
        self.assertEqual({(j.guest, j.variant) for j in jobs[:4]},
                         {(g, v) for g in ("one", "nodes") for v in bench.VARIANTS})

    def on_machine(self, words, works):
        plan = bench.Plan(bench.select(words, ("lru", "mremap")), 1)
        kernels = {"x86_64": {"base": mock.Mock(arch=vm.ARCHES["x86_64"])}}
        with mock.patch.object(vm, "kvm_works", return_value=works):
            return bench.on_this_machine(plan, kernels)

    def test_wall_time_is_left_out_without_kvm_and_that_is_said(self):
        plan, notes = self.on_machine(["bigheap", "bigheap-wall"], works=False)
        self.assertEqual([w.name for w in plan.workloads], ["bigheap"])
        self.assertEqual(notes, [bench.NO_KVM])
        plan, notes = self.on_machine(["bigheap", "bigheap-wall"], works=True)
        self.assertEqual(([w.name for w in plan.workloads], notes),
                         (["bigheap", "bigheap-wall"], []))

    def test_nothing_but_wall_time_without_kvm_is_refused(self):
        with self.assertRaisesRegex(common.CannotRun, "No wall time"):
            self.on_machine(["bigheap-wall"], works=False)

    def test_no_probe_where_nobody_wants_kvm(self):
        with mock.patch.object(vm, "kvm_works") as probe:
            bench.on_this_machine(bench.Plan(bench.select(["bigheap"], ("mremap",)), 1), {})
        probe.assert_not_called()


class Configs(unittest.TestCase):
    """Only options of the series may differ."""

    base = "# a comment\nCONFIG_SMP=y\n# CONFIG_KSM is not set\n"

    def difference(self, ours, own=()):
        return bench.config_difference(self.base, ours, set(own))

    def test_the_same(self):
        self.assertEqual(self.difference(self.base), ([], []))

    def test_our_own_option(self):
        ours = self.base + "CONFIG_LRU_CHURN_KUNIT_TEST=y\n"
        self.assertEqual(self.difference(ours, ["LRU_CHURN_KUNIT_TEST"]),
                         (["+CONFIG_LRU_CHURN_KUNIT_TEST=y"], []))

    def test_another_option_is_alien(self):
        ours = self.base.replace("# CONFIG_KSM is not set", "CONFIG_KSM=y")
        self.assertEqual(self.difference(ours, ["LRU_CHURN_KUNIT_TEST"])[1],
                         ["-# CONFIG_KSM is not set", "+CONFIG_KSM=y"])

    def test_symbols_of_a_tree(self):
        with tempfile.TemporaryDirectory() as temp:
            (Path(temp) / "mm").mkdir()
            (Path(temp) / "mm" / "Kconfig").write_text("config KSM\n\tbool\nmenuconfig DAMON\n")
            (Path(temp) / "Kconfig.debug").write_text("config  DEBUG_X\n")
            (Path(temp) / "notes").write_text("config NONE\n")
            self.assertEqual(set(bench.options(temp)), {"KSM", "DAMON", "DEBUG_X"})

    def test_what_our_options_select_is_ours(self):
        other = "config OTHER\n\tselect THING\n"
        with tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as temp:
            (Path(base) / "Kconfig").write_text(other)
            (Path(temp) / "Kconfig").write_text(
                "config OURS\n\tbool\n\tselect TREE\n\tselect LIST if X\n" + other)
            self.assertEqual(bench.options(temp)["OURS"], {"TREE", "LIST"})
            self.assertEqual(bench.own_options(base, temp), {"OURS", "TREE", "LIST"})

    def test_a_bench_of_unlike_configs_is_refused(self):
        with tempfile.TemporaryDirectory() as temp, mock.patch.object(common, "say"):
            built = {}
            for variant, text in (("base", "CONFIG_A=y\n"), ("ours", "CONFIG_A=m\n")):
                tree = Path(temp) / variant
                (tree / "guest").mkdir(parents=True)
                (tree / "guest" / ".config").write_text(text)
                (tree / "Kconfig").write_text("config A\n")
                built[variant] = bench.kernels.Kernel(tree, vm.ARCHES["x86_64"])
            with self.assertRaisesRegex(common.CannotRun, "CONFIG_A=m"):
                bench.check_configs(built, bench.own_options(
                    *(built[v].tree for v in bench.VARIANTS)))


class Clock:
    """A clock that a test moves."""
    now = 0.0

    def __call__(self):
        return self.now


def one(name="w", guest="one", **more):
    return Workload(name, "lru", guest, "true", (Row("instructions", ("ns",), ""),), **more)


class Running(unittest.TestCase):
    """Boots, with vm.boot_and_run() replaced by one that takes as long as a test says."""

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.clock, self.took, self.booted = Clock(), 60, []
        self.lines = mock.Mock()
        self.ticker = progress.Ticker(self.lines, tty=False, interval=0, clock=self.clock)
        kernel = mock.Mock(arch=vm.ARCHES["x86_64"], image=Path("/image"), modules=None)
        self.built = dict.fromkeys(("x86_64", "x86_64-many"), {"base": kernel, "ours": kernel})
        for patch in (mock.patch.object(bench, "program_path", lambda k: "/programs"),
                      mock.patch.object(measuring.vm, "guest_program", lambda n, a: "/measure"),
                      mock.patch.object(vm, "boot_and_run", self.boot)):
            patch.start()
            self.addCleanup(patch.stop)
        self.done, self.output = True, '{"ns": 5, "status": 0}'

    def boot(self, boot, steps, folder, on_begin):
        self.booted.append((boot, steps))
        folder.mkdir(parents=True)
        (folder / "command").write_text(f"qemu {common.BUILD}/image\n")
        for step in steps:
            self.clock.now += self.took / len(steps)
            on_begin(step.name)
        return vm.Run(folder, 1, True, self.done, "" if self.done else "the guest died",
                      [vm.StepResult(s.name, "0" if self.done else "died", 1, self.output)
                       for s in steps])

    def bench(self, repetitions=2, chosen=(one(),)):
        plan = bench.Plan(tuple(chosen), repetitions)
        bar = bench.Progress(plan, {}, self.ticker)
        return bench.run(plan, self.built, Path(self.temp.name), bar)

    def test_all_workloads_of_a_guest_share_a_boot(self):
        runs, notes = self.bench(1, [one("a"), one("b"), one("c", "nodes")])
        self.assertEqual([[s.name for s in steps] for _, steps in self.booted],
                         [["a", "b"]] * 2 + [["c"]] * 2)
        self.assertEqual([boot.numa for boot, _ in self.booted], [1, 1, 2, 2])
        self.assertTrue(all(boot.icount for boot, _ in self.booted))
        self.assertEqual((len(runs), notes), (4, []))
        self.assertEqual(runs[0]["workloads"]["a"], {"figures": {"ns": 5}})

    def test_each_boot_has_the_same_random_numbers(self):
        self.bench(1)
        for boot, _ in self.booted:
            self.assertEqual(boot.append, f"{bench.APPEND} norandmaps nokaslr")
            words = " ".join(vm.accelerator(boot))
            self.assertIn("-seed 1 -rtc base=2026-01-01,clock=vm", words)

    def test_a_workload_may_have_rounds(self):
        todo = bench.steps([Workload("a", "lru", "one", "true", (), rounds=5)],
                           vm.ARCHES["x86_64"], "", 9)
        self.assertIn(" -r 5 ", todo[0].command)

    def test_a_guest_of_wall_time_counts_no_instructions(self):
        self.bench(1, [one("a", "parallel"), one("b", "kvm")])
        self.assertEqual([(boot.icount, boot.accel, boot.smp) for boot, _ in self.booted],
                         [(False, "tcg", 16)] * 2 + [(False, "kvm", 1)] * 2)

    def test_no_path_of_this_machine_is_kept(self):
        runs, _ = self.bench(1)
        self.assertEqual(runs[0]["qemu"], "qemu build/image")

    def test_a_repetition_that_does_not_fit_is_left_out_and_said(self):
        self.took = bench.LIMIT / 4.5
        runs, notes = self.bench(3)
        self.assertEqual(len(runs), 4)
        self.assertIn("45 min", notes[0])

    def test_a_quick_bench_leaves_repetitions_out_and_no_first_one(self):
        self.took = 200
        plan = bench.Plan((one(),), 2, bench.QUICK)
        runs, notes = bench.run(plan, self.built, Path(self.temp.name),
                                bench.Progress(plan, {}, self.ticker))
        self.assertEqual((len(runs), len(notes)), (2, 1))

    def test_no_step_may_take_longer_than_what_is_left(self):
        self.took = bench.LIMIT - 100
        self.bench(1, [one(seconds=600)])
        self.assertEqual([steps[0].seconds for _, steps in self.booted], [600, 100])

    def test_the_guest_s_clock_ends_no_step(self):
        self.bench(1, [one(seconds=600)])
        self.assertEqual({steps[0].guest_seconds for _, steps in self.booted},
                         {measuring.GUEST_LIMIT})

    def test_nothing_is_begun_after_the_limit(self):
        self.took = bench.LIMIT + 1
        runs, notes = self.bench(1)
        self.assertEqual((len(runs), len(notes)), (1, 1))

    def test_a_guest_that_dies_does_not_end_the_bench(self):
        self.done = False
        runs, _ = self.bench(1)
        self.assertEqual([r["died"] for r in runs], ["the guest died"] * 2)
        self.assertIn("w (one base 1): died", " ".join(figures.not_measured(runs)))

    def test_an_interrupted_bench_keeps_the_boots_that_ended(self):
        def boot(*args, **rest):
            if len(self.booted) == 3:
                raise KeyboardInterrupt
            return self.boot(*args, **rest)
        with mock.patch.object(vm, "boot_and_run", boot):
            runs, notes = self.bench(2)
        self.assertEqual((len(runs), notes), (3, ["Interrupted in boot 4 of 4."]))

    def test_an_interrupt_before_anything_ended_is_one(self):
        with mock.patch.object(vm, "boot_and_run", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                self.bench(2)

    def test_progress_says_where_it_is_and_how_long_it_may_take(self):
        self.bench(2)
        text = "".join(call.args[0] for call in self.lines.write.call_args_list)
        self.assertIn("boot 1/4 (one base 1) 0/1 booting", text)
        self.assertRegex(text, r"boot 4/4 \(one ours 2\) 1/1 w, ETA \d+ s")

    def test_what_was_learned_makes_the_estimate(self):
        plan = bench.Plan((one(),), 1)
        bar = bench.Progress(plan, {"one base ": 20, "one base w": 30}, self.ticker)
        self.assertEqual(bar.rest(), 100)       # ours as base, of which nothing else is known


class Outcome(unittest.TestCase):

    def outcome(self, status, output):
        return bench.outcome(vm.StepResult("w", status, 1, output), "")

    def test_figures_and_metrics(self):
        got = self.outcome("0", 'metric locks-per-cycle 2.0\nnoise\n{"ns": 7, "status": 0}')
        self.assertEqual(got, {"figures": {"ns": 7, "locks-per-cycle": 2.0}})

    def test_a_negative_metric_is_a_figure(self):
        self.assertEqual(self.outcome("0", 'metric x -1\n{"ns": 7}')["figures"]["x"], -1)

    def test_a_skip_has_its_reason(self):
        self.assertEqual(self.outcome("4", "no zram here\n"), {"skipped": "no zram here"})

    def test_a_failure_has_its_last_words(self):
        self.assertEqual(self.outcome("125", "measure: this kernel has no tracepoint 'x'\n"),
                         {"error": "ended with 125: measure: this kernel has no tracepoint 'x'"})

    def test_success_without_figures_is_an_error(self):
        self.assertIn("error", self.outcome("0", "all is well\n"))

    def test_a_step_that_hung(self):
        self.assertEqual(self.outcome("timeout", ""), {"error": "timeout: it printed nothing"})


def runs_of(base, ours, key="ns"):
    """Runs of one workload with these figures."""
    return [{"variant": v, "guest": "one", "repetition": n, "died": "",
             "workloads": {"w": {"figures": {key: x}}}}
            for v, some in (("base", base), ("ours", ours)) for n, x in enumerate(some, 1)]


class Verdicts(unittest.TestCase):
    """What the runs allow to say."""

    def row(self, base, ours, target=None, better="less"):
        row = Row("instructions", ("ns",), "", target=target, better=better)
        workload = Workload("w", "lru", "one", "true", (row,))
        return figures.one_row(runs_of(base, ours), workload, row)

    def test_a_difference_below_the_spread_is_none(self):
        for base, ours in (([100, 104], [103, 103]), ([100, 100], [99, 102]), ([5, 5], [5, 5])):
            self.assertEqual(self.row(base, ours)["verdict"], figures.SAME)
            self.assertEqual(figures.ratio(self.row(base, ours)), figures.SAME)

    def test_a_difference_above_the_spread(self):
        self.assertEqual(self.row([100, 104], [90, 91])["verdict"], "less")
        self.assertEqual(self.row([100, 104], [190, 191])["verdict"], "more")

    def test_one_run_has_no_spread_and_no_verdict(self):
        row = self.row([100], [50])
        self.assertEqual((row["verdict"], figures.spread(row)), (figures.ONE_RUN, "-"))

    def test_nothing_measured(self):
        row = self.row([], [5], Target("ours", "<=", 1))
        self.assertEqual((row["verdict"], row["met"], row["ratio"]), (figures.MISSING, None, None))

    def test_a_figure_that_one_run_lacks(self):
        row = Row("x", ("absent",), "")
        found = figures.one_row(runs_of([1], [1]), Workload("w", "lru", "one", "true", (row,)), row)
        self.assertEqual(found["verdict"], figures.MISSING)

    def test_spread_is_of_the_mean(self):
        self.assertEqual(self.row([99, 101], [5, 5])["spread %"], [2.0, 0.0])
        self.assertEqual(self.row([0, 0], [0, 0])["spread %"], [0.0, 0.0])

    def test_targets(self):
        for base, ours, target, met in (
                ([2, 2], [0, 0], Target("ours", "<=", 0), True),
                ([2, 2], [0.1, 0.1], Target("ours", "<=", 0), False),
                ([1000, 1000], [1, 1], Target("ratio", "<=", 0.001), True),
                ([1000, 1000], [2, 2], Target("ratio", "<=", 0.001), False),
                ([0, 0], [0, 0], Target("ratio", "<=", 0.25), True),
                ([0, 0], [1, 1], Target("ratio", "<=", 0.25), False),
                ([10, 10], [40, 40], Target("ratio", ">=", 4), True),
                ([100, 104], [103, 103], Target("ratio", "<=", 1.0), True),
                ([100, 100], [101, 101], Target("ratio", "<=", 1.0), False)):
            with self.subTest(base=base, ours=ours, target=target):
                self.assertIs(self.row(base, ours, target)["met"], met)

    def test_what_got_worse_without_a_target(self):
        rows = [self.row([10, 10], [11, 11]), self.row([10, 10], [9, 9]),
                self.row([10, 10], [9, 9], better="more"),
                self.row([10, 10], [11, 11], Target("ratio", "<=", 2))]
        self.assertEqual(figures.regressions(rows), [rows[0], rows[2]])

    def test_what_a_quick_bench_lost(self):
        target = Target("ours", "<=", 0)
        good, bad = self.row([2, 2], [0, 0], target), self.row([2, 2], [1, 1], target)
        absent = self.row([], [], target)
        self.assertEqual(figures.lost([good, absent], []), [absent])
        self.assertEqual(figures.lost([bad], [good]), [bad])
        self.assertEqual(figures.lost([bad], [bad]), [])

    def test_a_target_that_is_missed_by_less_than_runs_differ_is_not_lost(self):
        no_more = Target("ratio", "<=", 1)
        near, far = self.row([1000] * 2, [1001] * 2, no_more), self.row([1000] * 2, [1003] * 2, no_more)
        self.assertEqual((near["met"], near["missed by %"]), (False, 0.1))
        self.assertEqual(figures.lost([near, far], []), [far])
        none = self.row([0, 0], [1, 1], Target("ours", "<=", 0))
        self.assertEqual(figures.lost([none], []), [none])
        more = self.row([100] * 2, [90] * 2, Target("ratio", ">=", 1), "more")
        self.assertEqual((more["met"], more["missed by %"]), (False, 10))

    def test_a_figure_over_another_one(self):
        runs = runs_of([6, 8], [0, 3])
        for run, faults in zip(runs, (3, 2, 5, 0)):
            run["workloads"]["w"]["figures"]["faults"] = faults
        row = Row("retries", ("ns",), "/fault", per=2, over=("faults",))
        workload = Workload("w", "lru", "one", "true", (row,))
        self.assertEqual(figures.values(runs, workload, row, "base"), [1, 2])
        self.assertEqual(figures.values(runs, workload, row, "ours"), [0])      # of 0 faults: none

    def test_keys_are_summed_and_divided(self):
        runs = runs_of([6], [3])
        for run in runs:
            run["workloads"]["w"]["figures"]["more"] = 4
        row = Row("locks", ("ns", "more"), "/op", per=2)
        found = figures.one_row(runs, Workload("w", "lru", "one", "true", (row,)), row)
        self.assertEqual((found["base"], found["ours"]), (5, 3.5))


class Flat(unittest.TestCase):
    """What a curve's largest figure is of its least."""

    bound = workloads.Flatness("c", "instructions", workloads.Target("ours", "<=", 2))

    def row(self, *figures_by_x):
        chosen = [one(f"w{x}", curve="c", x=x) for x in range(1, len(figures_by_x) + 1)]
        runs = [{"variant": v, "workloads": {
            w.name: {"figures": {"ns": f[n]}} for w, f in zip(chosen, figures_by_x)}}
            for n, v in enumerate(bench.VARIANTS)]
        return figures.flat_row(runs, chosen, self.bound)

    def test_most_divided_by_least(self):
        found = self.row((10, 5), (90, 6), (30, 9))
        self.assertEqual((found["base"], found["ours"], found["met"]), (9, 1.8, True))
        self.assertEqual(found["row"], "instructions, most / least of 1 to 3")
        self.assertFalse(self.row((10, 5), (10, 11))["met"])

    def test_one_point_is_no_curve(self):
        self.assertIsNone(self.row((10, 5)))

    def test_every_bound_has_a_curve(self):
        for flatness in workloads.FLATNESS:
            points = [w for w in workloads.ALL if w.curve == flatness.curve
                      and flatness.row in [r.name for r in w.rows]]
            self.assertGreater(len(points), 1, flatness.curve)

    def test_rows_keep_the_order_of_topics(self):
        chosen = bench.select([], ("lru", "ksm", "mremap"))
        topics = [r["topic"] for r in figures.rows([], chosen)]
        self.assertEqual(topics, sorted(topics, key=("lru", "ksm", "mremap").index))
        self.assertEqual(len(topics), sum(len(w.rows) for w in chosen) + len(workloads.FLATNESS))


class Projections(unittest.TestCase):
    """A closed network of one lock and a think time."""

    def rows(self, total, held):
        def row(name, figures_of):
            return {"workload": name, "row": "x", "curve": "", "unit": "", "base": figures_of[0],
                    "ours": figures_of[1]}
        return [row("all", total), row("lock", held)]

    def project(self, total, held):
        table = (workloads.Projection("p", ("all", "x"), ("lock", "x")),)
        return project.projections(self.rows(total, held), table)

    def test_one_cpu_does_what_was_measured(self):
        self.assertAlmostEqual(project.throughput(90, 10, 1)[0], 1 / 100)

    def test_no_lock_no_limit(self):
        self.assertAlmostEqual(project.throughput(100, 0, 512)[-1], 512 / 100)

    def test_all_lock_no_gain(self):
        for value in project.throughput(0, 100, 64):
            self.assertAlmostEqual(value, 1 / 100)

    def test_two_cpus_by_hand(self):
        # X(1) = 1/100, Q(1) = 10/100; R(2) = 10 (1 + 0.1) = 11; X(2) = 2/101
        self.assertAlmostEqual(project.throughput(90, 10, 2)[1], 2 / 101)

    def test_it_grows_and_stays_below_both_bounds(self):
        found = project.throughput(900, 100, 512)
        self.assertEqual(found, sorted(found))
        for n, value in enumerate(found, 1):
            self.assertLessEqual(value, min(n / 1000, 1 / 100) + 1e-12)
        self.assertGreater(found[-1], 0.999 / 100)

    def test_the_base_on_one_cpu_is_one(self):
        found, = self.project((1000, 500), (100, 0))
        self.assertAlmostEqual(found["base"]["throughput"][0], 1)
        self.assertAlmostEqual(found["ours"]["throughput"][0], 2)
        self.assertEqual((found["base"]["limit"], found["ours"]["limit"]), (10, None))

    def test_a_hold_that_is_noise_is_none(self):
        found, = self.project((1000, 1000), (100, -2))
        self.assertEqual((found["ours"]["held"], found["ours"]["limit"]), (0, None))

    def test_a_measured_curve_stands_beside(self):
        rows = self.rows((1000, 500), (100, 0)) + [
            {"workload": f"par-{x}", "row": "wall", "curve": "par", "x": x, "base": b, "ours": o}
            for x, b, o in ((2, 60, 25), (1, 100, 50), (4, None, None))]
        table = (workloads.Projection("p", ("all", "x"), ("lock", "x"), ("par", "wall")),)
        found, = project.projections(rows, table)
        self.assertEqual(found["measured"], [(1, 1, 2), (2, 100 / 60, 4)])
        self.assertEqual(list(figures.checked_cells(found))[1], ("2", "1.98", "1.67", "4.00", "4.00"))
        self.assertIn(project.CHECK, figures.checked([found]))
        self.assertEqual(self.project((1000, 500), (100, 0))[0]["measured"], [])

    def test_a_row_that_was_not_measured(self):
        self.assertEqual(self.project((None, None), (100, 0)), [])
        self.assertEqual(project.projections([]), [])

    def test_tables_and_page_show_it_with_its_assumptions(self):
        results = recorded()
        results["rows"] += [
            {**results["rows"][1], "workload": "held-1", "row": "lruvec lock held",
             "base": 588.0, "ours": 0.0}]
        text = figures.markdown(results)
        self.assertIn("| populate-1 | base |", text)
        with mock.patch.object(page, "draw", lambda charts: ["<svg></svg>"] * len(charts)):
            html = page.render(results)
        for assumption in project.ASSUMPTIONS:
            self.assertIn(assumption, text)
            self.assertIn(page.escape(assumption), html)
        self.assertIn("populate-1: throughput projected", html)


class Text(unittest.TestCase):

    def test_numbers(self):
        for value, text in ((None, "-"), (0, "0"), (2.0, "2"), (0.0634, "0.06"), (0.0004, "0.0004"),
                            (19862.4, "19,862"), (99.5, "99.50")):
            self.assertEqual(figures.number(value), text)

    def test_ratios(self):
        def ratio(value, said="less"):
            return figures.ratio({"ratio": value, "verdict": said})
        for value, text in ((0.892, "-10.8%"), (1.002, "+0.2%"), (1.0001, "+0.010%"),
                            (1.0, "the same"), (0.00079, "1/1,266"), (1 / 30020, "1/30,020"), (0.0123, "1/81.3"), (3.0, "3x"),
                            (12345.6, "12,346x"), (0.0, "0"),
                            (None, "-")):
            self.assertEqual(ratio(value), text)

    def test_targets(self):
        self.assertEqual(figures.target_text(Target("ratio", "<=", 0.001)), "ours/base <= 1/1000")
        self.assertEqual(figures.target_text(Target("ours", "<=", 0)), "ours <= 0")
        self.assertEqual(figures.target_text(Target("ratio", "<=", 1.005)), "ours/base <= 1.005")


class Report(unittest.TestCase):
    """Tables and the page, from recorded results."""

    def test_markdown_begins_with_what_is_not_met(self):
        results = recorded()
        results["rows"][-1].update(met=False, target="ours <= 1")
        text = figures.markdown(results)
        first = text.index(f"| {results['rows'][-1]['workload']} |")
        self.assertLess(text.index("Targets not met"), first)
        self.assertLess(first, text.index("Worse than the base"))

    def test_markdown_rows_have_all_columns(self):
        for line in figures.markdown(recorded()).splitlines():
            if line.startswith("|"):
                self.assertEqual(line.count("|"), len(figures.HEADINGS) + 1)

    def test_the_page_is_one_file_without_scripts_or_network(self):
        with mock.patch.object(page, "draw", lambda charts: ["<svg></svg>"] * len(charts)):
            text = page.render(recorded())
        for word in ("<script", "<link", "@import", "http://", "https://", "src="):
            self.assertNotIn(word, text)
        self.assertIn('name="viewport"', text)

    def test_the_page_says_first_what_is_not_met(self):
        results = recorded()
        results["rows"][-1].update(met=False, target="ours <= 1")
        with mock.patch.object(page, "draw", lambda charts: ["<svg></svg>"] * len(charts)):
            text = page.render(results)
        body = text[text.index("<body>"):]
        self.assertLess(body.index("NOT MET"), body.index("<figure"))
        self.assertLess(body.index("Targets not met: 5"), body.index("populate-1<"))

    def test_charts_of_a_topic(self):
        rows = [r for r in recorded()["rows"] if r["topic"] == "lru"]
        self.assertEqual([c["x"] for c in page.curves(rows)], [[1, 4, 16, 30, 31, 64, 512]] * 2)
        self.assertEqual(len(page.bar_chart(rows)[0]["bars"]), len(rows))

    def test_rows_of_one_workload_are_a_curve(self):
        heap, = figures.find(["compact-heap"])
        runs = [{"variant": v, "workloads": {"compact-heap": {"figures": {
            f"vmas-after-round-{n}": n for n in range(1, 9)}}}} for v in bench.VARIANTS]
        found, = page.curves(figures.rows(runs, [heap]))
        self.assertEqual((found["x"], found["y unit"]), (list(range(1, 9)), "mappings"))

    def test_two_workloads_make_no_curve(self):
        rows = [r for r in recorded()["rows"] if r["curve"] == "populate"][:4]
        self.assertEqual(page.curves(rows), [])

    def test_drawing_says_what_is_missing(self):
        with mock.patch.object(page, "PYTHON", "/bin/false"):
            with self.assertRaisesRegex(common.CannotRun, "python3-matplotlib"):
                page.draw([{"bars": []}])

    @unittest.skipUnless(os.path.exists("/usr/lib/python3/dist-packages/matplotlib"),
                         "needs python3-matplotlib; 'scripts/deps bench' installs it")
    def test_charts_are_inline_and_always_the_same(self):
        rows = [r for r in recorded()["rows"] if r["topic"] == "lru"]
        charts = page.bar_chart(rows) + page.curves(rows)
        drawn = page.draw(charts)
        self.assertEqual(drawn, page.draw(charts))
        for svg in drawn:
            self.assertTrue(svg.startswith("<svg"))
            self.assertIn('width="100%"', svg)
            for word in ("<script", "<metadata", "<!DOCTYPE", "<?xml"):
                self.assertNotIn(word, svg)


if __name__ == "__main__":
    unittest.main()
