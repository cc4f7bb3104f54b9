"""Data a run was not made of, opened as its model wants it: read, normalised and cut into tiles as in the training."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskwright.checkpoints import load_description
from maskwright.config import DataConfig, Experiment, Override, load_experiment
from maskwright.data.build import build_source
from maskwright.data.regions import PARTS, Region
from maskwright.data.sources.images import ImageScenes
from maskwright.data.split_wish import Ground
from maskwright.data.splits import Split, read_manifest
from maskwright.errors import ConfigError, DataError, MaskwrightError, RunError
from maskwright.files import write_text
from maskwright.tasks.build import task_from_dict
from maskwright.tracking.folder import RunFolder
from maskwright.types import Place
from maskwright.workflows.assemble import FORMS, AnySource, Parts, assemble

__all__ = ["PART", "data_settings", "foreign_parts", "seen_files", "teacher_of"]

PART = "test"
"""The part of the split that holds all of the data."""

_PLACES = ("folder", "sites", "images")
_LABEL_FILES = ("folder", "file", "names", "area", "image_classes")


def data_settings(experiment: Experiment, data: Path) -> DataConfig:
    """Settings of other data, the rest as in the training.

    Args:
        experiment: The run.
        data: A folder of the kind trained on; or a YAML file whose section ``data`` says where data of that kind lies,
            in any form that section takes.

    Raises:
        ConfigError: If there is nothing there, or it is data of another kind.
    """
    if not data.exists():
        raise ConfigError(f"--on {data}: there is no such folder or file.")
    overrides = []
    if data.is_dir():
        overrides = [Override("data.folder", str(data.resolve()), f"--on {data}")]
    else:
        _require_data_section(experiment, data)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "run.yaml"
        write_text(base, yaml.safe_dump(_without_places(experiment)))
        return load_experiment([base, *([] if data.is_dir() else [data])], overrides).data


def _without_places(experiment: Experiment) -> dict[str, Any]:
    """The run's settings without where its data lies and how it was divided."""
    plain: dict[str, Any] = experiment.model_dump(mode="json")
    data = plain["data"]
    data.pop("split")
    for name in _PLACES:
        data.pop(name, None)
    if data["kind"] == "images":
        data["split"] = {"by": "image", "keep": "none"}
        data["labels"] = {key: value for key, value in data["labels"].items() if key not in _LABEL_FILES}
    return plain


def _require_data_section(experiment: Experiment, path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"--on {path}: it is no folder and cannot be read as YAML ({error}). Give a folder of data, or a file with "
            "a section data."
        ) from error
    section = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(section, Mapping):
        raise ConfigError(f"--on {path}: it has no section data. Write data: and below it folder: or sites:.")
    kind = section.get("kind", experiment.data.kind)
    if kind != experiment.data.kind:
        raise ConfigError(f"--on {path}: data.kind is {kind}, and the run was trained on {experiment.data.kind}.")


def foreign_parts(folder: RunFolder, experiment: Experiment, data: Path) -> Parts:
    """The data as parts of a run whose only part is :data:`PART`, normalised as the model wants it.

    Raises:
        ConfigError: If there is no such data.
        DataError: If it cannot be read, or the model cannot be scored on it.
    """
    from maskwright.prediction import ModelCard

    settings = data_settings(experiment, data)
    source = build_source(settings, FORMS[experiment.task.kind])
    description, card = load_description(folder.model), ModelCard.load(folder.model)
    normaliser: Any = card.normaliser
    source.normaliser = normaliser
    _require_same_kind(source, description, card.in_channels)
    for scene in source.scenes:
        size = source.pixel_size_m(scene.name) if isinstance(source, ImageScenes) else scene.grid.pixel_size_m
        card.require_pixel_size(scene.files[0], size)
    changed = experiment.model_copy(update={"data": settings})
    notes = [f"{scene.name}: {note}" for scene in source.scenes for note in scene.notes]
    if isinstance(source, ImageScenes):
        notes = []
    return Parts(
        changed,
        source,
        _undivided(source, settings),
        task_from_dict(description["task"]),
        (*notes, *source.notes),
        balance={},
    )


def _require_same_kind(source: AnySource, description: Mapping[str, Any], in_channels: int) -> None:
    if source.in_channels != in_channels:
        raise DataError(
            f"The data has {source.in_channels} bands and the model was trained on {in_channels}. Choose bands with "
            "data.bands."
        )
    if not isinstance(source, ImageScenes):
        return
    names, trained = list(source.classes.names), list(description["classes"])
    if names != trained:
        raise DataError(
            f"The labels hold the classes {', '.join(names)} and the model was trained on {', '.join(trained)}. Name "
            "them so, in this order, in data.labels.classes."
        )
    own = description.get("dtype")
    if own is not None and {own, source.dtype} == {"uint8", "uint16"}:
        raise DataError(
            f"The images hold {source.dtype} values and the model was trained on {own}: the same number means another "
            "brightness. Convert them first."
        )


def _undivided(source: AnySource, settings: DataConfig) -> Split:
    """All tiles in one part; they do not overlap."""
    tiles, ground = settings.tiles, Ground(tuple(source.scenes), source.valid_share)
    places = tuple(
        Place(scene.name, window)
        for scene in source.scenes
        for window in ground.kept(scene.name, scene.grid.window, tiles.size_px, 0, tiles.min_valid)
    )
    if not places:
        raise DataError(
            f"No tile of {tiles.size_px} px has {tiles.min_valid:.0%} of its pixels that count. Check labels and "
            "nodata, or lower data.tiles.min_valid."
        )
    return Split(
        by="site" if settings.kind == "height_rasters" else "image",
        seed=0,
        shares=(0.0, 0.0, 1.0),
        tile_px=tiles.size_px,
        buffer_px=0,
        regions=tuple(Region(scene.name, PART, scene.grid.window) for scene in source.scenes),
        tiles={part: places if part == PART else () for part in PARTS},
        grids={scene.name: scene.grid for scene in source.scenes},
    )


def seen_files(folder: RunFolder, source: AnySource) -> tuple[str, ...]:
    """Files of the data that the training has seen, by their content: ``a.tif (trained on as site north)``.

    A file counts as seen if one of its tiles belonged to the training or the validation part.

    Raises:
        RunError: If the run does not say what it was made of.
    """
    record = folder.record.load().get("sites")
    if record is None:
        raise RunError(
            f"{folder.run_json} does not say which files the run was made of, so nobody knows whether it has seen this "
            "data. Add --allow-seen to score it nevertheless."
        )
    split = read_manifest(folder.splits)
    parts = {"train": "trained on", "val": "used for validation"}
    use = {place.scene: text for part, text in reversed(parts.items()) for place in split.tiles[part]}
    known = {
        file["sha256"]: f"{use[name]} as {name}"
        for name, site in record.items()
        if name in use
        for file in _inputs(site)
    }
    return tuple(
        f"{file['path']} ({known[file['sha256']]})"
        for site in source.describe().values()
        for file in _inputs(site)
        if file["sha256"] in known
    )


def _inputs(site: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rasters of a site; of an image the image alone, since labels of many are alike where there is nothing."""
    files: list[Mapping[str, Any]] = site["files"]
    return files if all("kind" in file for file in files) else files[:1]


def teacher_of(folder: RunFolder, experiment: Experiment, parts: Parts) -> tuple[tuple[AnySource, Split], str]:
    """Data and split from which baselines learn, and in words which they are.

    These are the run's own; where they are gone, the very data that is scored, which favours the baselines.
    """
    try:
        own = assemble(experiment, split=read_manifest(folder.splits))
    except MaskwrightError as error:
        first = str(error).split("\n", 1)[0]
        everything = dict.fromkeys(PARTS, parts.split.tiles[PART])
        split = Split(**{**parts.split.__dict__, "tiles": everything})
        return (parts.source, split), (
            "The data of the run cannot be read, so the baselines were tuned on the very data that is scored here, "
            f"which favours them: {first}"
        )
    return (own.source, own.split), "The baselines were tuned on the training and validation data of the run."
