"""Findings that follow from sizes, grids, counts and refusals."""

from __future__ import annotations

import pytest

from maskwright.data.preflight import (
    Finding,
    fault_findings,
    grid_findings,
    in_order,
    last_batch_findings,
    listed,
    note_findings,
    size_findings,
)
from maskwright.data.sources.interface import Grid, Scene
from maskwright.errors import DataError


def scene(name: str, pixel: float, ground: str = "", crs: str | None = "EPSG:32616") -> Scene:
    from rasterio.crs import CRS

    wkt = None if crs is None else CRS.from_string(crs).to_wkt()
    transform = (pixel, 0.0, 500000.0, 0.0, -pixel, 0.0) if crs else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Scene(name, Grid(10, 10, transform, wkt), ground or name, ())


def test_errors_come_first_and_each_finding_once() -> None:
    note, error = Finding("note", "a", "", "x", "y"), Finding("error", "b", "", "x", "y")
    assert in_order([note, error, note]) == (error, note)


def test_names_are_listed_up_to_a_number() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_each_line_of_a_refusal_becomes_an_error_that_names_the_file() -> None:
    text = (
        "2 faults in the data:\n  /d/a.png: is empty. Copy it again.\n  The mask m/b.png has 3 x 3 pixels. Export it."
    )
    first, second = fault_findings(DataError(text))
    assert (first.level, first.where, first.what, first.do) == ("error", "/d/a.png", "is empty.", "Copy it again.")
    assert (second.where, second.do) == ("m/b.png", "Export it.")


def test_the_last_sentence_of_a_refusal_is_what_to_do() -> None:
    (finding,) = fault_findings(DataError("Images differ. 3 bands: 6 (a); 4 bands: 18 (b). Say which to use."))
    assert finding.do == "Say which to use."
    assert finding.what == "Images differ. 3 bands: 6 (a); 4 bands: 18 (b)."
    assert finding.where == ""


def test_a_note_without_advice_gets_some() -> None:
    (finding,) = note_findings(["site_1: no CRS"])
    assert (finding.level, finding.where, finding.what) == ("note", "site_1", "no CRS.")
    assert finding.do


def test_images_smaller_than_a_tile_are_counted() -> None:
    small, sizes = size_findings({"a": (100, 300), "b": (300, 300)}, 128)
    assert (small.code, small.where, small.numbers["least_px"]) == ("smaller_than_tile", "a", 100)
    assert "data.tiles.size_px to 96" in small.do
    assert (sizes.code, sizes.numbers["sizes"]) == ("sizes_differ", 2)


def test_equal_large_images_are_no_finding() -> None:
    assert size_findings({"a": (300, 300), "b": (300, 300)}, 128) == []


def test_pixel_sizes_ten_times_apart_are_a_warning_with_both_names() -> None:
    (finding,) = grid_findings([scene("fine", 0.5), scene("coarse", 5.0)])
    assert (finding.level, finding.code, finding.where) == ("warning", "pixel_sizes_differ", "fine, coarse")
    assert "10.0 times" in finding.what


def test_other_reference_systems_shared_ground_and_missing_georeference_are_told() -> None:
    scenes = [scene("a", 1, "g"), scene("b", 1, "g", "EPSG:32617"), scene("c", 1, crs=None)]
    codes = {finding.code: finding for finding in grid_findings(scenes)}
    assert set(codes) == {"crs_differ", "no_georeference", "same_ground"}
    assert codes["no_georeference"].where == "c"


@pytest.mark.parametrize(("samples", "size", "norm", "told"), [(17, 8, True, 1), (17, 8, False, 0), (16, 8, True, 0)])
def test_a_last_batch_of_one_matters_with_batch_normalisation(samples: int, size: int, norm: bool, told: int) -> None:
    findings = last_batch_findings(samples, size, norm)
    assert len(findings) == told
    if told:
        assert "data.loader.batch_size: 9" in findings[0].do
        assert samples % 9 != 1


def test_numbers_that_are_not_finite_become_none_in_json() -> None:
    assert Finding("note", "a", "", "x", "y", {"b": float("nan")}).to_dict()["numbers"] == {"b": None}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("/data/my photos/a.png is damaged: it breaks off. Copy it again.", "/data/my photos/a.png"),
        ("/data/labels: lines with no number: /data/labels/a.txt line 1. Correct them.", "/data/labels"),
        ("/data/my labels/c.json: images that are not there: a.png. Add them.", "/data/my labels/c.json"),
        ("2 images cannot be divided. Add some, or set data.split.by: blocks.", ""),
        ("data.split.by: files needs train.txt. Write it.", "data.split.by"),
        ("/data/empty holds no image. Maskwright looks for .png, .jpg. Set data.folder.", ""),
    ],
)
def test_a_refusal_names_its_place_and_nothing_more(text: str, where: str) -> None:
    (finding,) = fault_findings(DataError(text))
    assert finding.where == where
    assert finding.do.endswith(".")
