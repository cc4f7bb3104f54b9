"""Which image belongs to which part, as people write it: train.txt, val.txt and test.txt, folders, lists of names."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maskwright.data.regions import PARTS
from maskwright.errors import DataError

__all__ = ["NamedParts", "find_split_files", "parts_from_files", "parts_from_folders", "parts_from_lists", "some"]

_LISTED = 8
_FOLDERS = ("", "splits", "split", "ImageSets/Segmentation", "ImageSets")


@dataclass(frozen=True)
class NamedParts:
    """The part of each image that is named anywhere.

    Attributes:
        parts: Image to ``train``, ``val`` or ``test``.
        advice: What a person does to put images in one part, without a full stop.
        notes: What a person should know, a sentence each.
        faults: What is wrong, a text each.
    """

    parts: dict[str, str]
    advice: str
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    text = ", ".join(listed[:_LISTED])
    return text if len(listed) <= _LISTED else f"{text} and {len(listed) - _LISTED} more"


def find_split_files(folder: Path) -> dict[str, Path]:
    """``train.txt``, ``val.txt`` and ``test.txt`` of a folder or of its folder of splits; empty without a train.txt."""
    for below in _FOLDERS:
        found = {part: folder / below / f"{part}.txt" for part in PARTS}
        if found["train"].is_file():
            return {part: path for part, path in found.items() if path.is_file()}
    return {}


def parts_from_files(files: Mapping[str, Path], images: Mapping[str, Path]) -> NamedParts:
    """The parts that text files name, one image a line, with or without ending and folders.

    Args:
        files: Part to its file.
        images: Name of each image to its file.

    Raises:
        DataError: If a file cannot be read.
    """
    lists = {part: _lines(path) for part, path in files.items()}
    return _named(lists, images, {part: str(path) for part, path in files.items()}, "Name them")


def parts_from_lists(lists: Mapping[str, Sequence[str]], images: Mapping[str, Path]) -> NamedParts:
    """The parts that settings name."""
    return _named(lists, images, {part: f"data.split.{part}" for part in lists}, "Name them")


def parts_from_folders(parts: Mapping[str, str]) -> NamedParts:
    """The parts that the folders of the images say."""
    return NamedParts(dict(parts), "Move them into one folder, so that they are")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {why}. It is a text file with one image a line.") from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _named(
    lists: Mapping[str, Sequence[str]], images: Mapping[str, Path], where: Mapping[str, str], advice: str
) -> NamedParts:
    known = _spellings(images)
    parts: dict[str, str] = {}
    faults, notes = [], []
    for part, entries in lists.items():
        unknown: list[str] = []
        unclear: list[str] = []
        mentions = 0
        for entry in entries:
            names = _meant(entry, known)
            if len(names) != 1:
                (unclear if names else unknown).append(entry)
                continue
            other = parts.setdefault(names[0], part)
            mentions += other == part
            if other != part:
                faults.append(f"{names[0]} is named in {where[other]} and in {where[part]}. Name it once.")
        if unknown:
            faults.append(_unknown_text(where[part], unknown, images))
        if unclear:
            faults.append(
                f"{where[part]}: {some(unclear)} may mean several images. Write the folders as well, for example "
                f"{_meant(unclear[0], known)[0]}."
            )
        if mentions > sum(name_part == part for name_part in parts.values()):
            notes.append(f"{where[part]} names some images more than once; they count once")
    return NamedParts(parts, advice, tuple(notes), tuple(faults))


def _spellings(images: Mapping[str, Path]) -> dict[str, list[str]]:
    """Every way to write an image to the images it may mean: with and without ending, with and without folders."""
    known: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in images.items():
        stem = name.rpartition("/")[2]
        for spelling in dict.fromkeys((name, name + path.suffix, stem, stem + path.suffix)):
            known[spelling].append(name)
    return known


def _meant(entry: str, known: Mapping[str, list[str]]) -> list[str]:
    """The images a line may mean, by ever fewer of its leading folders; a path may also come with that of its mask."""
    path = PurePosixPath(entry.replace("\\", "/"))
    steps = [step for step in path.parts if step not in ("/", ".")]
    for first in range(len(steps)):
        found = known.get("/".join(steps[first:]))
        if found:
            exact = [name for name in found if name == "/".join(steps[first:])]
            return exact or found
    first_word = entry.split()[0] if entry.split() else entry  # "image.jpg mask.png" on one line
    return _meant(first_word, known) if first_word != entry else []


def _unknown_text(where: str, unknown: Sequence[str], images: Mapping[str, Path]) -> str:
    stem = PurePosixPath(unknown[0].replace("\\", "/")).stem
    close = difflib.get_close_matches(stem, list(images)[:5000], n=1)
    hint = f"Did you mean {close[0]}?" if close else f"There are: {some(images)}."
    return f"{where}: there is no image {some(unknown)}. {hint}"
