"""A run as one file to send to somebody: settings, history, page, model, versions. No pickle, nothing executed.

The file is a zip with a fixed list of names, so nothing can be written outside the run folder; weights are not
compressed and everything else has a bound, so it cannot grow without end.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from maskwright.errors import RunError
from maskwright.files import (
    check_writable,
    durable_file,
    explain_os_error,
    json_text,
    parse_json,
    sha256_file,
    sync_folder,
    temporary_path,
)
from maskwright.tracking import RunFolder, RunReader
from maskwright.tracking.environment import package_versions

__all__ = ["FORMAT_VERSION", "PackedRun", "pack_run", "unpack_run"]

FORMAT_VERSION = 1
_CONTENTS = "maskwright_run.json"
_WEIGHTS = "model/model.safetensors"
_FILES = (
    "config.yaml",
    "run.json",
    "training_history.json",
    "evaluation.json",
    "evaluation_blocks.json",
    "evaluation_images.csv",
    "report.html",
    "splits.geojson",
    "events.jsonl",
    "log.txt",
    "model/model.json",
    _WEIGHTS,
)
_NEEDED = ("config.yaml", "run.json", "training_history.json")
_FOLDERS = ("checkpoints", "model", "control", "tensorboard", "samples")
_MOST_TEXT = 500_000_000  # bytes of everything but the weights
_MOST_CONTENTS = 1_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PackedRun:
    """What a packed run is.

    Attributes:
        path: The file, or the folder it was unpacked to.
        name: Name of the run folder.
        status: As in run.json.
        epochs: Epochs in the history.
        files: Names of its files.
        versions: Versions of the packages it was made with.
        notes: What the receiver should know.
    """

    path: Path
    name: str
    status: str
    epochs: int
    files: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pack_run(run: str | Path, out: Path) -> PackedRun:
    """Write a run to one file.

    Args:
        run: The run folder; may still be at work.
        out: The file to write, ``NAME.zip``; replaced if it exists.

    Raises:
        RunError: If ``run`` is no run folder, lacks its settings, or the disk refuses.
    """
    reader = RunReader(Path(run))
    folder = reader.folder.path
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder} cannot be packed: it lacks {', '.join(missing)}.")
    record = reader.status()
    record = {**record, "status": "interrupted" if record["alive"] else record["status"]}  # to others it is at rest
    del record["alive"]
    files = [name for name in _FILES if (folder / name).is_file()]
    contents: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": folder.resolve().name,
        "versions": record.get("environment", {}).get("versions") or package_versions(),
        "files": {},
    }
    with durable_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            content = json_text(record, indent=2).encode() if name == "run.json" else None
            contents["files"][name] = _add(archive, name, folder / name, content)
        archive.writestr(_CONTENTS, json_text(contents, indent=2))
    notes = () if _WEIGHTS in files else ("It holds no model: no epoch was completed.",)
    status, epochs = str(record["status"]), len(reader.history())
    return PackedRun(out, contents["name"], status, epochs, tuple(files), contents["versions"], notes)


def unpack_run(file: str | Path, to: Path) -> PackedRun:
    """Unpack a run into a new folder in ``to``; it can be looked at and predicted with, and holds no checkpoints.

    Every name, size and hash is checked; on any fault nothing is left behind.

    Args:
        file: A file made by :func:`pack_run`.
        to: Folder of runs, for example ``outputs``; made if missing.

    Raises:
        RunError: If the file is not such a file, is damaged, of a newer version, or the run is there already.
    """
    file = Path(file)
    try:
        with zipfile.ZipFile(file) as archive:
            contents = _checked(archive, file)
            check_writable(to, need_bytes=sum(info.file_size for info in archive.infolist()))
            target = to / contents["name"]
            if target.exists():
                raise RunError(f"{target} is there already. Remove it, or unpack into another folder (--to).")
            _extract(archive, contents, target, file)
    except zipfile.BadZipFile as cause:
        raise RunError(f"{file} is not a packed run, or damaged: {cause}. Ask for it again.") from cause
    except OSError as cause:
        raise RunError(f"{file} could not be unpacked into {to}: {cause.strerror or cause}.") from cause
    reader = RunReader(target)
    return PackedRun(
        target,
        contents["name"],
        str(reader.status()["status"]),
        len(reader.history()),
        tuple(contents["files"]),
        contents["versions"],
        tuple(_notes(contents)),
    )


def _add(archive: zipfile.ZipFile, name: str, path: Path, content: bytes | None) -> dict[str, object]:
    """Add a file as it is now, though it may still grow; returns its size and hash."""
    digest, size = hashlib.sha256(), 0
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if name == _WEIGHTS else zipfile.ZIP_DEFLATED
    if content is not None:
        archive.writestr(info, content)
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with open(path, "rb") as source, archive.open(info, "w", force_zip64=True) as sink:
        while block := source.read(_CHUNK):
            digest.update(block)
            size += len(block)
            sink.write(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _checked(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    """The table of contents, once names and sizes are known to be harmless."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if _CONTENTS not in names or len(set(names)) < len(names):
        raise RunError(f"{file} is not a packed run: it has no table of contents, or a name twice.")
    foreign = sorted(set(names) - {*_FILES, _CONTENTS})
    if foreign:
        raise RunError(f"{file} was refused: {foreign[0]!r} has no place in a packed run.")
    text = 0
    for info in infos:
        if info.filename == _WEIGHTS:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise RunError(f"{file} was refused: its weights are compressed, which packing never does.")
        else:
            text += info.file_size
    if text > _MOST_TEXT or archive.getinfo(_CONTENTS).file_size > _MOST_CONTENTS:
        raise RunError(f"{file} was refused: unpacked it would hold {text / 1e6:.0f} MB beside the weights.")
    return _contents(archive, file, set(names))


def _contents(archive: zipfile.ZipFile, file: Path, names: set[str]) -> dict[str, Any]:
    try:
        contents = parse_json(archive.read(_CONTENTS))
        version, name, files = contents["format_version"], contents["name"], contents["files"]
        good = isinstance(version, int) and set(files) == names - {_CONTENTS} and set(_NEEDED) <= set(files)
        good = good and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) is not None
        good = good and all(isinstance(said["sha256"], str) for said in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as cause:
        raise RunError(f"{file} is damaged: its table of contents cannot be read.") from cause
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RunError(
            f"{file} was packed by a newer Maskwright: format {version}, this one reads up to {FORMAT_VERSION}. "
            "Upgrade Maskwright."
        )
    if not good:
        raise RunError(f"{file} is damaged: its table of contents does not fit its files.")
    return {**contents, "versions": dict(contents.get("versions") or {})}


def _extract(archive: zipfile.ZipFile, contents: dict[str, Any], target: Path, file: Path) -> None:
    draft = temporary_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        for name in _FOLDERS:
            (draft / name).mkdir()
        for name, said in contents["files"].items():
            with archive.open(name) as source, open(draft / name, "xb") as sink:
                _copy(source, sink, archive.getinfo(name).file_size, f"{file}: {name}")
            if sha256_file(draft / name) != said["sha256"]:
                raise RunError(f"{file} is damaged: {name} is not what was packed. Ask for it again.")
        for name in ("events.jsonl", "log.txt"):
            (draft / name).touch()
        RunFolder.open(draft)
        os.rename(draft, target)
        sync_folder(target.parent)
    except OSError as cause:
        raise RunError(explain_os_error(cause, target)) from cause
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone after the rename


def _copy(source: IO[bytes], sink: IO[bytes], size: int, what: str) -> None:
    """Never more than was announced."""
    left = size
    while block := source.read(min(_CHUNK, left + 1)):
        left -= len(block)
        if left < 0:
            raise RunError(f"{what} holds more than it announces, and was refused.")
        sink.write(block)


def _notes(contents: dict[str, Any]) -> list[str]:
    notes = [] if _WEIGHTS in contents["files"] else ["It holds no model."]
    mine = package_versions()
    other = {name: (was, mine.get(name)) for name, was in contents["versions"].items() if mine.get(name) != was}
    if other:
        said = ", ".join(f"{name} {was} (here {now or 'none'})" for name, (was, now) in other.items())
        notes.append(f"It was made with other versions: {said}.")
    return notes
