"""The first lines of a run: what was noticed, how the data is divided, what is learned, where a resumed run stands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from maskwright.devices import choices_in_words
from maskwright.distributed import world_size

if TYPE_CHECKING:
    from maskwright.tracking.folder import RunFolder
    from maskwright.tracking.manifest import CheckpointRecord
    from maskwright.workflows.assemble import Parts

__all__ = ["introduce", "tell_what_differs", "where_it_stands"]

log = logging.getLogger("maskwright")
Say = Callable[[str], None]


def introduce(parts: Parts, folder: RunFolder, device: Any, precision: str, process: dict[str, Any], say: Say) -> None:
    """Say and log what was noticed in the data, the split, the task and the choices made."""
    for note in parts.notes:
        say(note)
        log.warning("%s", note)
    lines = [
        parts.split_summary(),
        *_what_is_learned(parts),
        f"Device {device}, {precision}, {_who(process)}. Run folder {folder.path}",
    ]
    for line in lines:
        say(line)
        log.info("%s", line)


def tell_what_differs(former: Mapping[str, Any], precision: str, say: Say) -> None:
    """Say and log why a continued run is not bit for bit what it would have been.

    Args:
        former: What run.json said of the attempt before.
        precision: That of this attempt.
        say: Called with each line.
    """
    lines = []
    was = former.get("precision")
    if was is not None and was != precision:
        lines.append(
            f"The run was computed in {was} and goes on in {precision}: not bit for bit as it would have been."
        )
    processes = int((former.get("processes") or {}).get("number", 1))
    if processes != world_size():
        lines.append(
            f"The run was computed by {_processes(processes)} and goes on with {_processes(world_size())}: the same "
            "samples in the same updates, not bit for bit as it would have been."
        )
    for line in lines:
        say(line)
        log.warning("%s", line)


def where_it_stands(record: CheckpointRecord | None, folder: RunFolder) -> str:
    """Where a continued run stands, in a sentence."""
    if record is None:
        return f"{folder.path.name} has not saved anything yet and starts from the beginning."
    place = f"epoch {record.epoch}, batch {record.position}, step {record.global_step}"
    return f"Continuing {folder.path.name} behind {place}."


def _who(process: Mapping[str, Any]) -> str:
    words = choices_in_words(process)
    return words if world_size() == 1 else f"{_processes(world_size())} of {words}"


def _processes(number: int) -> str:
    return f"{number} process{'es' if number > 1 else ''}"


def _what_is_learned(parts: Parts) -> list[str]:
    """The task in a line, and how common its classes are in each part."""
    task = parts.task
    if parts.experiment.data.kind == "height_rasters":
        sizes = sorted({round(scene.grid.pixel_size_m, 3) for scene in parts.source.scenes})
        heights = ", ".join(f"{height:g}" for height in task.heights_m)
        what = f"height_gaps at {heights} m" if heights else "height in metres"
        return [f"Pixel size {', '.join(f'{size:g}' for size in sizes)} m; {what}."]
    bands = f"{parts.images.in_channels} bands of {parts.images.dtype}"
    lines = [f"{len(parts.source.scenes)} images, {bands}; {task.kind}: {', '.join(task.columns)}."]
    for part, shares in parts.balance.items():
        each = ", ".join(f"{name} {share:.2%}" for name, share in zip(task.columns, shares, strict=True))
        lines.append(f"{part}: {each} of the pixels.")
    return lines
