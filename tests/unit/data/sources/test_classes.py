"""What the values in labels mean."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.classes import ClassTable, label_dtype, not_counted
from maskwright.errors import DataError


def test_one_listed_class_gives_a_binary_table_its_name() -> None:
    table = ClassTable.from_config([("crack", (255, "#ff0000"))], "background", "binary")
    assert (table.names, table.num_classes, table.num_ids) == (("crack",), 1, 2)
    assert [table.id_of(value) for value in (255, "#ff0000", "crack", "background", 7)] == [1, 1, 1, 0, None]
    assert [table.name_of(index) for index in (0, 1)] == ["background", "crack"]


def test_several_classes_of_a_binary_task_are_one_foreground() -> None:
    table = ClassTable.from_config([("hole", (1,)), ("crack", ())], "background", "binary")
    assert table.names == ("foreground",)
    assert [table.id_of(value) for value in (1, "crack", "hole")] == [1, 1, None]


def test_a_binary_table_without_classes_is_named_foreground() -> None:
    assert ClassTable.from_config([], "background", "binary").names == ("foreground",)
    assert ClassTable.from_config([], "background", "binary", found=["tree"]).names == ("tree",)


def test_multiclass_ids_begin_with_the_background() -> None:
    table = ClassTable.from_config([("hole", (3,)), ("crack", (4,))], "rest", "multiclass")
    assert table.names == ("rest", "hole", "crack")
    assert [table.id_of(value) for value in (3, 4, "rest", "crack", 0)] == [1, 2, 0, 2, None]


def test_without_a_background_the_first_class_is_zero() -> None:
    table = ClassTable.from_config([("road", ()), ("grass", ())], None, "multiclass", numbered=True)
    assert (table.names, table.background) == (("road", "grass"), None)
    assert [table.id_of(value) for value in (0, 1, 2)] == [0, 1, None]


def test_numbered_classes_begin_at_one_beside_a_background() -> None:
    table = ClassTable.from_config([("road", ()), ("grass", (9,))], "rest", "multiclass", numbered=True)
    assert [table.id_of(value) for value in (1, 9, 2)] == [1, 2, None]


def test_multilabel_ids_are_bits_without_a_background() -> None:
    table = ClassTable.from_config([("a", (1,)), ("b", (2,))], "background", "multilabel")
    assert (table.names, table.background) == (("a", "b"), None)
    assert [table.id_of(value) for value in (1, 2, "b", "background")] == [0, 1, 1, None]


def test_classes_left_out_are_those_the_labels_name() -> None:
    table = ClassTable.from_config([], "background", "multiclass", found=["tree", "background", "shrub", "tree"])
    assert table.names == ("background", "tree", "shrub")


def test_a_task_of_classes_without_any_is_refused() -> None:
    with pytest.raises(DataError, match="A multiclass task needs classes, and the labels name none"):
        ClassTable.from_config([], "background", "multiclass")


def test_more_labels_than_bits_are_refused() -> None:
    listed = [(f"label {index}", (index,)) for index in range(16)]
    with pytest.raises(DataError, match="16 are too many for a multilabel task, which takes up to 15"):
        ClassTable.from_config(listed, "background", "multilabel")


def test_a_table_survives_being_written() -> None:
    table = ClassTable.from_config([("hole", (3, "#00ff00")), ("crack", ())], "rest", "multiclass")
    assert ClassTable.from_dict(table.to_dict()) == table


def test_arrays_of_overlapping_labels_are_wider() -> None:
    assert label_dtype("binary") == np.uint8
    assert label_dtype("multilabel") == np.uint16
    assert (not_counted("multiclass"), not_counted("multilabel")) == (255, 65535)
