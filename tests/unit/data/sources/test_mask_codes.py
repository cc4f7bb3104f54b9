"""From values of masks to class ids."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.mask_codes import MaskCodes, codes_for, shown_value
from maskwright.errors import DataError


def codes(classes: list[tuple[str, tuple[int | str, ...]]], **options: object) -> MaskCodes:
    usual: dict[str, object] = {"background": "background", "form": "multiclass", "background_values": (0,)}
    usual |= {"ignore_values": (), "found": dict}
    return codes_for(classes, **(usual | options))  # type: ignore[arg-type]


def test_numbers_and_ranges_become_class_ids() -> None:
    found = codes([("rust", (3,)), ("pit", ("10-20",))], ignore_values=(255,))
    assert found.apply(np.array([[0, 3, 10, 20, 255]], np.uint8)).tolist() == [[0, 1, 2, 2, 255]]
    assert found.apply(np.array([[0, 3, 15]], np.int64)).tolist() == [[0, 1, 2]]


def test_colours_become_class_ids_and_black_is_background() -> None:
    found = codes([("rust", ("#ff0000",))])
    assert found.has_colours
    assert found.apply(np.array([[0, 0xFF0000]])).tolist() == [[0, 1]]
    assert shown_value(0xFF0000, True) == "#ff0000"


def test_classes_that_overlap_are_bits() -> None:
    found = codes([("rust", (1,)), ("pit", (2,))], form="multilabel")
    assert found.apply(np.array([[0, 1, 2]], np.uint8)).tolist() == [[0, 1, 2]]
    assert found.code(3) == 8


def test_a_value_that_no_class_means_is_named_with_its_pixels() -> None:
    found = codes([("rust", (1,))])
    found.require_known({0: 5, 1: 2}, "the mask a.png")
    with pytest.raises(DataError, match=r"The mask a.png holds the value 7 \(3 px\), which no class means"):
        found.require_known({0: 5, 7: 3}, "the mask a.png")
    with pytest.raises(DataError, match="it is a mask of 0 and 255, read as class numbers"):
        found.require_known({0: 5, 255: 3}, "the mask a.png")


def test_a_mask_of_one_class_tells_its_foreground() -> None:
    automatic = MaskCodes.automatic(ClassTable.from_config([("crack", ())], "background", "binary"))
    assert [automatic.auto_value(found, "a") for found in ({0: 4}, {0: 3, 1: 1}, {255: 4})] == [None, 1, 255]
    with pytest.raises(DataError, match="255 may mean foreground or pixels that do not count"):
        automatic.auto_value({0: 1, 1: 1, 255: 1}, "a")


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([("rust", (1,)), ("pit", (1,))], "the value 1 has two meanings"),
        ([("rust", (1,)), ("pit", ("#ff0000",))], "some values are colours"),
        ([("rust", ("red",))], "'red' is no value of a mask"),
        ([], "A multiclass task needs its classes"),
    ],
)
def test_settings_that_mean_nothing_are_refused(classes: list[tuple[str, tuple[int | str, ...]]], text: str) -> None:
    with pytest.raises(DataError) as caught:
        codes(classes)
    assert text in str(caught.value)
