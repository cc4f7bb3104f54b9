"""What is wrong with a data set, as data: findings, and those that follow from sizes, grids and refusals alone.

The other ``preflight_*`` files look at pixels: :mod:`preflight_look` measures one image, the rest judge many of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from maskwright.data.regions import crs_name
from maskwright.errors import DataError

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = [
    "LEVELS",
    "Finding",
    "Level",
    "fault_findings",
    "grid_findings",
    "in_order",
    "last_batch_findings",
    "listed",
    "note_findings",
    "size_findings",
]

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

_HEADER = re.compile(r"^\d+ faults? .*:$")
_ENDINGS = r"\.(?:tiff?|png|jpe?g|bmp|webp|jp2|json|geojson|gpkg|shp|csv|txt|ya?ml)"
_IN_PATH = rf"(?:(?!{_ENDINGS}\b| (?:is|holds|has|names|cannot|leads) )[^:])"
_PLACE = re.compile(
    r"^(?:(?:site|scene|image) (?P<named>[^:]{1,300}?)"
    rf"|(?P<where>\S{{1,300}}?|[^:]{{0,300}}{_ENDINGS}|/{_IN_PATH}{{1,300}}?)): ",
    re.I,
)
_FILE = re.compile(rf"^/{_IN_PATH}{{1,300}}{_ENDINGS}\b|[^\s,;:()'\"]+{_ENDINGS}\b", re.I)
_SCALES_APART = 1.5  # pixel sizes that differ by more than this are worth a word
_SCALES_FAR_APART = 4.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know about the data.

    Attributes:
        level: ``error``: training is refused or worthless; ``warning``: numbers may mislead; ``note``: good to know.
        code: What kind of finding, for programs: ``mask_shifted``.
        where: The file, scene or part; empty for the whole data set.
        what: What was found, in a sentence.
        do: What to do about it, in a sentence.
        numbers: The figures behind it, by name.
    """

    level: Level
    code: str
    where: str
    what: str
    do: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON takes; a number that is not finite becomes None."""
        numbers = {name: value if math.isfinite(value) else None for name, value in self.numbers.items()}
        names = ("level", "code", "where", "what", "do")
        return {name: getattr(self, name) for name in names} | {"numbers": numbers}


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes; in each level as they came, each once."""
    unique = {(f.level, f.code, f.where, f.what): f for f in findings}.values()
    return tuple(sorted(unique, key=lambda finding: LEVELS.index(finding.level)))


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def fault_findings(error: Exception, code: str = "refused", do: str = "") -> list[Finding]:
    """A refusal as findings: each line of its text that names a fault becomes one.

    Args:
        error: What was raised; its text may begin with a line "3 faults in ...:".
        code: Code of the findings.
        do: What to do, where the text itself does not say it.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    faults = [line for line in lines if line and not _HEADER.match(line)] or [type(error).__name__]
    return [Finding("error", code, *_told(fault, do or "Mend this, then check again.")) for fault in faults]


def note_findings(notes: Iterable[str]) -> list[Finding]:
    """What a source or a split noticed, as notes."""
    return [Finding("note", "noticed", *_told(note, "Nothing, if it is meant so.")) for note in notes]


def _told(text: str, otherwise: str) -> tuple[str, str, str]:
    """Where, what and what to do of a message "where: what. What to do."."""
    match = _PLACE.match(text)
    where = (match["named"] or match["where"]) if match else ""
    body = text[match.end() :] if match else text
    if not where:
        file = _FILE.search(text)
        where = file[0] if file else ""
    what, stop, advice = body.rstrip().rpartition(". ")
    if not stop:
        what, advice = body, ""
    return where, what.rstrip(".") + ".", advice or otherwise


def size_findings(sizes: Mapping[str, tuple[int, int]], tile_px: int) -> list[Finding]:
    """Images smaller than a tile, and how much sizes differ.

    Args:
        sizes: Name to rows and columns.
        tile_px: Side of a tile.
    """
    findings = []
    small = [name for name, size in sizes.items() if min(size) < tile_px]
    if small:
        least = min(min(size) for size in sizes.values())
        findings.append(
            Finding(
                "note",
                "smaller_than_tile",
                listed(small),
                f"{len(small)} of {len(sizes)} images are smaller than a tile of {tile_px} px (the least side is "
                f"{least} px); they are padded with pixels that do not count.",
                f"Nothing, or set data.tiles.size_px to {max(16, least // 16 * 16)} to save time.",
                {"images": len(small), "least_px": least},
            )
        )
    kinds = Counter(sizes.values())
    if len(kinds) > 1:
        low, high = min(kinds, key=math.prod), max(kinds, key=math.prod)
        findings.append(
            Finding(
                "note",
                "sizes_differ",
                "",
                f"Images have {len(kinds)} sizes, from {low[0]} x {low[1]} to {high[0]} x {high[1]} px (rows x "
                "columns).",
                "Nothing: images are cut into tiles of one size.",
                {"sizes": len(kinds)},
            )
        )
    return findings


def grid_findings(scenes: Sequence[Scene]) -> list[Finding]:
    """Coordinate reference systems and pixel sizes that differ, and scenes that show the same ground."""
    placed = [scene for scene in scenes if scene.grid.is_georeferenced]
    findings = _crs_findings(scenes, placed)
    sizes = {scene.name: _pixel_size_m(scene) for scene in placed}
    known = {name: size for name, size in sizes.items() if size is not None}
    if len(known) > 1:
        fine, coarse = min(known, key=lambda n: known[n]), max(known, key=lambda n: known[n])
        ratio = known[coarse] / known[fine]
        if ratio > _SCALES_APART:
            findings.append(
                Finding(
                    "warning" if ratio > _SCALES_FAR_APART else "note",
                    "pixel_sizes_differ",
                    f"{fine}, {coarse}",
                    f"Pixels are {known[fine]:g} m in {fine} and {known[coarse]:g} m in {coarse}: the same thing looks "
                    f"{ratio:.1f} times larger in one of them.",
                    "Resample to one pixel size, or train a model for each.",
                    {"least_m": known[fine], "most_m": known[coarse]},
                )
            )
    return findings + _same_ground(scenes)


def _crs_findings(scenes: Sequence[Scene], placed: Sequence[Scene]) -> list[Finding]:
    findings = []
    systems = Counter(crs_name(scene.grid.crs) or "none" for scene in placed)
    if len(systems) > 1:
        said = listed([f"{name[:40]} ({count})" for name, count in systems.most_common()], 6)
        findings.append(
            Finding(
                "note",
                "crs_differ",
                "",
                f"Rasters lie in {len(systems)} coordinate reference systems: {said}.",
                "Nothing, if they show different places; rasters of one place need one system.",
                {"systems": len(systems)},
            )
        )
    elsewhere = [scene.name for scene in scenes if not scene.grid.is_georeferenced]
    if placed and elsewhere:
        findings.append(
            Finding(
                "note",
                "no_georeference",
                listed(elsewhere),
                f"{len(elsewhere)} of {len(scenes)} images have no georeference, so it is not known whether they show "
                "the same ground as others.",
                "Set data.split.group_pattern if some belong together.",
                {"images": len(elsewhere)},
            )
        )
    return findings


def _pixel_size_m(scene: Scene) -> float | None:
    try:
        return scene.grid.pixel_size_m
    except DataError:  # degrees have no size in metres
        return None


def _same_ground(scenes: Sequence[Scene]) -> list[Finding]:
    grounds: dict[str, list[str]] = {}
    for scene in scenes:
        grounds.setdefault(scene.ground, []).append(scene.name)
    shared = [names for names in grounds.values() if len(names) > 1]
    if not shared:
        return []
    return [
        Finding(
            "note",
            "same_ground",
            listed(shared[0]),
            f"{sum(map(len, shared))} scenes share {len(shared)} pieces of ground; each stays in one part.",
            "Nothing, if that is right.",
            {"scenes": sum(map(len, shared)), "grounds": len(shared)},
        )
    ]


def last_batch_findings(samples: int, batch_size: int, has_batch_norm: bool) -> list[Finding]:
    """A last batch of a single sample, whose statistics batch normalisation would take for the truth.

    Args:
        samples: Training samples in an epoch.
        batch_size: Samples in a batch.
        has_batch_norm: True if the network normalises over the batch.
    """
    single = batch_size == 1 or samples % batch_size == 1
    if not single or not has_batch_norm:
        return []
    better = next((size for size in range(batch_size + 1, 4097) if samples % size != 1), batch_size + 1)
    which = "every batch holds" if batch_size == 1 or samples == 1 else "the last batch of an epoch holds"
    return [
        Finding(
            "warning",
            "batch_of_one",
            "train",
            f"With {samples} training samples and batches of {batch_size}, {which} a single sample, and the network "
            "normalises over the batch.",
            f"Set data.loader.batch_size: {better}, or model.norm: group.",
            {"samples": samples, "batch_size": batch_size},
        )
    ]
