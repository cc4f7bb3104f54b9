"""The model folder that travels: model.safetensors (weights) and model.json (all that prediction must repeat).

No pickle anywhere. The pair is consistent at every instant: while the weights are replaced, model.json describes both
the old and the new ones, each by hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from maskwright.errors import CheckpointError
from maskwright.files import explain_os_error, write_bytes, write_json
from maskwright.tracking.description import DESCRIPTION, FORMAT_VERSION, WEIGHTS, load_description, weights_hash
from maskwright.tracking.environment import package_versions

__all__ = ["DESCRIPTION", "FORMAT_VERSION", "WEIGHTS", "load_description", "load_weights", "save_model"]

_NAMED = 5  # how many tensors a message names


def save_model(folder: Path, model: nn.Module, description: Mapping[str, object]) -> None:
    """Write the weights and what prediction needs to use them.

    Args:
        folder: The model folder; made if missing.
        model: Its ``state_dict`` is saved, moved to the CPU.
        description: Plain values: architecture section, in_channels, normaliser, bands, heights, condition scale, pixel
            size trained at, receptive field, probability threshold, task, scores. Added here: ``format_version``,
            ``weights`` (file, sha256, bytes) and, unless given, ``versions`` of the packages.

    Raises:
        CheckpointError: If the disk refuses; the model that stood there stays usable.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise CheckpointError(explain_os_error(cause, folder)) from cause
    tensors = {name: _packed(tensor) for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(tensors)
    weights = {"file": WEIGHTS, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    content = {"versions": package_versions()} | dict(description)
    content |= {"format_version": FORMAT_VERSION, "weights": weights}
    former = _former(folder)
    if former is not None:
        write_json(folder / DESCRIPTION, content | {"former": former}, error=CheckpointError)
    write_bytes(folder / WEIGHTS, data, error=CheckpointError)
    write_json(folder / DESCRIPTION, content, error=CheckpointError)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill ``model`` with the weights of a model folder, all of them and nothing else.

    Raises:
        CheckpointError: If the weights are damaged, or do not fit the model; the message names the tensors.
    """
    folder = Path(folder)
    path = folder / WEIGHTS
    if weights_hash(folder) != load_description(folder)["weights"]["sha256"]:
        raise CheckpointError(
            f"{path} is damaged or belongs to another {DESCRIPTION}: its SHA-256 differs from the one noted there. "
            "Copy the whole model folder again."
        )
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as cause:
        raise CheckpointError(f"{path} cannot be read: {cause}") from cause
    faults = _faults(tensors, model.state_dict())
    if faults:
        raise CheckpointError(
            f"{path} does not fit the model: {'; '.join(faults)}. Build the model that {DESCRIPTION} describes."
        )
    model.load_state_dict(tensors)


def _faults(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    faults = []
    if missing := [name for name in expected if name not in tensors]:
        faults.append(f"missing {_some(missing)}")
    if unexpected := [name for name in tensors if name not in expected]:
        faults.append(f"unexpected {_some(unexpected)}")
    differing = [
        f"{name} is {tuple(tensors[name].shape)} and not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if differing:
        faults.append(f"other shapes: {_some(differing)}")
    return faults


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _packed(tensor: Tensor) -> Tensor:
    """Alone in its memory, rows first: safetensors takes no shared or strided tensors."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _former(folder: Path) -> dict[str, Any] | None:
    """The description of the weights that are in the folder now; None if they are not usable anyway."""
    try:
        description = load_description(folder)
        return description if weights_hash(folder) == description["weights"]["sha256"] else None
    except CheckpointError:
        return None
