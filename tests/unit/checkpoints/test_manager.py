"""CheckpointManager: strategies on disk, limits, restart, what is saved and what comes back."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.checkpoints import STRATEGIES, CheckpointManager
from maskwright.errors import CheckpointError, ConfigError

torch.set_num_threads(1)


def net(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    return model


def manager(folder: Path, strategy: str = "best", count: int = 5, **options: Any) -> CheckpointManager:
    return CheckpointManager(folder, "m", strategy, count, "val_dice", "max", **options)  # type: ignore[arg-type]


def save_epochs(keeper: CheckpointManager, scores: list[float | None], first: int = 0) -> list[str | None]:
    """The type of the file of each epoch, None where the strategy did not keep it."""
    types: list[str | None] = []
    for epoch, score in enumerate(scores, start=first):
        metrics = {"val_loss": 1.0} if score is None else {"val_dice": score}
        path = keeper.save_checkpoint(net(epoch), None, None, epoch, metrics)
        kept = {entry["path"]: entry["type"] for entry in keeper.list_checkpoints()}
        types.append(None if path is None else kept[str(path)])
    return types


def numbered(folder: Path) -> list[int]:
    """Epochs, from 1, of the files beside the aliases."""
    return sorted(int(name.split("_")[2][:4]) for name in os.listdir(folder) if name.startswith("checkpoint_epoch"))


@pytest.mark.parametrize(
    ("strategy", "types"),
    [
        ("best", ["best", "best", None, None, None, "best"]),
        ("epoch", ["epoch"] * 6),
        ("interval", ["interval", "best", None, "interval", None, "best"]),
        ("all", ["best", "best", "regular", "regular", "regular", "best"]),
        ("adaptive", ["best", "best", None, None, None, "best"]),
        ("performance_based", ["best", "best", "good", None, None, "best"]),
        ("time_based", ["best", "best", None, None, None, "best"]),
    ],
)
def test_each_strategy_writes_what_its_rule_says(tmp_path: Path, strategy: str, types: list[str | None]) -> None:
    keeper = manager(tmp_path, strategy, count=9, save_interval=3)
    assert save_epochs(keeper, [0.5, 0.6, 0.58, 0.3, None, 0.7]) == types


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_twelve_improving_epochs_leave_at_most_five_files_and_the_aliases(tmp_path: Path, strategy: str) -> None:
    keeper = manager(tmp_path, strategy, count=5)
    save_epochs(keeper, [0.1 + 0.05 * epoch for epoch in range(12)])
    assert len(numbered(tmp_path)) <= 5
    assert 12 in numbered(tmp_path)
    assert (tmp_path / "checkpoint_best.pt").exists()
    assert (tmp_path / "checkpoint_latest.pt").exists()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_best_and_the_latest_are_never_deleted(tmp_path: Path, strategy: str) -> None:
    keeper = manager(tmp_path, strategy, count=2)
    save_epochs(keeper, [0.5, 0.9] + [0.4] * 30)
    assert {2, 32} <= set(numbered(tmp_path))
    assert len(numbered(tmp_path)) <= 4
    best = keeper.get_best_checkpoint_path()
    assert best is not None
    assert best.name == "checkpoint_epoch_0002.pt"
    assert keeper.get_latest_checkpoint_path() == tmp_path / "checkpoint_epoch_0032.pt"
    model = net()
    assert keeper.load_checkpoint(best, model)["epoch"] == 2
    assert float(model.weight[0, 0].detach()) == 1.0


def test_what_the_strategy_does_not_keep_is_in_the_latest_until_the_next_one(tmp_path: Path) -> None:
    keeper = manager(tmp_path)
    assert save_epochs(keeper, [0.5, 0.4, 0.3]) == ["best", None, None]
    assert numbered(tmp_path) == [1, 3]
    assert [entry["epoch"] for entry in keeper.list_checkpoints()] == [1]
    model = net()
    assert keeper.load_checkpoint(None, model)["epoch"] == 3
    assert float(model.weight[0, 0].detach()) == 2.0


@pytest.mark.parametrize("is_manifest_lost", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_new_manager_on_the_folder_goes_on_as_the_old_one(
    tmp_path: Path, strategy: str, is_manifest_lost: bool
) -> None:
    scores: list[float | None] = [0.5, 0.6, 0.58, 0.3, 0.59, 0.61, 0.6, 0.2]
    whole = save_epochs(manager(tmp_path / "whole", strategy, 2), scores)
    before = manager(tmp_path / "broken", strategy, 2)
    first = save_epochs(before, scores[:4])
    if is_manifest_lost:
        (tmp_path / "broken" / "manifest.json").unlink()
    after = manager(tmp_path / "broken", strategy, 2)
    assert after.list_checkpoints() == before.list_checkpoints()
    assert first + save_epochs(after, scores[4:], first=4) == whole
    assert numbered(tmp_path / "broken") == numbered(tmp_path / "whole")


def test_the_state_comes_back_with_optimizer_schedule_and_scores(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, Any, Any]:
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=9)

    model, optimizer, scheduler = parts()
    for _ in range(3):
        model(torch.ones(4, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    keeper = manager(tmp_path, metadata={"in_channels": 2})
    path = keeper.save_checkpoint(
        model=model, optimizer=optimizer, scheduler=scheduler, epoch=0, metrics={"val_dice": 0.85, "val_loss": 0.23}
    )
    assert path == tmp_path / "checkpoint_epoch_0001.pt"
    other, other_optimizer, other_scheduler = parts()
    info = keeper.load_checkpoint(
        checkpoint_path=path, model=other, optimizer=other_optimizer, scheduler=other_scheduler
    )
    assert torch.equal(other.weight, model.weight)
    assert other_scheduler.last_epoch == 3
    assert other_optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert (info["epoch"], info["best_metric"], info["model_name"]) == (1, 0.85, "m")
    assert info["metrics"] == {"val_dice": 0.85, "val_loss": 0.23}
    assert info["metadata"] == {"in_channels": 2}


def test_optimizer_and_schedule_are_left_out_when_asked(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    keeper = manager(tmp_path, "epoch", save_optimizer=False, save_scheduler=False)
    path = keeper.save_checkpoint(model, optimizer, scheduler, 0, {"val_dice": 0.1})
    state = torch.load(path, weights_only=True)["state"]
    assert "optimizer" not in state
    assert "scheduler" not in state
    for part in ({"optimizer": optimizer}, {"scheduler": scheduler}):
        (name,) = part
        with pytest.raises(CheckpointError, match=f"holds no state of the {name}: it was saved without"):
            keeper.load_checkpoint(path, model, **part)


def test_weights_of_a_compiled_model_keep_their_names(tmp_path: Path) -> None:
    model = torch.compile(net(3.0), backend="eager")
    keeper = manager(tmp_path)
    path = keeper.save_checkpoint(model, None, None, 0, {"val_dice": 0.1})
    assert list(torch.load(path, weights_only=True)["state"]["model"]) == ["weight", "bias"]
    plain, compiled = net(), torch.compile(net(), backend="eager")
    keeper.load_checkpoint(path, plain)
    keeper.load_checkpoint(path, compiled)
    assert float(plain.weight[0, 0].detach()) == float(compiled.weight[0, 0].detach()) == 3.0


def test_the_summary_tells_all_in_plain_values(tmp_path: Path) -> None:
    keeper = manager(tmp_path, "all", count=3)
    save_epochs(keeper, [0.5, 0.7, 0.6, 0.65, 0.1])
    summary = keeper.get_checkpoint_summary()
    assert summary["total_checkpoints"] == 4
    assert summary["best_checkpoint"] == str(tmp_path / "checkpoint_epoch_0002.pt")
    assert summary["latest_checkpoint"] == str(tmp_path / "checkpoint_epoch_0005.pt")
    assert (summary["best_metric"], summary["best_epoch"], summary["monitor_metric"]) == (0.7, 2, "val/dice")
    assert summary["epoch_range"] == [2, 5]
    assert summary["types"] == {"best": 1, "regular": 3}
    assert [entry["is_best"] for entry in summary["checkpoints"]] == [True, False, False, False]


def test_an_empty_folder_has_nothing_to_tell(tmp_path: Path) -> None:
    keeper = manager(tmp_path / "none")
    assert keeper.list_checkpoints() == []
    assert keeper.get_best_checkpoint_path() is None
    assert keeper.get_checkpoint_summary()["epoch_range"] is None
    assert not (tmp_path / "none").exists()
    with pytest.raises(CheckpointError, match=r"No whole checkpoint in"):
        keeper.load_checkpoint()


def test_a_missing_monitor_is_said_once_and_nothing_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = manager(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert save_epochs(keeper, [None, None]) == [None, None]
    assert caplog.text.count("Checkpoints are kept by val/dice, which is not among the metrics (val/loss)") == 1
    assert keeper.load_checkpoint()["epoch"] == 2


def test_the_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    save_epochs(manager(tmp_path), [0.5])
    with pytest.raises(CheckpointError, match=r"holds the checkpoints of 'm', and this manager saves 'other'"):
        CheckpointManager(tmp_path, "other")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    keeper = manager(tmp_path)
    save_epochs(keeper, [0.5])
    with pytest.raises(CheckpointError, match=r"does not fit this model"):
        keeper.load_checkpoint(None, nn.Linear(3, 1))


def test_a_damaged_file_is_never_loaded_by_name(tmp_path: Path) -> None:
    keeper = manager(tmp_path)
    save_epochs(keeper, [0.5])
    path = tmp_path / "checkpoint_epoch_0001.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: its content is not what was saved"):
        keeper.load_checkpoint(path, net())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"save_strategy": "sometimes"}, "checkpoint strategy 'sometimes' is unknown. Available: best, epoch"),
        ({"mode": "up"}, "checkpoint mode 'up' is unknown. Use min or max."),
        ({"max_checkpoints": 0}, "max_checkpoints is 0, but must be a whole number from 1."),
        ({"save_interval": 2.5}, "save_interval is 2.5, but must be a whole number from 1."),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CheckpointManager(tmp_path, "m", **options)
    assert text in str(caught.value)


def test_epochs_and_scores_must_be_numbers(tmp_path: Path) -> None:
    keeper = manager(tmp_path)
    with pytest.raises(ConfigError, match=r"epoch is -1, but must be a whole number from 0"):
        keeper.save_checkpoint(net(), None, None, -1, {})
    with pytest.raises(ConfigError, match=r"metrics: val_dice is 'high', but must be a number"):
        keeper.save_checkpoint(net(), None, None, 0, {"val_dice": "high"})  # type: ignore[dict-item]
