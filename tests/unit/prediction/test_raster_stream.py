from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.errors import DataError
from maskwright.prediction import raster_stream
from maskwright.prediction.blending import BLENDS, plan_axis
from maskwright.prediction.crew import same_thread
from maskwright.prediction.raster_stream import Band, InputStrip, stream


class _Scene:
    """An array in the place of a raster; remembers which rows were asked for."""

    def __init__(self, values: np.ndarray, valid: np.ndarray | None = None) -> None:
        self.values = values.astype(np.float32)
        self.valid = np.ones(values.shape[1:], bool) if valid is None else valid
        self.asked: list[int] = []
        self.channels = len(values)

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked += range(start, stop)
        return self.values[:, start:stop], self.valid[start:stop]

    def window(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return values


def _field(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).standard_normal((channels, height, width)).astype(np.float32)


def _two_heights(images: Tensor) -> Tensor:
    """A network that looks at one pixel only, so that windows cannot matter."""
    return torch.cat([torch.sigmoid(images.sum(1, keepdim=True)), torch.sigmoid(images[:, :1] + 1)], dim=1)


def _whole(
    scene: _Scene,
    answer=_two_heights,
    *,
    tile_px: int = 16,
    overlap: float = 0.5,
    blend: str = "hann",
    batch_size: int = 1,
) -> np.ndarray:
    height, width = scene.valid.shape
    rows, cols = (plan_axis(length, tile_px, overlap, blend, multiple_px=4) for length in (height, width))
    bands = [
        (band.row, band.probs.copy(), band.valid.copy())
        for band in stream(scene, rows, cols, same_thread(answer), channels=2, batch_size=batch_size)
    ]
    assert [row for row, _, _ in bands] == list(np.cumsum([0, *(len(valid) for _, _, valid in bands)])[:-1])
    np.testing.assert_array_equal(np.concatenate([valid for _, _, valid in bands]), scene.valid)
    return np.concatenate([probs for _, probs, _ in bands], axis=1)


@pytest.mark.parametrize("blend", sorted(BLENDS))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (16, 16), (33, 47), (64, 20)])
def test_a_constant_network_gives_a_constant_map_up_to_the_borders(height: int, width: int, blend: str) -> None:
    def answer(images: Tensor) -> Tensor:
        return torch.full((len(images), 2, *images.shape[2:]), 0.3)

    probs = _whole(_Scene(_field(height, width)), answer, blend=blend)
    assert probs.shape == (2, height, width)
    np.testing.assert_allclose(probs, 0.3, rtol=0, atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_a_network_that_sees_single_pixels_gives_what_it_gives_in_one_pass(overlap: float) -> None:
    field = _field(61, 45, channels=2)
    expected = _two_heights(torch.from_numpy(field)[None])[0].numpy()
    np.testing.assert_allclose(_whole(_Scene(field), overlap=overlap), expected, atol=1e-6)


def test_the_map_does_not_depend_on_how_windows_are_grouped() -> None:
    field = _field(70, 90)
    valid = np.ones((70, 90), bool)
    valid[10:40, 20:70] = False
    one, three, many = (_whole(_Scene(field, valid), batch_size=size) for size in (1, 3, 50))
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(one, many)


def test_the_network_always_gets_full_batches_of_one_size() -> None:
    seen = []

    def answer(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return _two_heights(images)

    _whole(_Scene(_field(16, 47)), answer, batch_size=4)  # six windows across, the last of 15 columns
    assert seen == [(4, 1, 16, 16), (1, 1, 16, 15)]


def test_windows_without_a_valid_pixel_never_reach_the_network() -> None:
    valid = np.zeros((64, 64), bool)
    valid[60, 3] = True  # in the last row of windows, in the first two columns of windows at most
    calls = []

    def answer(images: Tensor) -> Tensor:
        calls.append(len(images))
        return _two_heights(images)

    _whole(_Scene(_field(64, 64), valid), answer)
    assert sum(calls) == 1


def test_rows_are_read_and_finished_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    field = _field(61, 20)
    whole = _whole(_Scene(field))
    monkeypatch.setattr(raster_stream, "_PORTION_ROWS", (3, 3))
    scene = _Scene(field)
    np.testing.assert_array_equal(_whole(scene), whole)
    assert scene.asked == list(range(61))


@pytest.mark.parametrize("height", [10, 16, 50, 64])
def test_every_row_of_the_raster_is_read_once(height: int) -> None:
    scene = _Scene(_field(height, 30))
    _whole(scene)
    assert scene.asked == list(range(height))


def test_progress_counts_all_windows_skipped_ones_too() -> None:
    valid = np.zeros((40, 40), bool)
    valid[:3] = True
    steps: list[tuple[int, int]] = []
    axis = plan_axis(40, 16, 0.5, "hann")
    scene = _Scene(_field(40, 40), valid)
    for _ in stream(
        scene,
        axis,
        axis,
        same_thread(_two_heights),
        channels=2,
        batch_size=2,
        progress=lambda *step: steps.append(step),
    ):
        pass
    assert steps[-1] == (16, 16)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_the_strip_is_as_high_as_a_window_whatever_the_raster() -> None:
    for height in (20, 2000):
        with InputStrip(_Scene(_field(height, 9)), 16, 9, [(0, 16), (8, 24)]) as strip:
            assert strip.values.shape == (1, 16, 9)


@pytest.mark.parametrize("first_row", [0, 1, 13, 16, 40, 69, 70])
def test_what_is_gone_on_with_is_the_same_bit_for_bit(first_row: int) -> None:
    field = _field(70, 45)
    rows, cols = (plan_axis(length, 16, 0.5, "hann", multiple_px=4) for length in field.shape[1:])

    def bands(first: int) -> list[Band]:
        scene = _Scene(field)
        found = list(stream(scene, rows, cols, same_thread(_two_heights), channels=2, first_row=first))
        assert scene.asked == list(range(70))  # read from the top for those who watch
        return found

    whole = np.concatenate([band.probs for band in bands(0)], axis=1)
    rest = bands(first_row)
    assert [band.row for band in rest[:1]] == [first_row][: first_row < 70]
    got = np.concatenate([np.empty((2, 0, 45), np.float32), *(band.probs for band in rest)], axis=1)
    np.testing.assert_array_equal(got, whole[:, first_row:])


def test_a_reader_that_stumbles_stops_the_stream() -> None:
    class Torn(_Scene):
        def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            if start >= 32:
                raise DataError("torn at row 32")
            return super().rows(start, stop)

    axis = plan_axis(64, 16, 0.5, "hann")
    with pytest.raises(DataError, match="torn at row 32"):
        list(stream(Torn(_field(64, 64)), axis, axis, same_thread(_two_heights), channels=2))
