"""The checkpoints of a run as a small JSON file: read and written without torch, so that faces can show them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.errors import CheckpointError
from maskwright.files import json_text, read_json, write_json

__all__ = ["FORMAT_VERSION", "CheckpointKind", "CheckpointRecord", "Manifest", "read_manifest", "write_manifest"]

FORMAT_VERSION = 1

CheckpointKind = Literal["epoch", "step", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """What is known of a checkpoint without opening it.

    Attributes:
        file: Name inside the checkpoints folder.
        sha256: Of the whole file, 64 hexadecimal digits.
        bytes: Size of the file.
        epoch: Finished epochs.
        position: Batches done of the epoch under way; 0 between epochs.
        global_step: Updates done.
        scores: Scores of exactly these weights, for example ``val/iou``; empty if they were not measured.
        kind: Why it was saved: an epoch ended, inside an epoch, the run was interrupted, or failed.
        time: When, UTC, ISO 8601.
        tag: What the rule of the folder made of it: ``best``, ``interval`` ...; ``latest`` until a newer one comes.
    """

    file: str
    sha256: str
    bytes: int
    epoch: int
    position: int
    global_step: int
    scores: Mapping[str, float]
    kind: CheckpointKind
    time: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All checkpoints of a run.

    Attributes:
        records: In the order they were saved, the newest last.
        best: File of the best one by ``monitor``; None if nothing was scored.
        monitor: The score that decides.
        mode: Whether a lower or a higher score is better.
    """

    records: tuple[CheckpointRecord, ...] = ()
    best: str | None = None
    monitor: str | None = None
    mode: Literal["min", "max"] = "max"

    @property
    def latest(self) -> CheckpointRecord | None:
        """The newest record."""
        return self.records[-1] if self.records else None

    @property
    def best_record(self) -> CheckpointRecord | None:
        """The record of the best score."""
        return next((record for record in self.records if record.file == self.best), None)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Durably replace the manifest. Raises CheckpointError if the disk refuses."""
    content = {
        "format_version": FORMAT_VERSION,
        "monitor": manifest.monitor,
        "mode": manifest.mode,
        "latest": manifest.latest.file if manifest.latest else None,
        "best": manifest.best,
        "checkpoints": [asdict(record) for record in manifest.records],
    }
    write_json(path, content | {"check": _check(content)}, error=CheckpointError)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        CheckpointError: If it is missing, damaged or of a newer version; the checkpoint store can rebuild it from the
            checkpoints themselves.
    """
    content = read_json(path, error=CheckpointError)
    if isinstance(content, dict) and content.pop("check", None) not in (None, _check(content)):
        raise CheckpointError(f"{path} is damaged: its content is not what was written.") from ValueError("check")
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Maskwright: manifest format {version}, this one reads up to "
            f"{FORMAT_VERSION}. Upgrade Maskwright."
        )
    try:
        records = tuple(_record(fields) for fields in content["checkpoints"])
        return Manifest(records, content["best"], content["monitor"], content["mode"])
    except (KeyError, TypeError, ValueError) as cause:
        raise CheckpointError(f"{path} is damaged: {cause!r}.") from cause


def _check(content: Mapping[str, Any]) -> str:
    """What is written into the file beside its content, so that a flipped bit is not taken for a number."""
    return hashlib.sha256(json_text({name: content[name] for name in content if name != "check"}).encode()).hexdigest()


def _record(fields: dict[str, Any]) -> CheckpointRecord:
    record = CheckpointRecord(**fields)
    if record.kind not in get_args(CheckpointKind):
        raise ValueError(f"unknown kind {record.kind!r}")
    if Path(record.file).name != record.file:
        raise ValueError(f"{record.file!r} is not a plain file name")  # nothing outside the folder is ever opened
    return record
