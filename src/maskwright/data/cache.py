"""Arrays decoded once: uncompressed files in a bounded folder, named by their content's recipe, memory-mapped.

An entry is ``{key}.npy`` and ``{key}.json`` beside it. The array is written under a temporary name and renamed, the
JSON after it, so an entry with a JSON is whole. The JSON's modification time is when the entry was last asked for.

A small file holds the bytes of all entries together, so that a new entry among many thousands looks at no other; it is
counted afresh whenever room runs short.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import DataError, RunError
from maskwright.files import (
    TEMPORARY_SUFFIX,
    FileLock,
    explain_os_error,
    free_bytes,
    remove_stale,
    reserve,
    sync_folder,
    temporary_path,
    write_json,
)

__all__ = ["Cache", "CacheEntry", "default_cache_folder", "recipe_key", "release"]

_SPARE_BYTES = 64 * 2**20  # left free on the disk, for everybody else
_TOTAL = "total"
_ATTEMPTS = 5
_LARGE_BYTES = 32 * 2**20  # arrays from here on go to the disk while they are filled
_SYNC_S = 0.1
_ROOM_AHEAD = 0.05  # of the bound, freed together with what is needed, so that not every entry looks for room
_NEW_DISK = "Free some space or set data.cache.folder to a folder on another disk."

Fill = Callable[[np.ndarray], Mapping[str, Any] | None]


def default_cache_folder() -> Path:
    """The user's cache folder for decoded rasters; the variable ``MASKWRIGHT_CACHE`` names another."""
    if named := os.environ.get("MASKWRIGHT_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "maskwright"


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """A key that differs if anything in ``recipe`` does; plain values only."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def release(array: np.ndarray) -> None:
    """Let go of the memory behind a mapped array; its content stays in the file. Nothing happens to other arrays.

    A pass over a whole raster that releases each band behind it stays small in memory, whatever the raster's size.
    """
    owner: object = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One array, for people.

    Attributes:
        key: Its key.
        note: What it is, as its maker said; empty if it is not whole.
        bytes: Its size.
        used_at: When it was last asked for, in seconds since 1970; if it is not whole, when it was written.
    """

    key: str
    note: str
    bytes: int
    used_at: float


class Cache:
    """A bounded folder of arrays.

    Entries this object has handed out are never removed by it; others go, the longest unused first, when room is
    needed. An entry removed while another process maps it stays readable there until that process closes it.

    Args:
        folder: Made if missing, when first written to.
        max_bytes: Size the entries may have together.
    """

    def __init__(self, folder: Path, max_bytes: int = 20 * 10**9) -> None:
        self.folder = Path(folder)
        self.max_bytes = int(max_bytes)
        self._in_use: set[str] = set()
        self._swept = False

    def array(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any] | type | str, fill: Fill, note: str = ""
    ) -> np.memmap[Any, Any]:
        """The array with this key, read-only and memory-mapped; made by ``fill`` if it is not there or not whole.

        Args:
            key: Hexadecimal, from :func:`recipe_key`; the same key must always mean the same content.
            shape: Its shape.
            dtype: Its type.
            fill: Given a writable array of that shape and type, writes all of it; what it returns is kept as facts.
            note: For people who look into the folder: what this is.

        Raises:
            DataError: If the folder cannot be written or has no room. Whatever ``fill`` raises; nothing is left then.
        """
        dtype = np.dtype(dtype)
        self._in_use.add(key)
        for _ in range(_ATTEMPTS):
            if not self._is_whole(key, shape, dtype):
                self._make_folder()
                with self._locked(key):
                    if not self._is_whole(key, shape, dtype):  # another process may have made it meanwhile
                        self._write(key, shape, dtype, fill, note)
                self._unlink(f"{key}.lock")  # who still waits on it finds the entry whole
            self._touch(key)
            with contextlib.suppress(FileNotFoundError):  # another process made room of it this very moment
                return np.load(self._path(key), mmap_mode="r")  # type: ignore[no-any-return]
        raise DataError(
            f"Other processes need all the room of the cache in {self.folder}, which may hold {_gb(self.max_bytes)}. "
            "Raise data.cache.max_gb."
        )

    def facts(self, key: str) -> dict[str, Any]:
        """What ``fill`` returned when the entry was made; empty if nothing."""
        entry = self._entry(key)
        return dict(entry["facts"]) if entry else {}

    def fits(self, total_bytes: int) -> bool:
        """True if arrays of this size together may be kept, whether some are here already or not.

        Entries this object has not handed out make room for them; the bound and the disk must hold them.
        """
        sizes = {key: size for _, key, size in self._entries()}
        held = sum(size for key, size in sizes.items() if key in self._in_use)
        to_be_had = free_bytes(self.folder) + sum(sizes.values()) - held
        return total_bytes <= self.max_bytes - held and total_bytes + _SPARE_BYTES <= to_be_had

    def entries(self) -> tuple[CacheEntry, ...]:
        """Every array, the longest unused first."""
        found = []
        for used_ns, key, size in sorted(self._entries()):
            note = str((self._entry(key) or {}).get("note", ""))
            found.append(CacheEntry(key, note, size, used_ns / 1e9))
        return tuple(found)

    def clean(
        self, *, older_than_days: float | None = None, to_bytes: int | None = None, everything: bool = False
    ) -> int:
        """Remove entries, the longest unused first; what other processes have open stays readable to them.

        Args:
            older_than_days: Those not used for this long.
            to_bytes: As many as are needed for the rest to be no larger.
            everything: All of them.

        Returns:
            Bytes freed.

        Raises:
            DataError: If the folder cannot be used.
        """
        if not self.folder.is_dir():
            return 0
        oldest = -1.0 if older_than_days is None else time.time() - older_than_days * 86400.0
        with self._locked("room"):
            remove_stale(self.folder)
            entries = sorted(self._entries())
            left = before = sum(size for _, _, size in entries)
            for used_ns, key, size in entries:
                if everything or used_ns / 1e9 < oldest or (to_bytes is not None and left > to_bytes):
                    self._remove(key)
                    left -= size
            self._write_total(left)
        return before - left

    def size_bytes(self) -> int:
        """Size of all entries together."""
        return sum(size for _, _, size in self._entries())

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed."""
        return self.clean(everything=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = explain_os_error(error, self.folder)
            raise DataError(f"The cache cannot be made (setting data.cache.folder). {text}") from error

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(FileLock(self.folder / f"{name}.lock"))
            except RunError as error:
                raise DataError(f"The cache cannot be used (setting data.cache.folder). {error}") from error
            yield

    def _entry(self, key: str) -> dict[str, Any] | None:
        try:
            entry = json.loads((self.folder / f"{key}.json").read_bytes())
        except (OSError, ValueError):  # missing, or damaged and thereby as good as missing
            return None
        return entry if isinstance(entry, dict) and {"bytes", "mtime_ns", "facts"} <= entry.keys() else None

    def _is_whole(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        entry = self._entry(key)
        if entry is None:
            return False
        try:
            status = self._path(key).stat()
            with open(self._path(key), "rb") as file:
                np.lib.format.read_magic(file)
                found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        except (OSError, ValueError):
            return False
        as_written = [status.st_size, status.st_mtime_ns] == [entry["bytes"], entry["mtime_ns"]]
        return as_written and (found, fortran, kind) == (tuple(shape), False, dtype)

    def _write(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Fill, note: str) -> None:
        path = self._path(key)
        temporary = temporary_path(path)
        self._unlink(f"{key}.json")
        try:
            with self._locked("room"):  # until the bytes are taken, so that no other process takes them too
                self._make_room(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + 128)
                array = _allocated(temporary, shape, dtype)
            with _written_meanwhile(temporary) if array.nbytes >= _LARGE_BYTES else contextlib.nullcontext():
                facts = fill(array) or {}
            array.flush()
            del array
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            status = temporary.stat()
            os.replace(temporary, path)
            sync_folder(self.folder)
        except OSError as error:
            if error.filename is not None and Path(str(error.filename)) not in (temporary, self.folder):
                raise
            raise DataError(f"The cache failed (setting data.cache.folder). {explain_os_error(error, path)}") from error
        finally:
            temporary.unlink(missing_ok=True)
        entry = {"note": note, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "facts": dict(facts)}
        write_json(self.folder / f"{key}.json", entry, error=DataError)

    def _make_room(self, wanted: int) -> None:
        """Have ``wanted`` bytes within the bound and on the disk, removing entries if need be; the room is locked."""
        if not self._swept:
            remove_stale(self.folder)
            self._swept = True
        total = self._read_total()
        if total is None or total + wanted > self.max_bytes or not self._disk_takes(wanted):
            total = self._remove_unused(wanted)
        self._write_total(total + wanted)

    def _remove_unused(self, wanted: int) -> int:
        """Remove the longest unused entries until ``wanted`` bytes fit; returns the bytes of those that stay."""
        remove_stale(self.folder)
        entries = self._entries()
        coming = sum(size for _, _, size in self._arrays(f".*.npy.*{TEMPORARY_SUFFIX}"))
        held = coming + sum(size for _, key, size in entries if key in self._in_use)
        if held + wanted > self.max_bytes:
            raise DataError(
                f"The decoded rasters need {_gb(held + wanted)} or more, the cache in {self.folder} may hold "
                f"{_gb(self.max_bytes)}. Raise data.cache.max_gb."
            )
        total = coming + sum(size for _, _, size in entries)
        if free_bytes(self.folder) + total - held < wanted + _SPARE_BYTES:
            raise DataError(
                f"The disk of the cache is too full: {self.folder} needs {_gb(wanted)} more and "
                f"{_gb(free_bytes(self.folder) + total - held)} can be had. {_NEW_DISK}"
            )
        if total + wanted <= self.max_bytes and self._disk_takes(wanted):
            return total
        aim = self.max_bytes - int(_ROOM_AHEAD * self.max_bytes)
        for _, key, size in sorted(entries):
            if total + wanted <= aim and self._disk_takes(wanted):
                break
            if key not in self._in_use:
                self._remove(key)
                total -= size
        return total

    def _disk_takes(self, wanted: int) -> bool:
        return free_bytes(self.folder) >= wanted + _SPARE_BYTES

    def _read_total(self) -> int | None:
        """Bytes of all entries as last counted and added up; None if nobody counted yet."""
        try:
            return int((self.folder / _TOTAL).read_bytes())
        except (OSError, ValueError):
            return None

    def _write_total(self, total: int) -> None:
        """Not made durable: a killed process leaves too large a number or none, and then all is counted again."""
        path = self.folder / _TOTAL
        temporary = temporary_path(path)
        try:
            temporary.write_text(str(total))
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"The cache failed (setting data.cache.folder). {explain_os_error(error, path)}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _entries(self) -> list[tuple[int, str, int]]:
        """Last use, key and bytes of every array, whole or not."""
        return self._arrays("*.npy")

    def _arrays(self, pattern: str) -> list[tuple[int, str, int]]:
        found = []
        for path in self.folder.glob(pattern):
            if path.name.startswith(".") != pattern.startswith("."):
                continue
            try:
                status = path.stat()
                side = path.with_suffix(".json")  # not there yet for a moment
                used_ns = side.stat().st_mtime_ns if side.exists() else status.st_mtime_ns
                found.append((used_ns, path.stem, status.st_size))
            except FileNotFoundError:
                continue  # removed by another process meanwhile
        return found

    def _remove(self, key: str) -> None:
        for ending in ("json", "npy", "lock"):  # the JSON first: without it nobody trusts the array
            self._unlink(f"{key}.{ending}")

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(PermissionError):  # Windows keeps files that another process has open
            (self.folder / name).unlink(missing_ok=True)

    def _touch(self, key: str) -> None:
        try:
            os.utime(self.folder / f"{key}.json")
        except OSError:
            return  # a folder we may only read: nothing will be removed from it either


def _allocated(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """A writable memory map whose every byte has its place on the disk: a full disk must not strike while writing."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape, version=(1, 0))
    size = path.stat().st_size
    with open(path, "rb+") as file:
        if not reserve(file.fileno(), size):
            file.seek(array.offset)
            for start in range(array.offset, size, 2**24):
                file.write(bytes(min(2**24, size - start)))
    return array


@contextlib.contextmanager
def _written_meanwhile(path: Path) -> Iterator[None]:
    """Let the disk write while an array is filled, so that little is left to wait for at the end."""
    filled = threading.Event()
    errors: list[OSError] = []

    def write() -> None:
        try:
            with open(path, "rb+") as file:
                while not filled.wait(_SYNC_S):
                    os.fsync(file.fileno())
        except OSError as error:  # raised where the array is filled
            errors.append(error)

    thread = threading.Thread(target=write, name="cache-writer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        filled.set()
        thread.join()
    if errors:
        raise errors[0]


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
