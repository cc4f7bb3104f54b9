"""Parts of the page a run leaves behind that come from its folder: what was asked, where the data lay, what it took."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.files import parse_json
from maskwright.pictures import Block, code, contact_sheet, figure, line_chart, paragraph, sentences, table
from maskwright.pictures.colors import CATEGORICAL

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import Parts

__all__ = ["asked_blocks", "doctor_blocks", "reproduce_blocks", "resource_blocks", "split_map"]

_MOST_SCENES = 12  # with a map of their own
_MAP_PX = 280
_GROUND = (232, 230, 224)
_PARTS = {"train": CATEGORICAL[0], "val": CATEGORICAL[5], "test": CATEGORICAL[1]}
_ALWAYS = ("task.kind", "data.kind", "model.kind", "loss.kind", "optim.optimizer.kind", "optim.schedule.kind")
_LONGEST_VALUE = 160
_RESOURCES = {
    "images_per_s": ("images a second", "", 1.0),
    "epoch_s": ("an epoch of training", "s", 1.0),
    "data_wait_share": ("waiting for data", "%", 100.0),
    "cpu_percent": ("processors, all cores", "%", 1.0),
    "process_memory_mb": ("memory of the process", "MB", 1.0),
    "memory_used_mb": ("memory in use, whole computer", "MB", 1.0),
    "gpu_percent": ("GPU", "%", 1.0),
    "gpu_memory_most_mb": ("memory of the GPU, the run's own", "MB", 1.0),
    "gpu_memory_used_mb": ("memory of the GPU, all of it in use", "MB", 1.0),
    "gpu_power_w": ("power of the GPU", "W", 1.0),
}
"""Fields of a row of resources: what they mean, unit, factor to that unit."""


def asked_blocks(parts: Parts) -> list[Block]:
    """What the experiment asks: the kinds of everything, and each setting that is not the usual one."""
    from maskwright.training.callbacks.track import flat

    experiment = parts.experiment
    everything = flat(experiment.model_dump(mode="json"))
    unusual = flat(experiment.model_dump(mode="json", exclude_defaults=True))
    names = [name for name in everything if name in unusual or name in _ALWAYS]
    rows = [[name, _short(everything[name])] for name in names if not name.startswith("tracking.")]
    return [
        paragraph("The kinds of what was put together, and every setting that is not the usual one:"),
        table(["setting", "value"], rows),
    ]


def split_map(parts: Parts) -> Image | None:
    """Where the tiles of each part lie; what no tile covers, such as the buffer between parts, stays grey.

    Returns:
        A sheet with a map of each scene; None where scenes are many, as in a folder of photographs.
    """
    scenes = {scene.name: scene.grid for scene in parts.source.scenes}
    if not 0 < len(scenes) <= _MOST_SCENES:
        return None
    maps: dict[str, tuple[NDArray[np.uint8], float]] = {}
    for name, grid in scenes.items():
        height, width = grid.window.height, grid.window.width
        scale = min(1.0, _MAP_PX / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        maps[name] = np.full((*size, 3), _GROUND, dtype=np.uint8), scale
    for part, places in parts.split.tiles.items():
        for place in places:
            _paint(*maps[place.scene], place.window, _PARTS[part])
    panels = [(name, pixels) for name, (pixels, _) in maps.items()]
    entries = [(part, color) for part, color in _PARTS.items() if parts.split.tiles.get(part)]
    return contact_sheet(panels, panel_px=_MAP_PX, entries=entries)


def resource_blocks(events: Path) -> list[Block]:
    """What the run took of the computer, from the samples in its event log; nothing if there are none."""
    rows = list(_rows_of(events, "resources"))
    shown = []
    for name, (text, unit, factor) in _RESOURCES.items():
        values = factor * np.array([row[name] for row in rows if isinstance(row.get(name), int | float)])
        if values.size:
            shown.append([text, *(_rounded(value) for value in (np.median(values), values.max())), unit])
    if not shown:
        return []
    blocks = [
        paragraph(f"From {len(rows)} samples while it trained:"),
        table(["what", "usually", "at most", "unit"], shown),
    ]
    if len(rows) > 2:
        steps = [row["global_step"] for row in rows]
        speed = {"images a second": [row.get("images_per_s") for row in rows]}
        blocks.append(figure(line_chart(steps, speed, x="update", y="images a second"), "Speed while it trained."))
    return blocks


def reproduce_blocks(folder: RunFolder, parts: Parts) -> list[Block]:
    """The command that trains this again, and what must be the same for the same numbers."""
    record = folder.record.load()
    environment = record.get("environment", {})
    versions = environment.get("versions", {})
    parent = record.get("parent")
    facts = {
        "seed": parts.experiment.training.seed,
        "weights at the start": parent
        and f"{parent['checkpoint']} of {parent['folder']}, sha256 {parent['sha256'][:12]}",
        "split": f"seed {parts.split.seed}, kept in {folder.splits.name}",
        "data": record.get("data"),
        "device": f"{record.get('device')}, {record.get('precision')}, {environment.get('cpu')}",
        "threads": record.get("process_choices", {}).get("threads"),
        "python": environment.get("python"),
        "commit": environment.get("commit"),
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    rows = [[name, value] for name, value in facts.items() if value not in (None, "")]
    words = ["maskwright", "train", str(folder.config), "--set", f"data.split.keep={folder.path}"]
    return [
        paragraph("The same settings on the same division of the data, as a new run:"),
        code(shlex.join(words)),
        paragraph(
            "With the data, packages, device and threads below the weights are the same bit for bit on a CPU; on "
            "another device they differ by rounding."
        ),
        table(["what", "value"], rows),
    ]


def doctor_blocks(folder: RunFolder) -> list[Block]:
    """What the doctor says of the run."""
    from maskwright.workflows.doctor import examine_run

    diagnosis = examine_run(folder.path)
    if not diagnosis.findings:
        return [paragraph("Nothing wrong was found in the log."), sentences(diagnosis.lines)]
    rows = [[finding.title, finding.evidence, finding.advice] for finding in diagnosis.findings]
    return [table(["found", "seen", "do"], rows), sentences(diagnosis.lines)]


def _paint(pixels: NDArray[np.uint8], scale: float, window: Any, color: tuple[int, int, int]) -> None:
    """A tile with a thin rim, so that single tiles can be told apart."""
    top, left = (max(0, round(start * scale)) for start in (window.row, window.col))
    bottom, right = (
        max(first + 1, round((start + length) * scale))
        for first, start, length in ((top, window.row, window.height), (left, window.col, window.width))
    )
    area = pixels[top:bottom, left:right]
    area[:] = color
    if min(area.shape[:2]) > 4:
        area[0], area[:, 0] = 255, 255


def _rows_of(events: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    """Rows of one kind; a log may hold millions of others, which are not parsed."""
    if not events.exists():
        return
    mark = f'"{kind}"'.encode()
    with open(events, "rb") as file:
        for line in file:
            if mark not in line:
                continue
            try:
                row = parse_json(line)
            except ValueError:
                continue  # torn by a crash
            if isinstance(row, dict) and row.get("kind") == kind and isinstance(row.get("global_step"), int):
                yield row


def _short(value: Any) -> str:
    text = "unset" if value is None else _listed(value) if isinstance(value, Sequence) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _listed(value: Sequence[Any]) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(str(item.get("name", item) if isinstance(item, Mapping) else item) for item in value) or "none"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
