"""Model files made to do harm: nothing in them is run, none fills the memory, and one sentence says what they are."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.checkpoints import CheckpointStore, load_state, load_weights, read_about, save_model
from maskwright.cli.main import main
from maskwright.errors import CheckpointError

Tally = Callable[..., None]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.target), "w")


def pickle_bomb(path: Path, target: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(target)))


def torch_bomb(path: Path, target: Path) -> None:
    torch.save({"format": "maskwright checkpoint", "format_version": 1, "about": {}, "state": Bomb(target)}, path)


def old_torch_bomb(path: Path, target: Path) -> None:
    torch.save({"state": Bomb(target)}, path, _use_new_zipfile_serialization=False)


def zip_bomb(path: Path, target: Path) -> None:
    """A checkpoint whose parts are compressed: 400 MB of zeros in a file of 0.4 MB."""
    whole = io.BytesIO()
    torch.save({"format": "maskwright checkpoint", "format_version": 1, "about": {}, "state": {}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
        archive.writestr("archive/data/0", bytes(400_000_000))


def overlapping_bomb(path: Path, target: Path) -> None:
    """Many entries that are all the same megabyte of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", bytes(1_000_000))
        first = archive.infolist()[0]
        for number in range(1, 400):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
        archive._didModify = True


BOMBS = [pickle_bomb, torch_bomb, old_torch_bomb, zip_bomb, overlapping_bomb]


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("mmap", [False, True])
def test_a_hostile_checkpoint_is_refused_in_one_sentence(
    tmp_path: Path, bomb: Callable[[Path, Path], None], mmap: bool, tally: Tally
) -> None:
    path, target = tmp_path / "checkpoint_epoch_0009.pt", tmp_path / "harm"
    bomb(path, target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_0009\.pt is .*not a Maskwright checkpoint") as raised:
        load_state(path, mmap=mmap)
    with pytest.raises(CheckpointError):
        read_about(path)
    assert "\n" not in str(raised.value)
    assert not target.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB
    tally(f"{bomb.__name__.replace('_', ' ')} as checkpoint", 1)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hostile_file_among_checkpoints_harms_none_of_them(
    tmp_path: Path, bomb: Callable[[Path, Path], None], tally: Tally
) -> None:
    store = CheckpointStore(tmp_path)
    store.save({"number": 1}, epoch=1, global_step=1)
    bomb(tmp_path / "checkpoint_epoch_0009.pt", tmp_path / "harm")
    (tmp_path / "manifest.json").unlink()
    again = CheckpointStore(tmp_path)
    assert again.load_latest().state == {"number": 1}
    again.save({"number": 2}, epoch=2, global_step=2)
    assert CheckpointStore(tmp_path).load_latest().state == {"number": 2}
    assert not (tmp_path / "harm").exists()
    tally(f"{bomb.__name__.replace('_', ' ')} among checkpoints", 1)


def model_folder(folder: Path) -> Path:
    save_model(folder, nn.Conv2d(1, 1, 1), {"name": "small"})
    return folder


def _pickle_as_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(folder.parent / "harm")))


def _endless_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def _endless_tensor(folder: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def _deep_description(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"[" * 200_000)


def _list_as_description(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"[1]")


def _no_weights_described(folder: Path) -> None:
    (folder / "model.json").write_bytes(b'{"format_version": 1}')


HOSTILE = [
    _pickle_as_weights,
    _endless_header,
    _endless_tensor,
    _deep_description,
    _list_as_description,
    _no_weights_described,
]


@pytest.mark.parametrize("spoil", HOSTILE)
@pytest.mark.parametrize("hash_fits", [False, True])
def test_a_hostile_model_folder_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], None], hash_fits: bool, tally: Tally
) -> None:
    folder = model_folder(tmp_path / "model")
    spoil(folder)
    if hash_fits and "description" not in spoil.__name__ and "described" not in spoil.__name__:
        told = json.loads((folder / "model.json").read_text())
        told["weights"]["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        (folder / "model.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError) as raised:
        load_weights(folder, nn.Conv2d(1, 1, 1))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "harm").exists()
    tally(f"{spoil.__name__.strip('_').replace('_', ' ')} as model", 1)


@pytest.mark.parametrize("bomb", [pickle_bomb, zip_bomb])
def test_predict_refuses_a_hostile_model_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bomb: Callable[[Path, Path], None], tally: Tally
) -> None:
    folder, image = tmp_path / "model", tmp_path / "image.tif"
    folder.mkdir()
    bomb(folder / "model.safetensors", tmp_path / "harm")
    shutil.copy(folder / "model.safetensors", folder / "model.json")
    image.write_bytes(b"II")
    assert main(["predict", str(folder), str(image), "--out", str(tmp_path / "out")]) != 0
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "model.json" in told
    assert not (tmp_path / "harm").exists()
    tally(f"{bomb.__name__.replace('_', ' ')} given to predict", 1)


def test_the_bombs_are_live(tmp_path: Path) -> None:
    pickle_bomb(tmp_path / "bomb", tmp_path / "harm")
    with open(tmp_path / "bomb", "rb") as file:
        pickle.load(file).close()
    assert (tmp_path / "harm").exists()
    zip_bomb(tmp_path / "zip", tmp_path / "harm")
    assert os.path.getsize(tmp_path / "zip") < 1_000_000
