"""Answers that need no training, by hand."""

from __future__ import annotations

import numpy as np

from maskwright.workflows.baselines import class_baselines, gap_baselines

COUNTS = np.array([[[3, 1, 2, 4], [1, 0, 0, 9]]])  # one image, two classes: 5 and 1 of 10 pixels are true


def test_nothing_and_everything_are_right_and_wrong_where_they_must_be() -> None:
    found = class_baselines(COUNTS, np.array([0.5, 0.1]), exclusive=False)
    assert found["nothing"].tolist() == [[[0, 0, 5, 5], [0, 0, 1, 9]]]
    assert found["everything"].tolist() == [[[5, 5, 0, 0], [1, 9, 0, 0]]]
    assert list(found) == ["nothing", "everything", "a coin with the training share"]


def test_a_coin_calls_its_share_of_true_and_other_pixels() -> None:
    coin = class_baselines(COUNTS, np.array([0.2, 0.1]), exclusive=False)["a coin with the training share"]
    assert coin[0, 0].tolist() == [1, 1, 4, 4]  # a fifth of 5 and of 5


def test_exclusive_classes_have_a_most_common_one() -> None:
    found = class_baselines(COUNTS, np.array([0.5, 0.1]), exclusive=True)["the most common class"]
    assert found.tolist() == [[[5, 5, 0, 0], [0, 0, 1, 9]]]


def test_gaps_have_the_opened_surface_beside_them() -> None:
    pseudo = COUNTS + 1
    found = gap_baselines(COUNTS, np.array([0.5, 0.1]), pseudo)
    assert found["surface minus its opening"] is pseudo
    assert len(found) == 4
