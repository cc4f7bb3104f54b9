from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from maskwright.checkpoints import load_description, load_weights, save_model
from maskwright.errors import CheckpointError

torch.set_num_threads(1)


def new_model(seed: int = 0, channels: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(channels, 1, 1))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


DESCRIPTION: dict[str, Any] = {
    "architecture": {"kind": "film_unet", "base_channels": 8},
    "in_channels": 1,
    "heights_m": (5.0, 10.0),
    "receptive_field_px": None,
    "scores": {"val/iou": 0.5, "val/mcc": math.nan},
}


def test_a_model_comes_back_with_all_that_prediction_repeats(tmp_path: Path) -> None:
    model, other = new_model(0).to(memory_format=torch.channels_last), new_model(1)
    assert not same_weights(model, other)
    save_model(tmp_path / "model", model, DESCRIPTION)
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "model.safetensors"]
    described = load_description(tmp_path / "model")
    load_weights(tmp_path / "model", other)
    assert same_weights(model, other)
    assert described["architecture"] == DESCRIPTION["architecture"]
    assert described["heights_m"] == [5.0, 10.0]
    assert math.isnan(described["scores"]["val/mcc"])
    assert described["format_version"] == 1
    assert described["weights"]["file"] == "model.safetensors"
    assert described["weights"]["bytes"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert described["versions"]["torch"]
    assert "former" not in described


def test_the_weights_are_plain_safetensors(tmp_path: Path) -> None:
    model = new_model()
    save_model(tmp_path, model, DESCRIPTION)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert set(tensors) == set(model.state_dict())


def test_weights_shared_by_two_layers_are_saved(tmp_path: Path) -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    save_model(tmp_path, model, {})
    other = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    load_weights(tmp_path, other)
    assert same_weights(model, other)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_model(tmp_path, new_model(channels=4), DESCRIPTION)
    with pytest.raises(CheckpointError, match=r"other shapes: 0\.weight is \(4, 1, 3, 3\) and not \(8, 1, 3, 3\)"):
        load_weights(tmp_path, new_model(channels=8))
    larger = nn.Sequential(*new_model(), nn.Conv2d(1, 1, 1))
    with pytest.raises(CheckpointError, match=r"does not fit the model: missing 3\.weight, 3\.bias\. Build the model"):
        load_weights(tmp_path, larger)
    smaller = new_model()[:1]  # type: ignore[index]
    before = smaller[0].weight.clone()
    with pytest.raises(CheckpointError, match=r"unexpected 1\.\w+, .* and 2 more"):
        load_weights(tmp_path, smaller)
    assert torch.equal(smaller[0].weight, before)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, new_model(), DESCRIPTION)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or belongs to another model\.json"):
        load_weights(tmp_path, new_model())
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: No such file"):
        load_weights(tmp_path, new_model())


def test_a_folder_without_a_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"is not a model folder: it has no model\.json\. Give a run's model folder"
    ):
        load_description(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format_version": "one"}'])
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
        load_description(tmp_path)


def test_a_model_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    save_model(tmp_path, new_model(), DESCRIPTION)
    content = json.loads((tmp_path / "model.json").read_text()) | {"format_version": 2}
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="newer Maskwright: model format 2, this one reads up to 1"):
        load_weights(tmp_path, new_model())


@pytest.mark.parametrize("failing_call", range(9))
@pytest.mark.parametrize("replacing", [False, True])
def test_a_disk_that_refuses_at_any_moment_leaves_a_usable_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int, replacing: bool
) -> None:
    """Each fsync and rename fails in turn; the folder holds the old model or the new one, with its own description."""
    models = {"old": new_model(1), "new": new_model(2)}
    if replacing:
        save_model(tmp_path, models["old"], {"name": "old"})
    calls = 0

    def failing(name: str) -> None:
        original = getattr(os, name)

        def wrapper(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls == failing_call + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args)

        monkeypatch.setattr(os, name, wrapper)

    failing("fsync")
    failing("replace")
    if failing_call < (9 if replacing else 6):
        with pytest.raises(CheckpointError, match="the disk is full"):
            save_model(tmp_path, models["new"], {"name": "new"})
    else:
        save_model(tmp_path, models["new"], {"name": "new"})
    monkeypatch.undo()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".mwtmp")]
    if replacing or (tmp_path / "model.json").exists():
        loaded = new_model(3)
        load_weights(tmp_path, loaded)
        assert same_weights(loaded, models[load_description(tmp_path)["name"]])
        save_model(tmp_path, models["new"], {"name": "new"})
    else:
        save_model(tmp_path, models["new"], {"name": "new"})
    assert load_description(tmp_path)["name"] == "new"
    load_weights(tmp_path, new_model(3))
