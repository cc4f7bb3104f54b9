from __future__ import annotations

from pathlib import Path

from maskwright.data.sources.findings import Findings


def test_alike_findings_make_one_text_with_a_few_places() -> None:
    found = Findings(Path("labels.json"))
    for number in range(7):
        found.fault("boxes too small", f"annotation {number}", "Remove them")
    found.note("odd ids", "3")
    expected = "annotation 0, annotation 1, annotation 2, annotation 3, annotation 4 and 2 more"
    assert found.faults == (f"labels.json: boxes too small: {expected}. Remove them.",)
    assert found.notes == ("labels.json: odd ids: 3",)


def test_what_cannot_be_painted_is_a_fault_or_a_note() -> None:
    strict, lenient = Findings("a", "refuse"), Findings("a", "skip")
    for found in (strict, lenient):
        found.unusable("lines without area", "line 1")
    assert strict.faults[0].startswith("a: lines without area: line 1. Correct or remove them, or set")
    assert strict.notes == ()
    assert lenient.faults == ()
    assert lenient.notes == ("a: left out, lines without area: line 1",)


def test_names_that_are_no_text_can_still_be_written() -> None:
    found = Findings(Path("caf\udce9.json"))
    found.fault("no", "b\udcff", "Do")
    assert found.faults[0].encode() == b"caf\\xe9.json: no: b\\xff. Do."


def test_one_text_told_of_many_places_is_told_once() -> None:
    findings = Findings("all.json")
    for number in range(7):
        findings.told("It names no CRS. Say it.", f"p{number}.tif")
    findings.told("a.csv is empty.")
    assert findings.faults == (
        "p0.tif, p1.tif, p2.tif, p3.tif, p4.tif and 2 more: It names no CRS. Say it.",
        "a.csv is empty.",
    )
