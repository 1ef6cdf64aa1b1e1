# SPDX-License-Identifier: GPL-2.0
"""JUnit XML of a test run, for the CI systems that read it."""

import re
import xml.etree.ElementTree as ET

from . import ktap
from .common import write_whole

# What XML 1.0 does not allow, not even as a character reference.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

FIRST, LAST = 20, 60    # lines of a long log that stay


def clean(text):
    """Text that XML can hold; a forbidden character becomes visible as \\x1b."""
    return FORBIDDEN.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def excerpt(lines):
    """A log's first and last lines."""
    lines = list(lines)
    if len(lines) > FIRST + LAST:
        gap = f"... {len(lines) - FIRST - LAST} lines ..."
        lines = lines[:FIRST] + [gap] + lines[-LAST:]
    return "\n".join(lines)


def _child(parent, tag, text="", **attributes):
    attributes = {key: clean(str(value)) for key, value in attributes.items()}
    element = ET.SubElement(parent, tag, attributes)
    if text:
        element.text = clean(text)
    return element


def _case(suite, name, result):
    """Adds one test case with its failure, its error or the reason of its skip."""
    case = _child(suite, "testcase", name=name, classname=suite.get("name"))
    message = result.reason or result.status
    if result.status == ktap.SKIP:
        _child(case, "skipped", message=message)
    elif result.status == ktap.FAIL:
        _child(case, "failure", excerpt(result.test.log), message=message, type=result.status)
    elif result.status in ktap.BAD:
        _child(case, "error", excerpt(result.test.log), message=message, type=result.status)


def _count(suite):
    """Sets the counts of a suite from its test cases."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))


def _add_suite(root, name, test):
    suite = _child(root, "testsuite", name=name.replace("/", "."))
    parent = name.rpartition("/")[0]
    for result in ktap.flatten(test, parent):
        short = result.name.removeprefix(name).lstrip("/") or result.name
        _case(suite, short, result)
    _count(suite)


def _add_splats(root, splats):
    """The suite "kernel log": one failure for each splat, or one test that passed."""
    suite = _child(root, "testsuite", name="kernel log")
    for splat in splats:
        case = _child(suite, "testcase", name=f"{splat.kind}, line {splat.number}",
                      classname="kernel log")
        _child(case, "failure", splat.excerpt, message=splat.line, type=splat.kind)
    if not splats:
        _child(suite, "testcase", name="no splat", classname="kernel log")
    _count(suite)


def _add_deviations(root, deviations):
    """The suite "expected results": what differs from the list, failures only."""
    suite = _child(root, "testsuite", name="expected results")
    for deviation in deviations:
        if deviation.failure:
            case = _child(suite, "testcase", name=deviation.name, classname="expected results")
            _child(case, "failure", message=deviation.text(), type=deviation.kind)
    if not len(suite):
        _child(suite, "testcase", name="as expected", classname="expected results")
    _count(suite)


def document(trees, splats=None, deviations=None, name="unstall"):
    """The <testsuites> element of a run. None means that this was not looked at."""
    root = ET.Element("testsuites", {"name": name})
    for tree in trees:
        for suite_name, test in ktap.suites(tree):
            _add_suite(root, suite_name, test)
    if splats is not None:
        _add_splats(root, splats)
    if deviations is not None:
        _add_deviations(root, deviations)
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute)) for suite in root)))
    ET.indent(root)
    return root


def text(*args, **kwargs):
    """The same as bytes of an XML file."""
    return ET.tostring(document(*args, **kwargs), encoding="utf-8", xml_declaration=True) + b"\n"


def write(path, *args, **kwargs):
    """Writes the file, whole or not at all."""
    write_whole(path, text(*args, **kwargs))
