"""Checkpoints of a state that is divided among processes: a safetensors file of each, and all else as JSON.

::

    checkpoint_epoch_0003.json               what is plain, which tensors there are, the files and their hashes
    checkpoint_epoch_0003.5f3a91c2.shares/   a file of each process, written through torch.distributed.checkpoint

The JSON file is the checkpoint. Process 0 writes it when all shares are on disk, so there is all of it or none; it may
have further names in its folder. No process needs the whole state to write it, one alone can read it.
"""

from __future__ import annotations

import math
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskwright.checkpoints.format import DIVIDED_SUFFIX, check_plain, lies_alone, map_tensors
from maskwright.distributed import gathered, rank
from maskwright.errors import CheckpointError
from maskwright.files import read_json, sha256_file, write_json

__all__ = [
    "Divided",
    "check_divided",
    "load_divided",
    "new_shares",
    "read_divided",
    "save_divided",
    "shares_hold",
    "size_of",
    "sweep_shares",
    "write_shares",
]

_FORMAT = "maskwright divided checkpoint"
_FORMAT_VERSION = 1
_SHARES = re.compile(r"checkpoint_epoch_\d{4,}(_step_\d{8,})?\.[0-9a-f]{8}\.shares")
_MARKS = {"tensor", "tuple", "items"}

Room = Callable[[Sequence[int], torch.dtype], Tensor]
"""Makes the memory for this process's share of a tensor of a shape and a type."""


@dataclass(frozen=True)
class Divided:
    """A state whose tensors are on disk.

    Attributes:
        folder: Name of the folder with the tensors, beside the checkpoint.
        files: Hash and size of each file in it, by name.
        tensors: Shape, type and whether it was divided, of each tensor by name.
        state: The state as JSON can hold it, names in the places of tensors.
    """

    folder: str
    files: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Mapping[str, Any]]
    state: Any


# --- writing ----------------------------------------------------------------------------------------------------------


def check_divided(state: Mapping[str, object]) -> None:
    """As :func:`~maskwright.checkpoints.format.check_plain`, for a state that holds shares of tensors too."""
    from maskwright.distributed.shards import own_share

    check_plain(map_tensors(state, own_share))


def new_shares(checkpoint: Path) -> Path:
    """A fresh folder for the tensors of a checkpoint; one of the same name that is being replaced stays whole."""
    return checkpoint.with_name(f"{checkpoint.stem}.{uuid.uuid4().hex[:8]}.shares")


def write_shares(folder: Path, state: Mapping[str, object]) -> Divided:
    """Write this process's share of all tensors of a state; all processes must call it at the same point.

    Args:
        folder: That of :func:`new_shares`, the same for all, on a disk they share.
        state: Nested dicts, lists and tuples of tensors, divided or the same in all, and plain values.

    Raises:
        CheckpointError: In all of them if something foreign is in ``state`` or a disk refuses.
    """
    from maskwright.distributed.shards import is_divided, own_share, write_tensors

    check_divided(state)
    tensors: dict[str, Tensor] = {}
    plain = _taken_apart(state, tensors, "")
    seen: set[int] = set()
    for name, tensor in tensors.items():  # safetensors takes no memory that is shared
        share = own_share(tensor)
        if not lies_alone(share) or not share.is_contiguous() or share.data_ptr() in seen:
            tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        seen.add(share.data_ptr())
    try:
        write_tensors(folder, tensors)
        own = {
            file.name: {"sha256": sha256_file(file), "bytes": file.stat().st_size}
            for file in sorted(folder.glob(f"shard-{rank() + 1:05d}-*"))
        }
    except OSError as cause:
        raise CheckpointError(f"The tensors were not saved to {folder}: {cause}") from cause
    files = {name: facts for part in gathered(own) for name, facts in part.items()}
    about = {
        name: {"shape": list(tensor.shape), "dtype": _dtype_name(tensor.dtype), "divided": is_divided(tensor)}
        for name, tensor in tensors.items()
    }
    return Divided(folder.name, files, about, plain)


def save_divided(path: Path, content: Divided, about: Mapping[str, object]) -> tuple[str, int]:
    """Write the file that makes a checkpoint of shares that are on disk.

    Returns:
        SHA-256 of the file, which holds those of all others, and the size of all together in bytes.

    Raises:
        CheckpointError: If the disk refuses; what stood at ``path`` stays.
    """
    document = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "about": dict(about), **asdict(content)}
    write_json(path, document, error=CheckpointError)
    return sha256_file(path), size_of(path)


def _taken_apart(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """The value as JSON can hold it; its tensors go to ``tensors`` under the name of their place."""
    if isinstance(value, Tensor):
        tensors[where] = value
        return {"tensor": where}
    inside = f"{where}/" if where else ""
    if isinstance(value, tuple):
        return {"tuple": [_taken_apart(each, tensors, f"{inside}{n}") for n, each in enumerate(value)]}
    if isinstance(value, list):
        return [_taken_apart(each, tensors, f"{inside}{n}") for n, each in enumerate(value)]
    if isinstance(value, dict):
        items = {key: _taken_apart(each, tensors, f"{inside}{key}") for key, each in value.items()}
        is_plain = all(isinstance(key, str) for key in items) and not _MARKS & items.keys()
        return items if is_plain else {"items": [[key, each] for key, each in items.items()]}
    return value


# --- reading ----------------------------------------------------------------------------------------------------------


def read_divided(path: Path) -> dict[str, Any]:
    """What the file says, ``about`` included, without the tensors.

    Raises:
        CheckpointError: If it is missing, damaged, of a newer version, or another file.
    """
    document = read_json(path, error=CheckpointError)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a Maskwright checkpoint.")
    version = document.get("format_version")
    if not isinstance(version, int) or version > _FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Maskwright: checkpoint format {version}, this one reads up to "
            f"{_FORMAT_VERSION}. Upgrade Maskwright."
        )
    names = [document.get("folder"), *document.get("files", {})]
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f"{path} is damaged: it names files outside its folder.")
    if not _SHARES.fullmatch(document["folder"]):
        raise CheckpointError(f"{path} is damaged: {document['folder']} is no folder of a checkpoint.")
    return document


def load_divided(path: Path, *, map_location: str | torch.device = "cpu", room: Room | None = None) -> dict[str, Any]:
    """Read a state, whatever number of processes wrote it. Nothing in the files is executed.

    Args:
        path: The JSON file.
        map_location: Device of tensors that are read whole.
        room: Where all processes read together: what makes the memory for this one's share of what was divided.
            None: this process alone reads all of it.

    Raises:
        CheckpointError: If a file is missing, damaged or of a newer version.
    """
    from maskwright.distributed.shards import read_tensors

    document = read_divided(path)
    folder = path.with_name(document["folder"])
    try:
        held = {file.name: file.stat().st_size for file in folder.iterdir()}
        if held != {name: facts["bytes"] for name, facts in document["files"].items()}:
            raise CheckpointError(f"{path} is damaged: the files in {folder.name} are not those that were saved.")
        tensors = {name: _memory(facts, room) for name, facts in _checked(path, document)}
        read_tensors(folder, tensors, alone=room is None)
        state: dict[str, Any] = _put_together(document["state"], tensors)
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read: {cause}") from cause
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as cause:
        raise CheckpointError(f"{path} is damaged: {cause}") from cause
    device = torch.device(map_location)
    return state if room is not None or device.type == "cpu" else map_tensors(state, lambda each: each.to(device))


def shares_hold(path: Path) -> bool:
    """Whether every file of a checkpoint has the content that was saved. Raises OSError if one cannot be read."""
    document = read_divided(path)
    folder = path.with_name(document["folder"])
    return all(
        (folder / name).stat().st_size == facts["bytes"] and sha256_file(folder / name) == facts["sha256"]
        for name, facts in document["files"].items()
    )


def size_of(path: Path) -> int:
    """Bytes of a checkpoint, those of its shares included. Raises OSError if it cannot be read."""
    try:
        shares = read_divided(path)["files"] if path.suffix == DIVIDED_SUFFIX else {}
    except CheckpointError:
        shares = {}  # damaged: it is no longer as large as it was
    return path.stat().st_size + sum(int(facts["bytes"]) for facts in shares.values())


def sweep_shares(folder: Path, checkpoints: Iterable[str]) -> None:
    """Remove the shares that none of the checkpoints of a folder needs. Raises OSError if the disk refuses.

    Args:
        folder: The folder.
        checkpoints: Names of the files in it that are to be kept, of any form.
    """
    found = [each for each in folder.glob("*.shares") if _SHARES.fullmatch(each.name)]
    if not found:
        return
    needed, unsure = set(), set()
    for name in (name for name in checkpoints if name.endswith(DIVIDED_SUFFIX)):
        try:
            needed.add(read_divided(folder / name)["folder"])
        except CheckpointError:  # missing or damaged, and a second name of it may be whole
            unsure.add(Path(name).stem)
    for each in found:
        if each.name not in needed and each.name.partition(".")[0] not in unsure:
            shutil.rmtree(each)


def _checked(path: Path, document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The tensors, which together are no larger than their files."""
    tensors = list(document["tensors"].items())
    claimed = sum(math.prod(facts["shape"]) * _dtype(facts["dtype"]).itemsize for _, facts in tensors)
    if claimed > sum(facts["bytes"] for facts in document["files"].values()):
        raise CheckpointError(f"{path} is damaged: it claims more than its files hold. It was not read.")
    return tensors


def _memory(facts: Mapping[str, Any], room: Room | None) -> Tensor:
    if room is None or not facts["divided"]:
        return torch.empty(facts["shape"], dtype=_dtype(facts["dtype"]))
    return room(facts["shape"], _dtype(facts["dtype"]))


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no type of a tensor")
    return found


def _put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tensor"}:
        return tensors[value["tensor"]]
    if value.keys() == {"tuple"}:
        return tuple(_put_together(each, tensors) for each in value["tuple"])
    if value.keys() == {"items"}:
        return {key: _put_together(each, tensors) for key, each in value["items"]}
    return {key: _put_together(each, tensors) for key, each in value.items()}
