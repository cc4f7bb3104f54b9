"""Shards: what comes out is what went in, and a shard that is missing, cut or changed is named."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.config import Experiment, load_experiment
from maskwright.data.shards import from_shards, named_paths, read_index
from maskwright.data.synthetic import write_forest
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.workflows.assemble import assemble, loaders_of
from maskwright.workflows.prepare_shards import prepare_shards


def write_pictures(folder: Path, count: int = 9, side: int = 48) -> Path:
    """Noise with a bright square, and the square as mask; the masks lie beside the folder of images."""
    rng = np.random.Generator(np.random.Philox(7))
    (folder / "images" / "deep").mkdir(parents=True)
    (folder / "masks" / "deep").mkdir(parents=True)
    for number in range(count):
        picture = rng.integers(0, 90, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), np.uint8)
        picture[8 : 20 + number, 10:30] = 220
        mask[8 : 20 + number, 10:30] = 255
        name = f"deep/p{number}.png" if number % 2 else f"p{number}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
    for part, numbers in (("train", range(5)), ("val", (5, 6)), ("test", (7, 8))):
        names = [f"deep/p{n}" if n % 2 else f"p{n}" for n in numbers]
        (folder / f"{part}.txt").write_text("\n".join(names) + "\n")
    return folder


def of_pictures(tmp_path: Path, **data: Any) -> Experiment:
    settings: dict[str, Any] = {
        "name": "pictures",
        "task": {"kind": "binary"},
        "data": {
            "kind": "images",
            "tiles": {"size_px": 32},
            "loader": {"batch_size": 2, "workers": 0},
            "cache": {"folder": str(tmp_path / "cache")},
            **data,
        },
        "model": {"depth": 2},
        "training": {"device": "cpu"},
        "tracking": {"output_dir": str(tmp_path / "out")},
    }
    return load_experiment([], settings)


def batches(experiment: Experiment) -> list[tuple[Any, ...]]:
    """Two epochs of training batches and all of validation and test."""
    train, evals = loaders_of(assemble(experiment))
    found = [*train.batches(0), *train.batches(1), *evals["val"], *evals["test"]]
    return [(one.image, one.target, one.valid, one.where) for one in found]


def assert_equal_batches(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    assert len(one) == len(other) > 0
    for (image, target, valid, where), (image_2, target_2, valid_2, where_2) in zip(one, other, strict=True):
        assert torch.equal(image, image_2)
        assert torch.equal(target, target_2)
        assert torch.equal(valid, valid_2)
        assert where == where_2


def test_samples_and_their_order_are_those_of_the_source_bit_for_bit(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "net" / "pictures")
    experiment = of_pictures(tmp_path, folder=str(folder))
    expected = batches(experiment)
    summary = prepare_shards(experiment, tmp_path / "shards", shard_mb=0.02)
    assert summary.shards > 2
    assert summary.files == 9 + 9 + 3

    os.rename(tmp_path / "net", tmp_path / "elsewhere")  # the source is gone
    there = of_pictures(tmp_path, folder=str(folder), shards=str(tmp_path / "shards"))

    assert_equal_batches(batches(there), expected)


def test_masks_found_beside_the_images_are_packed_as_well(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "net" / "pictures")
    data: dict[str, Any] = {"images": str(folder / "images"), "split": {"files": str(folder)}}
    experiment = of_pictures(tmp_path, **data)
    expected = batches(experiment)
    prepare_shards(experiment, tmp_path / "shards")
    os.rename(tmp_path / "net", tmp_path / "elsewhere")

    assert_equal_batches(batches(of_pictures(tmp_path, **data, shards=str(tmp_path / "shards"))), expected)


def test_height_rasters_named_one_by_one_come_back_the_same(tmp_path: Path) -> None:
    paths = [write_forest(tmp_path / "net", name=f"site{n}", size_px=192, seed=n) for n in range(3)]
    sites = [{"name": dsm.stem, "dsm": str(dsm), "chm": str(chm)} for dsm, chm in paths]
    settings: dict[str, Any] = {
        "name": "forest",
        "task": {"kind": "height_gaps", "heights_m": [5, 10]},
        "data": {
            "kind": "height_rasters",
            "sites": sites,
            "tiles": {"size_px": 32},
            "loader": {"batch_size": 2, "workers": 0},
            "cache": {"folder": str(tmp_path / "cache")},
        },
        "model": {"depth": 2},
        "training": {"device": "cpu"},
        "tracking": {"output_dir": str(tmp_path / "out")},
    }
    expected = batches(load_experiment([], settings))
    prepare_shards(load_experiment([], settings), tmp_path / "shards")
    os.rename(tmp_path / "net", tmp_path / "elsewhere")
    settings["data"]["shards"] = str(tmp_path / "shards")

    assert_equal_batches(batches(load_experiment([], settings)), expected)


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of pictures and the folder of its shards, three of them."""
    folder = write_pictures(tmp_path / "pictures")
    prepare_shards(of_pictures(tmp_path, folder=str(folder)), tmp_path / "shards", shard_mb=0.03)
    return folder, tmp_path / "shards"


def test_the_index_says_where_each_file_lies(packed: tuple[Path, Path]) -> None:
    folder, shards = packed
    index = read_index(shards)
    assert index.packed["folder"].member == "pictures"

    for shard in index.shards:
        content = (shards / shard.file).read_bytes()
        assert len(content) == shard.bytes
        for member, offset, size in shard.files:
            assert content[offset : offset + size] == (folder.parent / member).read_bytes()


def test_writing_goes_on_behind_what_is_finished(packed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, shards = packed
    before = {path.name: path.read_bytes() for path in shards.glob("shard*")}
    first, *others = sorted(shards.glob("*.tar"))
    kept = first.stat().st_mtime_ns
    others[0].unlink()
    (shards / "shards.json").unlink()

    prepare_shards(of_pictures(tmp_path, folder=str(folder)), shards, shard_mb=0.03)
    assert {path.name: path.read_bytes() for path in shards.glob("shard*")} == before
    assert first.stat().st_mtime_ns == kept


def test_files_of_somebody_else_are_not_replaced(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard_00000.tar").write_bytes(b"mine")

    with pytest.raises(RunError, match="another job wrote them"):
        prepare_shards(of_pictures(tmp_path, folder=str(folder)), tmp_path / "shards")


def test_a_changed_a_cut_and_a_missing_shard_are_named(packed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, shards = packed
    experiment = of_pictures(tmp_path, folder=str(folder), shards=str(shards))
    path = shards / "shard_00001.tar"
    whole = path.read_bytes()
    size, offset = len(whole), read_index(shards).shards[1].files[0][1]

    changed = bytearray(whole)
    changed[offset + 5] ^= 1
    for content, told in ((bytes(changed), "is damaged"), (whole[: size // 2], "cut short"), (None, "is missing")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        else:
            assert not path.exists()
        with pytest.raises(DataError, match=rf"shard_00001\.tar.*{told}"):
            assemble(experiment)
        path.write_bytes(whole)
        assert not [one for one in (tmp_path / "cache").glob("shards_*") if one.suffix == "" and one.is_dir()]

    assert assemble(experiment).split.counts()  # the shard before it was kept, the mended one is read


def test_a_member_that_would_leave_the_folder_is_refused(tmp_path: Path, packed: tuple[Path, Path]) -> None:
    folder, shards = packed
    path = shards / "shard_00000.tar"
    with tarfile.open(path, "w") as tar:
        facts = tarfile.TarInfo("../../outside.txt")
        facts.size = 3
        tar.addfile(facts, io.BytesIO(b"bad"))

    with pytest.raises(DataError, match="no plain file of a data set"):
        assemble(of_pictures(tmp_path, folder=str(folder), shards=str(shards)))
    assert not (tmp_path / "outside.txt").exists()


def test_other_data_than_was_packed_is_refused(packed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, shards = packed
    with pytest.raises(DataError, match=r"data.folder: .*other is not what was packed, which is .*pictures"):
        from_shards(of_pictures(tmp_path, folder=str(tmp_path / "other"), shards=str(shards)).data)
    labels = {"kind": "masks", "folder": str(folder / "masks")}
    with pytest.raises(DataError, match=r"data.labels.folder: .*masks is not in the shards"):
        from_shards(of_pictures(tmp_path, folder=str(folder), labels=labels, shards=str(shards)).data)
    with pytest.raises(DataError, match=r"holds no shards\.json"):
        from_shards(of_pictures(tmp_path, folder=str(folder), shards=str(folder)).data)


def test_shards_need_the_cache(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.shards: they are unpacked into the cache"):
        of_pictures(tmp_path, folder=str(tmp_path), shards=str(tmp_path), cache={"enabled": False})


def test_the_paths_of_a_data_section_are_named_without_those_that_hold_no_data(tmp_path: Path) -> None:
    data = of_pictures(
        tmp_path, folder=str(tmp_path), split={"files": str(tmp_path / "lists"), "keep": str(tmp_path / "run")}
    ).data

    assert dict(named_paths(data)) == {"folder": tmp_path, "split.files": tmp_path / "lists"}


def test_an_index_of_another_format_or_without_its_parts_is_told(packed: tuple[Path, Path]) -> None:
    _, shards = packed
    index = json.loads((shards / "shards.json").read_text())
    (shards / "shards.json").write_text(json.dumps({**index, "format_version": 9}))
    with pytest.raises(DataError, match="is of format 9"):
        read_index(shards)
    (shards / "shards.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(DataError, match="is damaged"):
        read_index(shards)
