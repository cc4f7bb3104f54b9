"""Scores beside torchmetrics, scipy and scikit-learn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as oracle
from scipy import ndimage, optimize, stats

from maskwright.metrics import (
    SCORES,
    CalibrationMeter,
    CurveMeter,
    ObjectMeter,
    RegressionMeter,
    SegmentationMetrics,
    SurfaceMeter,
    TemperatureMeter,
    ThresholdMeter,
    bootstrap,
    compare_models,
    compute_all_metrics,
)
from maskwright.metrics.grid import agreement
from maskwright.metrics.scores import accuracy
from maskwright.metrics.skeleton import betti_numbers, thinned
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


CLASS_ORACLES = {
    "iou": oracle.multiclass_jaccard_index,
    "dice": oracle.multiclass_f1_score,
    "precision": oracle.multiclass_precision,
    "recall": oracle.multiclass_recall,
    "f1": oracle.multiclass_f1_score,
    "f2": lambda *a, **k: oracle.multiclass_fbeta_score(*a, beta=2.0, **k),
    "specificity": oracle.multiclass_specificity,
}


def classes_batch(classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(16)
    logits = torch.randn((6, classes, 20, 20), generator=generator)
    target = torch.randint(classes, (6, 20, 20), generator=generator)
    agree = torch.rand(target.shape, generator=generator) < 0.4
    target = torch.where(agree, logits.argmax(dim=1), target)
    return logits, target.masked_fill(torch.rand(target.shape, generator=generator) < 0.15, IGNORE_INDEX)


@pytest.mark.parametrize("name", sorted(CLASS_ORACLES))
def test_scores_of_classes_equal_torchmetrics(name: str) -> None:
    logits, target = classes_batch()
    metrics = SegmentationMetrics(5)
    metrics.update(logits[:4], target[:4])
    metrics.update(logits[4:], target[4:])
    scores = metrics.compute()

    kept = {"num_classes": 5, "ignore_index": IGNORE_INDEX}
    each = CLASS_ORACLES[name](logits, target, average="none", **kept)
    assert [scores[f"{name}@class_{k}"] for k in range(5)] == pytest.approx(each.tolist(), abs=1e-6)
    macro = CLASS_ORACLES[name](logits, target, average="macro", **kept)
    assert scores[name] == pytest.approx(float(macro), abs=1e-6)


def test_scores_of_the_whole_matrix_equal_torchmetrics() -> None:
    logits, target = classes_batch()
    metrics = SegmentationMetrics(5)
    metrics.update(logits, target)
    scores, kept = metrics.compute(), {"num_classes": 5, "ignore_index": IGNORE_INDEX}

    matrix = oracle.multiclass_confusion_matrix(logits, target, **kept)
    assert metrics.confusion_matrix().tolist() == matrix.tolist()
    for name, function in {
        "accuracy": lambda *a, **k: oracle.multiclass_accuracy(*a, average="micro", **k),
        "balanced_accuracy": lambda *a, **k: oracle.multiclass_recall(*a, average="macro", **k),
        "kappa": oracle.multiclass_cohen_kappa,
        "mcc": oracle.multiclass_matthews_corrcoef,
    }.items():
        assert scores[name] == pytest.approx(float(function(logits, target, **kept)), abs=1e-6), name


@pytest.mark.parametrize("name", ["iou", "precision", "recall", "f1", "specificity"])
def test_scores_of_labels_equal_torchmetrics(name: str) -> None:
    generator = torch.Generator().manual_seed(17)
    probs = torch.rand((5, 3, 12, 12), generator=generator)
    target = (torch.rand(probs.shape, generator=generator) < probs).long()
    metrics = SegmentationMetrics(3, multilabel=True)
    metrics.update(probs, target)
    functions = {"iou": "jaccard_index", "f1": "f1_score"}

    function = getattr(oracle, f"multilabel_{functions.get(name, name)}")
    each = function(probs, target, num_labels=3, average="none")

    scores = metrics.compute()
    assert [scores[f"{name}@class_{k}"] for k in range(3)] == pytest.approx(each.tolist(), abs=1e-6)
    assert scores[name] == pytest.approx(float(each.mean()), abs=1e-6)


def test_image_means_of_classes_equal_monai() -> None:
    from monai.metrics import compute_iou

    logits, target = classes_batch(3)
    target = target.masked_fill(target == IGNORE_INDEX, 0)
    metrics = SegmentationMetrics(3, scores=("iou",), image_means=("skip",))
    metrics.update(logits, target)

    one_hot = [torch.nn.functional.one_hot(ids, 3).movedim(-1, 1) for ids in (logits.argmax(dim=1), target)]
    expected = compute_iou(*one_hot, ignore_empty=False).double().nanmean(dim=0).mean()
    assert metrics.compute()["iou_images_skip"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("called", [0.0, 0.4, 1.0])
def test_functions_equal_torchmetrics_where_it_is_defined(share: float, called: float) -> None:
    generator = torch.Generator().manual_seed(18)
    probs = (torch.rand((3, 8, 8), generator=generator) < called).float()
    target = (torch.rand((3, 8, 8), generator=generator) < share).long()

    scores = compute_all_metrics(probs, target, empty="zero")  # torchmetrics counts 0 / 0 as 0

    for name in ("iou", "dice", "accuracy", "precision", "recall", "f1"):
        assert scores[name] == pytest.approx(float(ORACLES[name](probs, target)), abs=1e-6), name


def probability_batch(sharpness: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities (4, 1, 32, 32); the sharper, the more of them crowd at 0 and 1."""
    generator = torch.Generator().manual_seed(19)
    target = torch.rand((4, 1, 32, 32), generator=generator) < 0.3
    logits = sharpness * (target * 1.5 - 0.75 + torch.randn(target.shape, generator=generator))
    return logits.sigmoid(), target, torch.rand((4, 32, 32), generator=generator) < 0.9


@pytest.mark.parametrize("bins", [4, 32, 4096])
@pytest.mark.parametrize("sharpness", [0.5, 3.0, 20.0])
def test_areas_lie_within_their_bounds_of_the_exact_ones(bins: int, sharpness: float) -> None:
    probs, target, valid = probability_batch(sharpness)
    meter = CurveMeter(("a",), bins)
    meter.update(probs, target, valid)
    said, true = probs[:, 0][valid].double(), target[:, 0][valid].long()

    for area, exact in (
        (meter.roc_auc("a"), oracle.binary_auroc(said, true)),
        (meter.pr_auc("a"), oracle.binary_average_precision(said, true)),
    ):
        assert area.low - 1e-7 <= float(exact) <= area.high + 1e-7
        assert area.low <= area.value <= area.high
        if bins == 4096 and sharpness < 20:  # sharper ones crowd at 0 and 1, where float32 ties them anyway
            assert area.high - area.low < 0.01


def test_areas_of_few_levels_are_exact() -> None:
    generator = torch.Generator().manual_seed(20)
    probs = torch.randint(0, 21, (2, 1, 16, 16), generator=generator).double() / 20
    target = torch.rand(probs.shape, generator=generator) < probs
    meter = CurveMeter(("a",))
    meter.update(probs, target, torch.ones(2, 16, 16).bool())

    areas = meter.compute()

    said, true = probs.flatten(), target.flatten().long()
    assert areas["roc_auc"] == pytest.approx(float(oracle.binary_auroc(said, true)), abs=1e-6)
    assert areas["pr_auc"] == pytest.approx(float(oracle.binary_average_precision(said, true)), abs=1e-6)


def test_calibration_equals_torchmetrics_and_torch() -> None:
    probs, target, valid = probability_batch(1.3)
    meter = CalibrationMeter(("a",), bins=12)
    meter.update(probs[:1], target[:1], valid[:1])
    meter.update(probs[1:], target[1:], valid[1:])
    said, true = probs[:, 0][valid].double(), target[:, 0][valid]

    scores = meter.compute()

    for name, norm in (("calibration_error", "l1"), ("max_calibration_error", "max")):
        expected = oracle.binary_calibration_error(said, true.long(), n_bins=12, norm=norm)
        assert scores[name] == pytest.approx(float(expected), abs=1e-6)
    assert scores["brier_error"] == pytest.approx(float(((said - true.double()) ** 2).mean()), abs=1e-9)
    log_loss = torch.nn.functional.binary_cross_entropy(said, true.double())
    assert scores["log_loss"] == pytest.approx(float(log_loss), abs=1e-8)


def test_the_temperature_equals_that_of_a_plain_search() -> None:
    generator = torch.Generator().manual_seed(21)
    logits = torch.randn((2, 1, 40, 40), generator=generator) * 4
    target = torch.rand(logits.shape, generator=generator) < (logits / 2.5).sigmoid()
    meter = TemperatureMeter(("a",))
    meter.update(logits, target, torch.ones(2, 40, 40).bool())
    flat, true = logits.double().flatten(), target.double().flatten()

    def loss(factor: float) -> float:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(flat * factor, true))

    best = optimize.minimize_scalar(loss, bounds=(0.05, 5), method="bounded", options={"xatol": 1e-9})
    found = meter.fit()["a"]
    assert found.temperature == pytest.approx(1 / best.x, rel=1e-3)
    assert found.loss_after == pytest.approx(best.fun, abs=1e-5)


def test_objects_equal_those_of_opencv_and_an_optimal_assignment() -> None:
    """Above an IoU of one half the greedy rule and the best assignment agree."""
    rng = np.random.default_rng(22)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, 60, 60)), (0, 2, 2))
    target = smooth > 0.05
    pred = smooth + ndimage.gaussian_filter(rng.normal(size=smooth.shape), (0, 2, 2)) * 0.3 > 0.05
    meter = ObjectMeter(("a",))
    meter.update(*(torch.from_numpy(m)[:, None] for m in (pred, target)), torch.ones(3, 60, 60).bool())

    tp = fp = fn = 0
    sizes = []
    for said, true in zip(pred, target, strict=True):
        (called, said_labels), (there, true_labels) = (
            cv2.connectedComponents(m.astype(np.uint8)) for m in (said, true)
        )
        ious = np.zeros((there - 1, called - 1))
        for t in range(1, there):
            for c in range(1, called):
                a, b = true_labels == t, said_labels == c
                ious[t - 1, c - 1] = (a & b).sum() / (a | b).sum()
        rows, cols = optimize.linear_sum_assignment(-ious * (ious >= 0.5))
        good = ious[rows, cols] >= 0.5
        tp, fn, fp = tp + good.sum(), fn + there - 1 - good.sum(), fp + called - 1 - good.sum()
        sizes += [
            ((true_labels == t + 1).sum(), (said_labels == c + 1).sum())
            for t, c in zip(rows[good], cols[good], strict=True)
        ]
    scores, (true_px, called_px) = meter.compute(), np.array(sizes, dtype=float).T

    assert tp > 5
    assert scores["object_precision"] == pytest.approx(tp / (tp + fp))
    assert scores["object_recall"] == pytest.approx(tp / (tp + fn))
    assert scores["size_correlation"] == pytest.approx(stats.pearsonr(true_px, called_px).statistic)
    assert scores["size_median_bias"] == np.median(called_px - true_px)
    assert scores["size_rmse"] == pytest.approx(np.sqrt(((called_px - true_px) ** 2).mean()))


def blobs(seed: int, size: int = 48) -> np.ndarray:
    """Smooth masks (3, size, size) that keep away from the edge of the image."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=(3, size, size)), (0, 3, 3)) > 0.03
    masks[:, :3] = masks[:, -3:] = False
    masks[:, :, :3] = masks[:, :, -3:] = False
    return masks


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("pixel_size_m", [1.0, 0.5])
def test_surface_scores_equal_monai(pixel_size_m: float) -> None:
    from monai import metrics as monai

    pred, target = (torch.from_numpy(blobs(seed))[:, None] for seed in (30, 31))
    everywhere, options = torch.ones(1, 48, 48).bool(), {"include_background": True, "spacing": pixel_size_m}

    hausdorff = monai.compute_hausdorff_distance(pred, target, percentile=95, **options)
    nsd = monai.compute_surface_dice(pred, target, [1.5], **options)
    distances = [
        [monai.compute_average_surface_distance(a, b, symmetric=False, **options) for a, b in pair]
        for pair in (((pred, target),), ((target, pred),))
    ]
    for b in range(3):
        meter = SurfaceMeter(("a",), tolerance_m=1.5)
        meter.update(pred[b : b + 1], target[b : b + 1], everywhere, pixel_size_m)
        scores = meter.compute()
        assert scores["hd95"] == pytest.approx(float(hausdorff[b]), rel=1e-6)
        assert scores["nsd"] == pytest.approx(float(nsd[b]), rel=1e-6)
        mean = sum(float(side[0][b]) for side in distances) / 2
        assert scores["surface_distance"] == pytest.approx(mean, rel=1e-6)


def test_thinning_is_close_to_that_of_scikit_image() -> None:
    morphology = pytest.importorskip("skimage.morphology", reason="scikit-image is not installed")
    for mask in blobs(32):
        ours, theirs = thinned(mask), morphology.skeletonize(mask)
        assert not (ours & ~ndimage.binary_dilation(theirs, iterations=4)).any()
        assert not (theirs & ~ndimage.binary_dilation(ours, iterations=4)).any()


def test_thinning_equals_scikit_images_by_guo_and_hall() -> None:
    morphology = pytest.importorskip("skimage.morphology", reason="scikit-image is not installed")
    rng = np.random.default_rng(35)
    for mask in (*blobs(34), *blobs(35), *(rng.random((6, 40, 50)) < np.linspace(0.3, 0.9, 6)[:, None, None])):
        np.testing.assert_array_equal(thinned(mask), morphology.thin(mask))


def test_pieces_minus_holes_equal_the_euler_number_of_counted_cells() -> None:
    """For 8-connected pixels: corners - sides + squares of the union of closed pixels."""
    rng = np.random.default_rng(33)
    for _ in range(20):
        mask = np.pad(rng.random((9, 11)) < 0.5, 1)
        corners = mask[:-1, :-1] | mask[1:, :-1] | mask[:-1, 1:] | mask[1:, 1:]
        sides = (mask[:-1] | mask[1:]).sum() + (mask[:, :-1] | mask[:, 1:]).sum()
        pieces, holes = betti_numbers(mask)
        assert pieces - holes == corners.sum() - sides + mask.sum()


def test_regression_errors_equal_torchmetrics_far_from_zero() -> None:
    from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

    generator = torch.Generator().manual_seed(34)
    target = torch.randn((6, 1, 20, 20), generator=generator, dtype=torch.float64) + 1e4
    pred = target + torch.randn(target.shape, generator=generator, dtype=torch.float64) * 0.3
    valid = torch.rand((6, 20, 20), generator=generator) < 0.7
    meter = RegressionMeter(("a",))
    for start in (0, 4):
        rows = slice(start, start + 4)
        meter.update(pred[rows], target[rows], valid[rows])
    said, true = pred[:, 0][valid], target[:, 0][valid]

    scores = meter.compute()

    assert scores["mse"] == pytest.approx(float(mean_squared_error(said, true)), rel=1e-9)
    assert scores["mae"] == pytest.approx(float(mean_absolute_error(said, true)), rel=1e-9)
    centred = r2_score(said - 1e4, true - 1e4)  # its own sums lose digits far from zero
    assert scores["r2"] == pytest.approx(float(centred), rel=1e-6)


@pytest.mark.parametrize("blocks", [6, 9])
def test_the_p_value_equals_that_of_scipy(blocks: int) -> None:
    """Blocks of equal size: the difference in accuracy is the mean of the differences of the blocks."""
    rng = np.random.default_rng(35)
    right_a, right_b = rng.integers(40, 80, size=blocks), rng.integers(30, 75, size=blocks)
    a, b = (np.array([[[right, 100 - right, 0, 0]] for right in rights]) for rights in (right_a, right_b))

    expected = stats.permutation_test(
        (right_a, right_b), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", n_resamples=np.inf
    )
    assert compare_models(a, b, accuracy).p_value[0] == pytest.approx(expected.pvalue)


def test_the_drawn_p_value_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(36)
    a, b = (rng.integers(1, 60, size=(11, 1, 4)) for _ in range(2))

    exact = compare_models(a, b, SCORES["iou"].function, draws=5000).p_value[0]
    drawn = compare_models(a, b, SCORES["iou"].function, draws=2000).p_value[0]

    assert exact * 2048 == pytest.approx(round(exact * 2048))
    assert drawn == pytest.approx(exact, abs=0.04)
