"""What a checkpoint file holds, how it is written so that it survives, and how it is read so that it cannot harm.

A file is torch's zip of ``{"format", "format_version", "about", "state"}``; everything in it is a tensor or a plain
value, so loading never executes anything. A state that is divided among processes has another form and is read by the
same functions, see :mod:`maskwright.checkpoints.divided`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor, nn

from maskwright.errors import CheckpointError
from maskwright.files import durable_file, sha256_file

if TYPE_CHECKING:
    from maskwright.checkpoints.divided import Room

__all__ = [
    "DIVIDED_SUFFIX",
    "FORMAT_VERSION",
    "bare_model",
    "check_plain",
    "is_whole",
    "lies_alone",
    "load_state",
    "map_tensors",
    "read_about",
    "save_state",
    "snapshot",
]

FORMAT_VERSION = 1
DIVIDED_SUFFIX = ".json"
"""Ending of the file that stands for a state divided among processes."""

_FORMAT = "maskwright checkpoint"
_PLAIN = (bool, int, float, str, type(None))
_ZIP_START = b"PK\x03\x04"


# --- state ------------------------------------------------------------------------------------------------------------


def check_plain(state: object, where: str = "state") -> None:
    """Make sure that ``state`` is nested dicts, lists and tuples of tensors and plain values (numbers, text, None).

    Exact types count: a numpy number or an enum is foreign, for reading it back would need code from elsewhere.

    Raises:
        CheckpointError: Naming the path of the first foreign object.
    """
    kind = type(state)
    if kind in _PLAIN:
        return
    if kind is dict or kind is OrderedDict:
        assert isinstance(state, Mapping)
        for key, value in state.items():
            if type(key) not in _PLAIN:
                raise CheckpointError(
                    f"{where} has a key of type {_type_name(key)}; only text and numbers can be saved."
                )
            check_plain(value, f"{where}[{key!r}]")
    elif kind is list or kind is tuple:
        assert isinstance(state, list | tuple)
        for index, value in enumerate(state):
            check_plain(value, f"{where}[{index}]")
    elif not (kind is Tensor or kind is torch.nn.Parameter) or _is_meta(state):
        raise CheckpointError(
            f"{where} is a {_type_name(state)}; a checkpoint holds tensors and plain values only. "
            "Turn it into numbers, text, lists or tensors first."
        )


def snapshot(state: Mapping[str, object], *, copy: bool = True) -> dict[str, Any]:
    """The state as plain dicts with its tensors on the CPU, ready to be written while training goes on.

    Args:
        state: Nested state, see :func:`check_plain`.
        copy: Copy tensors that are on the CPU already. Without it they are shared, which is right for a caller that
            writes before anything changes; views of larger tensors are copied even then, so that a file never holds
            more than the state.

    Raises:
        CheckpointError: If something foreign is in ``state``.
    """
    check_plain(state)

    def copied(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", copy=copy or not lies_alone(tensor))

    taken: dict[str, Any] = map_tensors(state, copied)
    return taken


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nested dicts, lists and tuples, made anew, with every tensor replaced by what ``change`` makes of it."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def lies_alone(tensor: Tensor) -> bool:
    """Whether a tensor has its memory for itself, without gaps; a view of a larger one has not."""
    return tensor.layout != torch.strided or tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize


def bare_model(model: nn.Module) -> nn.Module:
    """The network itself where ``torch.compile`` or a wrapper for several GPUs stands around it.

    Names of its weights are then those of the network, and a file can be loaded with and without the wrapper.
    """
    inside = getattr(model, "_orig_mod", None)
    if inside is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inside = model.module
    return bare_model(inside) if isinstance(inside, nn.Module) else model


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


# --- writing ----------------------------------------------------------------------------------------------------------


def save_state(path: Path, state: Mapping[str, object], about: Mapping[str, object] | None = None) -> tuple[str, int]:
    """Write a checkpoint that is on disk, read back and compared before it takes its name.

    Args:
        path: The file; replaced as a whole.
        state: Nested dicts, lists and tuples of tensors and plain values.
        about: A few plain values that :func:`read_about` finds without reading the tensors.

    Returns:
        SHA-256 of the file (64 hexadecimal digits) and its size in bytes.

    Raises:
        CheckpointError: If something foreign is in ``state`` or the disk refuses; what stood at ``path`` stays.
    """
    content = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "about": dict(about or {}),
        "state": snapshot(state, copy=False),
    }
    check_plain(content["about"], "about")
    written: list[_HashingWriter] = []

    def verify(temporary: Path) -> None:
        if sha256_file(temporary) != written[0].sha256:
            raise CheckpointError(
                f"{path} was not saved: what the disk gave back is not what was written. Check the disk; "
                "the checkpoints saved before are untouched."
            )

    with durable_file(path, error=CheckpointError, verify=verify) as file:
        writer = _HashingWriter(file)
        written.append(writer)
        writer.save(content)
        _forget_cached(file)
    return writer.sha256, writer.bytes


class _HashingWriter:
    """Hands torch's bytes to a file and hashes them on the way.

    An error of the disk is kept until torch has finished: raised inside its writer it would come out as another error.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.bytes = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def save(self, content: object) -> None:
        torch.save(content, self)  # type: ignore[arg-type]  # needs no more of a file than write and flush
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do: the file is flushed when it is complete."""


def _forget_cached(file: BinaryIO) -> None:
    """Bring the bytes to disk and out of the system's memory, so that reading back asks the disk where possible."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # a hint: some file systems know nothing of it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --- reading ----------------------------------------------------------------------------------------------------------


def load_state(
    path: Path,
    sha256: str | None = None,
    *,
    map_location: str | torch.device = "cpu",
    mmap: bool = False,
    room: Room | None = None,
) -> dict[str, Any]:
    """Read a checkpoint's state. Nothing in the file is executed.

    Args:
        path: The file.
        sha256: Its expected hash; checked first if given.
        map_location: Device for the tensors.
        mmap: Map the file into memory instead of reading it; tensors are then read when used.
        room: Where all processes read a divided state together, see
            :func:`~maskwright.checkpoints.divided.load_divided`.

    Raises:
        CheckpointError: If the file is missing, damaged, not a checkpoint, of a newer version, or not the expected one.
    """
    path = Path(path)
    if sha256 is not None:
        _check_hash(path, sha256)
    if path.suffix == DIVIDED_SUFFIX:
        from maskwright.checkpoints.divided import load_divided

        return load_divided(path, map_location=map_location, room=room)
    content = _load(path, map_location, mmap)
    state: dict[str, Any] = content["state"]
    return state


def read_about(path: Path) -> dict[str, Any]:
    """What :func:`save_state` was told about the checkpoint. Raises CheckpointError like :func:`load_state`."""
    if Path(path).suffix == DIVIDED_SUFFIX:
        from maskwright.checkpoints.divided import read_divided

        return dict(read_divided(Path(path))["about"])
    about: dict[str, Any] = _load(path, "cpu", True)["about"]
    return about


def is_whole(path: Path) -> bool:
    """Whether every part of a checkpoint file fits its own check sum; for files whose hash is not known."""
    if path.suffix == DIVIDED_SUFFIX:
        from maskwright.checkpoints.divided import shares_hold

        try:
            return shares_hold(path)
        except (OSError, CheckpointError):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return False


def _check_hash(path: Path, sha256: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read: {cause.strerror}.") from cause
    if found != sha256:
        raise CheckpointError(f"{path} is damaged: its content is not what was saved (SHA-256 differs).")


def _require_stored(path: Path) -> None:
    """Nothing of ours is compressed, so a file that would unpack to more than it holds is not read at all."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [entry.file_size for entry in archive.infolist()]
        holds = path.stat().st_size
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as cause:
        raise CheckpointError(f"{path} is damaged or not a Maskwright checkpoint: {cause}") from cause
    if sum(sizes) > holds:
        raise CheckpointError(
            f"{path} is not a Maskwright checkpoint: it holds {holds / 1e6:.1f} MB and would unpack to "
            f"{sum(sizes) / 1e6:.1f} MB. It was not opened."
        )


def _load(path: Path, map_location: str | torch.device, mmap: bool) -> dict[str, Any]:
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(len(_ZIP_START))
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read: {cause.strerror}.") from cause
    if start != _ZIP_START:
        raise CheckpointError(f"{path} is not a Maskwright checkpoint, or damaged.")
    _require_stored(path)
    try:
        content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as cause:  # a damaged or hostile file can make the reader stumble over anything
        reason = str(cause).partition("\n")[0]
        raise CheckpointError(f"{path} is damaged or not a Maskwright checkpoint: {reason}") from cause
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a Maskwright checkpoint.")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Maskwright: checkpoint format {version}, this one reads up to "
            f"{FORMAT_VERSION}. Upgrade Maskwright."
        )
    return content
