"""Files that must not be lost: durable writing, hashing, locking, and plain words when a disk refuses.

Every file is written by one protocol: a temporary file in the same folder, flush, fsync, rename over the old file,
fsync of the folder. At any instant, even after a power cut, the path holds the whole old content or the whole new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from maskwright.errors import MaskwrightError, RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "TEMPORARY_SUFFIX",
    "FileLock",
    "check_writable",
    "durable_file",
    "explain_os_error",
    "free_bytes",
    "json_text",
    "parse_json",
    "read_json",
    "remove_stale",
    "reserve",
    "sha256_file",
    "sync_folder",
    "temporary_path",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY_SUFFIX = ".mwtmp"

_FOREIGN_TEMPORARY_AGE_S = 24 * 3600.0  # files of another computer, whose processes cannot be asked
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_counter = itertools.count()


# --- writing ----------------------------------------------------------------------------------------------------------


def temporary_path(path: Path) -> Path:
    """A fresh name beside ``path`` that says which process on which computer owns it."""
    return path.with_name(f".{path.name}.{_host_tag()}-{os.getpid()}-{next(_counter)}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def durable_file(
    path: Path,
    *,
    error: type[MaskwrightError] = RunError,
    verify: Callable[[Path], None] | None = None,
) -> Iterator[BinaryIO]:
    """Replace ``path`` by what the body writes, or leave it untouched.

    Args:
        path: The file to write; its folder must exist.
        error: Raised when the file system refuses.
        verify: Called with the temporary file once its bytes are on disk; whatever it raises stops the replacement.

    Yields:
        A binary file open for writing. The temporary file behind it is removed on any failure.

    Raises:
        error: If the file cannot be written (disk full, read-only, no permission), in plain words.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as cause:
        if cause.filename is not None and Path(str(cause.filename)) not in (temporary, path.parent):
            raise  # the body stumbled over another file; our words would name the wrong one
        raise error(explain_os_error(cause, path)) from cause
    finally:
        with contextlib.suppress(OSError):  # gone after the rename; after a failure nothing more can be done
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, error: type[MaskwrightError] = RunError) -> None:
    """Durably replace ``path`` by ``data``. Raises ``error`` in plain words if the disk refuses."""
    with durable_file(path, error=error) as file:
        file.write(data)


def write_text(path: Path, text: str, *, error: type[MaskwrightError] = RunError) -> None:
    """Durably replace ``path`` by ``text`` in UTF-8. Raises ``error`` in plain words if the disk refuses."""
    write_bytes(path, text.encode("utf-8"), error=error)


def write_json(path: Path, obj: object, *, error: type[MaskwrightError] = RunError) -> None:
    """Durably replace ``path`` by ``obj`` as indented strict JSON, see :func:`json_text`."""
    write_text(path, json_text(obj, indent=2) + "\n", error=error)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as cause:
        if cause.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


def remove_stale(folder: Path) -> tuple[str, ...]:
    """Remove what dead processes left half made in ``folder``; work of living ones stays. Returns the names."""
    removed = []
    for path in sorted(Path(folder).glob(f".*{TEMPORARY_SUFFIX}")):
        try:
            if _is_stale(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path.name)
        except FileNotFoundError:
            continue  # its owner finished meanwhile
    return tuple(removed)


def _host_tag() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_stale(path: Path) -> bool:
    import psutil  # needed here only; keeps this module light

    host, _, rest = path.name.removesuffix(TEMPORARY_SUFFIX).rpartition(".")[2].partition("-")
    written = path.stat().st_mtime
    pid = rest.partition("-")[0]
    if host != _host_tag() or not pid.isdigit():
        return time.time() - written > _FOREIGN_TEMPORARY_AGE_S
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(process.create_time() > written + 1)  # the number was given to a younger process
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_text(obj: object, *, indent: int | None = None) -> str:
    """Strict JSON that any reader takes.

    Values that are not finite become the strings ``NaN``, ``Infinity`` and ``-Infinity`` (:func:`parse_json` turns them
    back); paths become text, zero-dimensional arrays and array scalars numbers, tuples lists, mapping keys text.

    Raises:
        TypeError: If something else is in ``obj``; the text says where.
    """
    return json.dumps(_plain(obj, "value"), indent=indent, ensure_ascii=False, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """The inverse of :func:`json_text`. Raises ValueError if ``text`` is not JSON."""
    try:
        value = json.loads(text)
        return _restored(value) if _may_hold_not_finite(text) else value
    except RecursionError as cause:
        raise ValueError("nested too deeply") from cause


def reserve(handle: int, size: int) -> bool:
    """Have the system reserve the bytes of an open file, so that a full disk is told now and not where a map of it is
    written; False where the system does not know how.

    Raises:
        OSError: If the disk has no room for them.
    """
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):
            return False
        raise
    return True


def read_json(path: Path, *, error: type[MaskwrightError] = RunError) -> Any:
    """Read a file written by :func:`write_json`. Raises ``error`` if it is missing, unreadable or not JSON."""
    try:
        return parse_json(Path(path).read_bytes())
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror}.") from cause
    except ValueError as cause:
        raise error(f"{path} is damaged: not JSON ({cause}).") from cause


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # numpy and torch scalars, without importing them
        return _plain(value.item(), where)
    raise TypeError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


def _may_hold_not_finite(text: str | bytes) -> bool:
    """Whether a value must be looked at closer; logs hold millions of rows without any."""
    if isinstance(text, bytes):
        return b"NaN" in text or b"Infinity" in text or b"\\u" in text
    return "NaN" in text or "Infinity" in text or "\\u" in text


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return value


# --- looking at files and disks ---------------------------------------------------------------------------------------


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds ``folder``, or would hold it once made."""
    return shutil.disk_usage(_nearest_existing(Path(folder))).free


def check_writable(folder: Path, *, need_bytes: int = 0) -> None:
    """Make sure that files can be written in ``folder``, or in the folder it would be made in; leaves nothing behind.

    Args:
        folder: The folder; need not exist yet.
        need_bytes: Free space wanted there.

    Raises:
        RunError: Naming the folder and the reason.
    """
    folder = Path(folder)
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise RunError(f"Cannot write in {folder}: {existing} is a file, not a folder. Choose another folder.")
    probe = temporary_path(existing / "probe")
    try:
        with open(probe, "xb") as file:
            file.write(bytes(4096))  # an empty file fits on a full disk
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise RunError(f"Cannot write in {folder}: {explain_os_error(cause, existing)}") from cause
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    free = free_bytes(existing)
    if free < need_bytes:
        raise RunError(
            f"Cannot write in {folder}: {_size(need_bytes)} are needed and {_size(free)} are free. "
            "Free some space or choose another folder."
        )


def explain_os_error(cause: OSError, path: Path) -> str:
    """What the system refused, in plain words: which file, why, what to do."""
    code = cause.errno
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        why = "the disk is full" if code == errno.ENOSPC else "the disk quota is used up"
        try:
            free = f" ({_size(free_bytes(path))} free)"
        except OSError:
            free = ""
        return f"{path} could not be written: {why}{free}. Free some space or choose a folder on another disk."
    if code == errno.EROFS:
        return f"{path} could not be written: the disk is read-only. Choose a folder on another disk."
    if code in (errno.EACCES, errno.EPERM):
        return f"{path} could not be written: no permission. Choose another folder or change its permissions."
    if code == errno.ENOENT:
        return f"{path} could not be written: the folder {path.parent} does not exist. Make it, or choose another."
    return f"{path} could not be written: {cause.strerror or cause}. Check the disk or choose another folder."


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# --- locking ----------------------------------------------------------------------------------------------------------


class FileLock:
    """A lock between processes (and threads), held inside ``with``; the system frees it when its holder dies.

    A process forked meanwhile has no part in it: neither does it keep the lock alive, nor can it give it back.

    Args:
        path: The lock file; made if missing, never removed, its content means nothing.
        timeout_s: Seconds to wait; None waits for ever.

    Raises:
        RunError: On entering, if the lock file cannot be opened or the time is over.
    """

    def __init__(self, path: Path, timeout_s: float | None = None) -> None:
        self.path = Path(path)
        self.timeout_s = timeout_s
        self._file: BinaryIO | None = None

    def __enter__(self) -> FileLock:
        try:
            self._file = cast("BinaryIO", open(self.path, "ab"))
        except OSError as cause:
            raise RunError(explain_os_error(cause, self.path)) from cause
        give_up = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        try:
            self._acquire(give_up)
        except BaseException:
            self._file.close()
            self._file = None
            raise
        _held.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _held.discard(self)
        if self._file is not None:
            _unlock(self._file)
            self._file.close()
            self._file = None

    def leave_to_parent(self) -> None:
        """In a forked process: close this process's end; the lock itself stays with the parent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _acquire(self, give_up: float | None) -> None:
        assert self._file is not None
        pause_s = 0.001
        while not _try_lock(self._file):
            if give_up is not None and time.monotonic() >= give_up:
                raise RunError(
                    f"{self.path} is held by another process since more than {self.timeout_s:g} s. "
                    "Wait until it has finished, or stop it."
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)


_held: set[FileLock] = set()


def _leave_locks_to_parent() -> None:
    for lock in _held:
        lock.leave_to_parent()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _try_lock(file: BinaryIO) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as cause:
        if cause.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _unlock(file: BinaryIO) -> None:
    if fcntl is not None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    else:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
