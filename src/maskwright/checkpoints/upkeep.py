"""Single files of a folder of checkpoints: what they say of themselves, second names, content under a wrong name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskwright.checkpoints.divided import shares_hold, size_of
from maskwright.checkpoints.format import DIVIDED_SUFFIX, is_whole, read_about
from maskwright.errors import CheckpointError
from maskwright.files import durable_file, sha256_file, temporary_path
from maskwright.tracking import CheckpointRecord

__all__ = ["about_or_none", "copy", "holds", "link", "put_right", "record_of", "same_moment"]


def same_moment(one: CheckpointRecord, other: CheckpointRecord) -> bool:
    """Whether two records are of one moment of a run."""
    return (one.global_step, one.epoch, one.position) == (other.global_step, other.epoch, other.position)


def record_of(path: Path) -> CheckpointRecord | None:
    """The record of a file known only by itself; None if it is damaged, gone or not ours."""
    about = about_or_none(path)
    try:
        if about is not None and is_whole(path):
            return CheckpointRecord(path.name, sha256_file(path), size_of(path), **about)
    except OSError:
        return None  # removed meanwhile by the process that saves, or unreadable: no checkpoint for us
    return None


def about_or_none(path: Path) -> dict[str, Any] | None:
    """What one of our checkpoints says of itself; None for any other file."""
    try:
        about = read_about(path)
    except CheckpointError:
        return None
    names = set(CheckpointRecord.__dataclass_fields__) - {"file", "sha256", "bytes"}
    return about if names - {"tag"} <= set(about) <= names else None


def link(source: Path, target: Path) -> bool:
    """Make ``target`` a second name of ``source``, replacing what stood there; False if the file system cannot."""
    temporary = temporary_path(target)
    try:
        os.link(source, temporary)
    except (OSError, NotImplementedError, AttributeError):
        return False
    try:
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def copy(source: Path, target: Path) -> None:
    """Durably copy a file, where it cannot have a second name. Raises CheckpointError if the disk refuses."""
    with open(source, "rb") as reader, durable_file(target, error=CheckpointError) as writer:
        shutil.copyfileobj(reader, writer, 2**20)


def holds(path: Path, record: CheckpointRecord) -> bool:
    """Whether a file holds exactly what was saved. Raises OSError if it is missing or cannot be read."""
    is_file = size_of(path) == record.bytes and sha256_file(path) == record.sha256
    return is_file and (path.suffix != DIVIDED_SUFFIX or shares_hold(path))


def put_right(folder: Path, records: Iterable[CheckpointRecord], others: Iterable[Path]) -> tuple[list[str], set[str]]:
    """Give each checkpoint its own name back where another file has what was saved under it.

    Args:
        folder: Where the files of the records belong.
        records: The checkpoints.
        others: Further files that may have their content.

    Returns:
        What was done, a sentence each, and the hashes of the checkpoints that no file has.

    Raises:
        OSError: If the disk refuses.
    """
    records = list(records)
    wrong = [record for record in records if not _is_right(folder / record.file, record)]
    places = [*(folder / record.file for record in records), *others]
    notes, lost, found = [], set(), []
    for record in wrong:
        source = next((path for path in places if _is_right(path, record)), None)
        if source is None:
            lost.add(record.sha256)
            continue
        kept = temporary_path(folder / record.file)  # two files may have been exchanged: first keep, then rename
        if not link(source, kept):
            copy(source, kept)
        found.append((kept, record, source))
    for kept, record, source in found:
        os.replace(kept, folder / record.file)
        notes.append(f"Took {record.file} from {source.name}: its own file was missing or held something else.")
    return notes, lost


def _is_right(path: Path, record: CheckpointRecord) -> bool:
    try:
        return holds(path, record)
    except OSError:
        return False
