"""Arrays decoded once: uncompressed files in a bounded folder, named by their content's recipe, memory-mapped.

An entry is ``{key}.npy`` and ``{key}.json`` beside it. The array is written under a temporary name and renamed, the
JSON after it, so an entry with a JSON is whole. The JSON's modification time is when the entry was last asked for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import DataError, RunError
from maskwright.files import (
    FileLock,
    explain_os_error,
    free_bytes,
    remove_stale,
    sha256_file,
    sync_folder,
    temporary_path,
    write_json,
)

__all__ = ["Cache", "default_cache_folder", "recipe_key", "release"]

_SPARE_BYTES = 64 * 2**20  # left free on the disk, for everybody else
_SETTLED_NS = 2 * 10**9  # a file changed this recently may change again without a new time
_HASHES = "hashes.json"
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
        if not self._is_whole(key, shape, dtype):
            self._make_folder()
            with self._locked(key):
                if not self._is_whole(key, shape, dtype):  # another process may have made it meanwhile
                    self._write(key, shape, dtype, fill, note)
        self._touch(key)
        return np.load(self._path(key), mmap_mode="r")  # type: ignore[no-any-return]

    def facts(self, key: str) -> dict[str, Any]:
        """What ``fill`` returned when the entry was made; empty if nothing."""
        entry = self._entry(key)
        return dict(entry["facts"]) if entry else {}

    def content_hash(self, path: Path) -> str:
        """SHA-256 of a file, remembered for as long as its size and modification time stay.

        Raises:
            DataError: If the file cannot be read.
        """
        path = Path(path).resolve()
        try:
            status = path.stat()
            seen = [status.st_size, status.st_mtime_ns]
            known = self._hashes().get(str(path))
            if known is not None and known[:2] == seen:
                return str(known[2])
            digest = sha256_file(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            with contextlib.suppress(
                DataError
            ):  # a cache we may only read still serves; then files are hashed each time
                self._remember(path, [*seen, digest])
        return digest

    def size_bytes(self) -> int:
        """Size of all entries together."""
        return sum(size for _, _, size in self._entries())

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed."""
        freed = 0
        for _, key, size in self._entries():
            self._remove(key)
            freed += size
        return freed

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
        self._make_room(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + 128)
        path = self._path(key)
        temporary = temporary_path(path)
        (self.folder / f"{key}.json").unlink(missing_ok=True)
        try:
            array = _allocated(temporary, shape, dtype)
            facts = fill(array) or {}
            array.flush()
            del array
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(self.folder)
        except OSError as error:
            if error.filename is not None and Path(str(error.filename)) not in (temporary, self.folder):
                raise
            raise DataError(f"The cache failed (setting data.cache.folder). {explain_os_error(error, path)}") from error
        finally:
            temporary.unlink(missing_ok=True)
        status = path.stat()
        entry = {"note": note, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "facts": dict(facts)}
        write_json(self.folder / f"{key}.json", entry, error=DataError)

    def _make_room(self, wanted: int) -> None:
        """Remove the longest unused entries until ``wanted`` bytes fit the bound and the disk."""
        with self._locked("room"):
            remove_stale(self.folder)
            entries = self._entries()
            pinned = sum(size for _, key, size in entries if key in self._in_use)
            if pinned + wanted > self.max_bytes:
                raise DataError(
                    f"The decoded rasters need {_gb(pinned + wanted)} or more, the cache in {self.folder} may hold "
                    f"{_gb(self.max_bytes)}. Raise data.cache.max_gb."
                )
            total = sum(size for _, _, size in entries)
            loose = sum(size for _, key, size in entries if key not in self._in_use)
            if free_bytes(self.folder) + loose < wanted + _SPARE_BYTES:
                raise DataError(
                    f"The disk of the cache is too full: {self.folder} needs {_gb(wanted)} more and "
                    f"{_gb(free_bytes(self.folder) + loose)} can be had. {_NEW_DISK}"
                )
            for _, key, size in sorted(entries):
                if total + wanted <= self.max_bytes and free_bytes(self.folder) >= wanted + _SPARE_BYTES:
                    break
                if key not in self._in_use:
                    self._remove(key)
                    total -= size

    def _entries(self) -> list[tuple[int, str, int]]:
        """Last use, key and bytes of every array, whole or not."""
        entries = []
        for path in self.folder.glob("*.npy"):
            try:
                size = path.stat().st_size
                side = path.with_suffix(".json")
                entries.append((side.stat().st_mtime_ns if side.exists() else 0, path.stem, size))
            except FileNotFoundError:
                continue  # removed by another process meanwhile
        return entries

    def _remove(self, key: str) -> None:
        for ending in ("json", "npy", "lock"):  # the JSON first: without it nobody trusts the array
            with contextlib.suppress(PermissionError):  # Windows keeps files that another process has open
                (self.folder / f"{key}.{ending}").unlink(missing_ok=True)

    def _touch(self, key: str) -> None:
        try:
            os.utime(self.folder / f"{key}.json")
        except OSError:
            return  # a folder we may only read: nothing will be removed from it either

    def _hashes(self) -> dict[str, list[Any]]:
        try:
            hashes = json.loads((self.folder / _HASHES).read_bytes())
        except (OSError, ValueError):
            return {}  # only a memory of work done; without it files are hashed again
        return hashes if isinstance(hashes, dict) else {}

    def _remember(self, path: Path, facts: list[Any]) -> None:
        self._make_folder()
        with self._locked("hashes"):
            hashes = {name: known for name, known in self._hashes().items() if Path(name).exists()}
            write_json(self.folder / _HASHES, {**hashes, str(path): facts}, error=DataError)


def _allocated(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """A writable memory map whose every byte has its place on the disk: a full disk must not strike while writing."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape, version=(1, 0))
    size = path.stat().st_size
    with open(path, "rb+") as file:
        if not _reserve(file.fileno(), size):
            file.seek(array.offset)
            for start in range(array.offset, size, 2**24):
                file.write(bytes(min(2**24, size - start)))
    return array


def _reserve(handle: int, size: int) -> bool:
    """Have the system reserve the bytes of a file; False where it does not know how."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):
            return False
        raise
    return True


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
