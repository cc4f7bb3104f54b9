"""Reading CSV files of points."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.errors import DataError

__all__ = ["PointTable", "read_points"]

_SEPARATORS = (",", ";", "\t")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class PointTable:
    """The points of a file.

    Attributes:
        xy: (N, 2) float64, as written.
        lines: (N,) int64: the line each stands in, from 1.
        classes: What the class column says; None without one.
        images: What the image column says; None without one.
    """

    xy: np.ndarray
    lines: np.ndarray
    classes: tuple[str, ...] | None
    images: tuple[str, ...] | None

    def pick(self, kept: np.ndarray) -> PointTable:
        """Some of the points; ``kept`` as numpy takes it."""
        chosen = np.arange(len(self.xy))[kept]
        return PointTable(
            self.xy[chosen],
            self.lines[chosen],
            None if self.classes is None else tuple(self.classes[i] for i in chosen),
            None if self.images is None else tuple(self.images[i] for i in chosen),
        )


def read_points(
    file: Path,
    x: str,
    y: str,
    *,
    class_column: str | None = None,
    image_column: str | None = None,
    image_needed: bool = True,
) -> PointTable:
    """The points of a CSV whose first line names its columns.

    Comma, semicolon or tabulator separate cells; with semicolons numbers may have a decimal comma. A byte order mark
    and empty lines are skipped.

    Args:
        file: The CSV.
        x: Column of x.
        y: Column of y.
        class_column: Column of the class; None: there is none.
        image_column: Column of the image's name; None: not looked for.
        image_needed: False: a file without ``image_column`` is fine.

    Raises:
        DataError: If it cannot be read, lacks a column, or has lines that are no points, all of them at once.
    """
    text = _text(file)
    rows = csv.reader(text.splitlines(), delimiter=_separator(text))
    header = [cell.strip() for cell in next(rows, [])]
    wanted = [
        x,
        y,
        *([class_column] if class_column else []),
        *([image_column] if image_column and image_needed else []),
    ]
    _require_columns(file, header, wanted)
    places = [header.index(name) for name in (x, y)]
    class_place = header.index(class_column) if class_column else None
    image_place = header.index(image_column) if image_column and image_column in header else None
    points: list[tuple[float, float]] = []
    lines: list[int] = []
    classes: list[str] = []
    images: list[str] = []
    faults: list[str] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            points.append((_number(row[places[0]]), _number(row[places[1]])))
            classes += [] if class_place is None else [row[class_place].strip()]
            images += [] if image_place is None else [row[image_place].strip()]
            lines.append(rows.line_num)
        except (ValueError, IndexError):
            faults.append(f"line {rows.line_num} ({_shortened(row)})")
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError(
            f"{file}: {', '.join(faults[:_SHOWN])}{more}: no numbers in the columns {x} and {y}, or too few cells. "
            "Correct or remove these lines."
        )
    return PointTable(
        np.array(points, np.float64).reshape(-1, 2),
        np.array(lines, np.int64),
        None if class_place is None else tuple(classes),
        None if image_place is None else tuple(images),
    )


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Set data.labels.file or folder.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}). Save it as CSV UTF-8.") from error


def _separator(text: str) -> str:
    header = text.split("\n", 1)[0]
    return max(_SEPARATORS, key=header.count)


def _require_columns(file: Path, header: list[str], wanted: Sequence[str]) -> None:
    if not any(header):
        raise DataError(f"{file} is empty. A file of points begins with the names of its columns, for example x,y.")
    lacking = [name for name in wanted if name not in header]
    if not lacking:
        return
    if all(_is_number(cell) for cell in header):
        raise DataError(
            f"{file}: the first line holds numbers ({', '.join(header[:4])}), not the names of columns. Put a line "
            f"{','.join(wanted)} above it."
        )
    near = [match for name in lacking for match in difflib.get_close_matches(name, header, 1, 0.6)]
    hint = f" Did you mean {' and '.join(near)}?" if near else ""
    raise DataError(
        f"{file} has no column {' and no column '.join(lacking)}; its columns are {', '.join(header)}.{hint} Set "
        "data.labels.x, y, class_column and image_column to the names of the columns."
    )


def _number(cell: str) -> float:
    value = float(cell.strip().replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(cell)
    return value


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _shortened(row: list[str]) -> str:
    text = ", ".join(row)
    return text if len(text) <= 40 else text[:40] + " ..."
