"""The weights a new run starts from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.checkpoints import CheckpointStore, save_model
from maskwright.config import Experiment, save_experiment
from maskwright.errors import CheckpointError, ConfigError, RunError
from maskwright.files import sha256_file
from maskwright.models import load_pretrained
from maskwright.tracking.folder import RunFolder
from maskwright.workflows import model_description
from maskwright.workflows.parent import Parent, parent_of, require_same_network, require_unchanged

DESCRIPTION: dict[str, Any] = {
    "model": {"kind": "unet", "base_channels": 8, "dropout": 0.1, "initial_weights": None},
    "task": {"kind": "multiclass"},
    "in_channels": 3,
    "band_names": ["red", "green", "blue"],
    "classes": ["ground", "crack"],
}


def network(value: float = 0.0) -> nn.Module:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    return model


def trained_run(tmp_path: Path) -> RunFolder:
    """A run of two epochs, the first of which is the best."""
    folder = RunFolder.create(tmp_path / "outputs", "toy")
    experiment = Experiment.model_validate({"name": "toy", "data": {"folder": str(tmp_path)}})
    save_experiment(experiment, folder.config)
    store = CheckpointStore(folder, monitor="val/iou")
    for epoch, score in ((1, 0.9), (2, 0.3)):
        state = {"model": network(float(epoch)).state_dict(), "description": DESCRIPTION}
        store.save(state, epoch=epoch, global_step=epoch, scores={"val/iou": score})
    return folder


def test_a_run_gives_its_best_checkpoint(tmp_path: Path) -> None:
    folder = trained_run(tmp_path)
    parent = parent_of(folder.path)
    assert (parent.folder, parent.checkpoint, parent.epoch) == (folder.path, "checkpoints/checkpoint_epoch_0001.pt", 1)
    assert parent.sha256 == sha256_file(parent.weights)
    assert parent.config == folder.config
    assert str(parent) == (
        f"Starts from the weights of {folder.path}: checkpoints/checkpoint_epoch_0001.pt, epoch 1, "
        f"sha256 {parent.sha256[:12]}."
    )
    require_unchanged(parent.to_dict())


def test_a_checkpoint_is_named_by_its_own_name_not_by_one_that_moves_on(tmp_path: Path) -> None:
    folder = trained_run(tmp_path)
    parent = parent_of(folder.checkpoints / "checkpoint_latest.pt")
    assert (parent.checkpoint, parent.epoch) == ("checkpoints/checkpoint_epoch_0002.pt", 2)


def test_a_checkpoint_outside_a_run_is_taken_and_says_nothing_of_data(tmp_path: Path) -> None:
    folder = trained_run(tmp_path)
    copied = tmp_path / "copied.pt"
    copied.write_bytes((folder.checkpoints / "checkpoint_best.pt").read_bytes())
    parent = parent_of(copied)
    assert (parent.folder, parent.checkpoint, parent.epoch, parent.config) == (tmp_path, "copied.pt", 1, None)


def test_the_weights_of_a_checkpoint_are_loaded_and_averaged_ones_before_the_last(tmp_path: Path) -> None:
    folder = trained_run(tmp_path)
    model = network()
    load_pretrained(model, parent_of(folder.path).weights)
    assert model.weight.tolist() == [[1.0, 1.0]]
    averaged = {"updates": 3, "weights": network(0.5).state_dict()}
    state = {"model": network(2.0).state_dict(), "ema": averaged}
    record = CheckpointStore(tmp_path / "ema").save(state, epoch=1, global_step=1)
    load_pretrained(model, tmp_path / "ema" / record.file)
    assert model.weight.tolist() == [[0.5, 0.5]]


def test_a_model_folder_is_taken_by_itself_or_by_its_file(tmp_path: Path) -> None:
    save_model(tmp_path / "model", network(), DESCRIPTION | {"epoch": 7})
    for path in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        parent = parent_of(path)
        assert (parent.folder, parent.checkpoint, parent.epoch) == (tmp_path / "model", "model.safetensors", 7)


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        parent_of(tmp_path / "nowhere")
    with pytest.raises(RunError, match="holds no run and no model"):
        parent_of(tmp_path)
    with pytest.raises(RunError, match="has not saved any weights yet"):
        parent_of(RunFolder.create(tmp_path, "empty").path)
    (tmp_path / "notes.pt").write_text("text")
    with pytest.raises(CheckpointError, match="is not a Maskwright checkpoint"):
        parent_of(tmp_path / "notes.pt")


def test_damaged_weights_are_passed_over_for_a_whole_checkpoint_and_said_so(tmp_path: Path) -> None:
    folder = trained_run(tmp_path)
    (folder.checkpoints / "checkpoint_epoch_0001.pt").write_bytes(b"damaged")
    parent = parent_of(folder.path)
    assert parent.epoch == 2
    assert "checkpoint_epoch_0001.pt" in parent.notes[0]


def compared(monkeypatch: pytest.MonkeyPatch, ours: dict[str, Any], theirs: dict[str, Any] = DESCRIPTION) -> None:
    monkeypatch.setattr(model_description, "describe_model", lambda parts: ours)
    parts: Any = SimpleNamespace(experiment=SimpleNamespace(model=SimpleNamespace(conditioned=False)))
    require_same_network(Parent(Path("run"), "best.pt", "0" * 64, 1, theirs), parts)


def test_other_classes_bands_and_networks_are_refused_with_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = DESCRIPTION | {
        "model": DESCRIPTION["model"] | {"base_channels": 16},
        "in_channels": 4,
        "band_names": ["red", "green", "blue", "nir"],
        "classes": ["ground", "crack", "hole"],
    }
    with pytest.raises(ConfigError) as error:
        compared(monkeypatch, ours)
    assert [" ".join(line.split()) for line in str(error.value).splitlines()[1:-1]] == [
        "the weights this run",
        "band_names red, green, blue red, green, blue, nir",
        "classes ground, crack ground, crack, hole",
        "in_channels 3 4",
        "model.base_channels 8 16",
    ]


def test_what_changes_no_weight_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    compared(monkeypatch, DESCRIPTION | {"model": DESCRIPTION["model"] | {"dropout": 0.5, "initial_weights": "x"}})
    compared(monkeypatch, DESCRIPTION, {})  # weights that say nothing of their network are compared when loaded


def test_heights_are_compared_where_each_has_a_channel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"model": {"kind": "unet"}, "task": {"kind": "height_gaps"}, "classes": [], "heights_m": [5.0, 10.0]}
    with pytest.raises(ConfigError, match=r"heights in metres +5\.0, 10\.0 +5\.0, 15\.0"):
        compared(monkeypatch, theirs | {"heights_m": [5.0, 15.0]}, theirs)


def test_weights_that_changed_or_went_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({}, file)
    recorded = {"folder": str(tmp_path), "checkpoint": "w.pt", "sha256": sha256_file(file)}
    require_unchanged(recorded)
    file.write_bytes(b"other")
    with pytest.raises(RunError, match="have changed since it was begun"):
        require_unchanged(recorded)
    file.unlink()
    with pytest.raises(RunError, match="are gone"):
        require_unchanged(recorded)
