from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics import CurveMeter


def counted(probs: list[float], positive: list[int], bins: int = 4096) -> CurveMeter:
    meter = CurveMeter(("a",), bins)
    shape = (1, 1, 1, len(probs))
    meter.update(
        torch.tensor(probs).reshape(shape),
        torch.tensor(positive).reshape(shape),
        torch.ones(1, 1, len(probs), dtype=torch.bool),
    )
    return meter


def test_areas_by_hand() -> None:
    meter = counted([0.9, 0.7, 0.6, 0.2], [1, 0, 1, 0])

    assert meter.roc_auc("a").value == pytest.approx(3 / 4)  # of four pairs one is wrong
    assert meter.pr_auc("a").value == pytest.approx((1 + 2 / 3) / 2)
    assert meter.compute() == {
        "roc_auc": pytest.approx(0.75),
        "roc_auc@a": pytest.approx(0.75),
        "pr_auc": pytest.approx(5 / 6),
        "pr_auc@a": pytest.approx(5 / 6),
    }


def test_values_apart_leave_nothing_unsure() -> None:
    roc = counted([0.9, 0.7, 0.6, 0.2], [1, 0, 1, 0]).roc_auc("a")

    assert roc.low == roc.value == roc.high


def test_pixels_in_one_bin_count_one_half_and_say_so() -> None:
    roc = counted([0.51, 0.52], [0, 1], bins=2).roc_auc("a")

    assert (roc.low, roc.value, roc.high) == (0.0, 0.5, 1.0)


def test_a_bin_holds_its_lower_edge() -> None:
    assert counted([0.5, 0.4], [1, 0], bins=2).roc_auc("a").value == 1.0


def test_probabilities_close_to_one_are_told_apart() -> None:
    meter = counted([0.999999, 0.99999, 0.9999], [1, 1, 0])

    assert meter.roc_auc("a").value == 1.0
    assert meter.pr_auc("a").value == 1.0


def test_curves_run_from_nothing_called_to_everything_called() -> None:
    meter = counted([0.9, 0.7, 0.6, 0.2], [1, 0, 1, 0])

    fpr, tpr, probability = meter.roc("a")
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(probability) < 0).all()
    at = np.argmax(probability <= 0.65)  # .9 and .7 are above
    assert (fpr[at], tpr[at]) == (0.5, 0.5)
    precision, recall, cut = meter.precision_recall("a")
    at = np.argmax(cut <= 0.65)
    assert (precision[at], recall[at]) == (0.5, 0.5)
    assert math.isnan(precision[0])


def test_without_positive_pixels_no_area_is_defined() -> None:
    meter = counted([0.9, 0.1], [0, 0])

    assert all(math.isnan(value) for value in meter.compute().values())
    assert all(math.isnan(value) for value in CurveMeter(("a",)).compute().values())
    assert counted([0.9, 0.1], [1, 1]).pr_auc("a").value == 1.0


def test_nodata_is_never_counted() -> None:
    meter = CurveMeter(("a",))
    probs = torch.tensor([0.9, 0.2, math.nan]).reshape(1, 1, 1, 3)
    meter.update(probs, torch.tensor([1, 0, 1]).reshape(1, 1, 1, 3), torch.tensor([[[True, True, False]]]))

    assert meter.compute()["roc_auc"] == 1.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be made"):
        CurveMeter(("a",), 1)
    with pytest.raises(ConfigError, match="cannot be merged"):
        CurveMeter(("a",)).merge(CurveMeter(("b",)))
    with pytest.raises(ConfigError, match=r'no curve of "b"\. Available: a\.'):
        CurveMeter(("a",)).roc("b")
    with pytest.raises(ShapeError, match=r"\(B, 1, H, W\) twice"):
        CurveMeter(("a",)).update(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3).bool())
