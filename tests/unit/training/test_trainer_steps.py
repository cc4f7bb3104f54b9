"""What the settings of a run make of its steps: averages, policies, limits, through the everyday Trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskwright.config.training import TrainingConfig
from maskwright.errors import ConfigError, TrainingError
from maskwright.tracking import RunFolder, read_events
from maskwright.training import Callback, trainer_for

torch.set_num_threads(1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def pairs(count: int = 8, seed: int = 1, bad: int | None = None) -> DataLoader[Any]:
    image = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    target = (image > 0.3).float()
    if bad is not None:
        image[bad, 0, 3, 3] = math.nan
    return DataLoader(TensorDataset(image, target), batch_size=2)


def trainer(folder: RunFolder | None = None, *callbacks: Callback, bad: int | None = None, **training: Any) -> Any:
    settings = {
        "training": {"epochs": 3, "device": "cpu", **training},
        "optim": {"optimizer": {"lr": 1e-2}, "schedule": {"kind": "constant"}},
    }
    return trainer_for(
        net(), settings, pairs(bad=bad), pairs(4, 2), run_folder=folder, quiet=True, callbacks=list(callbacks)
    )


class Stop(Callback):
    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.at_step:
            state.request_stop("enough")


def test_the_average_has_an_entry_of_its_own_and_is_the_best_the_last_and_the_tested_model(tmp_path: Path) -> None:
    made = trainer(RunFolder.create(tmp_path, "a"), ema={"enabled": True, "decay": 0.8})
    result = made.train()
    latest = made.store.load_latest().state
    best = made.store.load_best().state
    averages = latest["ema"]["weights"]
    assert latest["ema"]["updates"] == 12
    assert list(averages) == list(latest["model"])
    assert not torch.equal(averages["0.weight"], latest["model"]["0.weight"])
    for name, value in made.last_model().state_dict().items():
        assert torch.equal(value, averages[name])
    for name, value in made.best_model().state_dict().items():
        assert torch.equal(value, best["ema"]["weights"][name])
    test = made.test(made.val_loader)
    assert test["test/loss"] == pytest.approx(result.history[-1]["val/loss"])


def test_without_a_folder_the_best_average_is_kept_in_memory() -> None:
    made = trainer(ema={"enabled": True, "decay": 0.8})
    made.train()
    assert made.state.best.epoch == 3
    for name, value in made.best_model().state_dict().items():
        assert torch.equal(value, made.state.average.weights()[name])


@pytest.mark.parametrize(
    "training",
    [
        {"ema": {"enabled": True, "decay": 0.8}, "accumulate": 3},
        {"clip_adaptive": 0.01, "clip_value": 0.1},
        {"on_nonfinite": "skip"},
    ],
)
@pytest.mark.parametrize("at_step", [1, 2, 4])
def test_stopped_and_resumed_a_run_ends_with_the_same_bits(
    training: dict[str, Any], at_step: int, tmp_path: Path
) -> None:
    bad = 5 if "on_nonfinite" in training else None
    through = trainer(RunFolder.create(tmp_path, "through"), bad=bad, **training)
    through.train()
    folder = RunFolder.create(tmp_path, "stopped")
    trainer(folder, Stop(at_step), bad=bad, **training).train()
    resumed = trainer(folder, bad=bad, **training)
    resumed.resume()
    result = resumed.train()
    assert result.skipped_steps == through.state.updater.skipped
    for name, value in through.last_model().state_dict().items():
        assert torch.equal(resumed.last_model().state_dict()[name], value)


def test_a_run_that_meets_a_bad_image_stops_skips_or_restores_as_it_is_told() -> None:
    with pytest.raises(TrainingError, match=r"first in its image, for sample 5 \(row 0, column 0, 8 x 8 px\)"):
        trainer(bad=5).train()
    result = trainer(bad=5, on_nonfinite="skip").train()
    assert (result.skipped_steps, result.restored, len(result.history)) == (3, 0, 3)
    with pytest.raises(TrainingError, match=r"restored 2 times, and again"):
        trainer(bad=5, on_nonfinite="restore", restore_times=2).train()


def test_adaptive_clipping_reaches_the_updates() -> None:
    plain, clipped = trainer(clip_norm=None), trainer(clip_norm=None, clip_adaptive=1e-4)
    assert clipped.updater.clip_adaptive == 1e-4
    plain.train()
    clipped.train()
    assert not torch.equal(
        plain.model.state_dict()["_orig_mod.0.weight"], clipped.model.state_dict()["_orig_mod.0.weight"]
    )


def test_memory_that_runs_short_is_answered_as_the_settings_say() -> None:
    def crowded(made: Any) -> Any:
        made.model.register_forward_pre_hook(_fails_above_one)
        return made

    with pytest.raises(TrainingError, match=r"Out of memory on cpu .* with 2 images of 8 x 8 px at once"):
        crowded(trainer()).train()
    made = crowded(trainer(out_of_memory="smaller"))
    made.train()
    assert made.state.micro_batch == 1


def _fails_above_one(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    if len(inputs[0]) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("clip_norm", 0), ("clip_norm", -1), ("clip_norm", "inf"), ("clip_norm", "nan"), ("clip_value", 0),
        ("clip_adaptive", 0), ("clip_adaptive", 2), ("accumulate", 0), ("ema", {"enabled": True, "decay": 1}),
        ("on_nonfinite", "ignore"), ("restore_times", 0), ("restore_lr_factor", 0), ("restore_lr_factor", 1.5),
        ("out_of_memory", "retry"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    if isinstance(value, str) and value in ("inf", "nan"):
        value = float(value)
    with pytest.raises(ConfigError, match=setting):
        TrainingConfig(**{setting: value})


class Determined(Callback):
    def __init__(self) -> None:
        self.inside: list[bool] = []

    def on_step_end(self, state: Any, outcome: Any) -> None:
        self.inside.append(torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_holds_inside_the_run_is_recorded_and_ends_with_it(wanted: bool, tmp_path: Path) -> None:
    seen, folder = Determined(), RunFolder.create(tmp_path, "a")
    trainer(folder, seen, deterministic=wanted).train()
    assert set(seen.inside) == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
    begun = next(row for row in read_events(folder.events) if row["kind"] == "train_begin")
    assert begun["deterministic"] is wanted


def test_an_operation_that_is_never_the_same_twice_is_named() -> None:
    class Wild(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None: ...

    made = trainer(None, Wild(), deterministic=True)

    def refuse(*_: Any) -> None:
        raise RuntimeError(
            "max_unpool2d_forward does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
        )

    made.model.register_forward_pre_hook(refuse)
    with pytest.raises(TrainingError, match=r"training.deterministic: max_unpool2d_forward does not .* on the CPU\."):
        made.train()
    assert not torch.are_deterministic_algorithms_enabled()


def test_profile_and_predictions_lie_in_the_run_folder(tmp_path: Path) -> None:
    settings = {
        "training": {"epochs": 2, "device": "cpu", "profile": True, "profile_batches": [2, 3]},
        "callbacks": {"save_predictions_every": 2},
    }
    folder = RunFolder.create(tmp_path, "a")
    trainer_for(net(), settings, pairs(), pairs(4, 2), run_folder=folder, quiet=True).train()
    assert sorted(path.name for path in folder.profile.iterdir()) == ["table.txt", "trace.json"]
    assert [path.name for path in folder.predictions.iterdir()] == ["epoch_0002"]
    assert len(list((folder.predictions / "epoch_0002").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": {"profile": True}}, r"training.profile: there is no run folder"),
        ({"callbacks": {"save_predictions_every": 1}}, r"save_predictions_every: there is no run folder"),
        ({"callbacks": {"monitor": "val/nonsense"}}, r'monitor "val/nonsense" is never computed.*val/iou'),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_for(net(), settings, pairs(), pairs(4, 2), quiet=True)


def test_an_empty_loader_is_refused_before_training() -> None:
    with pytest.raises(TrainingError, match="nothing to train on"):
        trainer_for(net(), {}, pairs(0), pairs(4, 2), quiet=True)
    with pytest.raises(TrainingError, match="validation part holds no tile"):
        trainer_for(net(), {}, pairs(), pairs(0), quiet=True)


def test_a_schedule_longer_than_the_run_is_said_at_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    settings = {
        "training": {"epochs": 2, "device": "cpu"},
        "optim": {"schedule": {"kind": "cosine", "t_max": 50}},
    }
    trainer_for(net(), settings, pairs(), pairs(4, 2), quiet=True).train()
    assert "optim.schedule.t_max: 50 epochs are longer than what the run has, 2;" in caplog.text


def test_rates_of_a_network_without_branches_cannot_rise() -> None:
    with pytest.raises(TrainingError, match="drops no branches"):
        trainer(drop_path={"schedule": "cosine"}).train()
