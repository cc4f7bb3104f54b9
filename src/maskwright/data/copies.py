"""The same picture twice: exact copies by content, near copies by likeness, among a hundred thousand images.

Pairs are never all compared. Images whose difference hashes agree in one of four quarters are candidates (all pairs of
hashes that differ in at most three bits are among them), and so are, for small sets, all pairs. A candidate is a near
copy only if the miniatures correlate by more than 0.9 as they are, and by more than 0.94 after what all images have in
common, such as the bright disc of an eye, is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.cache import recipe_key
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.data.sources.images import ImageScenes

__all__ = ["LIKENESS_PX", "Copy", "difference_hash", "exact_copies", "grey", "image_copies", "near_copies", "shrunk"]

LIKENESS_PX = 48
"""Side of the miniatures that are compared."""

_FORMAT = 1  # raise it when the same images give other pairs
_WHOLE_PX = 4_000_000  # images up to this size are looked at as a whole
_LIKENESS_ROWS = 192  # rows of a larger one read for its miniature
_ALL_PAIRS = 1500  # so many images are compared one with another
_CROWD = 512  # a bucket of more images is walked along, each image with the next few
_NEIGHBOURS = 32
_MOST_BITS = 12  # of 64 that may differ
_ALIKE = 0.9
_OWN_ALIKE = 0.94  # asked of what is left when the common is taken out
_ALIKE_ALONE = 0.98  # asked where there are too few images to know what all have in common
_ENOUGH = 8
_CHUNK = 4096
_QUARTERS = (0, 16, 32, 48)


@dataclass(frozen=True, slots=True)
class Copy:
    """Two images that show the same.

    Attributes:
        first: Index of one image.
        second: Index of the other, larger.
        alike: Correlation of their miniatures; 1 for exact copies.
    """

    first: int
    second: int
    alike: float


def exact_copies(hashes: Sequence[str]) -> list[Copy]:
    """Images with equal content hashes, each paired with the first that has it; empty hashes are left out."""
    first: dict[str, int] = {}
    return [
        Copy(first[text], index, 1.0)
        for index, text in enumerate(hashes)
        if text and first.setdefault(text, index) != index
    ]


def near_copies(codes: NDArray[np.uint64], likeness: NDArray[np.float32]) -> list[Copy]:
    """Images that look alike.

    Args:
        codes: (N,) difference hashes.
        likeness: (N, P) miniatures.
    """
    if len(codes) < 2:
        return []
    enough = len(codes) >= _ENOUGH
    common = likeness.mean(axis=0) if enough else np.zeros(likeness.shape[1], np.float32)
    direction = np.random.default_rng(0).normal(size=likeness.shape[1])
    line = likeness @ np.asarray(direction, dtype=np.float32)
    least, own_least = (_ALIKE, _OWN_ALIKE) if enough else (_ALIKE_ALONE, _ALIKE_ALONE)
    found: dict[tuple[int, int], float] = {}
    for first, second in _candidates(codes, line):
        differ = np.bitwise_count(codes[first] ^ codes[second])
        first, second = first[differ <= _MOST_BITS], second[differ <= _MOST_BITS]
        for start in range(0, len(first), _CHUNK):
            a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
            alike = _correlation(likeness[a], likeness[b])
            own = _correlation(likeness[a] - common, likeness[b] - common)
            for index in np.flatnonzero((alike > least) & (own > own_least)):
                low, high = sorted((int(a[index]), int(b[index])))
                found[low, high] = float(alike[index])
    return [Copy(first, second, alike) for (first, second), alike in sorted(found.items())]


def image_copies(source: ImageScenes) -> tuple[tuple[Copy, ...], tuple[Copy, ...]]:
    """Exact and near copies among the images of a source; indices count its scenes. Kept in the source's cache."""
    key = recipe_key({"copies_of": source.fingerprint, "format": _FORMAT})

    def fill(out: np.ndarray) -> Mapping[str, Any]:
        out[...] = 0
        exact, near = _image_copies(source)
        return {
            name: [[c.first, c.second, c.alike] for c in found] for name, found in (("exact", exact), ("near", near))
        }

    source.cache.array(key, (1,), np.uint8, fill, f"copies among {len(source.scenes)} images")
    facts = source.cache.facts(key)
    exact, near = (
        tuple(Copy(int(a), int(b), float(alike)) for a, b, alike in facts[name]) for name in ("exact", "near")
    )
    return exact, near


def _image_copies(source: ImageScenes) -> tuple[list[Copy], list[Copy]]:
    facts = source.describe()
    # Of an image the first file is the picture itself; equal masks mean nothing.
    files = [facts[scene.name]["files"] for scene in source.scenes]
    exact = exact_copies([str(of_image[0]["sha256"]) if of_image else "" for of_image in files])
    codes = np.empty(len(source.scenes), np.uint64)
    likeness = np.empty((len(source.scenes), LIKENESS_PX**2), np.float32)
    for index, scene in enumerate(source.scenes):
        picture = _seen_from_afar(source, scene.name, scene.grid.height, scene.grid.width)
        codes[index] = difference_hash(picture)
        likeness[index] = shrunk(picture, LIKENESS_PX, LIKENESS_PX).ravel()
    return exact, near_copies(codes, likeness)


def _seen_from_afar(source: ImageScenes, scene: str, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) float32 grey image; of a large one some of its rows."""
    if height * width <= _WHOLE_PX:
        return grey(*source.pixels(scene, Window(0, 0, height, width)))
    rows = np.unique(np.linspace(0, height - 1, _LIKENESS_ROWS).astype(int))
    return np.concatenate([grey(*source.pixels(scene, Window(int(row), 0, 1, width))) for row in rows])


def grey(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W) float32 mean of the first three bands; pixels that do not count take the mean of those that do."""
    picture: NDArray[np.float32] = values[:3].astype(np.float32).mean(axis=0)
    if not valid.all():
        picture = np.where(valid, picture, picture[valid].mean() if valid.any() else 0.0).astype(np.float32)
    return picture


def shrunk(picture: NDArray[np.float32], rows: int, cols: int) -> NDArray[np.float32]:
    """(rows, cols) float32: averages over areas, as a picture seen from afar."""
    import cv2

    small: NDArray[np.float32] = cv2.resize(picture, (cols, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small


def difference_hash(picture: NDArray[np.float32]) -> int:
    """64 bits: whether each of 8 x 8 areas is brighter than its neighbour to the left (dHash)."""
    small = shrunk(picture, 8, 9)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def _candidates(
    codes: NDArray[np.uint64], line: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of indices worth comparing, in chunks; ``line`` puts like miniatures side by side."""
    if len(codes) <= _ALL_PAIRS:
        yield np.triu_indices(len(codes), 1)
        return
    for shift in _QUARTERS:
        keys = (codes >> np.uint64(shift)) & np.uint64(0xFFFF)
        # Inside a bucket neighbours in the order of the whole, rotated hash, then of the line, are likely to be alike.
        rotated = (codes >> np.uint64(shift)) | (codes << np.uint64((64 - shift) % 64) if shift else np.uint64(0))
        order = np.lexsort((line, rotated, keys))
        edges = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]])) if len(order) else np.zeros(0, np.intp)
        for bucket in np.split(order, edges):
            if 1 < len(bucket) <= _CROWD:
                first, second = np.triu_indices(len(bucket), 1)
                yield bucket[first], bucket[second]
            elif len(bucket) > _CROWD:
                for step in range(1, _NEIGHBOURS + 1):
                    yield bucket[:-step], bucket[step:]


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) correlation of the rows of two arrays; 0 where one of them is plain."""
    a = first - first.mean(axis=1, keepdims=True)
    b = second - second.mean(axis=1, keepdims=True)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float32] = np.einsum("ij,ij->i", a, b) / np.maximum(length, 1e-6)
    return found
