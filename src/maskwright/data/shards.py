"""Shards: the files of a data set as they are, in plain tar files that a network disk reads from end to end.

``shards.json`` beside them names each shard with its size, its SHA-256 and where each file lies in it, and for each
path of the data section what was packed for it. Shards are read once on each machine: unpacked into the cache, checked
on the way, and from then on the data is what it was before, byte for byte. So sources, names, order and splits know
nothing of shards.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from maskwright.config.base import Section
from maskwright.config.data import DataConfig
from maskwright.data.cache import default_cache_folder, recipe_key
from maskwright.errors import DataError
from maskwright.files import FileLock, explain_os_error, free_bytes, read_json, write_text

__all__ = ["INDEX", "Packed", "Shard", "ShardIndex", "from_shards", "named_paths", "read_index"]

INDEX = "shards.json"
"""The file beside the shards that says what they hold."""

_FORMAT_VERSION = 1
_CHUNK = 2**20
_SPARE_BYTES = 64 * 2**20
_NOT_PACKED = ("extra.folder", "shards", "split.keep")  # what a model or an earlier run made, and stays where it is

log = logging.getLogger("maskwright")


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        file: Its name.
        bytes: Its size.
        sha256: Of its content.
        files: Name inside, offset and size in bytes of each file.
    """

    file: str
    bytes: int
    sha256: str
    files: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Packed:
    """What was packed for a path of the data section.

    Attributes:
        was: The path as it was.
        member: Its name in the shards: of a file, or of the folder above its files.
    """

    was: str
    member: str


@dataclass(frozen=True)
class ShardIndex:
    """What a folder of shards holds.

    Attributes:
        kind: ``data.kind`` of what was packed.
        packed: By the name of the setting in the data section: ``folder``, ``labels.file``, ``sites[north].chm``.
        shards: In the order they are read.
    """

    kind: str
    packed: Mapping[str, Packed]
    shards: tuple[Shard, ...]

    @property
    def bytes(self) -> int:
        """Of all files inside."""
        return sum(size for shard in self.shards for _, _, size in shard.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``shards.json`` holds them."""
        return {
            "format_version": _FORMAT_VERSION,
            "kind": self.kind,
            "packed": {name: {"was": one.was, "member": one.member} for name, one in self.packed.items()},
            "shards": [
                {
                    "file": one.file,
                    "bytes": one.bytes,
                    "sha256": one.sha256,
                    "files": [list(file) for file in one.files],
                }
                for one in self.shards
            ],
        }


def read_index(folder: Path) -> ShardIndex:
    """What a folder of shards holds.

    Raises:
        DataError: If it has no index, or one that cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {INDEX}, so it is no folder of shards, or one that is not finished (setting "
            "data.shards). Write it with: maskwright prepare shards EXPERIMENT --out FOLDER"
        )
    found = read_json(path, error=DataError)
    try:
        version = found["format_version"]
        if version != _FORMAT_VERSION:
            raise DataError(f"{path} is of format {version}, and this Maskwright reads {_FORMAT_VERSION}. Upgrade it.")
        shards = tuple(
            Shard(one["file"], one["bytes"], one["sha256"], tuple((file[0], file[1], file[2]) for file in one["files"]))
            for one in found["shards"]
        )
        packed = {name: Packed(one["was"], one["member"]) for name, one in found["packed"].items()}
        return ShardIndex(found["kind"], packed, shards)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is damaged: {error!r} is missing. Write the shards again.") from error


def named_paths(config: Section, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Every path that a data section names and that holds data, by the name of its setting."""
    for name in type(config).model_fields:
        value, place = getattr(config, name), prefix + name
        if isinstance(value, Path) and place not in _NOT_PACKED:
            yield place, value
        elif isinstance(value, Section) and place != "cache":
            yield from named_paths(value, f"{place}.")
        elif isinstance(value, tuple):
            for entry in value:
                if isinstance(entry, Section) and hasattr(entry, "name"):
                    yield from named_paths(entry, f"{place}[{entry.name}].")


def from_shards(config: DataConfig) -> DataConfig:
    """The same data section with the paths of what its shards held, unpacked where they were not yet.

    Processes of one machine wait for the one that unpacks. A section without shards comes back as it is.

    Raises:
        DataError: If a shard is missing or damaged, the disk is too small, or a path is not what was packed.
    """
    if config.shards is None:
        return config
    index = read_index(config.shards)
    faults = [*_faults(config, index)]
    if faults:
        raise DataError("\n".join(faults))
    root = _unpacked(config.shards, index, config.cache.folder or default_cache_folder())
    paths = {name: root / index.packed[name].member for name, _ in named_paths(config)}
    return cast(DataConfig, _with_paths(config, paths).model_copy(update={"shards": None}))


def _faults(config: DataConfig, index: ShardIndex) -> Iterator[str]:
    """Paths of a data section that are not what the shards hold."""
    if config.kind != index.kind:
        yield f"data.kind: the shards in {config.shards} hold {index.kind}, not {config.kind}. Set data.kind."
        return
    for name, path in named_paths(config):
        packed = index.packed.get(name)
        if packed is None:
            yield (
                f"data.{name}: {path} is not in the shards of {config.shards}, which hold "
                f"{', '.join(f'data.{other}' for other in index.packed)}. Leave it out, or write the shards again."
            )
        elif Path(packed.was).name != path.name:
            yield (
                f"data.{name}: {path} is not what was packed, which is {packed.was}. Name that, or write the shards "
                "again."
            )
    for name in index.packed.keys() - {name for name, _ in named_paths(config)}:
        yield f"data.{name}: the shards of {config.shards} were made with {index.packed[name].was}. Name it as well."


def _with_paths(config: Section, paths: Mapping[str, Path], prefix: str = "") -> Any:
    """A copy of a section with other paths, by the names of :func:`named_paths`."""
    changed: dict[str, Any] = {}
    for name in type(config).model_fields:
        value, place = getattr(config, name), prefix + name
        if place in paths:
            changed[name] = paths[place]
        elif isinstance(value, Section):
            changed[name] = _with_paths(value, paths, f"{place}.")
        elif isinstance(value, tuple) and any(isinstance(entry, Section) for entry in value):
            changed[name] = tuple(
                _with_paths(entry, paths, f"{place}[{getattr(entry, 'name', '')}].") for entry in value
            )
    return config.model_copy(update=changed)


def _unpacked(folder: Path, index: ShardIndex, cache: Path) -> Path:
    """The folder with all files of the shards; made if it is not there."""
    key = recipe_key({"shards": [shard.sha256 for shard in index.shards]})[:16]
    whole, part = cache / f"shards_{key}", cache / f"shards_{key}.part"
    if whole.is_dir():
        return whole
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"shards_{key}.lock"):
            if whole.is_dir():  # another process was quicker
                return whole
            (part / "files").mkdir(parents=True, exist_ok=True)
            _require_room(index, part)
            for number, shard in enumerate(index.shards, 1):
                done = part / f"{shard.sha256}.done"
                if not done.is_file():
                    log.info("Unpacking shard %d of %d into %s", number, len(index.shards), cache)
                    _unpack(folder / shard.file, shard, part / "files")
                    write_text(done, "", error=DataError)
            if hasattr(os, "sync"):
                os.sync()  # once for all files, which may be many and small
            os.rename(part / "files", whole)
            shutil.rmtree(part)
    except OSError as cause:
        raise DataError(f"{explain_os_error(cause, cache)} Shards are unpacked there (data.cache.folder).") from cause
    return whole


def _require_room(index: ShardIndex, part: Path) -> None:
    there = sum(
        size for shard in index.shards if (part / f"{shard.sha256}.done").is_file() for _, _, size in shard.files
    )
    needed = index.bytes - there + _SPARE_BYTES
    if free_bytes(part) < needed:
        raise DataError(
            f"{part.parent} has {free_bytes(part) / 1e9:.2f} GB free, and the shards take {needed / 1e9:.2f} GB when "
            "they are unpacked. Free some space, or set data.cache.folder to a folder on another disk."
        )


class _Hashed:
    """A file that hashes what is read of it, from end to end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        self.bytes += len(chunk)
        return chunk


def _unpack(path: Path, shard: Shard, out: Path) -> None:
    """The files of a shard, read in one pass; nobody uses them before all shards are whole.

    Raises:
        DataError: Naming the shard, if it is missing, cut short or not what the index says.
    """
    again = "Copy it again, or write the shards again with maskwright prepare shards."
    try:
        with open(path, "rb") as file:
            hashed = _Hashed(file)
            sizes = {name: size for name, _, size in shard.files}
            with tarfile.open(fileobj=cast(IO[bytes], hashed), mode="r|", bufsize=_CHUNK) as tar:
                for member in tar:
                    _extract(tar, member, sizes, out, path)
            while hashed.read(_CHUNK):
                pass
    except FileNotFoundError as error:
        if error.filename != os.fspath(path):
            raise
        raise DataError(f"The shard {path} is missing. {again}") from error
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"The shard {path} is damaged or cut short: {error}. {again}") from error
    if hashed.bytes != shard.bytes or hashed.digest.hexdigest() != shard.sha256:
        raise DataError(
            f"The shard {path} is damaged: {hashed.bytes} bytes with another SHA-256 than {INDEX} says of its "
            f"{shard.bytes}. {again}"
        )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, sizes: Mapping[str, int], out: Path, shard: Path) -> None:
    """One file; only what the index names, so that nothing of a damaged shard is left when it is read again."""
    name = PurePosixPath(member.name)
    if not member.isreg() or name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"The shard {shard} holds {member.name!r}, which is no plain file of a data set. Do not use it."
        )
    if sizes.get(member.name) != member.size:
        raise tarfile.TarError(f"{member.name!r} with {member.size} bytes is not in {INDEX}")
    content = tar.extractfile(member)
    assert content is not None  # a plain file has one
    target = out.joinpath(*name.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
    os.utime(target, (member.mtime, member.mtime))
