"""Scores beside torchmetrics, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as oracle
from scipy import stats

from maskwright.metrics import SCORES, ThresholdMeter, bootstrap
from maskwright.metrics.grid import agreement
from maskwright.metrics.scores import accuracy
from maskwright.pixels import IGNORE_INDEX
from maskwright.types import Place, Window

ORACLES = {
    "accuracy": oracle.binary_accuracy,
    "dice": oracle.binary_f1_score,
    "f0.5": lambda *a, **k: oracle.binary_fbeta_score(*a, beta=0.5, **k),
    "f1": oracle.binary_f1_score,
    "f2": lambda *a, **k: oracle.binary_fbeta_score(*a, beta=2.0, **k),
    "iou": oracle.binary_jaccard_index,
    "kappa": oracle.binary_cohen_kappa,
    "mcc": oracle.binary_matthews_corrcoef,
    "precision": oracle.binary_precision,
    "recall": oracle.binary_recall,
    "specificity": oracle.binary_specificity,
}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_dataset_scores_equal_torchmetrics_with_ignored_pixels(name: str) -> None:
    generator = torch.Generator().manual_seed(11)
    probs = torch.rand((6, 2, 24, 24), generator=generator)
    target = torch.rand((6, 2, 24, 24), generator=generator) < probs * 0.7
    valid = torch.rand((6, 24, 24), generator=generator) < 0.85
    meter = ThresholdMeter((5.0, 10.0), scores=(name,))
    for start in (0, 4):  # batches of 4 and 2
        rows = slice(start, start + 4)
        places = [Place("a", Window(24 * n, 0, 24, 24)) for n in range(6)][rows]
        meter.update(probs[rows], target[rows], valid[rows], places)

    scores = meter.compute()

    for k, height in enumerate((5, 10)):
        labels = target[:, k].long().masked_fill(~valid, IGNORE_INDEX)
        expected = ORACLES[name](probs[:, k], labels, threshold=0.5, ignore_index=IGNORE_INDEX)
        assert scores[f"{name}@{height}m"] == pytest.approx(float(expected), abs=1e-6)


def test_balanced_accuracy_and_the_rest_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(12)
    true, said = rng.random(500) < 0.3, rng.random(500) < 0.4
    counts = np.array([(true & said).sum(), (~true & said).sum(), (true & ~said).sum(), (~true & ~said).sum()])

    expected = {
        "balanced_accuracy": metrics.balanced_accuracy_score(true, said),
        "kappa": metrics.cohen_kappa_score(true, said),
        "mcc": metrics.matthews_corrcoef(true, said),
        "iou": metrics.jaccard_score(true, said),
    }
    for name, value in expected.items():
        assert float(SCORES[name].function(counts)) == pytest.approx(value, abs=1e-12)


def test_the_line_of_the_grid_equals_that_of_scipy() -> None:
    rng = np.random.default_rng(13)
    observed = rng.random(80)
    predicted = 0.8 * observed + 0.05 + rng.normal(0, 0.05, 80)

    row = agreement(observed, predicted)
    line = stats.linregress(observed, predicted)

    assert row["slope"] == pytest.approx(line.slope, rel=1e-12)
    assert row["intercept"] == pytest.approx(line.intercept, rel=1e-12)
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - observed) ** 2)), rel=1e-12)


def test_r2_of_the_grid_equals_torchmetrics() -> None:
    from torchmetrics.functional import r2_score

    rng = np.random.default_rng(14)
    observed, noise = rng.random(60), rng.normal(0, 0.1, 60)

    expected = r2_score(torch.from_numpy(observed + noise), torch.from_numpy(observed))

    assert agreement(observed, observed + noise)["r2"] == pytest.approx(float(expected), rel=1e-9)


def test_the_percentile_interval_equals_that_of_scipy() -> None:
    rng = np.random.default_rng(15)
    right = rng.integers(40, 100, size=60)
    counts = np.stack((right, 100 - right, np.zeros(60), np.zeros(60)), axis=-1)[:, None].astype(np.int64)

    low, high = bootstrap(counts, accuracy, draws=20_000)
    expected = stats.bootstrap(
        (right / 100,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval

    assert low[0] == pytest.approx(expected.low, abs=0.002)
    assert high[0] == pytest.approx(expected.high, abs=0.002)
