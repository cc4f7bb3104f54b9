"""What comes of one input, and how its files get into place: all together, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwright.errors import PredictionError, RunError
from maskwright.files import check_writable, explain_os_error

__all__ = ["Progress", "RasterResult", "existing_files", "moved_into_place", "silent", "staging"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RasterResult:
    """What came of one raster or photograph.

    Attributes:
        raster: The input.
        files: What was written, by what it is: ``probability``, ``gaps`` or ``mask``, ``polygons``, ``quicklook`` or
            ``overlay``, ``summary``.
        heights_m: The K heights in metres; empty for tasks of classes.
        per_height: Plain values for each height: ``height_m``, ``gap_share``, ``gaps`` (number), ``area_m2`` ...
        violations: (K - 1) pixels where the raw probability at a height lay above that at the next; mended in all that
            is written.
        valid_px: Pixels that were measured.
        seconds: Time it took.
        notes: What a person should know, a sentence each.
        size: Rows and columns; (0, 0) if unknown.
        per_class: Plain values for each class: ``class``, ``share``, ``objects`` (None: not counted), ``area_m2``.
        error: Why nothing was written; empty if all went well.
    """

    raster: Path
    files: dict[str, Path]
    heights_m: tuple[float, ...]
    per_height: tuple[dict[str, Any], ...]
    violations: tuple[int, ...]
    valid_px: int
    seconds: float
    notes: tuple[str, ...]
    size: tuple[int, int] = (0, 0)
    per_class: tuple[dict[str, Any], ...] = ()
    error: str = ""


@contextmanager
def staging(out_dir: Path, stem: str, bytes_needed: int) -> Iterator[Path]:
    """A hidden folder in ``out_dir`` that is gone afterwards, and so is ``out_dir`` if nothing was put into it."""
    try:
        check_writable(out_dir, need_bytes=bytes_needed)
    except RunError as error:
        raise PredictionError(str(error)) from error
    missing = [folder for folder in (out_dir, *out_dir.parents) if not folder.exists()]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{stem}_", suffix=".part", dir=out_dir))
    except OSError as error:
        raise PredictionError(explain_os_error(error, out_dir)) from error
    try:
        yield folder
    except PredictionError as error:  # a person knows the output folder, not the hidden one
        raise PredictionError(str(error).replace(str(folder), str(out_dir))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for made in missing:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()


def moved_into_place(result: RasterResult, out_dir: Path) -> RasterResult:
    """Move the files of a result out of the hidden folder."""
    files = {name: out_dir / path.name for name, path in result.files.items()}
    try:
        for name, path in result.files.items():
            os.replace(path, files[name])
    except OSError as error:
        raise PredictionError(explain_os_error(error, out_dir)) from error
    return replace(result, files=files)


def existing_files(out_dir: Path, stems: Sequence[str], endings: Sequence[str]) -> list[Path]:
    """Results of an earlier prediction that a new one would replace: files named ``{stem}_{ending}``."""
    if not out_dir.is_dir():
        return []
    names = {path.name for path in out_dir.iterdir()}
    return [out_dir / name for stem in stems for ending in endings if (name := f"{stem}_{ending}") in names]


def silent(done: int, total: int, what: str) -> None:
    """Progress nobody asked for."""
