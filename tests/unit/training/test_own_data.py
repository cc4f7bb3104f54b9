"""The everyday Trainer for models and loaders that come from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.config.training import TrainingConfig
from maskwright.errors import ConfigError, ShapeError, TrainingError
from maskwright.losses import DiceLoss
from maskwright.tracking import RunFolder
from maskwright.training import Callback, PairBatches, train_model, trainer_for

torch.set_num_threads(1)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 1, 1))


def loader(count: int = 6, seed: int = 1, shuffle: bool = False) -> DataLoader[Any]:
    image = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(image, (image > 0.3).float()), batch_size=2, shuffle=shuffle)


def settings(epochs: int = 3, **training: Any) -> dict[str, Any]:
    return {
        "training": {"epochs": epochs, "device": "cpu", **training},
        "optim": {"optimizer": {"lr": 1e-2}, "schedule": {"kind": "constant"}},
    }


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.step:
            state.request_stop("stop command")


def test_a_plain_model_learns_from_plain_pairs() -> None:
    model, history = train_model(
        net(), settings(8), loader(shuffle=True), loader(4, 2), test_loader=loader(4, 3), quiet=True
    )
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert history[-1]["train/loss"] < history[0]["train/loss"]
    assert 0 <= history[-1]["test/iou"] <= 1
    assert list(model.state_dict()) == list(net().state_dict())
    assert not model.training


def test_a_run_stopped_inside_an_epoch_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    def trainer(name: str, seed: int, *callbacks: Callback) -> Any:
        folder = RunFolder.adopt(tmp_path / name, name)
        config, train = settings(3, accumulate=2), loader(10, shuffle=True)
        return trainer_for(net(seed), config, train, loader(4, 2), run_folder=folder, callbacks=callbacks, quiet=True)

    whole = trainer("whole", 0)
    whole.train()
    broken = trainer("broken", 0, StopAt(5))
    assert broken.train().stopped
    torch.manual_seed(77)
    resumed = trainer("broken", 9)
    resumed.resume()
    resumed.train()
    for name, value in whole.best_model().state_dict().items():
        assert torch.equal(value, resumed.best_model().state_dict()[name])
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    batches = PairBatches(loader(8, shuffle=True), seed=3)
    first = [batch.image for batch in batches.batches(1)]
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    again = [batch.image for batch in batches.batches(1, start=2)]
    assert torch.equal(torch.rand(1), drawn)  # reading moves nobody else's random numbers
    assert all(torch.equal(one, other) for one, other in zip(first[2:], again, strict=True))
    other = [batch.image for batch in batches.batches(2)]
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_optimizer_schedule_and_loss_of_ones_own_are_used() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)
    trainer = trainer_for(
        model, settings(2), loader(), loader(), optimizer=optimizer, scheduler=schedule, loss_fn=DiceLoss(), quiet=True
    )
    history = trainer.train().history
    assert [entry["lr/0"] for entry in history] == pytest.approx([0.05, 0.005])
    assert {name for name in history[0] if name.startswith("train/loss/")} == {"train/loss/dice"}


def test_several_classes_and_ignored_pixels() -> None:
    image = torch.randn(4, 1, 8, 8)
    target = (image[:, 0] > 0).long() + (image[:, 0] > 1).long()
    target[:, :2] = 255
    pairs = DataLoader(TensorDataset(image, target), batch_size=2)
    model = nn.Conv2d(1, 3, 1)
    _, history = train_model(
        model, settings(2), pairs, pairs, classes=("low", "mid", "high"), loss_fn={"type": "cross_entropy"}, quiet=True
    )
    assert "val/miou" in history[-1]


def test_settings_may_be_sections_and_unknown_ones_are_refused() -> None:
    trainer = trainer_for(net(), {"training": TrainingConfig(epochs=1, device="cpu")}, loader(), device="cpu")
    assert trainer.training.epochs == 1
    with pytest.raises(ConfigError, match=r"config: unknown section 'optimiser'. Available: training, optim"):
        trainer_for(net(), {"optimiser": {}}, loader())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss_fn is a BCEWithLogitsLoss. Give a loss of maskwright.losses"):
        trainer_for(net(), None, loader(), loss_fn=nn.BCEWithLogitsLoss())  # type: ignore[arg-type]
    pairs = DataLoader(TensorDataset(torch.zeros(2, 1, 8, 8), torch.zeros(2, 4, 4)), batch_size=2)
    with pytest.raises(ShapeError, match=r"Inputs \(2, 1, 8, 8\) and targets \(2, 4, 4\) do not fit together"):
        list(PairBatches(pairs))
    with pytest.raises(TrainingError, match=r"There is nothing to test on"):
        trainer_for(net(), settings(), loader(), quiet=True).test()


def test_gradient_checkpointing_changes_no_number() -> None:
    from maskwright.models import UNet

    def trained(**training: Any) -> nn.Module:
        torch.manual_seed(0)
        model = UNet(in_channels=1, num_classes=1, base_channels=4, depth=2)
        train_model(model, settings(1, **training), loader(), loader(), quiet=True)
        return model

    plain, saving = trained(), trained(gradient_checkpointing=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, saving.state_dict()[name]), name
