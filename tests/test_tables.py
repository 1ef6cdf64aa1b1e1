# SPDX-License-Identifier: GPL-2.0
"""The tables of README and the documents, from recorded results."""

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from results import recorded
from unstall import checks, common, figures, tables

README = f"above\n\n{tables.BEGIN}\nold\n{tables.END}\n\nbelow\n"


def marked(words):
    return f"{tables.BEGIN} {words}\n{tables.END}\n"


class Blocks(unittest.TestCase):

    def test_a_table_is_put_between_its_markers_and_found_again(self):
        new = tables.updated(README, recorded())
        self.assertNotIn("old", new)
        self.assertEqual(new, tables.updated(new, recorded()))
        self.assertTrue(new.startswith("above\n\n") and new.endswith("\n\nbelow\n"))

    def test_each_table_has_the_rows_that_its_words_name(self):
        text = tables.updated(marked("populate-1 populate-4") + "between\n" + marked("bigheap"),
                              recorded())
        first, second = text.split("between\n")
        self.assertIn("\npopulate-4 ", first)
        self.assertNotIn("bigheap", first)
        self.assertNotIn("populate-16", text)
        self.assertEqual(second.count("\nbigheap "), 1)

    def test_rows_of_a_workload_can_be_chosen(self):
        text = tables.updated(marked("populate-*/lruvec?lock*"), recorded())
        self.assertIn("lruvec lock round trips", text)
        self.assertNotIn("instructions", text)

    def test_a_name_without_results(self):
        for words in ("populate-1 tea", "tea*"):
            with self.assertRaisesRegex(common.CannotRun, "the results have no tea"):
                tables.updated(marked(words), recorded())

    def test_markers(self):
        self.assertTrue(tables.is_marked(README))
        self.assertTrue(tables.is_marked(README + README))
        for text in ("nothing", f"{tables.BEGIN}\n", f"{tables.END}\n{tables.BEGIN}\n",
                     f"{tables.BEGIN} a\n{README}"):
            self.assertFalse(tables.is_marked(text), text)


class Form(unittest.TestCase):

    def lines(self, words):
        """The table without the markers, and without its rules."""
        return tables.updated(marked(words), recorded()).splitlines()[2:-2]

    def test_columns_are_as_wide_as_their_rules(self):
        for words in ("populate-*", "bigheap", "fault-minor"):
            lines = self.lines(words)
            width = len(lines[0])
            self.assertEqual({lines[0]}, {line for line in lines if set(line) == {"=", " "}})
            self.assertTrue(all(len(line) <= width for line in lines), "\n".join(lines))

    def test_two_figures_of_many_workloads_stand_side_by_side(self):
        lines = self.lines("populate-1 populate-16")
        self.assertEqual(len(lines), 8)
        self.assertIn("lruvec lock round trips /cycle", lines[1])
        self.assertIn("instructions /cycle", lines[1])
        self.assertEqual(lines[3].split(), ["workload"] + ["base", "ours", "ours/base"] * 2)

    def test_other_figures_have_a_line_each(self):
        self.assertEqual(self.lines("populate-1 bigheap")[1].split()[:2], ["workload", "figure"])

    def test_spread_of_instructions_and_of_counts_stand_apart(self):
        def row(name, figure, spread):
            return {"workload": name, "row": figure, "spread %": spread, "readme": True}
        rows = [row("a", "instructions, least", [0.1, 0.3]), row("b", "lock round trips", [0, 200])]
        self.assertEqual(tables.most_spread({"rows": rows}), "differ by at most 0.30% in "
                         "instructions (a) and by at most 200.00% in counts (b)")
        self.assertIn("one of each", tables.most_spread({"rows": [row("a", "x", [None, None])]}))


class Check(unittest.TestCase):

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.root = Path(self.temp.name)
        patch = mock.patch.object(checks, "ROOT", self.root)
        patch.start()
        self.addCleanup(patch.stop)
        self.document = self.root / "Documentation" / "mm" / "lru.rst"
        self.document.parent.mkdir(parents=True)
        self.document.write_text(tables.updated(marked("populate-*"), recorded()))
        (self.root / "Documentation" / "mm" / "other.rst").write_text("no table\n")
        (self.root / "README").write_text(tables.updated(README, recorded()))

    def keep(self):
        kept = tables.kept_file(self.root)
        kept.parent.mkdir(parents=True)
        kept.write_text(json.dumps(recorded()))

    def test_without_results(self):
        self.assertIn("make bench", checks.tables_are_of_results())

    def test_a_changed_figure_fails(self):
        self.keep()
        self.assertIsNone(checks.tables_are_of_results())
        figure = figures.number(recorded()["rows"][1]["ours"])
        for path, name in ((self.document, "Documentation/mm/lru.rst"),
                           (self.root / "README", "README")):
            right = path.read_text()
            path.write_text(right.replace(figure, "1,234"))
            self.assertIn(f"the tables of {name} are not those of", checks.tables_are_of_results())
            path.write_text(right)

    def test_a_missing_marker_fails(self):
        self.keep()
        self.document.write_text(self.document.read_text().replace(tables.END, ""))
        self.assertIn("lru.rst", checks.tables_are_of_results())
        (self.root / "README").write_text("nothing")
        self.assertIn("README, ", checks.tables_are_of_results())


if __name__ == "__main__":
    unittest.main()
