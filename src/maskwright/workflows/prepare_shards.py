"""Pack the files of an experiment's data as they are into tar shards, for disks that are slow at many small files."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from maskwright.config import Experiment
from maskwright.data.build import build_source
from maskwright.data.shards import INDEX, Packed, Shard, ShardIndex, named_paths
from maskwright.data.sources.folders import list_files
from maskwright.errors import DataError
from maskwright.files import durable_file, write_json
from maskwright.workflows.assemble import FORMS
from maskwright.workflows.prepare_job import Job, file_facts

__all__ = ["ShardSummary", "prepare_shards"]

_BESIDE = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")  # class names, which may lie above the images
_LEVELS = 2


@dataclass(frozen=True)
class ShardSummary:
    """What was written: shards, the files in them and their bytes, and the index."""

    shards: int
    files: int
    bytes: int
    index: Path


def prepare_shards(
    experiment: Experiment,
    out: Path,
    *,
    shard_mb: float = 512.0,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ShardSummary:
    """Write ``shard_00000.tar`` ... and ``shards.json``; killed and started again, it goes on.

    The data is opened first, so that whatever is wrong with it shows here, and not on every machine that reads the
    shards. Packed is every file it is made of and every file below the folders that the data section names, with its
    original bytes.

    Args:
        experiment: Its data section says what is packed.
        out: Folder for the shards.
        shard_mb: Size of a shard in megabytes; a larger file has one of its own.
        overwrite: Replace files of another job.
        progress: Called with (done, total, what).

    Raises:
        DataError: If the data cannot be used, or a file changes meanwhile.
        RunError: If the folder cannot be written or holds such files of another job.
    """
    data = experiment.data
    if data.shards is not None:
        raise DataError(
            f"data.shards: the data is in shards already, in {data.shards}. Leave it out to pack the files."
        )
    source = build_source(data, FORMS[experiment.task.kind])
    used = [Path(file["path"]) for scene in source.describe().values() for file in scene["files"]]
    named = dict(named_paths(data))
    root, files = _members([*_inventory(named.values()), *used], named.values())
    groups = [*_groups(files, int(shard_mb * 1e6))]
    names = [f"shard_{number:05d}.tar" for number in range(len(groups))]
    recipe = {"files": file_facts(files.values()), "groups": [list(group) for group in groups]}
    job = Job(out, "shards", recipe, [*names, INDEX], overwrite=overwrite)
    shards = []
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        if progress is not None:
            progress(number, len(groups), "shards")
        if job.finished(name) is None:
            _write(out / name, {member: files[member] for member in group})
            job.finish(name)
        shards.append(Shard(name, (out / name).stat().st_size, job.sha256(name), _places(out / name)))
    packed = {name: Packed(str(path), _member(path, root)) for name, path in named.items()}
    index = ShardIndex(data.kind, packed, tuple(shards))
    write_json(out / INDEX, index.to_dict())
    job.finish(INDEX)
    if progress is not None:
        progress(len(groups), len(groups), "shards")
    return ShardSummary(len(shards), len(files), index.bytes, out / INDEX)


def _inventory(named: Iterable[Path]) -> Iterator[Path]:
    """Every file that belongs to the named paths: below a folder, or with the name of a file and another ending."""
    for path in named:
        if path.is_dir():
            yield from (found for _, found in list_files(path)[0])
            above = path
            for _ in range(_LEVELS):
                above = above.parent
                yield from (above / name for name in _BESIDE if (above / name).is_file())
        elif path.is_file():
            yield from (found for found in sorted(path.parent.glob(f"{_literal(path.stem)}.*")) if found.is_file())
        else:
            raise DataError(f"{path} does not exist, so it cannot be packed. Check the paths of the data section.")


def _literal(stem: str) -> str:
    """A name for ``glob`` that means itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _members(found: Iterable[Path], named: Iterable[Path]) -> tuple[Path, dict[str, Path]]:
    """The folder around everything, and the files by their names below it, sorted."""
    paths = sorted({Path(os.path.abspath(path)) for path in found})
    try:
        root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in (*paths, *named)]))
    except ValueError as error:
        raise DataError("The data lies on several drives; copy it to one before it is packed.") from error
    return root, {_member(path, root): path for path in paths}


def _member(path: Path, root: Path) -> str:
    return Path(os.path.abspath(path)).relative_to(root).as_posix()


def _groups(files: Mapping[str, Path], most_bytes: int) -> Iterator[list[str]]:
    """The files of each shard, in order."""
    group: list[str] = []
    held = 0
    for member, path in files.items():
        size = path.stat().st_size
        if group and held + size > most_bytes:
            yield group
            group, held = [], 0
        group.append(member)
        held += size
    if group:
        yield group


def _write(path: Path, files: Mapping[str, Path]) -> None:
    """A plain tar of the files: names, bytes and times, and nothing of who wrote them."""
    with durable_file(path) as draft, tarfile.open(fileobj=draft, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, source in files.items():
            try:
                with open(source, "rb") as file:
                    status = os.fstat(file.fileno())
                    facts = tarfile.TarInfo(member)
                    facts.size, facts.mtime, facts.mode = status.st_size, int(status.st_mtime), 0o644
                    tar.addfile(facts, cast(IO[bytes], file))
            except OSError as error:
                if error.filename is None and error.errno is not None:
                    raise  # of the disk that is written to
                raise DataError(
                    f"{source} cannot be packed: {error.strerror or error}. Start again when it is at rest."
                ) from error


def _places(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, offset and size of each file in a shard."""
    with tarfile.open(path) as tar:
        return tuple((member.name, member.offset_data, member.size) for member in tar)
