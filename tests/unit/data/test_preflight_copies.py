"""What copies among the images mean for a split."""

from __future__ import annotations

from maskwright.data.copies import Copy
from maskwright.data.preflight_copies import copy_findings


def test_copies_across_parts_are_told_apart_from_those_inside_one() -> None:
    names, grounds = ["a", "b", "c", "d"], ["a", "b", "c", "d"]
    parts = ["train", "test", "train", "train"]
    found = copy_findings(names, parts, grounds, [Copy(0, 1, 1.0)], [Copy(0, 1, 1.0), Copy(2, 3, 0.95)])
    assert [(f.level, f.code) for f in found] == [("error", "exact_copies_across_parts"), ("note", "near_copies")]
    assert found[0].where == "a, b"
    assert "a (train) and b (test)" in found[0].what


def test_images_of_one_ground_are_known_to_belong_together() -> None:
    assert copy_findings(["a", "b"], ["train", "train"], ["g", "g"], [], [Copy(0, 1, 0.99)]) == []
