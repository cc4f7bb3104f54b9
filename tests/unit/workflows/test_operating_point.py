"""Where probabilities are cut."""

from __future__ import annotations

import torch

from maskwright.tasks import Binary, HeightGaps, Multilabel
from maskwright.types import Prediction
from maskwright.workflows.operating_point import OperatingPoint

LABELS = Multilabel(("rust", "pit"))


def test_every_column_is_cut_where_the_settings_say() -> None:
    assert OperatingPoint.fixed(LABELS, 0.4).thresholds == (0.4, 0.4)


def test_columns_may_be_cut_at_different_probabilities() -> None:
    prediction = Prediction(torch.tensor([0.5, 0.5]).view(1, 2, 1, 1))
    assert OperatingPoint((0.4, 0.6)).called(LABELS, prediction).flatten().tolist() == [True, False]


def test_a_model_says_its_point_and_an_older_one_its_threshold() -> None:
    point = OperatingPoint((0.3,), 2.0, "max_f1", ("a note",))
    task = Binary(("crack",))
    assert OperatingPoint.of_model(point.describe() | {"probability_threshold": 0.5}, task) == point
    assert OperatingPoint.of_model({"probability_threshold": 0.7}, task).thresholds == (0.7,)


def test_heights_share_one_cut_whatever_is_asked() -> None:
    described = {"operating_point": OperatingPoint((0.3, 0.3), rule="max_f1").to_dict()}
    assert OperatingPoint.of_model(described, HeightGaps((2.0, 5.0, 10.0))).thresholds == (0.3, 0.3, 0.3)
