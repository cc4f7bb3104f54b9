"""examine: what is wrong with a draft, settings and places on disk alike. Slow; run as a job."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maskwright.config import Experiment, load_experiment
from maskwright.config.drafts import faults_by_setting, flattened, nested, shown_settings
from maskwright.errors import MaskwrightError

__all__ = ["Verdict", "examine", "weights_out_of_reach"]

_TIMEOUT_S = 3.0
_LOOKED_AT = 20_000  # names of a folder; more tell nothing new
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Verdict:
    """What came of a draft.

    Attributes:
        experiment: The whole experiment; None if it has faults.
        values: All its settings by path; empty if it has faults.
        faults: What keeps it from starting, by setting; ``""`` for what belongs to none.
        advice: What may go wrong, by setting; a training can be started all the same.
    """

    experiment: Experiment | None
    values: Mapping[str, Any]
    faults: Mapping[str, tuple[str, ...]]
    advice: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_start(self) -> bool:
        """Whether nothing is in the way."""
        return self.experiment is not None and not self.faults


def examine(source: str | None, changes: Mapping[str, Any], values: Mapping[str, Any]) -> Verdict:
    """Validate a draft and look at the places it names.

    Args:
        source: A file or ``preset:NAME`` it begins with; None: the defaults.
        changes: Flat settings over it.
        values: All settings as the form shows them, to know where a fault can stand.
    """
    try:
        experiment = load_experiment([] if source is None else [source], nested(changes))
    except MaskwrightError as error:
        faults = [line.replace(" (overrides)", "") for line in str(error).splitlines()]
        return Verdict(None, {}, faults_by_setting(faults, shown_settings(values)))
    settings = flattened(experiment)
    return Verdict(experiment, settings, _faults_of_places(settings), _advice(settings))


def weights_out_of_reach(encoder: str) -> str:
    """Why the imagenet weights of an encoder cannot be had now; empty if they are here, or can be fetched."""
    from huggingface_hub import constants

    cached = [entry.name for entry in _entries(Path(constants.HF_HUB_CACHE))]
    if any(name.endswith(f"--{encoder}.imagenet") for name in cached):
        return ""
    remedy = "Clear the box to start from random weights, or connect to the internet once."
    if constants.HF_HUB_OFFLINE:
        return f"The weights of {encoder} are not on this computer, and HF_HUB_OFFLINE forbids to fetch them. {remedy}"
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=_TIMEOUT_S).close()
    except OSError:
        return f"The weights of {encoder} are not on this computer, and {address.hostname} does not answer. {remedy}"
    return ""


def _faults_of_places(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in ("data.folder", "data.images", "data.labels.folder", "data.split.files"):
        place = values.get(path)
        if place and not Path(place).is_dir():
            kind = "is a file; choose a folder" if Path(place).exists() else "does not exist"
            found[path] = (f"{place} {kind}.",)
    lists = values.get("data.split.files")
    if lists and "data.split.files" not in found:
        missing = [name for name in ("train.txt", "val.txt") if not (Path(lists) / name).is_file()]
        if missing:
            found["data.split.files"] = (f"{lists} has no {' and no '.join(missing)}.",)
    output = values.get("tracking.output_dir")
    if output and (fault := _why_not_writable(Path(output))):
        found["tracking.output_dir"] = (fault,)
    return found


def _why_not_writable(folder: Path) -> str:
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not nearest.is_dir():
        return f"{nearest} is a file; choose a folder."
    return "" if os.access(nearest, os.W_OK) else f"Nothing may be written in {nearest}. Choose another folder."


def _advice(values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if values.get("model.encoder_weights") == "imagenet":
        why = weights_out_of_reach(str(values["model.encoder"]))
        found |= {"model.encoder_weights": why} if why else {}
    if values.get("data.labels.kind") == "masks":
        why = _why_no_pairs(values)
        found |= {"data.labels.folder": why} if why else {}
    return found


def _why_no_pairs(values: Mapping[str, Any]) -> str:
    """Why images and masks do not belong together; empty if some do, or nobody can tell from the names."""
    images, masks = values.get("data.images"), values.get("data.labels.folder")
    if not images or not masks or values.get("data.labels.class_folders") or images == masks:
        return ""
    if not Path(images).is_dir() or not Path(masks).is_dir():  # a fault of its own
        return ""
    suffix = str(values.get("data.labels.suffix") or "")
    of_images, of_masks = _stems(Path(images)), _stems(Path(masks))
    if not of_images:
        return f"There are no images in {images}."
    if not of_masks:
        return f"There are no masks in {masks}."
    if any(f"{stem}{suffix}" in of_masks for stem in of_images):
        return ""
    return (
        f"No mask is named as an image: the first image is {min(of_images)}, the first mask {min(of_masks)}. "
        "Choose the folders that belong together."
    )


def _stems(folder: Path) -> set[str]:
    """Names of the pictures in a folder, or in the folders inside, without their endings."""
    entries = _entries(folder)
    inside = [entry for child in entries if child.is_dir() for entry in _entries(Path(child.path))]
    return {Path(entry.name).stem for entry in (*entries, *inside) if entry.name.lower().endswith(_PICTURES)}


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry, _ in zip(entries, range(_LOOKED_AT), strict=False)]
    except OSError:  # told elsewhere, or of no meaning here
        return []
