"""The same picture twice: exact copies by content, near copies by likeness, among a hundred thousand images.

Pairs are never all compared. Images whose difference hashes agree in one of four quarters are candidates (all pairs of
hashes that differ in at most three bits are among them), and so are, for small sets, all pairs. A candidate is a near
copy only if the miniatures correlate by more than 0.9 as they are, and by more than 0.94 after what all images have in
common, such as the bright disc of an eye, is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright.data.preflight import Finding, listed

__all__ = ["Copy", "copy_findings", "exact_copies", "near_copies"]

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


def copy_findings(
    names: Sequence[str],
    parts: Sequence[str],
    grounds: Sequence[str],
    exact: Sequence[Copy],
    near: Sequence[Copy],
) -> list[Finding]:
    """Copies in different parts of the split, where they make the numbers look better than they are; and the others.

    Args:
        names: Of the images.
        parts: Part of each; empty for one that is not used.
        grounds: Ground of each; images of one ground are known to belong together.
        exact: Exact copies.
        near: Near copies; those that are exact as well are not told again.
    """
    same = {(copy.first, copy.second) for copy in exact}
    others = [copy for copy in near if (copy.first, copy.second) not in same]
    findings = []
    for copies, kind, level in ((list(exact), "exact", "error"), (others, "near", "warning")):
        across = [copy for copy in copies if parts[copy.first] and parts[copy.second]]
        across = [copy for copy in across if parts[copy.first] != parts[copy.second]]
        if across:
            findings.append(_across(names, parts, across, kind, level))
        rest = [copy for copy in copies if copy not in set(across) and grounds[copy.first] != grounds[copy.second]]
        if rest:
            worst = max(rest, key=lambda copy: copy.alike)
            findings.append(
                Finding(
                    "note",
                    f"{kind}_copies",
                    f"{names[worst.first]}, {names[worst.second]}",
                    f"{len(rest)} pairs of images are {_KINDS[kind]} of each other, inside one part of the split.",
                    "Nothing for the numbers of this split; leave one of each out to save time.",
                    {"pairs": len(rest)},
                )
            )
    return findings


_KINDS = {"exact": "exact copies", "near": "near copies"}


def _across(names: Sequence[str], parts: Sequence[str], copies: Sequence[Copy], kind: str, level: str) -> Finding:
    worst = max(copies, key=lambda copy: copy.alike)
    held_out = {i for copy in copies for i in (copy.first, copy.second) if parts[i] != "train"}
    pairs = [f"{names[c.first]} ({parts[c.first]}) and {names[c.second]} ({parts[c.second]})" for c in copies]
    return Finding(
        "error" if level == "error" else "warning",
        f"{kind}_copies_across_parts",
        f"{names[worst.first]}, {names[worst.second]}",
        f"{len(copies)} pairs of images in different parts of the split are {_KINDS[kind]}: {listed(pairs, 2)}. "
        f"{len(held_out)} images kept for validation or test are as good as known from elsewhere.",
        "Put each pair in one part: data.split.group_pattern, or data.split.by: lists; or take one of them out.",
        {"pairs": len(copies), "held_out": len(held_out), "alike": worst.alike},
    )


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
