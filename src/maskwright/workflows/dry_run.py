"""The plan of a training in seconds: what it would do and take, with one real batch drawn. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwright.config import EXCLUSIVE, Experiment
from maskwright.devices import choose_device, choose_precision, settle_process
from maskwright.workflows.assemble import Parts, assemble, loaders_of
from maskwright.workflows.check_forecast import Forecast, forecast, forecast_findings

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.types import Batch

__all__ = ["DryRun", "draw_batch", "dry_run"]

_MOST_DRAWN = 16


@dataclass(frozen=True)
class DryRun:
    """What a training would do.

    Attributes:
        scenes: Part to its number of images or sites.
        tiles: Part to its number of tiles.
        columns: What is scored: classes or heights.
        steps_per_epoch: Updates in an epoch.
        total_steps: In all epochs.
        forecast: Memory, disk and minutes.
        choices: Device, precision and the like, by name.
        notes: What was noticed about the data and the split.
        picture: The drawn batch; None if no folder was given for it.
        lines: For the screen.
    """

    scenes: Mapping[str, int]
    tiles: Mapping[str, int]
    columns: tuple[str, ...]
    steps_per_epoch: int
    total_steps: int
    forecast: Forecast
    choices: Mapping[str, str]
    notes: tuple[str, ...]
    picture: Path | None
    lines: tuple[str, ...]


def dry_run(experiment: Experiment, out: Path | None = None, *, own_process: bool = False) -> DryRun:
    """Look at a training without doing it. No run folder is made.

    Args:
        experiment: The whole run.
        out: Folder for ``batch.png``, one real training batch with its masks; None: it is not drawn.
        own_process: True if the process exists for this alone, so that its threads and its memory may be settled as a
            training settles them.

    Raises:
        MaskwrightError: Whatever would stand in the training's way.
    """
    settle_process(experiment.training.threads, own_process, experiment.training.keep_memory)
    parts = assemble(experiment)
    train, evals = loaders_of(parts)
    plan, batch = forecast(experiment, parts.task, parts.source, train, evals)
    picture = None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture = out / "batch.png"
        draw_batch(parts, batch).save(picture)
    tiles = parts.split.counts()
    scenes = {
        part: len({place.scene for place in places}) for part, places in parts.split.tiles.items() if part in tiles
    }
    device = choose_device(experiment.training.device)
    choices = {
        "device": str(device),
        "precision": choose_precision(experiment.training.precision, device),
        "network": f"{experiment.model.kind}, {plan.parameters / 1e6:.2f} million weights",
        "input": f"{parts.source.in_channels} bands, tiles of {experiment.data.tiles.size_px} px",
        "batch": f"{experiment.data.loader.batch_size} tiles"
        + (f", {experiment.training.accumulate} batches an update" if experiment.training.accumulate > 1 else ""),
        "split": parts.split.by,
    }
    total = plan.steps_per_epoch * experiment.training.epochs
    dry = DryRun(
        scenes=scenes,
        tiles=tiles,
        columns=tuple(parts.task.columns),
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=total,
        forecast=plan,
        choices=choices,
        notes=tuple(parts.notes),
        picture=picture,
        lines=(),
    )
    return _with_lines(dry, experiment)


def draw_batch(parts: Parts, batch: Batch) -> Image:
    """A sheet of the samples of a batch as the network sees them, with the masks it is told."""
    from maskwright.pictures import contact_sheet, height_colors, overlay_mask, series_colors

    truth = parts.task.target(batch).cpu().numpy()
    valid = batch.valid.cpu().numpy()
    image = batch.image.cpu().numpy()
    colors = height_colors(1) if batch.condition is not None else series_colors(list(parts.task.columns))
    background = getattr(getattr(parts.source, "classes", None), "background", None)
    skip = 1 if parts.experiment.task.kind in EXCLUSIVE and background is not None else 0
    panels = []
    for index, place in enumerate(batch.where[:_MOST_DRAWN]):
        rgb = _stretched(image[index], valid[index])
        if truth.dtype == np.bool_:
            for column in range(skip, truth.shape[1]):
                rgb = overlay_mask(rgb, truth[index, column] & valid[index], colors[column % len(colors)], 0.4)
        asked = "" if batch.condition is None else f" below {float(batch.condition[index, 0]):g} m"
        panels.append((f"{place.scene} r{place.window.row} c{place.window.col}{asked}", rgb))
    names = list(parts.task.columns)[skip:] if batch.condition is None else []
    entries = [(name, colors[(i + skip) % len(colors)]) for i, name in enumerate(names)]
    return contact_sheet(panels, panel_px=256, title="One training batch, as the network sees it", entries=entries)


def _stretched(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a normalised image, each band stretched over what counts."""
    bands = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    out = np.full((3, *valid.shape), 235, dtype=np.uint8)
    for band in range(3):
        if valid.any():
            low, high = np.percentile(bands[band][valid], (1, 99))
            level = np.clip((bands[band] - low) / max(float(high - low), 1e-6), 0, 1)
            out[band] = np.where(valid, (level * 255).astype(np.uint8), 235)
    return np.ascontiguousarray(out.transpose(1, 2, 0))


def _with_lines(dry: DryRun, experiment: Experiment) -> DryRun:
    from dataclasses import replace

    plan = dry.forecast
    parts = ", ".join(f"{part} {dry.tiles[part]} tiles of {dry.scenes[part]} scenes" for part in dry.tiles)
    lines = [
        f"{experiment.name}: {experiment.task.kind} of {', '.join(dry.columns)}",
        f"Split by {dry.choices['split']}: {parts}",
        f"Network: {dry.choices['network']}; {dry.choices['input']}; {dry.choices['batch']}",
        f"Steps: {dry.steps_per_epoch} an epoch, {dry.total_steps} in {plan.epochs} epochs",
        f"Time: about {_duration(plan.minutes)} on {dry.choices['device']} ({dry.choices['precision']})",
        *_about_budget(experiment),
        f"Memory: about {plan.memory_mb:.0f} MB of {plan.free_memory_mb:.0f} MB free; "
        f"disk: about {plan.disk_mb:.0f} MB of {plan.free_disk_mb:.0f} MB free",
        *(f"{f.what} {f.do}" for f in forecast_findings(plan, experiment.data.loader.batch_size)),
        *dry.notes,
    ]
    if dry.picture is not None:
        lines.append(f"One batch is drawn in {dry.picture}")
    lines.append("Nothing was trained.")
    return replace(dry, lines=tuple(lines))


def _about_budget(experiment: Experiment) -> list[str]:
    minutes, epochs = experiment.training.budget, experiment.training.epochs
    if minutes is None:
        return []
    return [f"training.budget: the training itself measures how many epochs {minutes:g} minutes hold, not {epochs}"]


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1, round(minutes * 60))} seconds"
    if round(minutes) == 1:
        return "1 minute"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
