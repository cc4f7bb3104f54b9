"""The tasks of classes: truth, loss, decoding, scores, and samples mixed from two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.errors import ConfigError, ShapeError
from maskwright.losses import CombinedLoss, UncertaintyWeights, build_term
from maskwright.tasks import Binary, ClassTask, Multiclass, Multilabel, task_from_dict
from maskwright.types import Batch, Mixed, Place, Window

NAMES = ("background", "crack", "stain")


def batch_of(target: Tensor, valid: Tensor | None = None, mix: Mixed | None = None) -> Batch:
    samples, rows, columns = target.shape
    valid = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
    where = tuple(Place(f"image{n}", Window(0, 0, rows, columns)) for n in range(samples))
    return Batch(torch.zeros(samples, 3, rows, columns), target.where(valid, 0), valid, None, where, mix=mix)


def binary_loss() -> CombinedLoss:
    return CombinedLoss({"bce": 0.5, "dice": 0.3, "focal": 0.2})


def class_loss() -> CombinedLoss:
    names = {"bce": "cross_entropy", "dice": "class_dice", "lovasz": "lovasz_softmax"}
    functions = {name: build_term(term) for name, term in names.items()}
    return CombinedLoss({"bce": 0.5, "dice": 0.3, "lovasz": 0.2}, functions=functions)


TASKS: dict[str, Callable[..., ClassTask]] = {
    "binary": lambda **options: Binary(("crack",), binary_loss(), **options),
    "multiclass": lambda **options: Multiclass(NAMES, class_loss(), **options),
    "multilabel": lambda **options: Multilabel(NAMES[1:], binary_loss(), **options),
}
IDS = {"binary": 2, "multiclass": 3, "multilabel": 4}


@pytest.fixture(params=list(TASKS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def random_batch(kind: str, samples: int, seed: int, *, mixed: bool = False) -> tuple[Tensor, Batch]:
    generator = torch.Generator().manual_seed(seed)
    size = (samples, 6, 5)
    target = torch.randint(IDS[kind], size, generator=generator)
    valid = torch.rand(size, generator=generator) < 0.7
    mix = None
    if mixed:
        other = torch.randint(IDS[kind], size, generator=generator)
        counts = torch.rand(size, generator=generator) < 0.4
        mix = Mixed(other.where(counts, 0), counts, torch.rand(samples, generator=generator))
    channels = TASKS[kind]().num_classes
    return torch.randn(samples, channels, 6, 5, generator=generator), batch_of(target, valid, mix)


def joined(parts: list[tuple[Tensor, Batch]]) -> tuple[Tensor, Batch]:
    batches = [batch for _, batch in parts]
    mixes = [batch.mix for batch in batches if batch.mix is not None]
    mix = None
    if mixes:
        mix = Mixed(*(torch.cat([getattr(each, name) for each in mixes]) for name in ("target", "valid", "share")))
    whole = batch_of(torch.cat([b.target for b in batches]), torch.cat([b.valid for b in batches]), mix)
    return torch.cat([outputs for outputs, _ in parts]), whole


def gradient(task: ClassTask, pieces: list[tuple[Tensor, Batch]]) -> tuple[float, Tensor]:
    """The loss of a group and its gradient, batch by batch as the training loop does it."""
    weights = task.loss_weights([batch for _, batch in pieces])
    total, gradients = 0.0, []
    for outputs, batch in pieces:
        outputs = outputs.clone().requires_grad_()
        loss = task.loss(outputs, batch, weights)
        loss.total.backward()
        total += float(loss.total.detach())
        assert outputs.grad is not None
        gradients.append(outputs.grad)
    return total, torch.cat(gradients)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_group_of_batches_equals_one_big_batch(kind: str, mixed: bool) -> None:
    pieces = [random_batch(kind, samples, samples, mixed=mixed) for samples in (3, 1, 2)]
    in_parts, part_gradients = gradient(TASKS[kind](), pieces)
    at_once, gradients = gradient(TASKS[kind](), [joined(pieces)])
    assert in_parts == pytest.approx(at_once, rel=1e-5)
    torch.testing.assert_close(part_gradients, gradients, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_learned_factors_do_not_depend_on_grouping_either(kind: str, mixed: bool) -> None:
    pieces = [random_batch(kind, samples, samples, mixed=mixed) for samples in (3, 1, 2)]
    totals, slopes = [], []
    for given in (pieces, [joined(pieces)]):
        learned = UncertaintyWeights(TASKS[kind]().loss_terms)
        with torch.no_grad():
            learned.log_variance.copy_(torch.tensor([0.3, -0.2, 0.5]))
        totals.append(gradient(TASKS[kind](learned=learned), given)[0])
        assert learned.log_variance.grad is not None
        slopes.append(learned.log_variance.grad)
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-6, rtol=1e-4)


def test_a_mixed_sample_is_the_weighted_sum_of_its_two_truths(kind: str) -> None:
    """One pixel loss by hand: shares times sums over shares times pixels."""
    task = TASKS[kind]()
    outputs, batch = random_batch(kind, 2, 5, mixed=True)
    assert batch.mix is not None
    sums, pixels = 0.0, 0.0
    for n in range(2):
        share = float(batch.mix.share[n])
        for target, valid, part in (
            (batch.target, batch.valid, share),
            (batch.mix.target, batch.mix.valid, 1 - share),
        ):
            alone = batch_of(target[n : n + 1], valid[n : n + 1])
            weight = float(task.loss_weights([alone])[task.loss_terms["bce"].per])
            sums += part * weight * float(task.loss(outputs[n : n + 1], alone).terms["bce"])
            pixels += part * weight
    assert float(task.loss(outputs, batch).terms["bce"]) == pytest.approx(sums / pixels, rel=1e-5)


def test_a_mix_of_which_all_is_the_first_sample_changes_nothing(kind: str) -> None:
    task, (outputs, batch) = TASKS[kind](), random_batch(kind, 2, 3)
    mix = Mixed(torch.zeros_like(batch.target), torch.ones_like(batch.valid), torch.ones(2))
    unmixed = task.loss(outputs, batch)
    batch.mix = mix
    assert float(task.loss(outputs, batch).total) == pytest.approx(float(unmixed.total), rel=1e-6)


def test_pixels_that_are_not_valid_change_neither_loss_nor_scores(kind: str) -> None:
    task, (outputs, batch) = TASKS[kind](), random_batch(kind, 2, 8)
    other = outputs.where(batch.valid[:, None], 50.0)
    results: list[Any] = []
    for given in (outputs, other):
        meter = task.meters()
        task.update(meter, given, batch)
        results.append((float(task.loss(given, batch).total), meter.counts.tolist()))
    assert results[0] == results[1]


def test_truths_are_masks_by_class() -> None:
    ids = torch.tensor([[[0, 1, 2, 3]]])
    valid = torch.tensor([[[True, True, True, False]]])
    assert Binary(("crack",)).target(batch_of(ids.clamp(max=1), valid)).int().tolist() == [[[[0, 1, 1, 0]]]]
    many = Multiclass(NAMES).target(batch_of(ids, valid))
    assert many[0, :, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    labels = Multilabel(("a", "b")).target(batch_of(ids))
    assert labels[0, :, 0].int().tolist() == [[0, 1, 0, 1], [0, 0, 1, 1]]


def test_decoding_is_one_sigmoid_or_one_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1)
    assert Binary(("a",)).decode(logits[:, 1:2]).probs.item() == pytest.approx(0.731059, abs=1e-6)
    shares = Multiclass(NAMES).decode(logits).probs.flatten()
    assert shares.tolist() == pytest.approx([0.244728, 0.665241, 0.090031], abs=1e-6)
    assert Multilabel(NAMES).decode(logits).probs.flatten().tolist() == pytest.approx([0.5, 0.731059, 0.268941], 1e-5)


def test_what_the_model_says_follows_threshold_or_largest() -> None:
    logits = torch.tensor([0.2, 0.1, -3.0]).view(1, 3, 1, 1)
    many = Multiclass(NAMES)
    assert many.called(many.decode(logits)).flatten().tolist() == [True, False, False]
    strict = Multilabel(NAMES, probability_threshold=0.54)
    assert strict.called(strict.decode(logits)).flatten().tolist() == [True, False, False]
    assert Multilabel(NAMES).called(Multilabel(NAMES).decode(logits)).flatten().tolist() == [True, True, False]


def test_scores_of_one_class_are_the_hand_values() -> None:
    task = Binary(("crack",))
    meter = task.meters()
    task.update(meter, torch.tensor([[[[1.0, -1.0, 1.0, -1.0]]]]), batch_of(torch.tensor([[[1, 1, 0, 0]]])))
    scores = meter.compute()
    assert scores["iou"] == scores["iou_images_skip"] == pytest.approx(1 / 3)
    assert "miou" not in scores
    assert meter.counts.tolist() == [[[1, 1, 1, 1]]]
    assert [place.scene for place in meter.places] == ["image0"]


def test_the_mean_over_classes_has_its_own_name_and_leaves_absent_ones_out() -> None:
    task = Multiclass(NAMES)
    meter = task.meters()
    logits = torch.eye(3)[[0, 0, 1, 1]].T.reshape(1, 3, 1, 4)
    task.update(meter, logits, batch_of(torch.tensor([[[0, 0, 0, 1]]])))
    scores = meter.compute()
    assert scores["iou@background"] == pytest.approx(2 / 3)
    assert scores["iou@crack"] == pytest.approx(1 / 2)
    assert scores["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert "iou" not in scores
    assert meter.metrics.absent_classes == ("stain",)


def test_every_score_named_is_computed_and_knows_its_direction(kind: str) -> None:
    task, (outputs, batch) = TASKS[kind](), random_batch(kind, 2, 1)
    meter = task.meters()
    task.update(meter, outputs, batch)
    assert set(task.score_names()) == set(meter.compute())
    assert task.default_monitor.removeprefix("val/") in task.score_names()
    assert {task.better(name) for name in task.score_names()} == {"max"}
    assert task.better("loss/bce") == "min"


def test_a_task_is_rebuilt_from_its_description(kind: str) -> None:
    task = TASKS[kind](probability_threshold=0.3)
    again = task_from_dict(task.to_dict())
    assert type(again) is type(task)
    assert again.to_dict() == task.to_dict()
    assert again.columns == task.class_names


def test_shapes_that_do_not_fit_are_refused(kind: str) -> None:
    task, (outputs, batch) = TASKS[kind](), random_batch(kind, 2, 1)
    with pytest.raises(ShapeError, match="samples, classes, rows, columns"):
        task.loss(torch.cat([outputs, outputs], dim=1), batch)
    with pytest.raises(ShapeError, match="do not answer"):
        task.decode(torch.cat([outputs, outputs], dim=1))


def test_names_that_do_not_fit_the_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="A binary task has one class, not a, b"):
        Binary(("a", "b"))
    with pytest.raises(ConfigError, match=r"Set task\.kind: binary"):
        Multiclass(("a",))
    with pytest.raises(ConfigError, match="must differ"):
        Multilabel(("a", "a"))
