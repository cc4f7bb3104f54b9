"""What counts as sure, pixel by pixel, for each form of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.errors import DataError
from maskwright.workflows.pseudo_labelling import find_unlabelled, sure_labels

ALL = np.ones((1, 4), bool)


def test_one_class_is_sure_above_the_confidence_and_its_absence_below_one_minus_it() -> None:
    probs = np.array([[[0.95, 0.05, 0.85, 0.15]]], np.float32)
    ids, certainty = sure_labels(probs, ALL, 0.9, "binary")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[1, 0, 255, 255]]
    np.testing.assert_allclose(certainty, [[0.95, 0.95, 0.85, 0.85]], atol=1e-6)


def test_of_exclusive_classes_the_likeliest_is_taken_where_it_is_likely_enough() -> None:
    probs = np.array([[[0.7, 0.1, 0.4, 0.0]], [[0.2, 0.1, 0.35, 1.0]], [[0.1, 0.8, 0.25, 0.0]]], np.float32)
    assert sure_labels(probs, ALL, 0.6, "multiclass")[0].tolist() == [[0, 2, 255, 1]]


def test_of_overlapping_labels_all_must_be_sure() -> None:
    probs = np.array([[[0.99, 0.99, 0.01, 0.5]], [[0.98, 0.6, 0.99, 0.99]]], np.float32)
    ids, _ = sure_labels(probs, ALL, 0.9, "multilabel")
    assert ids.dtype == np.uint16
    assert ids.tolist() == [[0b11, 65535, 0b10, 65535]]


def test_pixels_that_do_not_count_get_no_label() -> None:
    valid = np.array([[True, False, True, False]])
    probs = np.full((1, 1, 4), 0.99, np.float32)
    assert sure_labels(probs, valid, 0.9, "binary")[0].tolist() == [[1, 255, 1, 255]]


def test_images_are_named_by_their_path_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/two.png", "one.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert find_unlabelled(tmp_path) == {"b/two": tmp_path / "b" / "two.png", "one": tmp_path / "one.jpg"}
    (tmp_path / "one.png").touch()
    with pytest.raises(DataError, match="have one name"):
        find_unlabelled(tmp_path)
