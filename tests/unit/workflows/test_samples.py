"""Pictures of the same tiles while a run works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo

from maskwright.pictures import contact_sheet
from maskwright.training import Monitor
from maskwright.types import Place, Window
from maskwright.workflows import samples
from maskwright.workflows.samples import Samples, choose_tiles, confusion_picture, strip_picture


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class State(SimpleNamespace):
    """What the callback asks of a run."""

    def __init__(self, **fields: Any) -> None:
        usual = {"epoch": 0, "epochs": 50, "best": None, "model": None, "meter": None, "monitor": Monitor("a", "max")}
        super().__init__(**(usual | fields), notes=[])

    @contextmanager
    def predicting(self) -> Iterator[None]:
        yield

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append((kind, fields))


def places(count: int) -> list[Place]:
    return [Place(f"p{n}", Window(0, 0, 8, 8)) for n in range(count)]


def parts_of_images(foreground: dict[str, int]) -> Any:
    images = SimpleNamespace(
        class_counts=lambda place: np.array([64 - foreground[place.scene], foreground[place.scene]]),
        classes=SimpleNamespace(form="binary"),
    )
    experiment = SimpleNamespace(data=SimpleNamespace(kind="images"))
    tiles = {"val": places(len(foreground))}
    task = SimpleNamespace(columns=("crack",), heights_m=())
    split = SimpleNamespace(tiles=tiles)
    return SimpleNamespace(experiment=experiment, images=images, split=split, task=task, source=None)


def save_sheet(path: Path, shades: list[int]) -> None:
    sheet = contact_sheet([("", np.full((8, 8, 3), shade, dtype=np.uint8)) for shade in shades], columns=3, panel_px=16)
    notes = PngInfo()
    notes.add_text("panels", json.dumps(sheet.info["panels"]))
    sheet.save(path, pnginfo=notes)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def sheet(model: Any, parts: Any, loader: Any) -> PIL.Image.Image:
        calls.append(loader)
        return PIL.Image.new("RGB", (4, 4))

    monkeypatch.setattr(samples, "sample_sheet", sheet)
    monkeypatch.setattr(samples, "EvalLoader", lambda source, places, heights, batch: tuple(places))
    return calls


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(samples, "time", clock)
    return clock


def test_tiles_go_from_the_least_to_the_most_of_what_is_to_be_found() -> None:
    parts = parts_of_images({"p0": 9, "p1": 0, "p2": 3, "p3": 1, "p4": 7})
    chosen = choose_tiles(parts, parts.split.tiles["val"], 3)
    assert [place.scene for place in chosen] == ["p1", "p2", "p0"]
    assert choose_tiles(parts, parts.split.tiles["val"], 9) == [places(5)[n] for n in (1, 3, 2, 4, 0)]


def test_of_many_tiles_of_rasters_only_a_share_is_read() -> None:
    read: list[Place] = []

    def sample(scene: str, window: Window) -> Any:
        read.append(Place(scene, window))
        return None, np.full((2, 2), float(scene[1:])), np.ones((2, 2), dtype=np.bool_)

    experiment = SimpleNamespace(data=SimpleNamespace(kind="height_rasters"))
    task = SimpleNamespace(heights_m=())
    parts: Any = SimpleNamespace(experiment=experiment, rasters=SimpleNamespace(sample=sample), task=task)
    chosen = choose_tiles(parts, places(5000), 4)
    assert len(read) == 200
    assert [place.scene for place in chosen] == ["p0", "p1658", "p3341", "p4999"]


def test_an_epoch_that_takes_an_hour_shows_its_first_picture_within_the_first_minute(
    tmp_path: Path, drawn: list[Any], clock: Clock
) -> None:
    callback, state = Samples(tmp_path, parts_of_images({"p0": 1, "p1": 2})), State()
    callback.on_train_begin(state)
    for clock.now_s in (1.0, 10.0, 19.9):
        callback.on_step_end(state, None)  # type: ignore[arg-type]
    assert not drawn
    for clock.now_s in (20.1, 30.0, 3000.0):
        callback.on_step_end(state, None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0000.png"]
    state.epoch = 1
    callback.on_epoch_end(state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0000.png", "epoch_0001.png"]
    assert drawn[0] is drawn[1]  # the same tiles


def test_a_resumed_run_has_its_first_picture_already(tmp_path: Path, drawn: list[Any], clock: Clock) -> None:
    save_sheet(tmp_path / "epoch_0000.png", [1, 2, 3])
    callback, state = Samples(tmp_path, parts_of_images({"p0": 1})), State()
    callback.on_train_begin(state)
    clock.now_s = 100.0
    callback.on_step_end(state, None)  # type: ignore[arg-type]
    assert not drawn


def test_pictures_come_for_best_epochs_and_at_every_tenth_of_the_run(
    tmp_path: Path, drawn: list[Any], clock: Clock
) -> None:
    callback, state = Samples(tmp_path, parts_of_images({"p0": 1})), State()
    for state.epoch in range(1, 51):
        state.best = SimpleNamespace(epoch=7 if state.epoch >= 7 else 1)
        callback.on_epoch_end(state, {})
    expected = sorted({1, 7, *range(5, 51, 5)})
    assert sorted(int(path.stem[-4:]) for path in tmp_path.glob("epoch_*")) == expected


def test_pictures_of_best_epochs_wait_where_they_would_take_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[Any], clock: Clock
) -> None:
    def slowly(*_: Any) -> PIL.Image.Image:
        clock.now_s += 2.0
        return PIL.Image.new("RGB", (4, 4))

    monkeypatch.setattr(samples, "sample_sheet", slowly)
    callback, state = Samples(tmp_path, parts_of_images({"p0": 1})), State(epochs=10_000)
    for state.epoch in range(1, 500):  # each of them the best so far
        state.best = SimpleNamespace(epoch=state.epoch)
        clock.now_s += 1.0
        callback.on_epoch_end(state, {})
    assert [int(path.stem[-4:]) for path in sorted(tmp_path.glob("epoch_*"))] == [1, 201, 401]


def test_a_full_disk_becomes_a_warning(tmp_path: Path, drawn: list[Any]) -> None:
    callback, state = Samples(tmp_path / "gone", parts_of_images({"p0": 1})), State(epoch=1)
    callback.on_epoch_end(state, {})
    ((kind, fields),) = state.notes
    assert kind == "warning"
    assert fields["message"].startswith("The picture epoch_0001.png was not written: ")


def test_the_strip_shows_each_tile_once_and_its_answers_in_order(tmp_path: Path) -> None:
    for epoch, said in ((0, 10), (3, 60), (9, 110)):
        save_sheet(tmp_path / f"epoch_{epoch:04d}.png", [200, 220, said, 201, 221, said + 5])
    (tmp_path / "epoch_0005.png").write_bytes((tmp_path / "epoch_0003.png").read_bytes()[:200])  # torn by a kill
    strip = strip_picture(sorted(tmp_path.glob("epoch_*.png")))
    assert strip is not None
    pixels = np.asarray(strip)
    centres = [((top + bottom) // 2, (left + right) // 2) for left, top, right, bottom in strip.info["panels"]]
    assert [int(pixels[row, column, 0]) for row, column in centres] == [
        200, 220, 10, 60, 110,
        201, 221, 15, 65, 115,
    ]  # fmt: skip


def test_one_picture_makes_no_strip(tmp_path: Path) -> None:
    save_sheet(tmp_path / "epoch_0001.png", [1, 2, 3])
    assert strip_picture(sorted(tmp_path.iterdir())) is None
    assert strip_picture([]) is None


def test_what_was_confused_is_drawn_for_classes_and_for_yes_and_no() -> None:
    matrices = np.array([[[5, 1], [0, 4]], [[5, 0], [2, 2]]])
    classes = SimpleNamespace(metrics=SimpleNamespace(matrices=matrices))
    gaps = SimpleNamespace(counts=np.array([[[4, 1, 2, 9], [3, 0, 0, 5]]]))
    assert confusion_picture(("wall", "crack"), classes) is not None
    assert confusion_picture(("5 m", "10 m"), gaps) is not None
    assert confusion_picture(("5 m",), None) is None
    assert confusion_picture(("height",), SimpleNamespace(rmse=1.0)) is None
