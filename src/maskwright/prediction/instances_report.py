"""The page about the trees of one image: counts, cover, maps, spacing, shade, and what to make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.errors import PredictionError
from maskwright.files import write_bytes
from maskwright.metrics.stand import ALL, Stand
from maskwright.pictures import Block, figure, line_chart, page, paragraph, sentences, table

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["stand_sections", "write_stand_page"]

_WORDS = {
    "canopy_coverage": ("canopy cover", "40 to 60 % is good, 30 to 70 % acceptable"),
    "shaded_share": ("crop trees near a shade tree", "80 % or more is good, 60 % acceptable"),
    "ratio_score": (
        "ratio of shade to crop trees, score",
        "0.7 or more is good; 1 at one shade tree to five crop trees",
    ),
    "distribution_score": (
        "evenness of shade, score",
        "0.7 or more is good; 1 where every crop tree is as near to its own",
    ),
    "spacing_score": ("evenness of shade trees, score", "0.7 or more is good; 1 where all stand as far apart"),
}
_SPACING = (
    ("nearest_mean", "nearest neighbour, mean", 1),
    ("nearest_std", "its spread", 1),
    ("clark_evans", "Clark-Evans", 0),
    ("pattern", "pattern", 0),
    ("voronoi_mean", "Voronoi cell, mean", 2),
    ("voronoi_cv", "its spread over mean", 0),
)


def write_stand_page(
    path: Path,
    name: str,
    stand: Stand,
    *,
    pictures: Mapping[str, Image],
    facts: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write the page of one image.

    Args:
        path: The HTML file.
        name: Of the image.
        stand: Its figures.
        pictures: Captions and pictures, in order.
        facts: What was done, by name.
        notes: What a person should know.

    Raises:
        PredictionError: If it cannot be written.
    """
    count = stand.classes[ALL].count
    head = "no tree was found" if not count else f"{count} trees on {_area(stand.area, stand.unit)}"
    sections = [*stand_sections(stand, pictures)]
    if notes:
        sections.append(("Notes", [sentences(list(notes))]))
    sections.append(("How it was made", [table(("", ""), [[key, value] for key, value in facts.items()])]))
    text = page(f"Trees of {name}", sections, subtitle=head)
    write_bytes(path, text.encode("utf-8"), error=PredictionError)


def stand_sections(stand: Stand, pictures: Mapping[str, Image]) -> list[tuple[str, list[Block]]]:
    """Headings and what stands under them."""
    told: list[tuple[str, list[Block]]] = [("Trees", [_classes(stand), *_unknown_size(stand)])]
    if pictures:
        told.append(("Maps", [figure(picture, caption) for caption, picture in pictures.items()]))
    if stand.verdicts:
        told.append(("What to make of it", [_verdicts(stand)]))
    if stand.shade:
        told.append(("Shade", [_shade(stand)]))
    told.append(("Spacing", _spacing(stand)))
    return told


def _classes(stand: Stand) -> Block:
    per = "per hectare" if stand.unit == "m" else "per million px"
    heads = ("class", "trees", per, "ground under crowns", "crown diameter, mean", "its spread")
    rows = [
        [name, row.count, row.per_area, _share(row.cover), row.diameter_mean, row.diameter_std]
        for name, row in stand.classes.items()
    ]
    units = {"crown diameter, mean": stand.unit, "its spread": stand.unit}
    return table(heads, rows, units=units)


def _unknown_size(stand: Stand) -> list[Block]:
    if stand.unit == "m":
        return []
    return [paragraph("The size of a pixel on the ground is not known, so all distances and areas are in pixels.")]


def _verdicts(stand: Stand) -> Block:
    rows: list[list[object]] = []
    for name, verdict in stand.verdicts.items():
        words, bands = _WORDS[name]
        value = verdict.value if name.endswith("score") else _share(verdict.value)
        rows.append([words, value, verdict.word, bands])
    return table(("figure", "value", "verdict", "measured by"), rows)


def _shade(stand: Stand) -> Block:
    per = 1e4 if stand.unit == "m" else 1e6
    where = "per hectare" if stand.unit == "m" else "per million px"
    reach = f"{stand.shade_reach:g} {stand.unit}"
    rows: list[list[object]] = [
        [f"shade trees {where}", stand.shade["shade_density"] * per],
        [f"crop trees {where}", stand.shade["crop_density"] * per],
        ["shade trees to a crop tree", stand.shade["shade_ratio"]],
        [f"crop trees with a shade tree within {reach}", _share(stand.shade["shaded_share"])],
    ]
    return table(("figure", "value"), rows)


def _spacing(stand: Stand) -> list[Block]:
    rows: list[list[Any]] = [
        [_with_unit(head, stand.unit, power), *(getattr(spacing, field) for spacing in stand.spacing.values())]
        for field, head, power in _SPACING
    ]
    blocks = [
        table(["figure", *stand.spacing], rows),
        paragraph(
            "Clark-Evans is the mean distance to the nearest neighbour over that of trees strewn at random: below 1 "
            "they stand in clusters, above 1 they keep apart. Neighbours beyond the edge are allowed for."
        ),
    ]
    lines = {name: spacing.ripley_l for name, spacing in stand.spacing.items() if np.isfinite(spacing.ripley_l).any()}
    radii = stand.spacing[ALL].radii
    drawn = {name: values for name, values in lines.items() if stand.spacing[name].radii == radii}
    if drawn:
        chart = line_chart(radii, drawn, x=f"distance r ({stand.unit})", y=f"L(r) - r ({stand.unit})")
        blocks.append(figure(chart, "Ripley's L less r: above 0 there are more neighbours within r than at random."))
    return blocks


def _with_unit(head: str, unit: str, power: int) -> str:
    return f"{head} ({unit}{'2' if power == 2 else ''})" if power else head


def _share(value: float) -> str | None:
    return None if math.isnan(value) else f"{100 * value:.1f}%"


def _area(area: float, unit: str) -> str:
    if unit == "px":
        return f"{area:,.0f} pixels"
    return f"{area / 1e4:.2f} ha" if area >= 1e3 else f"{area:.0f} m2"
