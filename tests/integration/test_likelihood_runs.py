"""Training a distribution of heights by its likelihood: the task, continuation, accumulation, the real command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.cli.main import main
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, HeightCdfConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.data.synthetic import write_forest
from maskwright.errors import ModelError, ShapeError
from maskwright.models import HeightCdf, HeightMixture
from maskwright.prediction import Predictor
from maskwright.tasks import HeightGaps, build_task, task_from_dict
from maskwright.tracking import RunFolder, read_history
from maskwright.tracking.folder import find_runs
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Mixed, Place, Window

HEIGHTS = (5.0, 10.0)
SIDE = 8
ALONE = {"likelihood": 1.0, "bce": 0.0, "dice": 0.0, "focal": 0.0}
BESIDE = {"likelihood": 0.4, "bce": 0.3, "dice": 0.2, "focal": 0.1}


def network() -> HeightCdfConfig:
    return HeightCdfConfig(base_channels=4, depth=1, norm="group", dropout=0.1)


def task_of(weights: dict[str, float] = ALONE, **loss: Any) -> HeightGaps:
    section = CombinedLossConfig(**weights, **loss)
    task = build_task(HeightGapsTask(heights_m=HEIGHTS), section, MetricsConfig(), network())
    assert isinstance(task, HeightGaps)
    return task


class Invented:
    """Batches as a pure function of epoch and position."""

    def __init__(self, count: int = 4, samples: int = 2, heights_m: tuple[float, ...] | None = None) -> None:
        self.count, self.samples, self.heights_m = count, samples, heights_m

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch(100 * epoch + position) for position in range(start, self.count))

    def batch(self, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        canopy = 20 * torch.rand(self.samples, SIDE, SIDE, generator=generator)
        valid = torch.rand(canopy.shape, generator=generator) > 0.2 * (seed % 4)
        condition = 4 + 8 * torch.rand(self.samples, 1, generator=generator)
        if self.heights_m is not None:
            condition = torch.tensor(self.heights_m).repeat(self.samples, 1)
        where = tuple(Place("invented", Window(seed, SIDE * n, SIDE, SIDE)) for n in range(self.samples))
        return Batch(canopy.unsqueeze(1) / 30, canopy * valid, valid, condition, where)


def joined(batches: list[Batch]) -> Batch:
    image, target, valid, condition = (
        torch.cat([getattr(batch, name) for batch in batches]) for name in ("image", "target", "valid", "condition")
    )
    return Batch(image, target, valid, condition, tuple(place for batch in batches for place in batch.where))


def trainer_for(folder: RunFolder | None = None, *callbacks: Callback, weights: dict[str, float] = BESIDE) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    task = task_of(weights)
    return Trainer(
        task,
        task.build_model(network(), 1, 2),
        Invented(),
        Invented(2, heights_m=HEIGHTS),
        training=TrainingConfig(epochs=2, seed=1, device="cpu", accumulate=2),
        run_folder=folder,
        callbacks=callbacks,
        quiet=True,
    )


class StopAfter(Callback):
    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == 3:
            state.request_stop("enough")


def density_by_hand(packed: Tensor, height_m: float, sample: int, row: int, column: int) -> Tensor:
    centres, spreads, shares = packed[sample, :, row, column].double().view(3, -1)
    z = (height_m - centres) / spreads
    return (shares * torch.exp(-z) / (spreads * (1 + torch.exp(-z)) ** 2)).sum()


# --- the task ---------------------------------------------------------------------------------------------------------


def test_the_likelihood_alone_is_the_mean_of_minus_the_log_density_of_valid_pixels() -> None:
    task, batch = task_of(), Invented().batch(1)
    outputs = task.build_model(network(), 1, 2)(batch.image, batch.condition)
    assert outputs.shape == (2, 9, SIDE, SIDE)
    each = [
        -torch.log(density_by_hand(outputs, float(batch.target[index]), *index))
        for index in map(tuple, batch.valid.nonzero().tolist())
    ]
    output = task.loss(outputs, batch)
    assert output.total.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    assert list(output.terms) == ["likelihood"]
    assert {name: (term.factor, term.per) for name, term in task.loss_terms.items()} == {"likelihood": (1, "positions")}


def test_terms_beside_the_likelihood_see_the_logits_of_the_heights_asked() -> None:
    batch = Invented(heights_m=HEIGHTS).batch(1)
    task = task_of(BESIDE)
    model = task.build_model(network(), 1, 2).eval()
    packed = model(batch.image, batch.condition)
    plain = build_task(HeightGapsTask(heights_m=HEIGHTS), CombinedLossConfig(), MetricsConfig(), network())
    logits = HeightMixture.unpacked(packed).logits_below(batch.condition)
    found, expected = task.loss(packed, batch), plain.loss(logits, batch)
    for name in ("bce", "dice", "focal"):
        assert torch.equal(found.terms[name], expected.terms[name]), name
    total = sum(BESIDE[name] * value for name, value in found.terms.items())
    assert float(found.total.detach()) == pytest.approx(float(total))


@pytest.mark.parametrize("weights", [ALONE, BESIDE])
def test_every_weight_receives_a_gradient_and_pixels_that_do_not_count_give_none(weights: dict[str, float]) -> None:
    task, batch = task_of(weights), Invented().batch(3)
    model = task.build_model(network(), 1, 2)
    outputs = model(batch.image, batch.condition)
    outputs.retain_grad()
    task.loss(outputs, batch).total.backward()
    assert not outputs.grad.permute(0, 2, 3, 1)[~batch.valid].any()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("weights", [ALONE, BESIDE])
@pytest.mark.parametrize("learn_weights", [False, True])
def test_groups_of_batches_equal_one_big_batch(weights: dict[str, float], learn_weights: bool) -> None:
    task = task_of(weights, learn_weights=learn_weights)
    model = task.build_model(network(), 1, 2).double().eval()
    group = [Invented().batch(seed) for seed in (0, 1, 3)]

    def gradients(batches: list[Batch]) -> list[Tensor]:
        model.zero_grad()
        totals = task.loss_weights(batches)
        for batch in batches:
            task.loss(model(batch.image.double(), batch.condition), batch, totals).total.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    for parts, whole in zip(gradients(group), gradients([joined(group)]), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_a_mixed_sample_costs_the_shares_of_both_truths() -> None:
    task, one, other = task_of(), Invented().batch(0), Invented().batch(4)
    outputs = task.build_model(network(), 1, 2)(one.image, one.condition)
    share = torch.tensor([0.25, 0.25])
    mixed = Batch(
        one.image, one.target, one.valid, one.condition, one.where, mix=Mixed(other.target, other.valid, share)
    )
    second = Batch(one.image, other.target, other.valid, one.condition, one.where)
    expected = 0.25 * task.loss(outputs, one).total + 0.75 * task.loss(outputs, second).total  # all pixels count
    torch.testing.assert_close(task.loss(outputs, mixed).total, expected)


def test_weights_of_heights_leave_the_likelihood_alone() -> None:
    section = CombinedLossConfig(**BESIDE, height_weights="rare_gaps")
    shares = {5.0: 0.05, 10.0: 0.4}
    task = build_task(HeightGapsTask(heights_m=HEIGHTS), section, MetricsConfig(), network(), gap_shares=shares)
    batch = Invented(heights_m=HEIGHTS).batch(2)
    outputs = task_of(BESIDE).build_model(network(), 1, 2)(batch.image, batch.condition)
    plain, weighed = task_of(BESIDE).loss(outputs, batch), task.loss(outputs, batch)
    torch.testing.assert_close(weighed.terms["likelihood"], plain.terms["likelihood"])
    assert weighed.terms["bce"] != plain.terms["bce"]


def test_scores_and_decoding_are_those_of_the_same_network_giving_logits() -> None:
    heights = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0)  # as many as the channels of three components
    batch = Invented(heights_m=heights).batch(2)
    task = task_of().at_heights(heights)
    model = task.build_model(network(), 1, 2).eval()
    packed = model(batch.image, batch.condition)
    predicting = task_from_dict(task.to_dict())
    model.gives_mixture = False
    logits = model(batch.image, batch.condition)
    assert torch.equal(task.decode(packed, heights).probs, predicting.decode(logits, heights).probs)
    assert int(task.decode(packed).violations.sum()) == 0
    meters = task.meters(), task.meters()
    task.update(meters[0], packed, batch)
    predicting.update(meters[1], logits, batch)
    assert meters[0].compute() == pytest.approx(meters[1].compute(), abs=0, nan_ok=True)


def test_other_networks_and_outputs_are_refused() -> None:
    task, batch = task_of(), Invented().batch(0)
    with pytest.raises(ModelError, match=r"loss.likelihood is taken of a distribution.*film_unet does not give"):
        task.build_model(FilmUNetConfig(base_channels=4, depth=1), 1)
    with pytest.raises(ShapeError, match=r"is not \(B, 3 M, H, W\)"):
        task.loss(torch.zeros(2, 4, SIDE, SIDE), batch)
    with pytest.raises(ShapeError, match="the batch needs"):
        task.loss(torch.zeros(2, 9, SIDE, SIDE + 1), batch)


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [ALONE, BESIDE])
def test_a_run_stopped_inside_continues_bit_for_bit(tmp_path: Path, weights: dict[str, float]) -> None:
    through = trainer_for(weights=weights)
    result = through.train()
    folder = RunFolder.create(tmp_path, "stopped")
    trainer_for(folder, StopAfter(), weights=weights).train()
    second = trainer_for(folder, weights=weights)
    second.resume()
    again = second.train()
    for name, value in through.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert again.best_score == result.best_score
    assert "val/loss/likelihood" in again.history[-1]
    model = second.best_model()
    assert isinstance(model, HeightCdf)
    assert model(torch.zeros(1, 1, SIDE, SIDE), torch.tensor([[5.0, 7.0]])).shape == (1, 2, SIDE, SIDE)


def train_by_command(folder: Path, *more: str) -> int:
    settings = {
        "task.heights_m": "[5, 10, 15]",
        "data.folder": str(folder / "data"),
        "data.tiles.size_px": "32",
        "data.loader.samples_per_epoch": "64",
        "model.kind": "height_cdf",
        "model.base_channels": "4",
        "model.depth": "2",
        "optim.optimizer.lr": "0.01",
        "loss.likelihood": "1",
        "loss.bce": "0",
        "loss.dice": "0",
        "loss.focal": "0",
        "training.epochs": "3",
        "training.threads": "1",
        "metrics.bootstrap": "100",
        "tracking.quiet": "true",
        "tracking.output_dir": str(folder / "runs"),
    }
    path = folder / "run.yaml"
    path.write_text("name: run\n", "utf-8")
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return main(["train", str(path), *words, *more])


def test_the_command_trains_by_likelihood_alone_and_its_model_predicts(tmp_path: Path) -> None:
    write_forest(tmp_path / "data", size_px=448, seed=4)
    assert train_by_command(tmp_path) == 0
    (run,) = find_runs(tmp_path / "runs")
    history = read_history(run.history)
    assert history[-1]["val/loss/likelihood"] < history[0]["val/loss/likelihood"]
    predictor = Predictor.load(run.path)
    logits = predictor.logits(torch.zeros(1, predictor.card.in_channels, 32, 32), (5.0, 7.5))
    assert logits.shape == (1, 2, 32, 32)
    assert bool((logits[:, 0] <= logits[:, 1]).all())
    numbers = json.loads((run.path / "evaluation.json").read_text())
    assert main(["evaluate", str(run.path), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["model"] == numbers["model"]


def test_the_likelihood_of_a_network_without_distribution_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_forest(tmp_path / "data", size_px=128, seed=4)
    assert train_by_command(tmp_path, "--set", "model.kind=film_unet") != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "model.kind film_unet gives no distribution of heights" in said
    assert not (tmp_path / "runs").exists()
