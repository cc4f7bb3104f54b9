"""Invented photographs with known truth, for tests, examples and trials: cracks, vessels, surface defects.

What is looked for differs from its surroundings by little, and other things are as dark or as bright: light falls
unevenly, stains, seams and lesions lie about. A threshold on brightness therefore does not find it; shape does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

from maskwright.errors import DataError

__all__ = ["DEFECTS", "DIFFICULTIES", "KINDS", "Difficulty", "Picture", "make_picture", "write_pictures"]

DEFECTS = ("background", "scratch", "pit", "stain")
"""Classes of the kind ``defects``, by mask value."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a picture is.

    Attributes:
        contrast: Brightness of what is looked for against its surroundings, in grey values 0..255.
        noise: Standard deviation of the grain, in grey values.
        shading: Standard deviation of the uneven light, in grey values; above ``contrast`` no threshold works.
        distractors: Things as dark or bright that are not looked for, on a picture of 256 x 256 pixels.
        thinnest_px: Width of the thinnest lines.
    """

    contrast: float
    noise: float
    shading: float
    distractors: int
    thinnest_px: float


DIFFICULTIES = {
    "easy": Difficulty(contrast=60.0, noise=4.0, shading=35.0, distractors=6, thinnest_px=2.0),
    "medium": Difficulty(contrast=42.0, noise=7.0, shading=40.0, distractors=10, thinnest_px=1.5),
    "hard": Difficulty(contrast=28.0, noise=10.0, shading=45.0, distractors=16, thinnest_px=1.0),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An invented photograph.

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8 class numbers: 0 background, 1 and up as :data:`DEFECTS`, or 1 for the one class.
    """

    image: np.ndarray
    mask: np.ndarray


def make_picture(kind: str, size_px: int = 256, seed: int = 0, difficulty: str | Difficulty = "medium") -> Picture:
    """Invent a square photograph; the same arguments give the same one, bit for bit.

    Args:
        kind: ``cracks`` in concrete, ``vessels`` of a retina, or ``defects`` of a ground surface: scratches, pits and
            stains; a third of the pictures of defects have none.
        size_px: Rows and columns, at least 64.
        seed: Which picture, 0 or more.
        difficulty: ``easy``, ``medium``, ``hard``, or numbers of one's own.

    Raises:
        DataError: If the kind or the difficulty is unknown, or the size too small.
    """
    if kind not in KINDS:
        raise DataError(f"There are no invented pictures of {kind!r}. Kinds: {', '.join(KINDS)}.")
    if isinstance(difficulty, str):
        if difficulty not in DIFFICULTIES:
            raise DataError(f"The difficulty {difficulty!r} is not known. Known: {', '.join(DIFFICULTIES)}.")
        difficulty = DIFFICULTIES[difficulty]
    if size_px < 64:
        raise DataError(f"size_px: {size_px} px is too small for an invented picture; at least 64 px are needed.")
    rng = np.random.default_rng([seed, tuple(KINDS).index(kind)])
    return KINDS[kind](rng, size_px, difficulty)


def write_pictures(
    folder: Path | str,
    kind: str,
    count: int,
    *,
    size_px: int = 256,
    seed: int = 0,
    difficulty: str | Difficulty = "medium",
) -> Path:
    """Invent photographs and write ``images/{kind}_0000.png`` and ``masks/{kind}_0000.png``.

    Masks hold 0 and 255 where there is one class, else the class numbers of :data:`DEFECTS`.

    Args:
        folder: Made if missing.
        kind: See :func:`make_picture`.
        count: How many.
        size_px: Rows and columns.
        seed: The first picture's; the others follow.
        difficulty: See :func:`make_picture`.

    Returns:
        The folder.
    """
    folder = Path(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = make_picture(kind, size_px, seed + number, difficulty)
        mask = picture.mask if kind == "defects" else picture.mask * np.uint8(255)
        name = f"{kind}_{number:04d}.png"
        cv2.imwrite(str(folder / "images" / name), picture.image[:, :, ::-1])
        cv2.imwrite(str(folder / "masks" / name), mask)
    return folder


# --- kinds ------------------------------------------------------------------------------------------------------------


def _cracks(rng: np.random.Generator, size: int, how: Difficulty) -> Picture:
    light = 150.0 + _smooth(rng, size, size / 3, how.shading) + _smooth(rng, size, 6.0, 5.0)
    coverage = np.zeros((size, size), np.float32)
    for _ in range(1 + int(rng.integers(0, 2))):
        _crack(coverage, rng, how)
    mask = (coverage > 0.5).astype(np.uint8)
    light += _distractors(rng, size, how, round_things=True)
    light -= coverage * how.contrast * (1.0 + _smooth(rng, size, 10.0, 0.25))
    return Picture(_photograph(rng, light, (1.0, 0.98, 0.94), how), mask)


def _vessels(rng: np.random.Generator, size: int, how: Difficulty) -> Picture:
    light = 140.0 + _smooth(rng, size, size / 3, how.shading) + _smooth(rng, size, 5.0, 4.0)
    coverage = np.zeros((size, size), np.float32)
    row, col = rng.uniform(0.3, 0.7, 2) * size
    branches = int(rng.integers(5, 8))
    for number in range(branches):
        angle = 2 * math.pi * (number + rng.uniform(-0.25, 0.25)) / branches
        _branch(coverage, rng, row, col, angle, width=size / 256 * rng.uniform(3.5, 6.0), how=how, left=4)
    mask = (coverage > 0.5).astype(np.uint8)
    light += _distractors(rng, size, how, round_things=True)
    light -= coverage * how.contrast
    return Picture(_photograph(rng, light, (1.0, 0.55, 0.3), how), mask)


def _defects(rng: np.random.Generator, size: int, how: Difficulty) -> Picture:
    grinding = _smooth(rng, size, (0.8, size / 6), 6.0)  # fine lines from left to right
    light = 130.0 + _smooth(rng, size, size / 3, how.shading) + grinding
    light += _distractors(rng, size, how, round_things=False)
    mask = np.zeros((size, size), np.uint8)
    if rng.random() > 1 / 3:
        for _ in range(int(rng.integers(1, 4))):
            class_id = int(rng.integers(1, len(DEFECTS)))
            light = _DEFECT_MAKERS[class_id - 1](light, mask, rng, how, class_id)
    return Picture(_photograph(rng, light, (0.97, 0.99, 1.0), how), mask)


KINDS: dict[str, Callable[[np.random.Generator, int, Difficulty], Picture]] = {
    "cracks": _cracks,
    "vessels": _vessels,
    "defects": _defects,
}


# --- lines ------------------------------------------------------------------------------------------------------------


def _crack(coverage: np.ndarray, rng: np.random.Generator, how: Difficulty) -> None:
    """A ragged line from one side towards the other, with short side branches, drawn into ``coverage`` 0..1."""
    size = len(coverage)
    angle = rng.uniform(0, 2 * math.pi)
    start = size / 2 - np.array([math.sin(angle), math.cos(angle)]) * size * rng.uniform(0.3, 0.6)
    start += rng.uniform(-0.2, 0.2, 2) * size
    widest = how.thinnest_px + rng.uniform(0.5, 2.0) * size / 256
    path = _walk(rng, start, angle, length=size * rng.uniform(0.6, 1.2), bend=0.35)
    _draw(coverage, path, how.thinnest_px + (widest - how.thinnest_px) * _ups_and_downs(rng, len(path)))
    for _ in range(int(rng.integers(1, 4))):
        at = path[int(rng.integers(len(path) // 5, len(path)))]
        side = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        twig = _walk(rng, at, side, length=size * rng.uniform(0.1, 0.35), bend=0.4)
        _draw(coverage, twig, np.full(len(twig), how.thinnest_px))


def _branch(
    coverage: np.ndarray,
    rng: np.random.Generator,
    row: float,
    col: float,
    angle: float,
    *,
    width: float,
    how: Difficulty,
    left: int,
) -> None:
    """A vessel that forks ``left`` more times, each fork thinner, drawn into ``coverage``."""
    size = len(coverage)
    path = _walk(rng, np.array([row, col]), angle, length=size * rng.uniform(0.15, 0.28), bend=0.12)
    thinner = max(how.thinnest_px, width * 0.75)
    _draw(coverage, path, np.linspace(max(width, how.thinnest_px), thinner, len(path)))
    if left == 0 or width <= how.thinnest_px * 0.6:
        return
    step = path[-1] - path[-2]
    onwards = math.atan2(step[0], step[1])
    for side in (-1, 1):
        turn = onwards + side * rng.uniform(0.25, 0.7)
        tip_row, tip_col = path[-1]
        _branch(coverage, rng, tip_row, tip_col, turn, width=width * rng.uniform(0.6, 0.8), how=how, left=left - 1)


def _walk(rng: np.random.Generator, start: np.ndarray, angle: float, *, length: float, bend: float) -> np.ndarray:
    """(N, 2) rows and columns of a line that wanders around a direction, a step of two pixels each."""
    steps = max(3, int(length / 2))
    wander = np.cumsum(rng.normal(0, bend, steps))
    angles = angle + wander - np.linspace(0, wander[-1], steps)  # bent, but on the whole in its direction
    path: np.ndarray = start + 2 * np.cumsum(np.stack([np.sin(angles), np.cos(angles)], axis=1), axis=0)
    return path


def _ups_and_downs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Numbers 0..1 that change slowly, 0 at both ends: a crack tapers out."""
    waves = ndimage.gaussian_filter1d(rng.random(count), 5, mode="nearest")
    waves = (waves - waves.min()) / max(float(np.ptp(waves)), 1e-9)
    taper: np.ndarray = np.sin(np.linspace(0, math.pi, count)) ** 0.5
    tapered: np.ndarray = waves * taper
    return tapered


def _draw(coverage: np.ndarray, path: np.ndarray, width_px: np.ndarray) -> None:
    """The share of each pixel that a line of changing width covers; lines join by their maximum."""
    fine = 8  # drawn in eighths of a pixel, as cv2 takes them
    for (row, col), (next_row, next_col), width in zip(path[:-1], path[1:], width_px, strict=False):
        low = np.floor(np.minimum([row, col], [next_row, next_col]) - width - 2).astype(int)
        high = np.ceil(np.maximum([row, col], [next_row, next_col]) + width + 3).astype(int)
        low, high = np.maximum(low, 0), np.minimum(high, coverage.shape)
        if (low >= high).any():
            continue
        part = np.zeros(high - low, np.uint8)
        ends = [(round((c - low[1]) * fine), round((r - low[0]) * fine)) for r, c in ((row, col), (next_row, next_col))]
        cv2.line(part, ends[0], ends[1], 255, max(1, math.floor(width)), cv2.LINE_AA, shift=3)
        target = coverage[low[0] : high[0], low[1] : high[1]]
        np.maximum(target, part / np.float32(255) * min(1.0, width), out=target)


# --- defects ----------------------------------------------------------------------------------------------------------


def _scratch(
    light: np.ndarray, mask: np.ndarray, rng: np.random.Generator, how: Difficulty, class_id: int
) -> np.ndarray:
    size = len(light)
    coverage = np.zeros_like(light, np.float32)
    angle = math.pi / 2 + rng.uniform(-1.0, 1.0)  # across the grinding lines
    start = rng.uniform(0.15, 0.6, 2) * size
    path = _walk(rng, start, angle, length=size * rng.uniform(0.2, 0.5), bend=0.03)
    _draw(coverage, path, np.full(len(path), max(1.0, how.thinnest_px)))
    mask[coverage > 0.5] = class_id
    light = light + coverage * how.contrast * rng.choice([-1, 1])
    return light


def _pit(light: np.ndarray, mask: np.ndarray, rng: np.random.Generator, how: Difficulty, class_id: int) -> np.ndarray:
    size = len(light)
    row, col = rng.uniform(0.1, 0.9, 2) * size
    radius = rng.uniform(2.5, 5.0) * size / 256
    inside = _blob(rng, size, row, col, radius, 0.15)
    mask[inside > 0.5] = class_id
    slope = ndimage.sobel(ndimage.gaussian_filter(inside, 1.0), axis=0)  # one rim lit, the other in shade
    light = light - inside * how.contrast * 0.6 + slope * how.contrast * 0.5
    return light


def _stain(light: np.ndarray, mask: np.ndarray, rng: np.random.Generator, how: Difficulty, class_id: int) -> np.ndarray:
    size = len(light)
    row, col = rng.uniform(0.2, 0.8, 2) * size
    inside = _blob(rng, size, row, col, rng.uniform(14, 30) * size / 256, 0.35)
    mask[inside > 0.5] = class_id
    mottled = _smooth(rng, size, 2.0, how.contrast * 0.45)  # a stain is rough where the surface is smooth
    light = light - inside * how.contrast * 0.35 + inside * mottled
    return light


_DEFECT_MAKERS = (_scratch, _pit, _stain)


# --- surfaces ---------------------------------------------------------------------------------------------------------


def _smooth(rng: np.random.Generator, size: int, sigma_px: float | tuple[float, float], deviation: float) -> np.ndarray:
    """(size, size) float32 random hills with mean 0 and the given standard deviation."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma_px, mode="wrap")
    field -= field.mean()
    spread = float(field.std())
    scaled: np.ndarray = (field * (deviation / spread if spread > 0 else 0.0)).astype(np.float32)
    return scaled


def _blob(rng: np.random.Generator, size: int, row: float, col: float, radius: float, irregular: float) -> np.ndarray:
    """(size, size) float32 coverage 0..1 of an irregular round thing."""
    rows, cols = np.ogrid[:size, :size]
    dy, dx = rows - row, cols - col
    angle = np.arctan2(dy, dx)
    outline = np.full_like(angle, radius)
    for order in (2, 3, 5):
        outline += radius * irregular / order * np.cos(order * angle + rng.uniform(0, 2 * math.pi))
    inside: np.ndarray = np.clip(outline - np.hypot(dy, dx) + 0.5, 0, 1).astype(np.float32)
    return inside


def _distractors(rng: np.random.Generator, size: int, how: Difficulty, *, round_things: bool) -> np.ndarray:
    """(size, size) brightness of spots (or wide soft bands) that are as dark or bright as what is looked for."""
    total = np.zeros((size, size), np.float32)
    for _ in range(how.distractors):
        row, col = rng.uniform(0, 1, 2) * size
        change = how.contrast * rng.uniform(0.7, 1.5) * rng.choice([-1, 1], p=[0.75, 0.25])
        if round_things:
            radius = rng.uniform(3, 12) * size / 256
            total += ndimage.gaussian_filter(_blob(rng, size, row, col, radius, 0.3), 1.0) * change
        else:
            rows = np.arange(size)[:, None]
            width = rng.uniform(3, 10) * size / 256
            total += (np.exp(-0.5 * ((rows - row) / width) ** 2) * change).astype(np.float32)
    return total


def _photograph(
    rng: np.random.Generator, light: np.ndarray, tint: tuple[float, float, float], how: Difficulty
) -> np.ndarray:
    """(H, W, 3) uint8: the light in three tinted bands, with grain."""
    grain = rng.standard_normal((*light.shape, 3)) * how.noise
    image = light[:, :, None] * np.array(tint) + grain
    photograph: np.ndarray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return photograph
