from __future__ import annotations

import enum
import hashlib
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.checkpoints import check_plain, load_state, read_about, save_state, snapshot
from maskwright.checkpoints import format as format_module
from maskwright.checkpoints.format import is_whole
from maskwright.errors import CheckpointError

torch.set_num_threads(1)


class Colour(enum.IntEnum):
    RED = 1


def trained_state() -> dict[str, Any]:
    """A real model, optimizer and schedule after two steps, and the odd values a run keeps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10)
    for _ in range(2):
        model(torch.rand(2, 1, 8, 8)).square().mean().backward()
        optimizer.step()
        schedule.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {key: value for key, value in schedule.state_dict().items() if not key.startswith("_anneal")},
        "generator": torch.get_rng_state(),
        "numpy": {"state": 2**127 + 1, "buffer": (1, 2)},
        "best": float("-inf"),
        "nothing": None,
        "words": ["a", True, 1.5],
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert type(one) is type(other)
        assert one == other


@pytest.mark.parametrize("mmap", [False, True])
def test_a_state_comes_back_bit_for_bit(tmp_path: Path, mmap: bool) -> None:
    path, state = tmp_path / "a.pt", trained_state()
    sha256, size = save_state(path, state, {"epoch": 3, "scores": {"val/iou": 0.5}})
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert size == path.stat().st_size
    assert_same(dict(state), load_state(path, sha256, mmap=mmap))
    assert read_about(path) == {"epoch": 3, "scores": {"val/iou": 0.5}}
    assert os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize(
    ("foreign", "where"),
    [
        ({"a": [1, np.float64(0.5)]}, r"state\['a'\]\[1\] is a numpy\.float64"),
        ({"a": np.zeros(2)}, r"state\['a'\] is a numpy\.ndarray"),
        ({"a": {"b": (Colour.RED,)}}, r"state\['a'\]\['b'\]\[0\] is a .*Colour"),
        ({"a": Counter()}, r"state\['a'\] is a collections\.Counter"),
        ({"a": {1, 2}}, r"state\['a'\] is a set"),
        ({"a": b""}, r"state\['a'\] is a bytes"),
        ({"a": Path("x")}, r"state\['a'\] is a pathlib\.PosixPath"),
        ({"a": torch.float32}, r"state\['a'\] is a torch\.dtype"),
        ({"a": torch.Size([1])}, r"state\['a'\] is a torch\.Size"),
        ({"a": torch.zeros(2, device="meta")}, r"state\['a'\] is a torch\.Tensor"),
        ({("a",): 1}, r"state has a key of type tuple"),
    ],
)
def test_a_foreign_object_is_named_and_nothing_is_written(tmp_path: Path, foreign: Any, where: str) -> None:
    with pytest.raises(CheckpointError, match=where):
        check_plain(foreign)
    with pytest.raises(CheckpointError, match=where):
        save_state(tmp_path / "a.pt", foreign)
    assert os.listdir(tmp_path) == []


def test_a_snapshot_does_not_change_with_the_training() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    kept = snapshot({"model": OrderedDict(weight=weight), "list": [weight]})
    with torch.no_grad():
        weight.add_(1)
    assert type(kept["model"]) is dict
    assert type(kept["model"]["weight"]) is torch.Tensor
    assert kept["model"]["weight"].tolist() == [1, 1, 1]
    assert kept["list"][0].tolist() == [1, 1, 1]


def test_without_copy_tensors_are_shared_but_views_are_cut_out() -> None:
    whole = torch.arange(1000.0)
    kept = snapshot({"whole": whole, "view": whole[:2], "expanded": torch.zeros(1).expand(4)}, copy=False)
    assert kept["whole"].data_ptr() == whole.data_ptr()
    assert kept["view"].untyped_storage().nbytes() == 8
    assert kept["expanded"].untyped_storage().nbytes() == 16


def test_a_view_of_a_large_tensor_makes_a_small_file(tmp_path: Path) -> None:
    _, size = save_state(tmp_path / "a.pt", {"view": torch.zeros(10**6)[:10]})
    assert size < 10_000


def test_weights_shared_by_two_layers_come_back_in_both(tmp_path: Path) -> None:
    weight = torch.ones(3)
    save_state(tmp_path / "a.pt", {"a": weight, "b": weight})
    back = load_state(tmp_path / "a.pt")
    assert torch.equal(back["a"], weight)
    assert torch.equal(back["b"], weight)


def test_loading_never_executes_what_a_file_asks_for(tmp_path: Path) -> None:
    path, proof = tmp_path / "bomb.pt", tmp_path / "proof"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(proof), "w"))

    torch.save({"format": "maskwright checkpoint", "format_version": 1, "state": Bomb(), "about": {}}, path)
    for mmap in (False, True):
        with pytest.raises(CheckpointError, match="damaged or not a Maskwright checkpoint"):
            load_state(path, mmap=mmap)
    with pytest.raises(CheckpointError):
        read_about(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="is not a Maskwright checkpoint"):
        load_state(path)
    assert not proof.exists()


def test_a_checkpoint_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(format_module, "FORMAT_VERSION", 7)
        save_state(tmp_path / "a.pt", {"a": 1})
    with pytest.raises(
        CheckpointError, match=r"newer Maskwright: checkpoint format 7, this one reads up to 1\. Upgrade"
    ):
        load_state(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and nothing more"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt is .*not a Maskwright checkpoint"):
        load_state(path)
    assert not is_whole(path)


def test_foreign_zip_files_and_foreign_torch_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(CheckpointError, match="not a Maskwright checkpoint"):
        load_state(tmp_path / "a.zip")
    torch.save({"model": torch.zeros(1)}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"b\.pt is not a Maskwright checkpoint"):
        load_state(tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"c\.pt cannot be read: No such file"):
        load_state(tmp_path / "c.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_and_without_its_hash(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.pt"
    sha256, size = save_state(path, {"a": torch.arange(1000)})
    os.truncate(path, int(size * share))
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(path, sha256)
    for mmap in (False, True):
        with pytest.raises(CheckpointError, match="damaged"):
            load_state(path, mmap=mmap)
    assert not is_whole(path)


def test_a_flipped_bit_is_noticed_by_hash_and_by_check_sum(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    sha256, size = save_state(path, {"a": torch.arange(1000)})
    assert is_whole(path)
    data = bytearray(path.read_bytes())
    data[size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged: its content is not what was saved \(SHA-256 differs\)"):
        load_state(path, sha256)
    assert not is_whole(path)


def test_a_disk_that_gives_back_other_bytes_is_noticed_before_the_old_file_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    sha256, _ = save_state(path, {"a": 1})
    read_back = format_module.sha256_file

    def damage_first(temporary: Path) -> str:
        data = bytearray(temporary.read_bytes())
        data[len(data) // 2] ^= 1
        temporary.write_bytes(data)
        return read_back(temporary)

    with monkeypatch.context() as patch:
        patch.setattr(format_module, "sha256_file", damage_first)
        with pytest.raises(CheckpointError, match="what the disk gave back is not what was written"):
            save_state(path, {"a": 2})
    assert load_state(path, sha256) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing does not exist"):
        save_state(tmp_path / "missing" / "a.pt", {"a": 1})
