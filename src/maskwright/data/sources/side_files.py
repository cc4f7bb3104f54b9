"""A label file beside each image: where it lies, and what is left over."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from maskwright.data.sources.findings import Findings
from maskwright.data.sources.folders import IMAGE_FOLDERS
from maskwright.errors import DataError

__all__ = ["Missing", "find_side_files"]

Missing = Literal["refuse", "skip", "empty"]

_OTHER_TEXTS = ("classes", "train", "val", "test", "readme", "notes", "license")


def find_side_files(
    images: Mapping[str, Path],
    folder: Path | None,
    beside: str,
    endings: Sequence[str],
    findings: Findings,
    *,
    missing: Missing = "refuse",
    setting: str = "data.labels.folder",
) -> dict[str, Path | None]:
    """The file of each image with the image's name and another ending.

    With a folder, subfolders as in the image's name are tried first (also with ``beside`` before or after them), then
    the folder itself for names that only one image has. Without, the last ``images`` (``imgs``, ``JPEGImages``) in the
    image's path becomes ``beside``; failing that, a folder ``beside`` next to the image's own, then the image's own.

    Args:
        images: Name of each image to its path.
        folder: Where the files lie; None: beside the images.
        beside: Name of a folder of such files, for example ``labels``.
        endings: Endings of such files, lower case, with the dot; the first that exists is taken.
        findings: Told of images without a file, and of files in the same folders without an image.
        missing: An image without a file: a fault, left out with a note, or a None in the result.
        setting: Name of the setting of ``folder``, for messages.

    Returns:
        Image name to file; None for images that have none and need none; those left out are missing.

    Raises:
        DataError: If ``folder`` is no folder.
    """
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder} is no folder. Set {setting} to the folder of the {endings[0]} files.")
    stems = Counter(_plain(path.stem) for path in images.values())
    listed: dict[Path, dict[str, Path]] = {}
    found: dict[str, Path | None] = {}
    for name, path in images.items():
        match = None
        for place in _places(name, path, folder, beside, alone=stems[_plain(path.stem)] == 1):
            match = _match(place, path.stem, endings, listed)
            if match is not None:
                break
        if match is not None:
            found[name] = match
        elif missing == "empty":
            found[name] = None
        else:
            _tell_missing(path.name, endings[0], findings, missing, setting)
    taken = set(found.values())
    for files in listed.values():
        for file in files.values():
            if file not in taken and file.stem.lower() not in _OTHER_TEXTS:
                findings.note(f"{file.suffix} files without an image", str(file))
    return found


def _tell_missing(name: str, ending: str, findings: Findings, missing: Missing, setting: str) -> None:
    if missing == "skip":
        findings.note(f"images left out, without a {ending} file", name)
    else:
        findings.fault(
            f"images without a {ending} file",
            name,
            f"Set {setting} to the folder of these files, or data.labels.missing: empty if such images hold no object "
            "(skip leaves them out)",
        )


def _places(name: str, path: Path, folder: Path | None, beside: str, *, alone: bool) -> list[Path]:
    if folder is not None:
        below = Path(name).parent
        return list(
            dict.fromkeys([folder / below, folder / below / beside, folder / beside / below] + [folder] * alone)
        )
    parts = list(path.parent.parts)
    places = []
    for index in reversed(range(len(parts))):
        if parts[index].lower() in IMAGE_FOLDERS:
            places.append(Path(*parts[:index], beside, *parts[index + 1 :]))
            break
    return [*places, path.parent.parent / beside, path.parent]


def _match(place: Path, stem: str, endings: Sequence[str], listed: dict[Path, dict[str, Path]]) -> Path | None:
    if place not in listed:
        listed[place] = _files_in(place, endings)
    return next(
        (listed[place][_plain(stem) + ending] for ending in endings if _plain(stem) + ending in listed[place]), None
    )


def _files_in(place: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Stem and lower-case ending to path; one look at the folder however many images there are."""
    if not place.is_dir():
        return {}
    with os.scandir(place) as entries:
        paths = sorted(place / entry.name for entry in entries if entry.is_file())
    return {_plain(path.stem) + path.suffix.lower(): path for path in paths if path.suffix.lower() in endings}


def _plain(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)
