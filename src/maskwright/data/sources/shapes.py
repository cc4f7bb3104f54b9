"""Outlines of objects in pixels: polygons, run lengths, discs, and shapes of a vector file.

Coordinates are x (columns) and y (rows) from the upper left CORNER of the image: the first pixel reaches from 0 to 1,
its centre is (0.5, 0.5). A pixel belongs to an area if its centre lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

__all__ = ["Box", "Disc", "Geometry", "Polygons", "Runs", "Shape", "box_shape", "decode_counts", "encode_counts"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """One object of one or several polygons, painted as their union, as the COCO reference does.

    A ring inside another adds nothing: holes are said with run lengths in COCO, with inner rings in vector files.

    Attributes:
        rings: Each (n, 2) float64 of x, y, three points or more, closed or not.
    """

    rings: tuple[np.ndarray, ...]

    @property
    def area(self) -> float:
        """Square pixels; where parts overlap they count twice."""
        return float(sum(_ring_area(ring) for ring in self.rings))

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1."""
        points = self.rings[0] if len(self.rings) == 1 else np.concatenate(self.rings)
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    def geometries(self, origin: tuple[int, int]) -> list[dict[str, Any]]:
        """The parts one by one, with (row, col) ``origin`` as the new upper left corner."""
        shift = np.array([origin[1], origin[0]], np.float64)
        return [
            {"type": "Polygon", "coordinates": [(np.concatenate([ring, ring[:1]]) - shift).tolist()]}
            for ring in self.rings
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """One object as run lengths, column by column from the upper left corner: pixels outside, inside, outside ...

    Attributes:
        counts: (n,) int64, not negative; they add up to ``height * width``.
        height: Rows of the image.
        width: Columns of the image.
    """

    counts: np.ndarray
    height: int
    width: int

    @property
    def area(self) -> float:
        """Pixels inside."""
        return float(self.counts[1::2].sum())

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1; all 0 if nothing is inside."""
        rows, cols = self.pixels()
        if not len(rows):
            return 0.0, 0.0, 0.0, 0.0
        return float(cols.min()), float(rows.min()), float(cols.max() + 1), float(rows.max() + 1)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the pixels inside, each (area,) int64."""
        ends = np.cumsum(self.counts)[1::2]
        lengths = self.counts[1::2]
        before = np.cumsum(lengths) - lengths
        flat = np.repeat(ends - lengths - before, lengths) + np.arange(int(lengths.sum()))
        cols, rows = np.divmod(flat, self.height)
        return rows, cols

    def burn(self, out: np.ndarray, value: int, origin: tuple[int, int]) -> None:
        """Paint into ``out``, whose upper left pixel is ``origin`` (row, col)."""
        rows, cols = self.pixels()
        rows, cols = rows - origin[0], cols - origin[1]
        inside = (rows >= 0) & (rows < out.shape[0]) & (cols >= 0) & (cols < out.shape[1])
        out[rows[inside], cols[inside]] = value


@dataclass(frozen=True, slots=True, eq=False)
class Disc:
    """A disc around a point; an ellipse where pixels are not square. The pixel that holds the point always belongs.

    Attributes:
        x: Of the point.
        y: Of the point.
        radius_x: Pixels.
        radius_y: Pixels.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float

    @property
    def area(self) -> float:
        return float(np.pi * self.radius_x * self.radius_y)

    @property
    def box(self) -> Box:
        return self.x - self.radius_x, self.y - self.radius_y, self.x + self.radius_x, self.y + self.radius_y

    def reach(self, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> tuple[slice, slice, np.ndarray]:
        """Rows and columns of an array the disc may touch, and there the distance in radii, squared: (rows, cols).

        Distances are measured to pixel centres; that of the pixel which holds the point is 0 where the disc is too
        small to reach any centre.
        """
        x, y = self.x - origin[1], self.y - origin[0]
        rows = _span(y, self.radius_y, shape[0])
        cols = _span(x, self.radius_x, shape[1])
        down = (np.arange(rows.start, rows.stop) + 0.5 - y) / self.radius_y
        across = (np.arange(cols.start, cols.stop) + 0.5 - x) / self.radius_x
        distance = down[:, None] ** 2 + across[None] ** 2
        row, col = int(np.floor(y)) - rows.start, int(np.floor(x)) - cols.start
        if 0 <= row < distance.shape[0] and 0 <= col < distance.shape[1]:
            distance[row, col] = min(distance[row, col], 1.0)
        return rows, cols, distance

    def burn(self, out: np.ndarray, value: int, origin: tuple[int, int]) -> None:
        """Paint into ``out``, whose upper left pixel is ``origin`` (row, col)."""
        rows, cols, distance = self.reach(out.shape, origin)
        out[rows, cols][distance <= 1.0] = value


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A shape of a vector file: polygons with holes, lines, points.

    Attributes:
        geometry: A shapely geometry in pixel coordinates.
    """

    geometry: Any

    @property
    def area(self) -> float:
        """Square pixels; 0 for lines and points."""
        return float(self.geometry.area)

    @property
    def box(self) -> Box:
        x0, y0, x1, y1 = self.geometry.bounds
        return float(x0), float(y0), float(x1), float(y1)

    def geometries(self, origin: tuple[int, int]) -> list[Any]:
        """The parts one by one, with (row, col) ``origin`` as the new upper left corner."""
        moved = self.geometry
        if origin != (0, 0):
            moved = shapely.transform(moved, lambda points: points - np.array([origin[1], origin[0]]))
        return [part for part in shapely.get_parts(moved) if not part.is_empty]


Shape = Polygons | Runs | Disc | Geometry


def box_shape(box: Box) -> Polygons:
    """The rectangle of a box."""
    x0, y0, x1, y1 = box
    return Polygons((np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64),))


def decode_counts(text: str | bytes) -> np.ndarray:
    """Run lengths out of the compressed text of the COCO reference.

    Each number is written in groups of five bits, lowest first, a sixth bit saying that more follow, as characters from
    ``0`` on; from the fourth number on the text holds the difference to the number two before.

    Returns:
        (n,) int64.

    Raises:
        ValueError: If the text is cut off or holds other characters.
    """
    raw = text if isinstance(text, bytes) else text.encode("latin-1", "replace")
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() > 63:
        raise ValueError("holds characters that are no run lengths")
    last = (codes & 0x20) == 0
    if not last[-1]:
        raise ValueError("is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 12:
        raise ValueError("holds numbers that are too large")
    place = np.arange(codes.size) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * sizes), 0)  # the highest bit is the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def encode_counts(mask: np.ndarray) -> np.ndarray:
    """Run lengths of a mask (H, W) bool, column by column, beginning with pixels outside: (n,) int64."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges)
    return np.concatenate([[0], counts]) if flat.size and flat[0] else counts


def _ring_area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T  # coordinates far from 0 would cost digits; the edge back to the start adds nothing
    return float(abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2)


def _span(centre: float, radius: float, size: int) -> slice:
    first = int(np.floor(centre - radius))
    stop = int(np.floor(centre + radius)) + 1
    first = min(max(first, 0), size)
    return slice(first, max(min(stop, size), first))
