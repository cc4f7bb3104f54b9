"""Names, bands and colours of what is written for classes."""

from __future__ import annotations

from typing import Any

from maskwright.prediction.class_outputs import ClassPlan, class_endings


def plan(names: tuple[str, ...], *, exclusive: bool, **more: Any) -> ClassPlan:
    usual: dict[str, Any] = {
        **{"has_background": exclusive, "thresholds": (0.5,) * len(names), "photograph": True, "sha256": "abc"},
        **{"probabilities": False, "probability_ending": "png", "polygons": None, "overlay": True, "style": False},
    }
    return ClassPlan(names, exclusive, **(usual | more))


def test_exclusive_classes_share_a_band_and_labels_have_one_each() -> None:
    one = plan(("background", "rust", "pit"), exclusive=True)
    assert (one.planes, one.plane_names) == (1, ("class",))
    assert one.where == [("background", 1, 0, 1), ("rust", 1, 1, 2), ("pit", 1, 2, 3)]
    each = plan(("rust", "pit"), exclusive=False)
    assert (each.planes, each.plane_names) == (2, ("rust", "pit"))
    assert each.where == [("rust", 1, 1, 1), ("pit", 2, 1, 2)]


def test_a_mask_of_one_band_has_colours_and_nothing_where_it_is_not_valid() -> None:
    table = plan(("background", "rust"), exclusive=True).color_table
    assert table is not None
    assert sorted(table) == [0, 1, 255]
    assert table[255] == (0, 0, 0, 0)
    assert plan(("rust", "pit"), exclusive=False).color_table is None


def test_facts_are_kept_in_the_file() -> None:
    tags = plan(("rust", "pit"), exclusive=False, thresholds=(0.5, 0.25)).tags
    assert tags["MASKWRIGHT_CLASSES"] == "rust,pit"
    assert tags["MASKWRIGHT_PROBABILITY_THRESHOLDS"] == "0.5,0.25"
    assert "MASKWRIGHT_PROBABILITY_THRESHOLDS" not in plan(("rust", "pit"), exclusive=True).tags


def test_names_that_would_collide_in_files_are_told_apart() -> None:
    endings = class_endings(("rust/pit", "rust pit", "mask"))
    assert {"rust_pit.png", "rust_pit_1.png", "mask_2.png", "mask.png"} <= set(endings)
    assert len(endings) == len(set(endings))
