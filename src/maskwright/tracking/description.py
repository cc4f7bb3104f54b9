"""model.json of a model folder, read and checked without torch; so that a face may tell what a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.errors import CheckpointError
from maskwright.files import read_json, sha256_file

__all__ = ["DESCRIPTION", "FORMAT_VERSION", "WEIGHTS", "load_description", "weights_hash"]

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def load_description(folder: Path) -> dict[str, Any]:
    """What ``save_model`` was told, with ``format_version``, ``weights`` and ``versions``.

    Raises:
        CheckpointError: If the folder holds no model, or one of a newer version or damaged.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no {DESCRIPTION}. Give a run's model folder.")
    content = read_json(path, error=CheckpointError)
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f"{path} is damaged: it has no format_version.")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Maskwright: model format {version}, this one reads up to {FORMAT_VERSION}. "
            "Upgrade Maskwright."
        )
    if not isinstance(content.get("weights"), dict) or "sha256" not in content["weights"]:
        raise CheckpointError(f"{path} is damaged: it does not say which weights belong to it.")
    former = content.pop("former", None)  # there only if saving was cut short
    described: dict[str, Any] = content
    if former is not None and weights_hash(folder) == former["weights"]["sha256"]:
        described = former
    return described


def weights_hash(folder: Path) -> str:
    """SHA-256 of the weights in a model folder. Raises CheckpointError if they cannot be read."""
    try:
        return sha256_file(folder / WEIGHTS)
    except OSError as cause:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {cause.strerror}.") from cause
