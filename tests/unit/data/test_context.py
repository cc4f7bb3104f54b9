from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from maskwright.data.context import aspect_bands, context_bands, context_channels, rotate_aspect
from maskwright.data.sampling import Draw
from maskwright.types import Place, Window

ALL = ("slope", "aspect", "altitude")


def _plane(right: float, down: float, shape: tuple[int, int] = (8, 9), level: float = 500.0) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return (level + right * cols + down * rows).astype(np.float32)


def _bands(surface: np.ndarray, context: tuple[str, ...] = ALL, pixel_size_m: float = 1.0) -> np.ndarray:
    return context_bands(surface, context, pixel_size_m, np.isfinite(surface[1:-1, 1:-1]))


@pytest.mark.parametrize(
    ("right", "down", "degrees", "east", "north"),
    [(1.0, 0.0, 45.0, -1.0, 0.0), (-1.0, 0.0, 45.0, 1.0, 0.0), (0.0, 1.0, 45.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0, 0.0)],
)
def test_a_tilted_plane_has_its_slope_and_faces_downhill(
    right: float, down: float, degrees: float, east: float, north: float
) -> None:
    slope, sine, cosine, altitude = _bands(2.0 * _plane(right, down), pixel_size_m=2.0)
    np.testing.assert_allclose(slope, degrees / 90.0, atol=1e-6)
    np.testing.assert_allclose(sine, east, atol=1e-6)
    np.testing.assert_allclose(cosine, north, atol=1e-6)
    assert np.array_equal(altitude, (2.0 * _plane(right, down))[1:-1, 1:-1] / np.float32(1000))


def test_slope_is_horns_formula_pixel_by_pixel() -> None:
    surface = np.random.default_rng(0).normal(100, 3, (6, 7)).astype(np.float32)
    slope, sine, cosine = _bands(surface, ("slope", "aspect"), 0.5)
    for row, col in itertools.product(range(4), range(5)):
        (a, b, c), (d, _, f), (g, h, i) = surface[row : row + 3, col : col + 3].astype(float)
        x = ((c + 2 * f + i) - (a + 2 * d + g)) / (8 * 0.5)
        y = ((g + 2 * h + i) - (a + 2 * b + c)) / (8 * 0.5)
        assert slope[row, col] == pytest.approx(math.degrees(math.atan(math.hypot(x, y))) / 90, abs=1e-5)
        assert sine[row, col] == pytest.approx(-x / math.hypot(x, y), abs=1e-4)
        assert cosine[row, col] == pytest.approx(y / math.hypot(x, y), abs=1e-4)


def test_beside_pixels_not_measured_slope_and_aspect_are_zero_and_altitude_stays() -> None:
    surface = _plane(1.0, 0.5)
    surface[3, 4] = np.nan
    bands = _bands(surface)
    near = np.zeros((6, 7), bool)
    near[1:4, 2:5] = True
    assert (bands[:3, near] == 0).all()
    assert (bands[:3, ~near] != 0).all()
    near[2, 3] = False  # the pixel itself
    assert (bands[3, near] > 0).all()
    assert (bands[:, 2, 3] == 0).all()


def test_bands_are_counted_and_found() -> None:
    assert context_channels(ALL) == 4
    assert aspect_bands(("slope", "aspect"), 2) == (3, 4)
    assert aspect_bands(("aspect",), 1) == (1, 2)
    assert aspect_bands(("slope", "altitude"), 1) is None


@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_cols", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turning_the_bands_equals_bands_of_the_turned_surface(flip_rows: bool, flip_cols: bool, turns: int) -> None:
    surface = np.random.default_rng(1).normal(0, 2, (10, 10)).astype(np.float32)
    draw = Draw(Place("a", Window(0, 0, 8, 8)), (), flip_rows=flip_rows, flip_cols=flip_cols, turns=turns)

    def moved(values: np.ndarray) -> np.ndarray:
        values = values[..., ::-1, :] if flip_rows else values
        values = values[..., ::-1] if flip_cols else values
        return np.rot90(values, turns, axes=(-2, -1)).copy()

    image = torch.from_numpy(moved(_bands(surface)))
    rotate_aspect(image, draw, (1, 2))
    np.testing.assert_allclose(image.numpy(), _bands(moved(surface)), atol=2e-5)
