"""A loop of one's own with TrainingManager: scores, history, checkpoints, schedules, resume."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.errors import CheckpointError, ConfigError, RunError, TrainingError
from maskwright.losses import DiceLoss
from maskwright.tracking import RunFolder, read_events, read_history
from maskwright.training import TrainingManager, create_training_manager, quick_training_setup

torch.set_num_threads(1)


class Net(nn.Module):
    """Counts its forward passes; with batch statistics and dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Conv2d(4, 1, 1)
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.body(image))


def net(seed: int = 0, dropout: float = 0.0) -> Net:
    torch.manual_seed(seed)
    return Net(dropout)


def pairs(count: int = 6, seed: int = 1) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 1, 8, 8, generator=generator)
    return TensorDataset(image, (image > 0.3).float())


def loader(count: int = 6, seed: int = 1, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(pairs(count, seed), batch_size=2, shuffle=shuffle)


def run_epochs(
    manager: TrainingManager, model: nn.Module, optimizer: Any, scheduler: Any, epochs: range, shuffle: bool = False
) -> Iterator[dict[str, Any]]:
    """The documented loop."""
    train, val = loader(shuffle=shuffle), loader(4, seed=2)
    for epoch in epochs:
        for inputs, targets in train:
            step = manager.train_step(model, (inputs, targets), optimizer, "cpu")
        if scheduler is not None:
            scheduler.step()
        found = manager.validation_step(model, val, "cpu")
        manager.save_checkpoint(model, optimizer, scheduler, epoch, found)
        yield manager.end_epoch(epoch, step, found)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def test_the_documented_loop_learns_and_leaves_one_entry_per_epoch(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path / "out", "vessels"), net()
    entries = list(run_epochs(manager, model, adam(model), None, range(12)))
    assert [entry["epoch"] for entry in read_history(manager.folder.history)] == list(range(1, 13))
    assert entries[-1]["val/dice"] > entries[0]["val/dice"]
    summary = manager.get_training_summary()
    assert summary["training_progress"]["total_epochs"] == 12
    assert summary["training_progress"]["global_step"] == 36
    assert summary["model_info"]["best_metric"] == max(entry["val/dice"] for entry in entries)
    assert 1 <= summary["checkpoint_info"]["total_checkpoints"] <= 6


def test_a_step_is_one_forward_pass_and_tells_components_dice_and_accuracy(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    inputs, targets = next(iter(loader()))
    with torch.no_grad():
        logits = model(inputs)
    model = net()
    step = manager.train_step(model, (inputs, targets), adam(model), "cpu")
    assert model.calls == 1
    assert set(step) == {"loss", "bce_loss", "dice_loss", "dice", "accuracy", "grad_norm"}
    assert step["loss"] == pytest.approx(0.7 * step["dice_loss"] + 0.3 * step["bce_loss"])
    assert step["bce_loss"] == pytest.approx(float(nn.functional.binary_cross_entropy_with_logits(logits, targets)))
    said = logits > 0
    hits = float((said & (targets == 1)).sum())
    assert step["dice"] == pytest.approx(2 * hits / float(said.sum() + targets.sum()))
    assert step["accuracy"] == pytest.approx(float((said == (targets == 1)).float().mean()))


def test_validation_is_counted_over_the_epoch_and_not_averaged_over_batches(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    image, target = pairs(5).tensors
    target = target.clone()
    target[4, :, :, :4] = 255  # the last batch is one image, half of which does not count
    batches = [(image[:2], target[:2]), (image[2:4], target[2:4]), (image[4:], target[4:])]
    found = manager.validation_step(model, batches)
    whole = manager.validation_step(model, [(image, target)])
    assert found == pytest.approx(whole, rel=1e-5)
    assert set(found) == {"val_loss", "val_bce_loss", "val_dice_loss", "val_dice", "val_accuracy"}
    with torch.no_grad():
        logits = model.eval()(image)
    counts = target != 255
    expected = nn.functional.binary_cross_entropy_with_logits(logits[counts], target[counts])
    assert found["val_bce_loss"] == pytest.approx(float(expected), rel=1e-5)
    hits = float(((logits > 0) & (target == 1)).sum())
    assert found["val_dice"] == pytest.approx(2 * hits / float(((logits > 0) & counts).sum() + (target == 1).sum()))


def test_validation_puts_every_module_back_into_its_former_mode(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    model.train()
    model.body[1].eval()  # a frozen norm stays frozen
    manager.validation_step(model, loader())
    assert model.training
    assert model.body[3].training
    assert not model.body[1].training


def test_a_model_left_in_evaluation_mode_is_trained_in_training_mode_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net().eval()
    manager.train_step(model, next(iter(loader())), adam(model))
    assert model.training
    assert "The model was in evaluation mode at a training step" in caplog.text


def test_the_history_holds_averages_of_the_epoch_and_not_the_last_batch(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    steps = [manager.train_step(model, batch, optimizer) for batch in loader()]
    entry = manager.end_epoch(0, steps[-1], {"val_dice": 0.5})
    assert entry["train/loss/bce"] == pytest.approx(sum(step["bce_loss"] for step in steps) / 3)
    assert entry["train/loss/bce"] != steps[-1]["bce_loss"]
    assert entry["val/dice"] == 0.5
    assert entry["train/loss_weight/dice"] == pytest.approx(0.7)
    assert "train/grad_norm" not in entry


def test_accumulation_with_a_shorter_last_group_equals_big_batches(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv(image)

    image, target = pairs(6).tensors
    small, big = Plain(), Plain()
    accumulated = TrainingManager(tmp_path / "a", "m", accumulate=2, clip_norm=0.1)
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    for index in range(3):
        accumulated.train_step(small, (image[2 * index : 2 * index + 2], target[2 * index : 2 * index + 2]), optimizer)
    assert accumulated.global_step == 1
    accumulated.end_epoch(0)
    assert accumulated.global_step == 2
    plain = TrainingManager(tmp_path / "b", "m", clip_norm=0.1)
    optimizer = torch.optim.SGD(big.parameters(), lr=0.1)
    plain.train_step(big, (image[:4], target[:4]), optimizer)
    plain.train_step(big, (image[4:], target[4:]), optimizer)
    assert torch.allclose(small.conv.weight, big.conv.weight, atol=1e-6)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("strategy", ["best", "epoch"])
def test_a_resumed_loop_ends_with_the_same_weights_bit_for_bit(tmp_path: Path, strategy: str, shuffle: bool) -> None:
    def parts(folder: str, seed: int) -> tuple[TrainingManager, nn.Module, Any, Any]:
        manager = TrainingManager(tmp_path / folder, "m", accumulate=2)
        manager.setup_loss_function({"dice_weight": 0.7, "bce_weight": 0.3, "scheduler": {"type": "cosine"}})
        manager.setup_checkpointing({"save_strategy": strategy, "max_checkpoints": 2})
        model = net(seed, dropout=0.3)
        optimizer = adam(model)
        return manager, model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=7)

    manager, whole, optimizer, scheduler = parts("whole", 0)
    expected = list(run_epochs(manager, whole, optimizer, scheduler, range(6), shuffle))
    manager, model, optimizer, scheduler = parts("broken", 0)
    running = run_epochs(manager, model, optimizer, scheduler, range(6), shuffle)
    for _ in range(3):
        next(running)
    for _ in range(2):  # a step of the fourth epoch that a kill makes undone
        manager.train_step(model, next(iter(loader())), optimizer)
    manager, resumed, optimizer, scheduler = parts("broken", 99)
    torch.manual_seed(5)
    done = manager.resume(resumed, optimizer, scheduler)
    assert done == 3
    entries = list(run_epochs(manager, resumed, optimizer, scheduler, range(done, 6), shuffle))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    drop = {"elapsed_s"}
    for entry, other in zip(entries, expected[3:], strict=True):
        assert {k: v for k, v in entry.items() if k not in drop} == {k: v for k, v in other.items() if k not in drop}
    assert [entry["epoch"] for entry in manager.history.entries] == [1, 2, 3, 4, 5, 6]


def test_a_kill_between_checkpoint_and_end_of_epoch_loses_neither_entry_nor_schedule_step(tmp_path: Path) -> None:
    config = {"dice_weight": 0.7, "bce_weight": 0.3, "scheduler": {"type": "adaptive"}}
    manager, model = quick_training_setup(tmp_path, "m"), net()
    loss = manager.setup_loss_function(config)
    optimizer = adam(model)
    manager.train_step(model, next(iter(loader())), optimizer)
    manager.save_checkpoint(model, optimizer, None, 0, {"val_dice": 0.9})
    assert manager.history.entries == ()
    again = quick_training_setup(tmp_path, "m")
    loss = again.setup_loss_function(config)
    assert again.resume(model, optimizer) == 1
    assert [entry["val/dice"] for entry in again.history.entries] == [0.9]
    assert loss.weights["dice"] == pytest.approx(0.77)


def test_the_loss_schedule_moves_once_an_epoch(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    loss = manager.setup_loss_function({"dice_weight": 0.7, "bce_weight": 0.3, "scheduler": {"type": "adaptive"}})
    optimizer, seen = adam(model), []
    for epoch in range(3):
        manager.train_step(model, next(iter(loader())), optimizer)
        manager.end_epoch(epoch, {}, {"val_dice": 0.85})
        manager.end_epoch(epoch, {}, {"val_dice": 0.85})  # a second call changes nothing
        seen.append(round(loss.weights["dice"], 4))
    assert seen == [0.77, 0.847, 0.9]
    assert len(manager.history.entries) == 3
    assert manager.history.entries[0]["train/loss_weight/dice"] == pytest.approx(0.7)


def test_twelve_improving_epochs_leave_at_most_five_files_and_the_aliases(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    optimizer = adam(model)
    for epoch in range(12):
        manager.train_step(model, next(iter(loader())), optimizer)
        assert manager.save_checkpoint(model, optimizer, None, epoch, {"val_dice": 0.1 + 0.05 * epoch}) is not None
        manager.end_epoch(epoch, {}, {"val_dice": 0.1 + 0.05 * epoch})
    files = sorted(path.name for path in manager.folder.checkpoints.glob("*.pt"))
    assert files == [
        "checkpoint_best.pt",
        *(f"checkpoint_epoch_{number:04d}.pt" for number in range(8, 13)),
        "checkpoint_latest.pt",
    ]
    assert manager.get_checkpoint_summary()["total_checkpoints"] == 5
    assert manager.get_training_summary()["model_info"]["best_metric"] == pytest.approx(0.65)


def test_the_export_holds_the_documented_keys_and_ends_the_run(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    list(run_epochs(manager, model, adam(model), None, range(2)))
    assert RunFolder.open(tmp_path).record.status() == "running"
    told = json.loads(manager.export_training_data().read_text())
    assert told["training_progress"]["total_epochs"] == len(told["training_history"]) == 2
    assert told["model_info"]["best_metric"] == max(entry["val/dice"] for entry in told["training_history"])
    assert told["checkpoint_info"] == manager.get_checkpoint_summary()
    assert RunFolder.open(tmp_path).record.status() == "finished"
    assert [row["epoch"] for row in read_events(manager.folder.events) if row["kind"] == "epoch"] == [1, 2]


def test_any_module_can_be_the_loss(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    for loss, keys in (
        (nn.BCEWithLogitsLoss(), {"loss", "dice", "accuracy", "grad_norm"}),
        (DiceLoss(), {"loss", "dice_loss", "dice", "accuracy", "grad_norm"}),
    ):
        manager.setup_loss_function(loss)
        assert set(manager.train_step(model, next(iter(loader())), adam(model))) == keys
    manager.setup_loss_function({"type": "cross_entropy"})
    classes = nn.Conv2d(1, 3, 1)
    target = torch.randint(0, 3, (2, 8, 8))
    step = manager.train_step(classes, (torch.randn(2, 1, 8, 8), target), adam(classes))
    assert 0 <= step["dice"] <= 1
    assert 0 <= step["accuracy"] <= 1


def test_an_empty_validation_loader_is_an_error(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    with pytest.raises(TrainingError, match=r"The validation loader gave no batch, so there is nothing to score"):
        manager.validation_step(model, [])


def test_an_epoch_without_a_training_step_is_an_error(tmp_path: Path) -> None:
    manager = quick_training_setup(tmp_path, "m")
    with pytest.raises(TrainingError, match=r"Nothing was trained in epoch 1: the train loader gave no batch"):
        manager.end_epoch(0, {}, {"val_dice": 0.5})


def test_a_monitor_that_is_never_computed_is_an_error_that_lists_what_is(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    manager.setup_checkpointing({"monitor_metric": "val_dise"})
    optimizer = adam(model)
    manager.train_step(model, next(iter(loader())), optimizer)
    with pytest.raises(ConfigError) as caught:
        manager.save_checkpoint(model, optimizer, None, 0, {"val_dice": 0.5, "val_iou": 0.3})
    assert str(caught.value).startswith('monitor "val/dise" is never computed (checkpointing.monitor_metric).')
    assert "val/dice, val/iou" in str(caught.value)


def test_an_epoch_that_was_not_validated_is_no_error_and_can_be_resumed(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    optimizer = adam(model)
    step = manager.train_step(model, next(iter(loader())), optimizer)
    assert manager.save_checkpoint(model, optimizer, None, 0, step) is None
    manager.end_epoch(0, step)
    assert manager.get_checkpoint_summary()["total_checkpoints"] == 0
    assert quick_training_setup(tmp_path, "m").resume(model, optimizer) == 1


def test_a_loss_that_is_not_finite_stops_and_leaves_the_weights(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), nn.Conv2d(1, 1, 1)
    manager.setup_loss_function(nn.MSELoss())
    before = model.weight.clone()
    with pytest.raises(TrainingError, match=r"not finite in step 1 \(loss inf"):
        manager.train_step(model, (torch.full((1, 1, 4, 4), 3e38), torch.zeros(1, 1, 4, 4)), adam(model))
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss_preset": "dice_focussed"}, "loss preset 'dice_focussed' is unknown. Available: "),
        ({"checkpoint_preset": "often"}, "checkpoint preset 'often' is unknown. Available: standard, frequent"),
        ({"checkpoint_preset": {"max_checkpoint": 3}}, "unknown setting 'max_checkpoint'. Did you mean max_checkpoin"),
        ({"checkpoint_preset": {"save_strategy": "nightly"}}, "checkpoint strategy 'nightly' is unknown"),
        ({"checkpoint_preset": {"max_checkpoints": 0}}, "max_checkpoints is 0, but must be a whole number from 1"),
        ({"checkpoint_preset": {"manager_type": "auto", "auto_strategy": "best"}}, "auto_strategy 'best' is unknown"),
        ({"checkpoint_preset": {"auto_strategy": "adaptive", "save_strategy": "best"}}, "give one of them"),
        ({"enhanced": True}, "enhanced=True asks for tracking by MLflow, which this version does not have"),
    ],
)
def test_wrong_words_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_training_manager(tmp_path / "out", "m", **options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("config", "strategy"),
    [
        ("standard", "best"),
        ("frequent", "epoch"),
        ("performance", "performance_based"),
        ("time_based", "time_based"),
        ({"manager_type": "auto", "auto_strategy": "adaptive", "max_checkpoints": 3}, "adaptive"),
        ({"manager_type": "auto"}, "adaptive"),
        ({"save_strategy": "interval", "save_interval": 2}, "interval"),
    ],
)
def test_checkpoint_settings_choose_the_strategy(tmp_path: Path, config: Any, strategy: str) -> None:
    manager = create_training_manager(tmp_path, "m", checkpoint_preset=config)
    assert manager.checkpoint_manager.store.strategy == strategy
    assert manager.checkpoint_manager.monitor == "val/dice"


def test_optimizer_and_schedule_are_left_out_when_asked(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    manager.setup_checkpointing({"save_optimizer": False, "save_scheduler": False})
    optimizer = adam(model)
    manager.train_step(model, next(iter(loader())), optimizer)
    path = manager.save_checkpoint(model, optimizer, None, 0, {"val_dice": 0.5})
    with pytest.raises(CheckpointError, match=r"holds no state of the optimizer: it was saved without"):
        manager.checkpoint_manager.load_checkpoint(path, model, optimizer)
    assert manager.checkpoint_manager.load_checkpoint(path, model)["epoch"] == 1


def test_another_living_process_in_the_folder_is_refused(tmp_path: Path) -> None:
    quick_training_setup(tmp_path, "m").folder.record.update(pid=1, process=None, status="running")
    from maskwright.tracking.environment import process_mark

    RunFolder.open(tmp_path).record.update(process=process_mark(1))
    with pytest.raises(RunError, match=r"is busy: process 1"):
        quick_training_setup(tmp_path, "m")


def test_a_batch_that_is_no_pair_is_refused(tmp_path: Path) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()
    with pytest.raises(TrainingError, match=r"A batch is a Tensor and not a pair of inputs and targets"):
        manager.train_step(model, torch.zeros(2, 1, 8, 8), adam(model))


def test_full_disks_do_not_cost_the_history(tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, model = quick_training_setup(tmp_path, "m"), net()

    def refuse(entry: Any) -> None:
        manager.history._entries.append(dict(entry))
        raise RunError("the disk is full")

    monkeypatch.setattr(manager.history, "append", refuse)
    manager.train_step(model, next(iter(loader())), adam(model))
    with caplog.at_level(logging.WARNING):
        assert manager.end_epoch(0, {}, {"val_dice": 0.5})["val/dice"] == 0.5
    assert "The history was not written in epoch 1: the disk is full" in caplog.text
