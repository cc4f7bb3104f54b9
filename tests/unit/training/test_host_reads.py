"""What training reads back from its device: nothing for a batch, one look for an update.

Two oracles. Tensors on torch's ``meta`` device have a shape and no values, so whatever needs one raises, in Python and
inside torch's operations: work that runs through there never waits for a device. Where values are needed, looks are
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.config.task import BinaryTask, HeightGapsTask, MulticlassTask, MultilabelTask
from maskwright.config.training import TrainingConfig
from maskwright.data.augment import augment
from maskwright.data.balance import rng
from maskwright.data.image_augment import ImageChanger
from maskwright.data.sampling import Draw, ImageAugment, draw_change
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder
from maskwright.training import Trainer
from maskwright.training.averages import LossSums
from maskwright.types import Batch, Place, Window

SIDE = 16
META = torch.device("meta")
HEIGHTS = (5.0, 10.0)
KINDS: dict[str, tuple[Any, Any, Sequence[str]]] = {
    "binary": (BinaryTask(), UNetConfig(base_channels=4, depth=1), ("dark",)),
    "multiclass": (MulticlassTask(), UNetConfig(base_channels=4, depth=1), ("ground", "tree", "water")),
    "multilabel": (MultilabelTask(), UNetConfig(base_channels=4, depth=1), ("tree", "water")),
    "heights": (HeightGapsTask(heights_m=HEIGHTS), UNetConfig(base_channels=4, depth=1), ()),
    "any height": (HeightGapsTask(heights_m=HEIGHTS), FilmUNetConfig(base_channels=4, depth=1, film_hidden=4), ()),
}


def parts_of(kind: str) -> tuple[Any, Any, Batch]:
    """Task, network and a batch on the CPU."""
    settings, model, names = KINDS[kind]
    task = build_task(settings, CombinedLossConfig(), MetricsConfig(), model, names)
    heights = isinstance(settings, HeightGapsTask)
    generator = torch.Generator().manual_seed(0)
    shape = (2, SIDE, SIDE)
    batch = Batch(
        torch.rand((2, 1, SIDE, SIDE), generator=generator),
        30 * torch.rand(shape, generator=generator) if heights else torch.randint(0, 2, shape, generator=generator),
        torch.rand((2, SIDE, SIDE), generator=generator) > 0.1,
        torch.tensor(HEIGHTS).repeat(2, 1) if heights else None,
        tuple(Place("a", Window(0, n * SIDE, SIDE, SIDE)) for n in range(2)),
    )
    return task, task.build_model(model, 1, 2), batch


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_learned_from_and_counted_without_one_value_read(kind: str) -> None:
    task, network, batch = parts_of(kind)
    sums, meter = LossSums(task.loss_terms), task.meters()

    def work(batch: Batch) -> None:
        weights = task.loss_weights([batch])
        sums.begin_group(weights)
        outputs = network(batch.image, batch.condition)
        loss = task.loss(outputs, batch, weights)
        loss.total.backward()
        sums.add(loss, weights)
        sums.end_group()
        task.update(meter, outputs.detach(), batch)

    work(batch)  # the first batch is looked at: an activation at the end, heights that were not agreed
    network.to(META).zero_grad(set_to_none=True)
    for _ in range(2):
        work(batch.to(META))
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("bands", [1, 3])
def test_images_are_changed_on_the_device_without_one_value_read(bands: int) -> None:
    changes = ImageAugment(flip_p=1, turn_p=1, rotate_p=1, brightness_p=1)  # noise: meta has no generator
    place = Place("a", Window(0, 0, SIDE, SIDE))
    drawn, rotate_deg, zoom = draw_change(rng(0, 0, 0), changes)
    draw = Draw(place, (), flip_cols=True, turns=1, rotate_deg=rotate_deg, zoom=zoom, seed=7, image=drawn)
    batch = Batch(
        torch.rand(2, bands, SIDE, SIDE), torch.zeros(2, SIDE, SIDE, dtype=torch.long),
        torch.ones(2, SIDE, SIDE, dtype=torch.bool), None, (place, place),
    )  # fmt: skip
    changed = ImageChanger(changes, in_channels=bands)(batch.to(META), [draw, draw])
    assert changed.image.device == changed.target.device == changed.valid.device == META
    assert changed.image.shape == batch.image.shape


def test_heights_are_changed_on_the_device_without_one_value_read() -> None:
    place = Place("a", Window(0, 0, SIDE, SIDE))
    draw = Draw(place, (5.0,), flip_rows=True, turns=3, rotate_deg=7.0, zoom=1.1, shift_m=1.0)
    batch = Batch(
        torch.rand(2, 1, SIDE, SIDE), torch.rand(2, SIDE, SIDE), torch.ones(2, SIDE, SIDE, dtype=torch.bool),
        torch.full((2, 1), 5.0), (place, place),
    )  # fmt: skip
    changed = augment(batch.to(META), [draw, draw], pixel_size_m=(1.0, 1.0), scale_m=30.0, surface_bands=(0,))
    assert changed.image.device == META


class Asked(TorchFunctionMode):
    """Counts lists of values taken from tensors; single ones are read by parts that only run on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        self.count += getattr(func, "__name__", "") == "tolist"
        return func(*args, **(kwargs or {}))


class Same:
    """One batch, again and again."""

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch for _ in range(start, self.count))


def looks_of_a_run(folder: Path, *, batches: int, accumulate: int) -> int:
    """Looks at values in a training of one epoch with its log and its history; without validation."""
    torch.manual_seed(0)
    task, network, batch = parts_of("binary")
    trainer = Trainer(
        task,
        network,
        Same(batch, batches),
        training=TrainingConfig(epochs=1, device="cpu", accumulate=accumulate),
        monitoring=CallbacksConfig(monitor="train/loss", early_stopping=EarlyStoppingConfig(enabled=False)),
        run_folder=RunFolder.create(folder, "counted"),
        log_every_steps=1,
        quiet=True,
    )
    with Asked() as asked:
        trainer.train()
    return asked.count


def test_a_run_looks_once_for_an_update_and_never_for_a_batch(tmp_path: Path) -> None:
    """Twice the batches in as many updates need as many looks; twice the updates one more for each."""
    few = looks_of_a_run(tmp_path, batches=4, accumulate=1)
    more_batches = looks_of_a_run(tmp_path, batches=8, accumulate=2)
    more_updates = looks_of_a_run(tmp_path, batches=8, accumulate=1)
    assert more_batches == few
    assert more_updates - few == 4
