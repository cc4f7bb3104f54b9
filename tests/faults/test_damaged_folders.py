"""Checkpoints cut short, with a flipped bit, deleted or exchanged, a clock that goes back: what is good is found."""

from __future__ import annotations

import datetime
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import CheckpointStore
from maskwright.checkpoints import store as store_module
from maskwright.errors import CheckpointError

torch.set_num_threads(1)

SIZE = 3000
Tally = Callable[..., None]


def new_store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, max_checkpoints=2, monitor="val/iou", mode="max")


def save(store: CheckpointStore, number: int) -> None:
    """Save the state ``number``; the first is the best of all."""
    state = {"number": number, "weight": torch.full((SIZE,), float(number))}
    store.save(state, epoch=number, global_step=number, scores={"val/iou": 1.0 / number})


def number_of(state: dict[str, Any]) -> int:
    assert torch.equal(state["weight"], torch.full((SIZE,), float(state["number"])))
    return int(state["number"])


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """The files of a folder with the states 1 (the best), 2 and 3."""
    store = new_store(tmp_path / "origin")
    for number in (1, 2, 3):
        save(store, number)
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}


def folder_of(folder: Path, contents: dict[str, bytes]) -> Path:
    """A folder with these files, aliases being hard links again."""
    folder.mkdir()
    written: dict[bytes, Path] = {}
    for name, data in sorted(contents.items(), key=lambda item: "epoch" not in item[0]):
        if data in written:
            os.link(written[data], folder / name)
        else:
            (folder / name).write_bytes(data)
            written[data] = folder / name
    return folder


def goes_on(folder: Path, newest: set[int], best: set[int]) -> None:
    """What is loaded is whole and among these, one sentence names what is not, and the next save is found."""
    store = new_store(folder)
    loaded = store.load_latest()
    assert number_of(loaded.state) in newest
    assert number_of(store.load_best().state) in best
    assert all("\n" not in note for note in loaded.notes)
    if number_of(loaded.state) != 3:
        assert loaded.notes
    save(store, 4)
    again = new_store(folder)
    assert number_of(again.load_latest().state) == 4
    assert number_of(again.load_best().state) in best


def test_a_newest_checkpoint_cut_at_each_sixteenth_gives_way_to_the_one_before(
    tmp_path: Path, contents: dict[str, bytes], tally: Tally
) -> None:
    data = contents["checkpoint_epoch_0003.pt"]
    for sixteenth in range(16):
        cut = data[: len(data) * sixteenth // 16]
        changed = {name: cut if value == data else value for name, value in contents.items()}
        goes_on(folder_of(tmp_path / str(sixteenth), changed), {2}, {1})
    tally("newest checkpoint cut short", 16)


def _places(data: bytes, where: str) -> list[int]:
    draw = random.Random(3)
    if where == "header":
        return [*range(4), *(draw.randrange(4, 400) for _ in range(6))]
    tensor = data.index(torch.full((SIZE,), 3.0).numpy().tobytes())
    return [tensor, tensor + 4 * SIZE - 1, *(tensor + draw.randrange(4 * SIZE) for _ in range(6))]


@pytest.mark.parametrize("where", ["header", "tensor"])
@pytest.mark.parametrize("manifest", ["there", "gone"])
def test_one_flipped_bit_of_a_checkpoint_never_comes_back_as_a_state(
    tmp_path: Path, contents: dict[str, bytes], where: str, manifest: str, tally: Tally
) -> None:
    data = contents["checkpoint_epoch_0003.pt"]
    places = _places(data, where)
    for index, place in enumerate(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (index % 8)
        changed = {name: bytes(flipped) if value == data else value for name, value in contents.items()}
        if manifest == "gone":
            del changed["manifest.json"]
        folder = folder_of(tmp_path / str(index), changed)
        # without its hash a file counts by the check sums of its parts, which leave out what is no content
        goes_on(folder, {2} if manifest == "there" or where == "tensor" else {2, 3}, {1})
    tally(f"flipped bit in the {where}, manifest {manifest}", len(places))


def test_one_flipped_bit_of_the_manifest_costs_no_checkpoint(
    tmp_path: Path, contents: dict[str, bytes], tally: Tally
) -> None:
    data = contents["manifest.json"]
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    tried = 40
    for index in range(tried):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        folder = folder_of(tmp_path / str(index), contents | {"manifest.json": bytes(flipped)})
        goes_on(folder, {3}, {1})
    tally("flipped bit in the manifest", tried, seed=seed)


def test_files_that_are_deleted_are_done_without(tmp_path: Path, contents: dict[str, bytes], tally: Tally) -> None:
    tried = 0
    for count in (1, 2):
        for index, names in enumerate(itertools.combinations(sorted(contents), count)):
            left = {name: data for name, data in contents.items() if name not in names}
            whole = {number for number in (1, 2, 3) if contents[f"checkpoint_epoch_000{number}.pt"] in left.values()}
            goes_on(folder_of(tmp_path / f"{count}_{index}", left), {max(whole)}, {min(whole)})
            tried += 1
    tally("deleted files", tried)


def test_files_that_are_exchanged_are_not_taken_for_each_other(
    tmp_path: Path, contents: dict[str, bytes], tally: Tally
) -> None:
    tried = 0
    for one, other in itertools.combinations(sorted(set(contents) - {"manifest.json"}), 2):
        swapped = contents | {one: contents[other], other: contents[one]}
        if swapped == contents:
            continue
        folder = folder_of(tmp_path / str(tried), swapped)
        goes_on(folder, {3}, {1})
        tried += 1
    assert tried >= 8
    tally("exchanged files", tried)


def test_a_clock_that_goes_back_does_not_change_which_is_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    times = ["2026-05-01T12:00:00.000Z", "2025-01-01T00:00:00.000Z", "1970-01-01T00:00:01.000Z"]
    store = new_store(tmp_path)
    for number, moment in enumerate(times, start=1):
        monkeypatch.setattr(store_module, "time_text", lambda moment=moment: moment)
        save(store, number)
        stamp = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
        for path in tmp_path.iterdir():
            os.utime(path, (stamp, stamp))
    assert number_of(new_store(tmp_path).load_latest().state) == 3
    (tmp_path / "manifest.json").unlink()
    assert number_of(new_store(tmp_path).load_latest().state) == 3
    save(new_store(tmp_path), 4)
    assert number_of(new_store(tmp_path).load_latest().state) == 4
    tally("clock set back", len(times) - 1)


def test_when_nothing_is_left_one_sentence_says_so(tmp_path: Path, contents: dict[str, bytes]) -> None:
    left = {name: data[:10] if name.endswith(".pt") else data for name, data in contents.items()}
    with pytest.raises(CheckpointError, match=r"^No whole checkpoint in ") as raised:
        new_store(folder_of(tmp_path / "bad", left)).load_latest()
    assert "\n" not in str(raised.value)
