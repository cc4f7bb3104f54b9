"""Invented terrain: smooth, hilly, and a pure function of the ground coordinates.

Random heights sit on a lattice that covers the whole plane; cubic B-splines run through them. The height of a lattice
point is a hash of its indices, so any window of any raster agrees with any other, bit for bit, and nothing is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Terrain", "tile_terrain"]

_OCTAVES = 3
_GAIN = 0.4  # height of the hills of an octave against those of the one before, which are twice as wide
_SPACINGS_PER_WAVE = 3.0  # lattice points from hill to hill
_SPLINE_STD = 151.0 / 315.0  # standard deviation of a spline through unit white noise, averaged over places, in 2-D


@dataclass(frozen=True, slots=True)
class Terrain:
    """Smooth random hills over the whole plane.

    Attributes:
        amplitude_m: Standard deviation of the heights over a large area, in metres.
        wavelength_m: Typical distance between hills, in metres.
        seed: Which terrain; not negative.
    """

    amplitude_m: float = 20.0
    wavelength_m: float = 200.0
    seed: int = 7

    def surface(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Terrain heights at the crossings of columns ``x`` and rows ``y``.

        Args:
            x: (W,) float64 ground coordinates in metres, in any order.
            y: (H,) float64 ground coordinates in metres.

        Returns:
            (H, W) float32 metres. The value at (x, y) depends on nothing else.
        """
        out = np.zeros((len(y), len(x)), np.float32)
        weights = np.array([_GAIN**octave for octave in range(_OCTAVES)])
        weights *= self.amplitude_m / (_SPLINE_STD * math.sqrt(float(np.sum(weights**2))))
        for octave, weight in enumerate(weights):
            spacing_m = self.wavelength_m / _SPACINGS_PER_WAVE / 2**octave
            _add_octave(
                out, np.asarray(x, float) / spacing_m, np.asarray(y, float) / spacing_m, weight, self._key(octave)
            )
        return out

    def to_dict(self) -> dict[str, float | int]:
        return {"amplitude_m": self.amplitude_m, "wavelength_m": self.wavelength_m, "seed": self.seed}

    def _key(self, octave: int) -> int:
        return int(np.random.SeedSequence([self.seed, octave]).generate_state(1, np.uint64)[0])


def tile_terrain(
    rng: np.random.Generator, size_px: int, pixel_size_m: float, std_m: float, wavelength_m: float
) -> np.ndarray:
    """Random terrain for one square tile, (size_px, size_px) float32 metres, with mean 0.

    Args:
        rng: One number is drawn from it.
        size_px: Side of the tile.
        pixel_size_m: Side of a pixel.
        std_m: Standard deviation over many tiles' worth of ground; a tile smaller than the hills varies less.
        wavelength_m: Typical distance between hills.
    """
    at = np.arange(size_px) * pixel_size_m
    surface = Terrain(std_m, wavelength_m, int(rng.integers(2**62))).surface(at, at)
    surface -= surface.mean(dtype=np.float64).astype(np.float32)
    return surface


def _add_octave(out: np.ndarray, x: np.ndarray, y: np.ndarray, weight: float, key: int) -> None:
    """Add one octave in place; ``x`` (W,) and ``y`` (H,) are in lattice spacings."""
    if not out.size:
        return
    col, col_weights = _spline(x)
    row, row_weights = _spline(y)
    lattice = _lattice(row.min(), row.max() + 4, col.min(), col.max() + 4, key)
    row -= row.min()
    col -= col.min()
    lines = _blend([lattice[row + step] for step in range(4)], weight * row_weights[:, :, None])  # (H, lattice columns)
    lines = lines.astype(np.float32)
    for step, share in enumerate(col_weights.astype(np.float32)):
        out += np.take(lines, col + step, axis=1) * share


def _blend(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    total: np.ndarray = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += part * weight  # one by one: a matrix product would sum in an order that depends on the window
    return total


def _spline(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First of the four lattice points around each place, and their cubic B-spline weights (4, n)."""
    first = np.floor(place)
    t = place - first
    u = 1.0 - t
    weights = np.stack([u * u * u, 3 * t * t * t - 6 * t * t + 4, 3 * u * u * u - 6 * u * u + 4, t * t * t]) / 6.0
    return first.astype(np.int64) - 1, weights


def _lattice(row: int, row_stop: int, col: int, col_stop: int, key: int) -> np.ndarray:
    """Random heights with mean 0 and variance 1 at lattice points, a hash of their indices."""
    with np.errstate(over="ignore"):  # the hash lives from wrapping around
        rows = _mix(np.arange(row, row_stop).astype(np.uint64) + np.uint64(key))
        cols = np.arange(col, col_stop).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mix(_mix(rows)[:, None] ^ _mix(cols)[None, :])
    uniform = (bits >> np.uint64(11)).astype(np.float64) / 2.0**53
    heights: np.ndarray = (uniform - 0.5) * math.sqrt(12.0)
    return heights


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every input bit reaches every output bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
