"""Findings on labels."""

from __future__ import annotations

import numpy as np

from maskwright.data.preflight_labels import (
    balance_findings,
    class_table,
    empty_findings,
    object_findings,
    outside_findings,
)
from maskwright.data.preflight_look import look_at

TOTALS = {"train": 10_000, "val": 1_000, "test": 1_000}


def counts(train: int, val: int, test: int) -> dict[str, np.ndarray]:
    return {"train": np.array([train]), "val": np.array([val]), "test": np.array([test])}


def test_even_classes_are_no_finding() -> None:
    assert balance_findings(counts(1000, 100, 120), TOTALS, ["crack"]) == []


def test_a_single_class_missing_in_training_is_an_error() -> None:
    (finding, *_) = balance_findings(counts(0, 100, 100), TOTALS, ["crack"])
    assert (finding.level, finding.code, finding.where) == ("error", "class_missing", "train")


def test_a_class_found_nowhere_is_told() -> None:
    (finding,) = balance_findings(counts(0, 0, 0), TOTALS, ["crack"])
    assert (finding.level, finding.what) == ("error", 'The class "crack" is nowhere in the data.')


def test_a_class_missing_in_validation_is_a_warning() -> None:
    (finding,) = balance_findings(counts(1000, 0, 100), TOTALS, ["crack"])
    assert (finding.level, finding.where) == ("warning", "val")


def test_rare_and_uneven_classes_are_notes_with_their_shares() -> None:
    rare, uneven = balance_findings(counts(20, 10, 2), TOTALS, ["crack"])
    assert (rare.code, rare.numbers) == ("class_rare", {"share": 0.002})
    assert uneven.code == "class_uneven"
    assert "train 0.20%, val 1.00%, test 0.20%" in uneven.what


def test_mostly_empty_training_tiles_are_a_warning() -> None:
    (finding,) = empty_findings({"train": [False] * 19 + [True], "val": [True]}, [])
    assert (finding.level, finding.where) == ("warning", "train")
    assert finding.numbers["train_share"] == 0.95
    assert [f.level for f in empty_findings({"train": [False, True]}, [])] == ["note"]


def test_an_image_of_one_value_is_named() -> None:
    look = look_at(np.full((3, 8, 8), 9, np.uint8), np.ones((8, 8), bool), name="flat")
    (finding,) = empty_findings({}, [look])
    assert (finding.code, finding.where) == ("image_blank", "flat")


def test_ids_no_class_has_are_an_error_and_ids_without_pixels_are_not() -> None:
    (finding,) = outside_findings({"a": {0: 5, 1: 2, 7: 3}, "b": {0: 1, 9: 0}}, range(2))
    assert (finding.level, finding.where) == ("error", "a")
    assert "hold 7" in finding.what
    assert outside_findings({"a": {0: 5, 1: 2}}, range(2)) == []


def test_objects_are_compared_with_what_the_network_sees_and_with_the_tile() -> None:
    wide = np.full(20, 200.0)
    codes = [f.code for f in object_findings(wide, tile_px=128, receptive_field_px=40)]
    assert codes == ["reach_small", "tile_small"]
    assert object_findings(wide, tile_px=256, receptive_field_px=None) == []
    assert [f.code for f in object_findings(np.full(9, 2.0), tile_px=64, receptive_field_px=None)] == ["objects_tiny"]
    assert object_findings(np.zeros(0), tile_px=64, receptive_field_px=3) == []


def test_the_table_gives_shares_by_part() -> None:
    head, cells = class_table(counts(1000, 50, 20), TOTALS, ["crack"])
    assert head == ["class", "train", "val", "test"]
    assert cells == [["crack", "10.00%", "5.00%", "2.00%"]]
