"""Findings on pixel values: nodata nobody declared, blank borders, images unlike the others, bands that say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskwright.data.preflight import Finding, listed
from maskwright.data.preflight_look import Look

__all__ = [
    "band_findings",
    "border_findings",
    "declared_zero_findings",
    "nodata_findings",
    "outlier_findings",
    "robust_z",
    "value_table",
]

_USUAL = 0.75
_WIDE_BORDER = 0.2  # share of an image from which a blank border is more than a note
_FAR = 8.0  # robust deviations from which an image is unlike the others
_LEAST_LOOKS = 12  # fewer images do not say what is usual
_SCALE_APART = 20.0
_SCATTERED = 0.3  # share of a hole's pixels that are alone: holes are compact, a real value is scattered


def robust_z(values: NDArray[np.float64], floor: float = 0.0) -> NDArray[np.float64]:
    """Distance of each value from the median, in deviations estimated from the median distance.

    Args:
        values: (N,) or (N, F), judged column by column; NaN stays NaN.
        floor: Least deviation, so that tiny differences of nearly equal values are not called far.
    """
    middle = np.nanmedian(values, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(values - middle), axis=0)
    z: NDArray[np.float64] = (values - middle) / np.maximum(spread, max(floor, 1e-12))
    return z


def nodata_findings(looks: Sequence[Look], declared: float | None = None) -> list[Finding]:
    """Values such as -9999 that count as if measured, and images of which nothing counts.

    Args:
        looks: The images.
        declared: The value the settings call nodata; None: none.
    """
    findings = []
    empty = [look for look in looks if look.valid_share == 0]
    if empty:
        findings.append(
            Finding(
                "error" if len(empty) == len(looks) else "warning",
                "nothing_measured",
                _scenes(empty),
                f"{len(empty)} of {len(looks)} images hold no pixel that counts.",
                "Check data.nodata and the files, or take them out.",
                {"images": len(empty)},
            )
        )
    for value in sorted({value for look in looks for value in look.sentinels}):
        held = [look for look in looks if value in look.sentinels]
        worst = max(held, key=lambda look: look.sentinels[value])
        # The top of a 16-bit type is nodata only where it fills more than a few saturated pixels.
        if value == declared or (value == 65535 and worst.sentinels[value] < 0.005):
            continue
        findings.append(
            Finding(
                "warning",
                "nodata_undeclared",
                _scenes(held),
                f"{len(held)} images hold the value {value:g}, which usually means 'not measured', in up to "
                f"{worst.sentinels[value]:.1%} of their pixels, and neither file nor settings declare it.",
                f"Set data.nodata: {value:g}; else it is learned from as if it were real.",
                {"value": value, "images": len(held), "largest_share": worst.sentinels[value]},
            )
        )
    return findings


def border_findings(looks: Sequence[Look]) -> list[Finding]:
    """Plain areas along the border that count as if something had been seen there."""
    held = sorted((look for look in looks if look.blank_share > 0), key=lambda look: -look.blank_share)
    if not held:
        return []
    worst = held[0]
    # A border that nearly all images have, as around the disc of an eye, is how they are taken.
    wide = worst.blank_share >= _WIDE_BORDER and len(held) < _USUAL * len(looks)
    return [
        Finding(
            "warning" if wide else "note",
            "blank_border",
            _scenes(held),
            f"{len(held)} of {len(looks)} images have a plain border (value {worst.blank_value:g}) that counts as if "
            f"it were measured; in {worst.name} it is {worst.blank_share:.0%} of the image.",
            f"Set data.nodata: {worst.blank_value:g} if no real pixel has this value in all bands; else leave it.",
            {"images": len(held), "largest_share": worst.blank_share, "value": worst.blank_value},
        )
    ]


def declared_zero_findings(name: str, values: NDArray[np.float64], value: float) -> list[Finding]:
    """A declared nodata value that looks like a real measurement.

    Args:
        name: The raster.
        values: (H, W) as stored, before nodata is taken out.
        value: The declared nodata.
    """
    hole = values == value
    if not 0 < hole.mean() < 1:
        return []
    low, high = np.percentile(values[~hole], (1, 99))
    padded = np.pad(hole, 1)
    neighbours = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    alone = float((hole & ~neighbours).sum() / hole.sum())
    if not (low - (high - low) * 0.1 <= value <= high and alone > _SCATTERED):
        return []
    return [
        Finding(
            "warning",
            "nodata_is_real",
            name,
            f"The file declares {value:g} as 'not measured', but {hole.mean():.1%} of its pixels have it, scattered "
            "among neighbours of nearly the same value: it looks like a measurement.",
            "Set data.chm_nodata: none for heights, or mend the file's tag (gdal_edit.py -unsetnodata).",
            {"value": value, "share": float(hole.mean())},
        )
    ]


def band_findings(looks: Sequence[Look], names: Sequence[str]) -> list[Finding]:
    """Bands without content in most images, and values far beyond the usual range.

    Args:
        looks: The images; those without a pixel that counts are left out.
        names: Names of the C bands.
    """
    seen = [look for look in looks if np.isfinite(look.mean).all() and len(look.mean) == len(names)]
    if not seen:
        return []
    findings = []
    levels = np.stack([look.levels for look in seen])  # (N, C, 5)
    for band, name in enumerate(names):
        flat = levels[:, band, 4] == levels[:, band, 0]
        if flat.mean() > 0.5:
            findings.append(
                Finding(
                    "warning",
                    "band_constant",
                    f"band {name}",
                    f"Band {name} has one value all over in {int(flat.sum())} of {len(seen)} images.",
                    "Leave it out with data.bands, or check how the files were written.",
                    {"images": int(flat.sum())},
                )
            )
            continue
        low, high = float(np.median(levels[:, band, 1])), float(np.median(levels[:, band, 3]))
        width = max(high - low, 1e-12)
        reach = max(levels[:, band, 4].max() - high, low - levels[:, band, 0].min()) / width
        if reach > _SCALE_APART:
            worst = seen[int(np.argmax(np.maximum(levels[:, band, 4] - high, low - levels[:, band, 0])))]
            findings.append(
                Finding(
                    "warning",
                    "values_far_out",
                    worst.name,
                    f"Band {name} lies between {low:g} and {high:g} in most images and reaches from "
                    f"{levels[:, band, 0].min():g} to {levels[:, band, 4].max():g}.",
                    "Set data.nodata if these mean 'not measured', or data.normalise.kind: robust.",
                    {"low": low, "high": high, "least": float(levels[:, band, 0].min())},
                )
            )
    return findings


def outlier_findings(looks: Sequence[Look], names: Sequence[str]) -> list[Finding]:
    """Images much brighter or darker than the others, band by band, by a robust deviation."""
    seen = [look for look in looks if np.isfinite(look.mean).all() and len(look.mean) == len(names)]
    if len(seen) < _LEAST_LOOKS:
        return []
    medians = np.stack([look.levels[:, 2] for look in seen])
    spans = np.stack([look.levels[:, 3] - look.levels[:, 1] for look in seen])
    findings = []
    for band, name in enumerate(names):
        z = robust_z(medians[:, band], floor=0.1 * float(np.median(spans[:, band])))
        far = np.flatnonzero(np.abs(z) > _FAR)
        if not len(far):
            continue
        far = far[np.argsort(-np.abs(z[far]), kind="stable")]
        worst = seen[far[0]]
        findings.append(
            Finding(
                "note" if np.abs(z[far[0]]) < 5 * _FAR else "warning",
                "unlike_others",
                _scenes([seen[index] for index in far]),
                f"Band {name}: the middle value of {len(far)} images is far from that of the others; {worst.name} has "
                f"{medians[far[0], band]:g}, the usual is {np.median(medians[:, band]):g}.",
                "Look at them among the odd samples: another camera, unit or scale?",
                {"images": len(far), "robust_z": float(z[far[0]])},
            )
        )
    return findings


def value_table(looks: Sequence[Look], names: Sequence[str]) -> list[list[str]]:
    """A row for each band: name, least, percentiles 1, 50 and 99 (medians over images), largest."""
    seen = [look for look in looks if np.isfinite(look.mean).all() and len(look.mean) == len(names)]
    if not seen:
        return []
    levels = np.stack([look.levels for look in seen])
    rows = []
    for band, name in enumerate(names):
        middle = np.median(levels[:, band, 1:4], axis=0)
        numbers = (levels[:, band, 0].min(), *middle, levels[:, band, 4].max())
        rows.append([str(name), *(f"{number:.4g}" for number in numbers)])
    return rows


def _scenes(looks: Sequence[Look]) -> str:
    return listed(list(dict.fromkeys(look.scene for look in looks)))
