"""Findings on labels: classes too rare or missing in a part, empty tiles, ids nobody named, objects against tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from maskwright.data.preflight import Finding, listed
from maskwright.data.preflight_look import Look

__all__ = ["balance_findings", "class_table", "empty_findings", "object_findings", "outside_findings"]

_RARE = 0.005  # share of pixels below which a class needs help
_UNEVEN = 4.0  # ratio of a class's shares in two parts
_OFTEN_EMPTY = 0.9
_PARTS = {"train": "training", "val": "validation", "test": "test"}


def balance_findings(
    counts: Mapping[str, NDArray[np.int64]], totals: Mapping[str, int], names: Sequence[str]
) -> list[Finding]:
    """Classes that are missing in a part of the split, rare, or spread unevenly over the parts.

    Args:
        counts: Part to the (K,) pixels of each class on its tiles.
        totals: Part to its pixels that count.
        names: Names of the K classes.
    """
    findings = []
    used = [part for part, total in totals.items() if total > 0]
    share = {part: counts[part] / totals[part] for part in used}
    for index, name in enumerate(names):
        absent = [part for part in used if counts[part][index] == 0]
        if len(absent) == len(used) and used:
            findings.append(_missing(name, "error" if len(names) == 1 else "warning", "", "nowhere in the data"))
        elif absent:
            level = "error" if "train" in absent and len(names) == 1 else "warning"
            where = listed([_PARTS.get(part, part) for part in absent])
            findings.append(_missing(name, level, ", ".join(absent), f"not in the {where} part"))
        rates = {part: float(share[part][index]) for part in used if counts[part][index] > 0}
        if 0 < rates.get("train", 0.0) < _RARE:
            findings.append(_rare(name, rates["train"]))
        if rates and max(rates.values()) > _UNEVEN * min(rates.values()):
            said = ", ".join(f"{part} {rate:.2%}" for part, rate in rates.items())
            findings.append(
                Finding(
                    "note",
                    "class_uneven",
                    name,
                    f'The share of "{name}" differs between the parts: {said}.',
                    "Add images, or choose another data.split.seed before any training; never after looking at scores.",
                    {f"{part}_share": rate for part, rate in rates.items()},
                )
            )
    return findings


def _missing(name: str, level: str, where: str, what: str) -> Finding:
    return Finding(
        "error" if level == "error" else "warning",
        "class_missing",
        where,
        f'The class "{name}" is {what}.',
        "Check its values in data.labels.classes, add images that show it, or choose another data.split.seed.",
    )


def _rare(name: str, share: float) -> Finding:
    return Finding(
        "note",
        "class_rare",
        name,
        f'"{name}" covers {share:.2%} of the training pixels; a model that never finds it is right in {1 - share:.1%}.',
        "Look at IoU and recall, not at accuracy; data.balance.by: foreground and loss.dice help.",
        {"share": share},
    )


def empty_findings(filled: Mapping[str, Sequence[bool]], images: Sequence[Look]) -> list[Finding]:
    """Tiles without any foreground, and images of one value.

    Args:
        filled: Part to one True or False for each of its tiles: does it hold foreground?
        images: The images looked at.
    """
    findings = []
    shares = {part: 1 - sum(tiles) / len(tiles) for part, tiles in filled.items() if tiles and not all(tiles)}
    if shares:
        often = shares.get("train", 0.0) > _OFTEN_EMPTY
        said = ", ".join(f"{share:.0%} of the {_PARTS.get(part, part)}" for part, share in shares.items())
        findings.append(
            Finding(
                "warning" if often else "note",
                "tiles_empty",
                ", ".join(shares),
                f"Tiles without any foreground: {said} tiles.",
                "Set data.balance.by: foreground." if often else "Nothing: a model has to know empty ground too.",
                {f"{part}_share": share for part, share in shares.items()},
            )
        )
    plain = [look for look in images if look.valid_share > 0 and np.all(look.levels[:, 0] == look.levels[:, 4])]
    flat = list(dict.fromkeys(look.scene for look in plain))
    if flat:
        findings.append(
            Finding(
                "warning",
                "image_blank",
                listed(flat),
                f"{len(plain)} samples of {len(flat)} images have one value all over.",
                "Check how they were made; set data.nodata to that value, or take them out.",
                {"samples": len(plain), "images": len(flat)},
            )
        )
    return findings


def outside_findings(ids: Mapping[str, Mapping[int, int]], known: Sequence[int]) -> list[Finding]:
    """Class ids in labels that no class has.

    Args:
        ids: Image to class id and its pixels that count.
        known: The ids that mean something.
    """
    strange = {name: {i: n for i, n in own.items() if n and i not in set(known)} for name, own in ids.items()}
    strange = {name: own for name, own in strange.items() if own}
    if not strange:
        return []
    first = next(iter(strange))
    values = sorted({value for own in strange.values() for value in own})
    return [
        Finding(
            "error",
            "mask_values_outside",
            listed(list(strange)),
            f"{len(strange)} masks hold {listed([str(value) for value in values], 6)}, which no class has; in {first} "
            f"on {sum(strange[first].values())} pixels.",
            "Name them in data.labels.classes, or in data.labels.ignore_values if they do not count.",
            {"masks": len(strange)},
        )
    ]


def object_findings(
    diameters: NDArray[np.float64], *, tile_px: int, receptive_field_px: int | None, model: str = "the network"
) -> list[Finding]:
    """Objects too large for the tile or for what the network sees, or too small to be drawn.

    Args:
        diameters: Of all objects, in pixels, as circles of the same area.
        tile_px: Side of a tile.
        receptive_field_px: Farthest an image pixel with a part in an answer can lie from it; None: anywhere.
        model: Its kind, for the text.
    """
    if not len(diameters):
        return []
    median, large = (float(value) for value in np.percentile(diameters, (50, 90)))
    numbers = {"median_px": median, "p90_px": large, "objects": float(len(diameters))}
    findings = []
    if receptive_field_px is not None and 2 * receptive_field_px + 1 < median:
        findings.append(
            Finding(
                "warning",
                "reach_small",
                "",
                f"Half of the objects are wider than {median:.0f} px, and {model} sees {2 * receptive_field_px + 1} px "
                "at once.",
                "Raise model.depth, or shrink the images with data.resize_px.",
                numbers | {"sees_px": 2 * receptive_field_px + 1},
            )
        )
    if large > tile_px:
        findings.append(
            Finding(
                "warning" if median > tile_px else "note",
                "tile_small",
                "",
                f"A tenth of the objects are wider than {large:.0f} px, more than a tile of {tile_px} px.",
                f"Set data.tiles.size_px: {math.ceil(large / 64) * 64}, or shrink the images with data.resize_px.",
                numbers,
            )
        )
    if median < 4:
        findings.append(
            Finding(
                "note",
                "objects_tiny",
                "",
                f"Half of the objects are smaller than {median:.1f} px across: a shift of one pixel halves their IoU.",
                "Use images of finer resolution if there are any, and judge by counts as well as by IoU.",
                numbers,
            )
        )
    return findings


def class_table(
    counts: Mapping[str, NDArray[np.int64]], totals: Mapping[str, int], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Head and cells: the share of each class in each part."""
    parts = [part for part, total in totals.items() if total > 0]
    rows = [
        [name, *(f"{counts[part][index] / totals[part]:.2%}" for part in parts)] for index, name in enumerate(names)
    ]
    return ["class", *parts], rows
