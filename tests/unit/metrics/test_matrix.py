from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import confusion_matrix, matrix_scores, one_vs_rest
from maskwright.metrics.matrix import _scatter, matrix_shares

TRUE = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, 0]]])
SAID = torch.tensor([[[0, 1, 1, 1], [2, 0, 2, 2]]])
ALL = torch.ones(1, 2, 4, dtype=torch.bool)
BY_HAND = [[1, 1, 1], [0, 2, 0], [1, 0, 2]]


def test_rows_are_true_and_columns_called() -> None:
    matrix = confusion_matrix(SAID, TRUE, ALL, 3)

    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [BY_HAND]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_any_whole_dtype_counts_the_same(dtype: torch.dtype) -> None:
    assert confusion_matrix(SAID.to(dtype), TRUE.to(dtype), ALL, 3).tolist() == [BY_HAND]


def test_many_classes_in_one_byte_do_not_overflow() -> None:
    ids = torch.tensor([[[199, 150]]], dtype=torch.uint8)

    matrix = confusion_matrix(ids, ids, torch.ones(1, 1, 2, dtype=torch.bool), 200)[0]

    assert (matrix[199, 199], matrix[150, 150], matrix.sum()) == (1, 1, 2)


def test_pixels_that_do_not_count_may_hold_anything() -> None:
    target, valid = TRUE.clone(), ALL.clone()
    target[0, 0, 0], valid[0, 0, 0] = 255, False

    assert confusion_matrix(SAID, target, valid, 3)[0].tolist() == [[0, 1, 1], [0, 2, 0], [1, 0, 2]]


def test_each_class_against_the_rest() -> None:
    assert one_vs_rest(BY_HAND).tolist() == [[1, 1, 2, 4], [2, 1, 0, 5], [2, 1, 1, 4]]


def test_scores_of_the_whole_by_hand() -> None:
    scores = matrix_scores(BY_HAND)

    assert scores["accuracy"] == pytest.approx(5 / 8)
    assert scores["error_rate"] == pytest.approx(3 / 8)
    assert scores["balanced_accuracy"] == pytest.approx((1 / 3 + 1 + 2 / 3) / 3)
    assert scores["kappa"] == pytest.approx((5 / 8 - 21 / 64) / (1 - 21 / 64))


def test_scores_without_pixels_are_not_defined() -> None:
    assert all(np.isnan(value) for value in matrix_scores(np.zeros((3, 3))).values())


def test_a_class_that_never_occurs_has_no_part_in_the_balanced_accuracy() -> None:
    assert matrix_scores([[2, 0, 2], [0, 4, 0], [0, 0, 0]])["balanced_accuracy"] == pytest.approx(0.75)


def test_shares_sum_to_one() -> None:
    assert matrix_shares(BY_HAND, "truth").sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert matrix_shares(BY_HAND, "prediction").sum(axis=0).tolist() == pytest.approx([1, 1, 1])
    assert matrix_shares(BY_HAND, "all").sum() == pytest.approx(1)
    assert np.isnan(matrix_shares([[0, 0], [1, 1]], "truth")[0]).all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="target holds class id 2 on a pixel that counts, but there are 2 classes"):
        confusion_matrix(torch.zeros_like(SAID), TRUE, ALL, 2)
    with pytest.raises(DataError, match="prediction holds class id -1"):
        confusion_matrix(torch.full_like(SAID, -1), TRUE, ALL, 3)
    with pytest.raises(ShapeError, match=r"prediction \(1, 2, 4\), target \(1, 2, 3\)"):
        confusion_matrix(SAID, TRUE[..., :3], ALL, 3)
    with pytest.raises(ShapeError, match=r"class ids are \(B, H, W\)"):
        confusion_matrix(SAID[0], TRUE[0], ALL[0], 3)
    with pytest.raises(ModelError, match=r"prediction is torch\.float32; class ids are whole numbers"):
        confusion_matrix(SAID.float(), TRUE, ALL, 3)
    with pytest.raises(ModelError, match="valid is"):
        confusion_matrix(SAID, TRUE, ALL.long(), 3)
    with pytest.raises(ShapeError, match="not square"):
        one_vs_rest(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match='of: "rows" is not known'):
        matrix_shares(BY_HAND, "rows")  # type: ignore[arg-type]


def test_accelerators_count_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    said, true = (torch.randint(5, (3, 9, 8), generator=generator) for _ in range(2))
    valid = torch.rand(said.shape, generator=generator) < 0.7

    counts, strange = _scatter(said, true.masked_fill(~valid, 255), valid, 5)

    assert torch.equal(counts, confusion_matrix(said, true, valid, 5))
    assert not strange
    assert _scatter(said, true + 1, valid, 5)[1]
    assert _scatter(said - 1, true, valid, 5)[1]
