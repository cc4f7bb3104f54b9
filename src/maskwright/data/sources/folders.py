"""Folders of images and masks: which files there are, what each is called, and which mask belongs to which image.

The name of an image is its path below the data's folder without the ending and without the folder that only says
"images": ``train/images/a.jpg`` and ``images/train/a.jpg`` are both ``train/a``. Masks are named alike, so that pairs
share a name.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from maskwright.data.sources.image_header import IMAGE_ENDINGS, printable
from maskwright.errors import DataError

__all__ = [
    "IMAGE_FOLDERS",
    "MASK_FOLDERS",
    "ImageFolder",
    "MaskFiles",
    "find_images",
    "find_masks",
    "list_files",
    "mask_folders",
    "some",
]

IMAGE_FOLDERS = (
    "images",
    "imgs",
    "image",
    "img",
    "jpegimages",
    "photos",
    "pictures",
    "rgb",
    "inputs",
    "input",
)
"""Names of folders that hold images, in lower case."""

MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "segmentationclass",
    "segmentationclasspng",
    "segmentations",
    "segmentation",
    "groundtruth",
    "ground_truth",
    "gt",
)
"""Names of folders that hold masks, in lower case."""

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_NAME = attrgetter("name")
_LISTED = 10  # names spelled out in one sentence
_COMMON_SUFFIXES = ("_mask", "-mask", "_gt", "_label", "_labels", "_seg", "_segmentation", "_annotation", "_manual1")


@dataclass(frozen=True)
class ImageFolder:
    """The images of a data set.

    Attributes:
        root: The folder their names start from.
        images: Name to file, sorted by name.
        parts: Name to ``train``, ``val`` or ``test``, for images in a folder of that name.
        masks: Folder that is named as one of masks (its path below the root) to the files in it, by name.
        notes: What a person should know, a sentence each.
        faults: What is wrong, a text each.
        left_out: Names of images that are there and not wanted; their masks are no orphans.
    """

    root: Path
    images: dict[str, Path]
    parts: dict[str, str]
    masks: dict[str, dict[str, Path]]
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def only(self, names: Collection[str]) -> ImageFolder:
        """The same with some of its images."""
        kept = {name: path for name, path in self.images.items() if name in names}
        return replace(self, images=kept, left_out=self.left_out | (self.images.keys() - kept.keys()))


@dataclass(frozen=True)
class MaskFiles:
    """Which mask belongs to which image.

    Attributes:
        masks: Name of an image to its mask; images without one are left out.
        searched: Where masks were looked for, for messages.
        notes: What a person should know, a sentence each.
        faults: What is wrong, a text each.
    """

    masks: dict[str, Path]
    searched: str
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def some(names: Iterable[str], most: int = _LISTED) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text} and {len(listed) - most} more"


def list_files(
    root: Path, endings: Sequence[str] | None = None
) -> tuple[list[tuple[tuple[str, ...], Path]], list[str]]:
    """All files below a folder, hidden ones left out; links are followed, and every folder is read once.

    Args:
        root: Where to begin.
        endings: Endings wanted, in lower case with their dot; None: all.

    Returns:
        For each file the names of the folders on its way and its path, in a fixed order; and notes.

    Raises:
        DataError: If the folder is missing or cannot be read.
    """
    files: list[tuple[tuple[str, ...], Path]] = []
    notes: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[tuple[str, ...], str]] = [((), os.fspath(root))]
    while waiting:
        way, folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                notes.append(f"{printable(folder)} leads to a folder that was read already; it is read once")
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=_NAME)
        except OSError as error:
            raise DataError(_folder_text(folder, error)) from error
        below = []
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # a link to itself; named as an image it is told when its header is read
                is_folder = False
                if endings is not None and os.path.splitext(entry.name)[1].lower() not in endings:
                    notes.append(f"{printable(entry.path)} is not used: {error.strerror or error}")
            if is_folder:
                below.append(((*way, entry.name), entry.path))
            elif endings is None or os.path.splitext(entry.name)[1].lower() in endings:
                files.append((way, Path(entry.path)))
        waiting += reversed(below)
    return files, notes


def _folder_text(folder: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"The folder {printable(folder)} does not exist. Check data.folder, data.images and data.labels.folder."
    if isinstance(error, NotADirectoryError):
        return f"{printable(folder)} is a file, and a folder of images is needed. Name the folder it lies in."
    return f"The folder {printable(folder)} cannot be read: {error.strerror or error}. Check the permissions."


# --- images -----------------------------------------------------------------------------------------------------------


def find_images(folder: Path | None, images: Path | None = None, *, suffix: str = "") -> ImageFolder:
    """The images of a folder, whatever its layout.

    Args:
        folder: The data's folder: ``imgs`` and ``masks``, ``images`` and ``labels``, ``JPEGImages`` and
            ``SegmentationClass`` side by side, at any depth, also inside or around ``train``, ``val`` and ``test``; or
            images lying in it directly.
        images: Folder of the images alone; takes the place of ``folder``.
        suffix: What names of masks end with; such files among the images are masks.

    Raises:
        DataError: If a folder is missing or neither is given.
    """
    root = images or folder
    if root is None:
        raise DataError("No data is named. Set data.folder to the folder that holds images and masks, or data.images.")
    files, notes = list_files(root, IMAGE_ENDINGS)
    kinds = [_kind(way) for way, _ in files]
    has_folder = images is None and any(kind == "image" for kind, _ in kinds)
    found = _Names()
    masks: defaultdict[str, _Names] = defaultdict(_Names)
    parts: dict[str, str] = {}
    unused = []
    for (way, path), (kind, place) in zip(files, kinds, strict=True):
        wanted = kind == "image" if has_folder else (kind != "mask" or images is not None)
        if wanted and not (suffix and path.stem.endswith(suffix) and not has_folder):
            name = found.add(_without(way, place if has_folder else None), path)
            part = next((_PARTS[step.lower()] for step in way if step.lower() in _PARTS), None)
            if part is not None:
                parts[name] = part
        elif kind == "mask" and place is not None:
            masks[way[place].lower()].add(_without(way, place), path, suffix)
        elif wanted:
            masks[""].add(way, path, suffix)
        else:
            unused.append(path)
    if unused:
        shown = some(printable(path.relative_to(root)) for path in unused)
        notes.append(f"{len(unused)} files lie outside the folders of images and masks and are not used: {shown}")
    for names in masks.values():
        found.faults += names.faults
    return ImageFolder(
        root,
        dict(sorted(found.files.items())),
        parts,
        {name: names.files for name, names in masks.items()},
        tuple(notes),
        (*found.faults, *(() if found.files else (_nothing_text(root, len(files)),))),
    )


@dataclass
class _Names:
    """Files by name, and a fault for each name that two files have."""

    files: dict[str, Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, way: Sequence[str], path: Path, suffix: str = "") -> str:
        stem = path.stem.removesuffix(suffix) if suffix else path.stem
        name = printable("/".join((*way, stem)))
        other = self.files.setdefault(name, path)
        if other != path:
            self.faults.append(
                f"{printable(other)} and {printable(path)} have one name, so it is not clear which is meant. Rename or "
                "remove one of them."
            )
        return name


def _kind(way: Sequence[str]) -> tuple[str, int | None]:
    """What the first telling folder on the way to a file says it is, and where that folder stands."""
    for place, step in enumerate(way):
        if step.lower() in IMAGE_FOLDERS:
            return "image", place
        if step.lower() in MASK_FOLDERS:
            return "mask", place
    return "", None


def _without(way: tuple[str, ...], place: int | None) -> tuple[str, ...]:
    return way if place is None else (*way[:place], *way[place + 1 :])


def _nothing_text(root: Path, count: int) -> str:
    what = "no image" if count == 0 else f"no image outside folders of masks (there are {count} in those)"
    return (
        f"{printable(root)} holds {what}. Maskwright looks for {', '.join(IMAGE_ENDINGS)} in all folders below. Set "
        "data.folder to the folder that holds images and masks, or data.images to that of the images."
    )


# --- masks ------------------------------------------------------------------------------------------------------------


def find_masks(found: ImageFolder, folder: Path | None = None, *, suffix: str = "") -> MaskFiles:
    """The mask of each image: the same name, in the folder of masks.

    Args:
        found: The images.
        folder: Folder of the masks, searched with all below it; None: masks, labels or the like beside the images.
        suffix: What a mask's name has behind the image's.

    Raises:
        DataError: If the folder is missing.
    """
    masks, searched, notes, faults = mask_folders(found, folder, suffix=suffix)
    if folder is not None:
        return _paired(found, masks[""], faults, notes, searched)
    pairing = {name: files for name, files in masks.items() if _pairs(found.images, files)}
    if len(pairing) > 1:
        names = " and ".join(sorted(pairing))
        fault = (
            f"{searched} has several folders with files named like the images: {names}. Say which holds the masks: "
            f"data.labels.folder: {sorted(pairing)[0]}."
        )
        return MaskFiles({}, searched, notes, (fault,))
    chosen = next(iter(pairing.items()), None) or max(masks.items(), key=lambda item: len(item[1]), default=None)
    if chosen is None:
        return MaskFiles({}, searched, notes, (_no_masks_text(found, searched),))
    return _paired(found, chosen[1], [], notes, f"{searched} ({chosen[0]})" if chosen[0] else searched)


def mask_folders(
    found: ImageFolder, folder: Path | None = None, *, suffix: str = ""
) -> tuple[dict[str, dict[str, Path]], str, tuple[str, ...], tuple[str, ...]]:
    """All folders of masks with their files by name, where they were looked for, notes, and faults.

    Raises:
        DataError: If the folder that is asked for is missing.
    """
    if folder is not None:
        files, faults, notes = _listed_masks(folder, suffix)
        return {"": files}, printable(folder), tuple(notes), tuple(faults)
    if found.masks:
        return dict(found.masks), printable(found.root), (), ()
    masks, notes = _masks_beside(found.root, suffix)
    return masks, printable(found.root.parent), tuple(notes), ()


def _listed_masks(folder: Path, suffix: str) -> tuple[dict[str, Path], list[str], list[str]]:
    files, notes = list_files(folder, IMAGE_ENDINGS)
    names = _Names()
    for way, path in files:
        if not suffix or path.stem.endswith(suffix):
            kind, place = _kind(way)
            names.add(_without(way, place if kind == "mask" else None), path, suffix)
    return names.files, names.faults, notes


def _masks_beside(root: Path, suffix: str) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Folders of masks that lie beside the folder of the images."""
    masks: dict[str, dict[str, Path]] = {}
    notes: list[str] = []
    for path in sorted(root.parent.iterdir()):
        if path.is_dir() and path.name.lower() in MASK_FOLDERS:
            files, _, more = _listed_masks(path, suffix)
            if files:
                masks[path.name] = files
                notes += more
    return masks, notes


def _pairs(images: Mapping[str, Path], files: Mapping[str, Path]) -> bool:
    if any(name in images for name in files):
        return True
    stems = {name.rpartition("/")[2] for name in images}
    return any(name.rpartition("/")[2] in stems for name in files)


def _paired(
    found: ImageFolder, files: Mapping[str, Path], faults: Sequence[str], notes: Sequence[str], searched: str
) -> MaskFiles:
    """By the whole name; what is left over by the last part of it, where that is unambiguous."""
    images = found.images
    masks = {name: files[name] for name in images if name in files}
    left = [name for name in images if name not in masks]
    spare = {name: path for name, path in files.items() if name not in masks}
    by_stem, images_of = _by_stem(spare), _by_stem(images)
    for name in left:
        stem = name.rpartition("/")[2]
        if len(by_stem.get(stem, ())) == 1 and len(images_of[stem]) == 1:
            masks[name] = files[by_stem[stem][0]]
            spare.pop(by_stem[stem][0])
    notes = list(notes)
    spare = {name: path for name, path in spare.items() if name not in found.left_out}
    if spare:
        notes.append(f"{len(spare)} masks have no image and are not used: {some(sorted(spare))}")
    return MaskFiles(masks, searched, tuple(notes), tuple(faults))


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        stems[name.rpartition("/")[2]].append(name)
    return stems


def _no_masks_text(found: ImageFolder, searched: str) -> str:
    stems = {name.rpartition("/")[2] for name in found.images}
    for suffix in _COMMON_SUFFIXES:
        if any(stem + suffix in stems for stem in stems):
            return (
                f"{searched} has no folder of masks, but files that end with {suffix}. If those are the masks, set "
                f"data.labels.suffix: {suffix}."
            )
    return (
        f"{searched} has no folder of masks (masks, labels, annotations, SegmentationClass). Set data.labels.folder to "
        "the folder of the masks, data.labels.suffix if masks lie beside their images, or data.labels.kind if the "
        "labels are no masks."
    )
