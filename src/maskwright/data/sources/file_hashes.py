"""Hashes of many files at once, on all cores, remembered between runs; and the threads that do such work."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from rasterio.errors import NotGeoreferencedWarning

from maskwright.data.sources.image_header import printable
from maskwright.errors import DataError, RunError
from maskwright.files import FileLock, sha256_file, write_bytes

__all__ = ["file_hashes", "in_threads"]

_MEMORY = "image_hashes.json"
_SETTLED_NS = 2 * 10**9  # a file changed this recently may change again without a new time

_MOST_THREADS = 32
_CHUNKS_EACH = 32

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_threads(work: Callable[[_In], _Out], things: Iterable[_In]) -> list[_Out]:
    """``work`` of each thing, in order, on all cores; decoders and hashes let other threads run meanwhile."""
    waiting = list(things)
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    step = max(1, len(waiting) // (threads * _CHUNKS_EACH))  # handing over one by one costs more than a header
    chunks = [waiting[start : start + step] for start in range(0, len(waiting), step)]
    # Burning and outlining, rasterio warns of a raster without a place and silences that thread by thread, which
    # threads undo for each other: so it is silenced around them all.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=threads) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return [
            result for results in pool.map(lambda chunk: [work(thing) for thing in chunk], chunks) for result in results
        ]


def file_hashes(paths: Iterable[Path], folder: Path) -> dict[Path, str]:
    """SHA-256 of files, remembered for as long as their size and modification time stay.

    Args:
        paths: Which.
        folder: Where they are remembered; a folder that cannot be written costs time only.

    Raises:
        DataError: If a file cannot be read.
    """
    memory = folder / _MEMORY
    known = _remembered(memory)

    def work(path: Path) -> tuple[list[Any], bool]:
        try:
            status = path.stat()
            seen = [status.st_size, status.st_mtime_ns]
            entry = known.get(printable(path))
            if entry is not None and entry[:2] == seen:
                return entry, False
            return [*seen, sha256_file(path)], True
        except OSError as error:
            raise DataError(f"{printable(path)} cannot be read: {error.strerror or error}. Check the path.") from error

    found = dict(zip(order := sorted(paths), in_threads(work, order), strict=True))
    now = time.time_ns()
    fresh = {
        printable(path): entry for path, (entry, is_new) in found.items() if is_new and now - entry[1] > _SETTLED_NS
    }
    if fresh:
        with contextlib.suppress(DataError, RunError, OSError):  # a folder we may only read; they are hashed again
            _remember(memory, fresh)
    return {path: str(entry[2]) for path, (entry, _) in found.items()}


def _remembered(memory: Path) -> dict[str, list[Any]]:
    try:
        entries = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}  # only a memory of work done
    return entries if isinstance(entries, dict) else {}


def _remember(memory: Path, fresh: dict[str, list[Any]]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(memory.with_suffix(".lock")):
        text = json.dumps({**_remembered(memory), **fresh}, ensure_ascii=False)  # plain values, and many of them
        write_bytes(memory, text.encode("utf-8"), error=DataError)
