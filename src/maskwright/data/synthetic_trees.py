"""Invented drone pictures of an agroforest with known truth: cacao under shade trees, every crown known.

Both kinds of trees have the same colours, so colour tells trees from the ground and not one kind from the other: cacao
has small crowns of fine leaves, shade trees larger ones with coarse branches that throw longer shadows. Trees stand in
groups that touch, on soil with grass, litter and stones, under light that falls unevenly.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskwright.errors import DataError

__all__ = ["TREE_DIFFICULTIES", "TREE_KINDS", "Tree", "TreeDifficulty", "TreeScene", "make_trees", "write_trees"]

TREE_KINDS = ("cacao", "shade")
"""Kinds of trees; their class ids are 1 and 2."""

_SUN = (0.8, -0.6)  # towards which shadows fall, x and y
_CORNERS = 40  # of an outline
_CROWN = {1: (3.0, 7.0), 2: (6.0, 12.0)}  # diameters in metres
_EPSG = 31984  # SIRGAS 2000 / UTM 24S: the south of Bahia


@dataclass(frozen=True, slots=True)
class TreeDifficulty:
    """How hard a scene is.

    Attributes:
        trees: Least and most trees on 512 x 512 px.
        touching: Share of the trees that stand beside another and overlap it.
        overlap: Most of a tree's diameter that may lie under its neighbour.
        noise: Standard deviation of the grain, in grey values.
        shading: Standard deviation of the uneven light, in grey values.
        grass: Share of the ground that is as green as crowns.
    """

    trees: tuple[int, int]
    touching: float
    overlap: float
    noise: float
    shading: float
    grass: float


TREE_DIFFICULTIES = {
    "easy": TreeDifficulty((40, 60), 0.1, 0.1, 4.0, 8.0, 0.1),
    "medium": TreeDifficulty((40, 120), 0.34, 0.3, 7.0, 14.0, 0.3),
    "hard": TreeDifficulty((80, 120), 0.5, 0.3, 10.0, 20.0, 0.5),
}


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A tree of a scene.

    Attributes:
        label: Class id: 1 cacao, 2 shade.
        x: Of the stem, in pixels.
        y: Of the stem, in pixels.
        diameter_m: Of a circle as large as the crown.
        outline: (n, 2) x and y in pixels, the whole crown, also where another tree hides it.
        height_m: From the ground.
    """

    label: int
    x: float
    y: float
    diameter_m: float
    outline: np.ndarray
    height_m: float


@dataclass(frozen=True, slots=True, eq=False)
class TreeScene:
    """An invented picture.

    Attributes:
        image: (H, W, 3) uint8.
        trees: All of them, the lower ones first; the stem of each lies in the picture.
        height: (H, W) float32 metres above ground, the canopy height model.
        pixel_size_m: Side of a pixel.
    """

    image: np.ndarray
    trees: tuple[Tree, ...]
    height: np.ndarray
    pixel_size_m: float


def make_trees(
    size_px: int = 512, seed: int = 0, difficulty: str | TreeDifficulty = "medium", pixel_size_m: float = 0.25
) -> TreeScene:
    """Invent a square scene; the same arguments give the same one, bit for bit.

    Args:
        size_px: Rows and columns, at least 64.
        seed: Which scene, 0 or more.
        difficulty: ``easy``, ``medium``, ``hard``, or numbers of one's own.
        pixel_size_m: Side of a pixel in metres.

    Raises:
        DataError: If the difficulty is unknown or a size makes no sense.
    """
    if isinstance(difficulty, str):
        if difficulty not in TREE_DIFFICULTIES:
            raise DataError(f"The difficulty {difficulty!r} is not known. Known: {', '.join(TREE_DIFFICULTIES)}.")
        difficulty = TREE_DIFFICULTIES[difficulty]
    if size_px < 64 or not pixel_size_m > 0:
        raise DataError(f"A scene of {size_px} px at {pixel_size_m:g} m is none; at least 64 px, and more than 0 m.")
    rng = np.random.default_rng([seed, 7])
    trees = _plant(rng, size_px, difficulty, pixel_size_m)
    ground = _ground(rng, size_px, difficulty)
    height = np.zeros((size_px, size_px), np.float32)
    shaded = np.ones((size_px, size_px), np.float32)
    for tree in trees:
        _shadow(shaded, tree, pixel_size_m)
    image = ground * cv2.GaussianBlur(shaded, (0, 0), 1.2)[..., None]
    for tree in trees:
        _crown(rng, image, height, tree)
    light = _clouds(rng, size_px, 0.4) * difficulty.shading
    image = image + light[..., None] + rng.normal(0.0, difficulty.noise, image.shape)
    return TreeScene(np.clip(image, 0, 255).astype(np.uint8), tuple(trees), height, pixel_size_m)


def write_trees(
    folder: Path | str,
    count: int,
    *,
    size_px: int = 512,
    seed: int = 0,
    difficulty: str | TreeDifficulty = "medium",
    pixel_size_m: float = 0.25,
) -> Path:
    """Invent scenes and write ``images/trees_0000.tif`` with a CRS, ``chm/trees_0000.tif`` and ``annotations.json``.

    The COCO file holds the outline, box, area and ``crown_diameter`` (metres) of every tree.

    Args:
        folder: Made if missing.
        count: How many scenes.
        size_px: Rows and columns.
        seed: The first scene's; the others follow.
        difficulty: See :func:`make_trees`.
        pixel_size_m: Side of a pixel in metres.

    Returns:
        The folder.
    """
    folder = Path(folder)
    for name in ("images", "chm"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        scene = make_trees(size_px, seed + number, difficulty, pixel_size_m)
        name = f"trees_{number:04d}.tif"
        corner = 450_000.0 + 2 * number * size_px * pixel_size_m
        _write_raster(folder / "images" / name, scene.image.transpose(2, 0, 1), pixel_size_m, corner)
        _write_raster(folder / "chm" / name, scene.height[None], pixel_size_m, corner)
        images.append({"id": number + 1, "file_name": name, "height": size_px, "width": size_px})
        annotations += [_annotation(tree, number + 1, size_px) for tree in scene.trees]
    for number, entry in enumerate(annotations, start=1):
        entry["id"] = number
    categories = [{"id": number, "name": name} for number, name in enumerate(TREE_KINDS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _annotation(tree: Tree, image: int, size_px: int) -> dict[str, Any]:
    ring = np.clip(tree.outline, 0, size_px).round(2)
    (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
    area = abs(np.dot(ring[:, 0], np.roll(ring[:, 1], -1)) - np.dot(ring[:, 1], np.roll(ring[:, 0], -1))) / 2
    return {
        "image_id": image,
        "category_id": tree.label,
        "segmentation": [ring.ravel().tolist()],
        "bbox": [float(value) for value in (x0, y0, x1 - x0, y1 - y0)],
        "area": float(area),
        "iscrowd": 0,
        "crown_diameter": round(tree.diameter_m, 3),
    }


def _write_raster(path: Path, bands: np.ndarray, pixel_size_m: float, corner: float) -> None:
    import rasterio
    from affine import Affine

    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    place = {"crs": f"EPSG:{_EPSG}", "transform": Affine(pixel_size_m, 0.0, corner, 0.0, -pixel_size_m, 8_290_000.0)}
    with rasterio.open(path, "w", dtype=bands.dtype, compress="deflate", **profile, **place) as file:
        file.write(bands)


# --- where trees stand ------------------------------------------------------------------------------------------------


def _plant(rng: np.random.Generator, size_px: int, settings: TreeDifficulty, pixel_size_m: float) -> list[Tree]:
    low, high = settings.trees
    wanted = max(1, round(int(rng.integers(low, high + 1)) * (size_px / 512) ** 2))
    placed: list[tuple[float, float, float, int]] = []  # x, y, radius, label
    for number in range(wanted):
        beside = number > 0 and rng.random() < settings.touching
        for _ in range(60):
            label = 1 if rng.random() < 0.75 else 2
            radius = rng.uniform(*_CROWN[label]) / 2 / pixel_size_m
            if beside:
                x, y = _beside(rng, placed, radius, settings.overlap)
            else:
                x, y = rng.uniform(0, size_px, 2)
            if 0 <= x < size_px and 0 <= y < size_px and _fits(x, y, radius, placed, settings.overlap * beside):
                placed.append((x, y, radius, label))
                break
    trees = []
    for x, y, radius, label in placed:
        outline, area = _outline(rng, x, y, radius)
        across = 2 * math.sqrt(area / math.pi) * pixel_size_m
        height = (2.5 + 0.4 * across + rng.uniform(0, 1)) if label == 1 else (8.0 + 0.8 * across + rng.uniform(0, 3))
        trees.append(Tree(label, float(x), float(y), float(across), outline, float(height)))
    return sorted(trees, key=lambda tree: tree.height_m)


def _beside(
    rng: np.random.Generator, placed: list[tuple[float, float, float, int]], radius: float, overlap: float
) -> tuple[float, float]:
    x, y, other, _ = placed[int(rng.integers(len(placed)))]
    angle = rng.uniform(0, 2 * math.pi)
    apart = radius + other - rng.uniform(0, overlap) * 2 * min(radius, other)
    return x + apart * math.cos(angle), y + apart * math.sin(angle)


def _fits(x: float, y: float, radius: float, placed: list[tuple[float, float, float, int]], overlap: float) -> bool:
    for other_x, other_y, other, _ in placed:
        least = radius + other - overlap * 2 * min(radius, other)
        if math.hypot(x - other_x, y - other_y) < least - 1e-6:
            return False
    return True


def _outline(rng: np.random.Generator, x: float, y: float, radius: float) -> tuple[np.ndarray, float]:
    """A wavy ring around a stem, and its area."""
    angle = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    wave = np.ones(_CORNERS)
    for lobes in (2, 3, 5, 7):
        wave += rng.normal(0, 0.05) * np.cos(lobes * angle + rng.uniform(0, 2 * math.pi))
    wave = np.clip(wave, 0.75, 1.15)
    ring = np.stack((x + radius * wave * np.cos(angle), y + radius * wave * np.sin(angle)), axis=-1)
    area = 0.5 * float((radius * wave) @ (radius * np.roll(wave, -1))) * math.sin(2 * math.pi / _CORNERS)
    return ring, area


# --- how they look ----------------------------------------------------------------------------------------------------


def _ground(rng: np.random.Generator, size_px: int, settings: TreeDifficulty) -> np.ndarray:
    """(H, W, 3) soil with grass as green as crowns, litter and stones."""
    soil, grass = np.array([150.0, 118.0, 84.0]), np.array([92.0, 116.0, 62.0])
    cover = _clouds(rng, size_px, 0.15)
    edge = np.quantile(cover, 1.0 - settings.grass)
    share = 1.0 / (1.0 + np.exp(-(cover - edge) * 8.0))
    ground = soil + (grass - soil) * share[..., None]
    ground += _clouds(rng, size_px, 0.02)[..., None] * 9.0
    for _ in range(round(60 * (size_px / 512) ** 2)):
        x, y = rng.integers(0, size_px, 2)
        tone = float(rng.uniform(-45, 45))
        spot = np.zeros((size_px, size_px), np.uint8)
        cv2.circle(spot, (int(x), int(y)), int(rng.integers(1, 6)), 1, -1)
        ground[spot > 0] += tone
    return np.asarray(ground)


def _clouds(rng: np.random.Generator, size_px: int, scale: float) -> np.ndarray:
    """(H, W) smooth noise of deviation 1; ``scale`` is its width as a share of the picture."""
    noise = rng.normal(0.0, 1.0, (size_px, size_px)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), max(scale * size_px / 4, 0.8), borderType=cv2.BORDER_REFLECT)
    return np.asarray((smooth - smooth.mean()) / max(float(smooth.std()), 1e-6), np.float32)


def _shadow(shaded: np.ndarray, tree: Tree, pixel_size_m: float) -> None:
    length = 0.35 * tree.height_m / pixel_size_m
    ring = tree.outline + np.array(_SUN) * length
    hull = cv2.convexHull(np.concatenate((tree.outline, ring)).astype(np.float32))
    cv2.fillPoly(shaded, [np.round(hull).astype(np.int32)], 0.55)


def _crown(rng: np.random.Generator, image: np.ndarray, height: np.ndarray, tree: Tree) -> None:
    """Leaves of one tree over what is below: lit on the side of the sun, dark at the rim; coarse or fine by kind."""
    size = image.shape[0]
    (x0, y0), (x1, y1) = np.floor(tree.outline.min(axis=0)).astype(int), np.ceil(tree.outline.max(axis=0)).astype(int)
    rows, cols = slice(max(y0, 0), min(y1 + 1, size)), slice(max(x0, 0), min(x1 + 1, size))
    if rows.stop <= rows.start or cols.stop <= cols.start:
        return
    inside = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
    ring = tree.outline - np.array([cols.start, rows.start])
    cv2.fillPoly(inside, [np.round(ring * 16 - 8).astype(np.int32)], 1, shift=4)
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5 - tree.y
    x = np.arange(cols.start, cols.stop)[None] + 0.5 - tree.x
    radius = math.sqrt(abs(np.ptp(tree.outline[:, 0]) * np.ptp(tree.outline[:, 1]))) / 2
    out = np.minimum(np.hypot(x, y) / max(radius, 1.0), 1.0)
    dome = np.sqrt(np.maximum(1.0 - 0.85 * out**2, 0.0))
    sun = -(x * _SUN[0] + y * _SUN[1]) / max(radius, 1.0)
    noise = np.asarray(rng.normal(0.0, 1.0, inside.shape), np.float32)
    texture: Any = cv2.GaussianBlur(noise, (0, 0), 0.8 if tree.label == 1 else 2.2, borderType=cv2.BORDER_REFLECT)
    grain = texture / max(float(texture.std()), 1e-6)
    tone = (0.62 + 0.38 * dome + 0.14 * sun + 0.10 * grain) * rng.uniform(0.88, 1.12)
    color = np.array([88.0, 120.0, 60.0]) + rng.normal(0.0, 6.0, 3)
    mask = inside > 0
    image[rows, cols][mask] = (tone[..., None] * color)[mask]
    height[rows, cols][mask] = np.maximum(height[rows, cols], (tree.height_m * (0.55 + 0.45 * dome)))[mask]
