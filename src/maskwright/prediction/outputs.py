"""What comes of one input, and how its files get into place: all together, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwright.errors import DataError, PredictionError, RunError
from maskwright.files import FileLock, check_writable, explain_os_error
from maskwright.prediction.journal import NAME as JOURNAL
from maskwright.prediction.journal import Journal

__all__ = ["Progress", "RasterResult", "Staging", "existing_files", "moved_into_place", "silent", "staging"]

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


@dataclass(frozen=True)
class Staging:
    """The hidden folder of one prediction.

    Attributes:
        folder: Where it is.
        journal: What stands in it already.
        notes: What a person should know about it.
    """

    folder: Path
    journal: Journal
    notes: tuple[str, ...]


@contextmanager
def staging(out_dir: Path, stem: str, bytes_needed: int, identity: Mapping[str, Any]) -> Iterator[Staging]:
    """A hidden folder in ``out_dir`` that is gone afterwards, and so is ``out_dir`` if nothing was put into it.

    It stays, with the bands finished so far, if the work is interrupted after its journal was begun; the next one for
    the same ``stem`` then finds it, and goes on if all of ``identity`` is the same.

    Args:
        out_dir: Where the results will be.
        stem: Of the input.
        bytes_needed: The most that all files together will take for a while.
        identity: See :class:`~maskwright.prediction.journal.Journal`.

    Raises:
        PredictionError: If there is no room, or another process is at the same work.
    """
    folder = out_dir / f".{stem}.part"
    try:
        check_writable(out_dir, need_bytes=max(0, bytes_needed - _bytes_in(folder)))
    except RunError as error:
        raise PredictionError(str(error)) from error
    missing = [path for path in (folder, out_dir, *out_dir.parents) if not path.exists()]
    keep = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock(folder / "lock", timeout_s=0))
            except RunError as error:
                keep = True
                raise PredictionError(f"Another process is predicting {stem} into {out_dir}. Wait for it.") from error
            try:
                yield _opened(folder, identity)
            except BaseException as error:
                keep = (folder / JOURNAL).is_file() and not isinstance(error, DataError)
                if isinstance(error, PredictionError):  # a person knows the output folder, not the hidden one
                    more = " What is finished is kept: the same command goes on with it." if keep else ""
                    raise PredictionError(str(error).replace(str(folder), str(out_dir)) + more) from error
                raise
    except OSError as error:
        raise PredictionError(explain_os_error(error, out_dir)) from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            for made in missing:
                if made.is_dir() and not any(made.iterdir()):
                    made.rmdir()


def _opened(folder: Path, identity: Mapping[str, Any]) -> Staging:
    """What stands in the folder if it can be gone on with, else nothing of it."""
    journal = Journal(folder, identity)
    if journal.row:
        return Staging(folder, journal, ())
    notes: tuple[str, ...] = ()
    if journal.changed:
        notes = (f"an unfinished prediction was begun anew: changed since then: {', '.join(journal.changed)}",)
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()
    return Staging(folder, journal, notes)


def _bytes_in(folder: Path) -> int:
    """What the files of an unfinished prediction take on the disk."""
    if not folder.is_dir():
        return 0
    return sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in folder.iterdir())


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
