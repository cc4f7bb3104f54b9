"""A very small run for the tests of this folder: five-pixel images, a one-layer network, loaders in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from maskwright.losses import CombinedLoss
from maskwright.tasks import HeightGaps
from maskwright.training import Callback, CallbackList, Monitor, Recovery, StepUpdater, TrainState, WeightAverage
from maskwright.training.averages import LossSums
from maskwright.types import Batch, Place, Window

HEIGHT_M = 10.0


class ToyNet(nn.Module):
    """Logits that fall with the canopy; batch statistics and dropout on request."""

    def __init__(self, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.scale = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.scale.weight, -0.5)
        nn.init.constant_(self.scale.bias, 0.1)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.scale(self.drop(self.norm(image))) + 0.01 * condition[:, :, None, None]


@dataclass
class ListLoader:
    """Batches from a list; for training a function of epoch and position."""

    items: Sequence[Batch]
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.items)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self.asked.append((epoch, start))
        order = [(position + epoch) % len(self.items) for position in range(len(self.items))]
        return iter([self.items[index] for index in order[start:]])


@dataclass
class Toy:
    """Builds the parts of a run."""

    task: HeightGaps

    def net(self, norm: bool = False, dropout: float = 0.0) -> ToyNet:
        torch.manual_seed(0)
        return ToyNet(norm, dropout)

    def run_batch(self, state: TrainState, batch: Batch, weights: Mapping[str, Tensor]) -> None:
        loss = self.task.loss(state.model(batch.image, batch.condition), batch, weights)
        state.updater.backward(loss.total)
        state.sums.add(loss, weights)

    def batch(self, seed: int, samples: int = 2, valid_share: float = 0.8) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        canopy = 20 * torch.rand(samples, 5, 5, generator=generator)
        valid = torch.rand(samples, 5, 5, generator=generator) < valid_share
        valid[0, 0, 0] = True
        where = tuple(Place("toy", Window(seed, 8 * n, 5, 5)) for n in range(samples))
        image = torch.where(valid, canopy / HEIGHT_M - 1, 0).unsqueeze(1)
        return Batch(image, torch.where(valid, canopy, 0), valid, torch.full((samples, 1), HEIGHT_M), where)

    def loader(self, count: int, samples: int = 2) -> ListLoader:
        shares = (0.9, 0.3, 0.6, 0.1)
        return ListLoader([self.batch(seed, samples, shares[seed % len(shares)]) for seed in range(count)])

    def state(
        self,
        model: nn.Module | None = None,
        *,
        lr: float = 0.1,
        epochs: int = 3,
        batches: int = 4,
        schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
        monitor: Monitor | None = None,
        recovery: Recovery | None = None,
        average: float | None = None,
        **updater: Any,
    ) -> TrainState:
        model = ToyNet() if model is None else model
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return TrainState(
            model,
            optimizer,
            LambdaLR(optimizer, _constant) if schedule is None else schedule(optimizer),
            StepUpdater(model.parameters(), **updater),
            LossSums(self.task.loss_terms),
            device="cpu",
            epochs=epochs,
            batches_per_epoch=batches,
            monitor=monitor or Monitor("val/iou", "max"),
            recovery=recovery,
            average=None if average is None else WeightAverage(model, average),
        )

    def callbacks(self, *callbacks: Callback) -> CallbackList:
        return CallbackList(callbacks)


def _constant(step: int) -> float:
    return 1.0


@pytest.fixture
def toy() -> Toy:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Toy(HeightGaps((HEIGHT_M,), CombinedLoss({"bce": 0.7, "dice": 0.3})))
