# SPDX-License-Identifier: GPL-2.0
"""JUnit XML: valid whatever a log holds, and every result in it."""

import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from unstall import expected, junit, ktap, splats    # noqa: E402

DATA = HERE / "data"


def trees(*names):
    return [tree for name in names for tree in ktap.parse(ktap.read_log(DATA / name))]


class JUnitTest(unittest.TestCase):
    def document(self, *args, **kwargs):
        """The document after a way through its text."""
        return ET.fromstring(junit.text(*args, **kwargs))

    def suite(self, root, name):
        found = root.findall(f"testsuite[@name='{name}']")
        self.assertEqual(len(found), 1, name)
        return found[0]

    def test_a_suite_for_each_suite_and_category(self):
        root = self.document(trees("kselftest-mixed.tap", "kunit-boot.log"))
        self.assertEqual([suite.get("name") for suite in root],
                         ["mm.mremap", "mm.mremap_batch", "mm.mlock", "mm.thp",
                          "kunit.mremap_batch", "kunit.ksm_rmap", "kunit.skipped_suite"])

    def test_counts(self):
        root = self.document(trees("kselftest-mixed.tap", "kunit-boot.log"))
        self.assertEqual({key: root.get(key) for key in ("tests", "failures", "errors", "skipped")},
                         {"tests": "26", "failures": "4", "errors": "2", "skipped": "10"})
        batch = self.suite(root, "mm.mremap_batch")
        self.assertEqual((batch.get("tests"), batch.get("failures"), batch.get("skipped")),
                         ("5", "2", "1"))

    def test_a_failure_holds_its_log(self):
        batch = self.suite(self.document(trees("kselftest-mixed.tap")), "mm.mremap_batch")
        case = batch.find("testcase[@name='mremap_batch/mremap_batch.small.soft_dirty']")
        self.assertIn("Expected soft_dirty(self->dst, i) (0) == 1 (1)", case.find("failure").text)

    def test_a_skip_holds_its_reason(self):
        batch = self.suite(self.document(trees("kselftest-mixed.tap")), "mm.mremap_batch")
        case = batch.find("testcase[@name='mremap_batch/mremap_batch.large.contents']")
        self.assertEqual(case.find("skipped").get("message"),
                         "no folio of order 4 at 0x7f1234560000")

    def test_crashed_and_missing_are_errors(self):
        root = self.document(trees("kselftest-died.tap"))
        batch = self.suite(root, "mm.mremap_batch")
        self.assertEqual([e.get("type") for e in batch.iter("error")], ["crashed", "missing"])

    def test_what_no_suite_holds_is_there_too(self):
        root = self.document(trees("kselftest-died.tap"))
        self.assertEqual(self.suite(root, "(test 3 of 3)").get("errors"), "1")

    def test_every_result_is_in_the_document(self):
        for name in ("kselftest-mixed.tap", "kselftest-odd.tap", "kselftest-died.tap",
                     "kunit-boot.log", "kunit-panic.log", "kunit-debugfs.txt"):
            run = trees(name)
            results = [result for tree in run for result in ktap.flatten(tree)]
            self.assertEqual(len(list(self.document(run).iter("testcase"))), len(results), name)

    def test_an_empty_run_is_an_error(self):
        root = self.document([ktap.parse_kselftest("")])
        self.assertEqual((root.get("tests"), root.get("errors")), ("1", "1"))

    def test_splats_are_failures_of_a_suite(self):
        found = splats.scan(ktap.read_log(DATA / "splats-arm64.log"))
        suite = self.suite(self.document([], found), "kernel log")
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("4", "4"))
        self.assertIn("move_ptes+0x120/0x6b0", suite.find("testcase/failure").text)

    def test_a_clean_kernel_log_is_a_pass(self):
        suite = self.suite(self.document([], []), "kernel log")
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("1", "0"))
        self.assertEqual(len(self.document([])), 0)     # not looked at: no suite

    def test_deviations(self):
        lost = [expected.Deviation("vanished", "mm/x/y", "it gave no result"),
                expected.Deviation("new", "mm/x/z", failure=False)]
        suite = self.suite(self.document([], deviations=lost), "expected results")
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("1", "1"))
        suite = self.suite(self.document([], deviations=lost[1:]), "expected results")
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("1", "0"))

    def test_any_bytes_give_valid_xml(self):
        log = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"").replace(b"#", b"")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"1..2\n" + log + b"\nnot ok 1 a<&>\"'" + log[:32])
            file.write(b"\nok 2 b # SKIP \x1b[31mred ]]>\n")
            file.flush()
            root = self.document([ktap.parse_kselftest(ktap.read_log(file.name))])
        cases = list(root.iter("testcase"))
        self.assertEqual(len(cases), 2)
        self.assertIn("a<&>\"'", cases[0].get("name"))
        self.assertIn("\\x1b[31mred ]]>", cases[1].find("skipped").get("message"))
        self.assertIn("\\x00", cases[0].find("failure").text)

    def test_surrogates_and_noncharacters(self):
        self.assertEqual(junit.clean("a\ud800b\ufffec\U0001f600\t"),
                         "a\\xd800b\\xfffec\U0001f600\t")

    def test_long_logs_are_cut_in_the_middle(self):
        text = junit.excerpt(str(n) for n in range(1000)).splitlines()
        self.assertEqual((text[0], text[-1], len(text)), ("0", "999", junit.FIRST + junit.LAST + 1))
        self.assertEqual(junit.excerpt(["a", "b"]), "a\nb")

    def test_write(self):
        with tempfile.TemporaryDirectory() as room:
            path = Path(room) / "new" / "junit.xml"
            junit.write(path, trees("kunit-boot.log"), [])
            self.assertEqual(ET.parse(path).getroot().tag, "testsuites")


if __name__ == "__main__":
    unittest.main()
