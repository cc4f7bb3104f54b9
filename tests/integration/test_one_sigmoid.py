"""Known logits give the hand value wherever scores and probabilities come out: no path takes a second sigmoid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OptimConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.tasks import build_task
from maskwright.training import Trainer
from maskwright.types import Batch, Place, Window

# Two gap pixels with logits 1 and -1, two others with logits 1 and -1: one hit, one miss, one false alarm, IoU 1/3.
# A second sigmoid would turn -1 into 0.57 and call everything a gap: IoU 2/4.
KNOWN = Batch(
    image=torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 2, 2),
    target=torch.tensor([1.0, 1.0, 20.0, 20.0]).view(1, 2, 2),
    valid=torch.ones(1, 2, 2, dtype=torch.bool),
    condition=torch.tensor([[10.0]]),
    where=(Place("known", Window(0, 0, 2, 2)),),
)


class Echo(nn.Module):
    """Answers with the image; one weight, so that there is something to train."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return image + self.shift


class One:
    """The known batch and nothing else."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        return iter([KNOWN])

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self)


@pytest.fixture
def trainer() -> Trainer:
    task = build_task(HeightGapsTask(heights_m=(10.0,)), CombinedLossConfig(), MetricsConfig(), FilmUNetConfig())
    still = OptimConfig(optimizer=AdamWConfig(lr=1e-12, weight_decay=0.0), schedule=ConstantSchedule())
    return Trainer(task, Echo(), One(), One(), training=TrainingConfig(epochs=1, device="cpu"), optim=still, quiet=True)


def test_in_validation(trainer: Trainer) -> None:
    assert trainer.train().history[0]["val/iou"] == pytest.approx(1 / 3)


def test_in_the_test(trainer: Trainer) -> None:
    assert trainer.test(One())["test/iou"] == pytest.approx(1 / 3)


def test_in_prediction(trainer: Trainer) -> None:
    probs = trainer.predict(KNOWN.image, (10.0,)).probs
    assert probs.flatten().tolist() == pytest.approx([0.7310586, 0.2689414, 0.7310586, 0.2689414], abs=1e-5)


def test_in_the_loss(trainer: Trainer) -> None:
    # Cross entropy of the four pixels: -log of 0.731, 0.269, 0.269, 0.731.
    loss = trainer.task.loss(KNOWN.image, KNOWN)
    assert float(loss.terms["bce"]) == pytest.approx((0.3132617 + 1.3132617) / 2, abs=1e-6)
