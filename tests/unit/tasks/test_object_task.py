"""Tasks of objects: every head learns, labels that are missing switch off their term alone, maps become objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.config import (
    AgroforestryTask,
    InstancesTask,
    MetricsConfig,
    MultitaskLossConfig,
    MultitaskUNetConfig,
)
from maskwright.data.instance_targets import InstanceTruth, TargetPainter
from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.models.heads import split_heads
from maskwright.objects import Crop, FoundObjects
from maskwright.tasks import Agroforestry, Instances, build_task, task_from_dict
from maskwright.types import Batch, Place, Prediction, Window

CLASSES = ("background", "cacao", "shade", "soil")
SIZE = 32
TINY = MultitaskUNetConfig(base_channels=4, depth=2, head_channels=4, norm="group")
TERMS = ("instance", "semantic", "crown", "density")


def task_of(kind: str = "agroforestry", **options: Any) -> Any:
    config = {"agroforestry": AgroforestryTask, "instances": InstancesTask}[kind]
    factors = {} if kind == "agroforestry" else {"crown": 0.0, "density": 0.0}
    settings = config(object_classes=("cacao", "shade"), min_area_px=1, **options)
    return build_task(settings, MultitaskLossConfig(**factors), MetricsConfig(), TINY, CLASSES)


def discs(*places: tuple[int, int, int, int], **changes: Any) -> InstanceTruth:
    """The truth of discs (row, col, radius, class)."""
    rows, cols = np.mgrid[:SIZE, :SIZE]
    ids = np.zeros((SIZE, SIZE), np.int32)
    for number, (row, col, radius, _) in enumerate(places, start=1):
        ids[(rows - row) ** 2 + (cols - col) ** 2 <= radius**2] = number
    count = len(places)
    boxes = [(col - radius, row - radius, col + radius + 1, row + radius + 1) for row, col, radius, _ in places]
    truth = InstanceTruth(
        ids=ids,
        centres=np.array([(col + 0.5, row + 0.5) for row, col, _, _ in places], np.float32).reshape(-1, 2),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array([label for *_, label in places], np.int64),
        diameter=np.array([2.0 * radius for _, _, radius, _ in places], np.float32),
        has_extent=np.ones(count, bool),
        has_outline=np.ones(count, bool),
        crowd=np.zeros(count, bool),
    )
    return replace(truth, **changes)


TWO = discs((10, 9, 5, 1), (21, 22, 6, 2))
BOXES = replace(TWO, has_outline=np.zeros(2, bool), diameter=np.full(2, np.nan, np.float32))
POINTS = replace(
    TWO,
    has_outline=np.zeros(2, bool),
    has_extent=np.zeros(2, bool),
    diameter=np.full(2, np.nan, np.float32),
    tells_classes=False,
)


def batch_of(*truths: InstanceTruth | None, task: Any = None, valid: bool = True) -> Batch:
    task = task or task_of()
    targets = []
    for truth in truths:
        classes = np.concatenate([[0], truth.labels]) if truth is not None else np.zeros(1, np.int64)
        targets.append(classes[truth.ids] if truth is not None else np.full((SIZE, SIZE), 3))
    count = len(truths)
    batch = Batch(
        torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
        torch.from_numpy(np.stack(targets).astype(np.int64)),
        torch.full((count, SIZE, SIZE), valid),
        None,
        tuple(Place(str(n), Window(0, 0, SIZE, SIZE)) for n in range(count)),
        list(truths),
    )
    painter = TargetPainter(None, task.object_ids, density_sigma_px=getattr(task, "density_sigma_px", None))  # type: ignore[arg-type]
    return painter.paint(batch)


def perfect_outputs(task: Any, batch: Batch) -> torch.Tensor:
    """Outputs of a network that knows everything the maps say."""
    assert batch.maps is not None
    maps = batch.maps
    logits = torch.nn.functional.one_hot(batch.target, len(CLASSES)).permute(0, 3, 1, 2).float() * 20
    heads = [logits, torch.logit(maps["centre"].clamp(1e-4, 1 - 1e-4)), maps["offset"] / task.scale_px]
    if task.kind == "agroforestry":
        peak = 1 / (2 * np.pi * task.density_sigma_px**2)
        heads += [maps["diameter"][:, None] / task.scale_px, maps["density"][:, None] / peak]
    return torch.cat(heads, dim=1)


def test_heads_lie_one_behind_another() -> None:
    assert task_of().heads == {"semantic": 4, "centre": 2, "offset": 2, "diameter": 1, "density": 1}
    assert task_of("instances").heads == {"semantic": 4, "centre": 2, "offset": 2}
    with pytest.raises(ShapeError, match=r"\(1, 9, 2, 2\) are not those of heads with 10: semantic 4, centre 2"):
        split_heads(torch.zeros(1, 9, 2, 2), task_of().heads)


def test_object_classes_are_named_and_known() -> None:
    assert task_of().object_ids == (1, 2)
    assert Instances(CLASSES).object_classes == CLASSES[1:]
    with pytest.raises(ConfigError, match=r"task\.object_classes: maize is no class of the labels"):
        Instances(CLASSES, object_classes=("maize",))
    whole = build_task(InstancesTask(), MultitaskLossConfig(), MetricsConfig(), TINY, ("a", "b"), has_background=False)
    assert whole.object_classes == ("a", "b")


def test_a_task_survives_being_written_down() -> None:
    task = task_of(min_score=0.4, shapes="discs", density_sigma_px=3.0)
    again = task_from_dict(task.to_dict())
    assert isinstance(again, Agroforestry)
    assert again.to_dict() == task.to_dict()
    assert again.grouping == task.grouping
    assert again.density_sigma_px == 3.0


@pytest.mark.parametrize("kind", ["agroforestry", "instances"])
def test_every_term_is_above_zero_and_finite_in_training_and_evaluation(kind: str) -> None:
    task = task_of(kind)
    network = task.build_model(TINY, 3)
    batch = batch_of(TWO, task=task)
    for training in (True, False):
        network.train(training)
        output = task.loss(network(batch.image), batch)
        assert set(output.terms) == set(TERMS if kind == "agroforestry" else TERMS[:2])
        assert all(torch.isfinite(value) and value > 0 for value in output.terms.values())
        factors = {"instance": 1.0, "semantic": 1.0, "crown": 0.5, "density": 0.5}
        expected = sum(factors[name] * value for name, value in output.terms.items())
        assert output.total.item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("term", "heads"),
    [("instance", {"centre", "offset"}), ("semantic", {"semantic"}), ("crown", {"diameter"}), ("density", {"density"})],
)
def test_every_head_gets_the_gradient_of_its_own_term_and_the_trunk_that_of_all(term: str, heads: set[str]) -> None:
    task = task_of()
    factors = dict.fromkeys(TERMS, 0.0) | {term: 1.0}
    task = build_task(
        AgroforestryTask(object_classes=("cacao", "shade")),
        MultitaskLossConfig(**factors),
        MetricsConfig(),
        TINY,
        CLASSES,
    )
    network = task.build_model(TINY, 3)
    batch = batch_of(TWO)
    task.loss(network(batch.image), batch).total.backward()
    taught = {
        name
        for name, part in network.head.parts.items()
        if any(weight.grad is not None and weight.grad.any() for weight in part.parameters())
    }
    assert taught == heads
    assert any(weight.grad.any() for weight in network.encoder.parameters())


@pytest.mark.parametrize(
    ("truth", "off"),
    [
        (BOXES, {"crown"}),
        (POINTS, {"semantic", "crown"}),
        (None, {"instance", "crown", "density"}),
        (discs(), {"crown"}),
    ],
)
def test_a_label_that_is_missing_switches_off_its_term_alone(truth: InstanceTruth | None, off: set[str]) -> None:
    task = task_of()
    batch = batch_of(truth)
    outputs = torch.randn(1, 10, SIZE, SIZE, generator=torch.Generator().manual_seed(3), requires_grad=True)
    output = task.loss(outputs, batch)
    output.total.backward()
    assert {name for name, value in output.terms.items() if value == 0} == off
    assert torch.isfinite(output.total)
    heads = {"instance": ("centre",), "semantic": ("semantic",), "crown": ("diameter",), "density": ("density",)}
    gradients = split_heads(outputs.grad, task.heads)  # type: ignore[arg-type]
    for name, parts in heads.items():
        assert all(bool(gradients[part].any()) == (name not in off) for part in parts)
    if truth is POINTS:
        assert not gradients["offset"].any()


def test_samples_with_and_without_labels_add_up_as_one_batch() -> None:
    task = task_of()
    batch = batch_of(TWO, POINTS, None)
    outputs = torch.randn(3, 10, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    whole = task.loss(outputs, batch)
    parts = [batch_of(truth) for truth in (TWO, POINTS, None)]
    weights = task.loss_weights(parts)
    split = [task.loss(outputs[n : n + 1], part, weights) for n, part in enumerate(parts)]
    assert torch.stack([part.total for part in split]).sum().item() == pytest.approx(whole.total.item(), rel=1e-5)
    alone = task.loss(outputs[:1], parts[0])
    assert whole.terms["crown"].item() == pytest.approx(alone.terms["crown"].item(), rel=1e-5)


def test_nothing_counts_where_nothing_is_valid() -> None:
    task = task_of()
    outputs = torch.randn(1, 10, SIZE, SIZE, requires_grad=True)
    output = task.loss(outputs, batch_of(TWO, valid=False))
    output.total.backward()
    assert output.total.item() == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()


def test_perfect_outputs_are_decoded_to_the_objects_and_score_one() -> None:
    task = task_of()
    batch = batch_of(TWO, discs())
    prediction = task.decode(perfect_outputs(task, batch), valid=batch.valid)
    assert prediction.objects is not None
    found, none = prediction.objects
    assert len(none) == 0
    assert sorted(found.labels.tolist()) == [1, 2]
    assert sorted(found.diameter.tolist()) == pytest.approx([10, 12], rel=1e-4)
    assert prediction.density is not None
    assert prediction.density.sum((1, 2, 3)).tolist() == pytest.approx([2, 0], abs=1e-4)
    meter = task.meters()
    task.update(meter, perfect_outputs(task, batch), batch)
    scores = meter.compute()
    assert {name: scores[name] for name in ("mAP_50", "mAP", "miou", "count_accuracy", "canopy_iou", "near_f1")} == {
        name: pytest.approx(1) for name in ("mAP_50", "mAP", "miou", "count_accuracy", "canopy_iou", "near_f1")
    }
    assert scores["density_mae"] == pytest.approx(0, abs=1e-4)
    assert scores["crown_diameter_mae"] == pytest.approx(0, abs=1e-3)


def test_without_classes_learned_a_pixel_is_of_the_class_of_its_object() -> None:
    settings = InstancesTask(object_classes=("cacao", "shade"), min_area_px=1)
    loss = MultitaskLossConfig(crown=0, density=0)
    task: Any = build_task(settings, loss, MetricsConfig(), TINY, CLASSES, tells_classes=False)
    assert not task.covers
    assert not build_task(settings, loss.model_copy(update={"semantic": 0.0}), MetricsConfig(), TINY, CLASSES).covers
    probs = torch.full((2, len(CLASSES), 4, 5), 0.25)
    found = FoundObjects(
        np.zeros((2, 4), np.float32),
        np.array([2, 1]),
        np.array([0.9, 0.8], np.float32),
        np.zeros((2, 2), np.float32),
        np.full(2, np.nan, np.float32),
        (Crop(1, 1, np.ones((2, 2), bool)), Crop(0, 2, np.ones((2, 1), bool))),
    )
    ids = task.called(Prediction(probs, objects=(found, FoundObjects.none()))).long().argmax(dim=1)
    assert ids[0].tolist() == [[0, 0, 1, 0, 0], [0, 2, 2, 0, 0], [0, 2, 2, 0, 0], [0, 0, 0, 0, 0]]
    assert not ids[1].any()
    assert task_from_dict(task.to_dict()).to_dict() == task.to_dict()


def test_scores_know_which_way_is_better_and_the_monitor_is_among_them() -> None:
    task = task_of()
    names = task.score_names()
    assert task.default_monitor == "val/mAP_50"
    assert "mAP_50" in names
    assert "AP_50@cacao" in names
    assert not {"coverage", "count_called", "density_bias"} & set(names)
    better = {name: task.better(f"val/{name}") for name in ("mAP_50", "found_f1", "density_mae", "miou", "loss")}
    assert better == {"mAP_50": "max", "found_f1": "max", "density_mae": "min", "miou": "max", "loss": "min"}


def test_a_batch_without_maps_and_outputs_of_other_sizes_are_refused() -> None:
    task, batch = task_of(), batch_of(TWO)
    with pytest.raises(DataError, match="needs maps of centres and offsets"):
        task.loss_weights([replace(batch, maps=None)])
    with pytest.raises(
        ShapeError, match=r"answered with shape \(1, 10, 8, 8\) where the batch needs \(1, 10, 32, 32\)"
    ):
        task.loss(torch.zeros(1, 10, 8, 8), batch)
