"""The checkpoint strategy of a run: what stays in its folder, and that a run goes on whatever was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.errors import ConfigError
from maskwright.tracking import RunFolder
from maskwright.training import Callback, Trainer, trainer_for

torch.set_num_threads(1)


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, state: Any, scores: Any) -> None:
        if state.epoch == self.epochs:
            state.request_stop("stop command")


def trainer(folder: Path, seed: int, *callbacks: Callback, epochs: int = 9, **checkpoints: Any) -> Trainer:
    image = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(image, (image > 0.3).float()), batch_size=2)
    torch.manual_seed(seed)
    config = {
        "training": {"epochs": epochs, "device": "cpu"},
        "callbacks": {"monitor": "train_loss", "mode": "max"},  # it falls, so the first epoch stays the best
        "checkpoints": checkpoints,
    }
    run_folder = RunFolder.adopt(folder, "run")
    return trainer_for(
        nn.Conv2d(1, 1, 3, padding=1), config, loader, loader, run_folder=run_folder, callbacks=callbacks, quiet=True
    )


def epochs_kept(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("_")[2]) for path in (folder / "checkpoints").glob("checkpoint_epoch_*.pt"))


@pytest.mark.parametrize(
    ("strategy", "kept"),
    [
        ("epoch", [1, 8, 9]),  # the two newest, and the best
        ("best", [1, 9]),  # the best, and the newest to go on from
        ("interval", [1, 4, 7, 9]),  # epochs 0, 3 and 6 counted from 0; the first is the best
        ("time_based", [1, 2, 6, 9]),  # milestones 1 and 5 counted from 0
        ("adaptive", [1, 9]),
    ],
)
def test_what_stays_is_what_the_strategy_wants_and_best_and_newest(
    tmp_path: Path, strategy: str, kept: list[int]
) -> None:
    trainer(tmp_path, 0, strategy=strategy, max_checkpoints=2, interval_epochs=3).train()
    assert epochs_kept(tmp_path) == kept


@pytest.mark.parametrize("strategy", ["best", "interval", "performance_based"])
def test_a_run_goes_on_bit_for_bit_from_an_epoch_the_strategy_does_not_keep(tmp_path: Path, strategy: str) -> None:
    options = {"strategy": strategy, "max_checkpoints": 2, "interval_epochs": 4}
    whole = trainer(tmp_path / "whole", 0, **options)
    whole.train()
    assert trainer(tmp_path / "broken", 0, StopAfter(7), **options).train().stopped
    resumed = trainer(tmp_path / "broken", 5, **options)
    record = resumed.resume()
    assert record is not None
    assert record.epoch == 7
    resumed.train()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert epochs_kept(tmp_path / "broken") == epochs_kept(tmp_path / "whole")


def test_skipping_epochs_does_not_go_with_a_strategy_that_chooses_among_all() -> None:
    assert CheckpointsConfig(every_epochs=5, strategy="best").every_epochs == 5
    with pytest.raises(ConfigError, match=r"every_epochs: 5 hides epochs from the strategy adaptive"):
        CheckpointsConfig(every_epochs=5, strategy="adaptive")
