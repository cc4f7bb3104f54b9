"""The page and the JSON of a check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright import __version__
from maskwright.data.preflight import LEVELS, Finding
from maskwright.data.preflight_labels import class_table
from maskwright.data.preflight_values import value_table
from maskwright.pictures import Block, code, contact_sheet, figure, page, paragraph, sentences, table
from maskwright.types import Place, Window

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.workflows.check import Checked

__all__ = ["facts_of", "findings_table", "page_of"]

_PICTURE_PX = 300  # height of a picture above its text
_PANEL_PX = 353  # width of a panel, and its greatest height with three lines of text
_CROP_PX = 512  # part of a large sample shown where a detail matters
_MOST_PAIRS = 4
_LINE_PX = 17
_JSON_VERSION = 1
_WORDS = {"error": "ERROR", "warning": "Warning", "note": "Note"}


def page_of(done: Checked, findings: Sequence[Finding], target: Path, augmented: Any = None) -> str:
    """The page as text.

    Args:
        done: What was found out.
        findings: In the order they are shown.
        target: What was checked.
        augmented: Sheet and texts of augmented samples; None: not asked for.
    """
    sections: list[tuple[str, list[Block]]] = [("Verdict", _verdict(done, findings))]
    shown = [finding for finding in findings if finding.level != "note"]
    notes = [finding for finding in findings if finding.level == "note"]
    if shown:
        blocks = []
        for level, caption in (("error", "Errors: training is refused or worthless."), ("warning", "Warnings.")):
            head, cells = findings_table([finding for finding in shown if finding.level == level])
            blocks += [table(head[1:], [row[1:] for row in cells], caption=caption)] if cells else []
        sections.append(("What to mend", [*blocks, *_finding_pictures(done, shown)]))
    if done.odd:
        sections.append(("The oddest samples", _odd_blocks(done)))
    if done.source is not None:
        sections.append(("What is there", _data_blocks(done)))
    if notes:
        head, cells = findings_table(notes)
        sections.append(("Good to know", [table(head[1:], [row[1:] for row in cells])]))
    if done.plan is not None:
        sections.append(("What training will take", _plan_blocks(done)))
    if augmented is not None:
        caption = "Below each pair: its file, its window, every change, and how values are normalised."
        sections.append(("Augmented samples", [figure(augmented[0], caption), sentences(augmented[1])]))
    sections.append(("What to do next", _next_blocks(findings, target)))
    return page(f"Check of {target.resolve().name}", sections, subtitle=f"maskwright check, version {__version__}")


def findings_table(findings: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """Head and cells: level, where, what was found, what to do."""
    return ["level", "where", "found", "do"], [[_WORDS[f.level], f.where or "-", f.what, f.do] for f in findings]


def facts_of(done: Checked, findings: Sequence[Finding], target: Path) -> dict[str, Any]:
    """The content of the JSON file: plain values."""
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    facts: dict[str, Any] = {
        "version": _JSON_VERSION,
        "maskwright": __version__,
        "target": str(target),
        "counts": counts,
        "findings": [finding.to_dict() for finding in findings],
        "elapsed_s": dict(done.elapsed_s),
    }
    if done.source is not None and done.eyes is not None:
        names = done.eyes.class_names
        facts["data"] = {
            "scenes": len(done.source.scenes),
            "bands": [str(name) for name in done.eyes.band_names],
            "classes": list(names),
            "tiles": None if done.split is None else done.split.counts(),
            "class_shares": {
                part: {name: float(done.counts[part][i]) / total for i, name in enumerate(names)}
                for part, total in done.totals.items()
                if total
            },
        }
        facts["odd"] = [
            {"sample": done.samples[odd.index].name, "why": odd.why, "distance": round(odd.distance, 3)}
            for odd in done.odd
        ]
    if done.plan is not None:
        facts["forecast"] = done.plan.to_dict()
    return facts


def _verdict(done: Checked, findings: Sequence[Finding]) -> list[Block]:
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    if counts["error"]:
        text = f"Training would fail or be worthless: {_counted(counts['error'], 'error')}."
    elif counts["warning"]:
        text = f"Training can begin, but its numbers may mislead: {_counted(counts['warning'], 'warning')}."
    else:
        text = "Nothing stands in the way of training."
    blocks = [paragraph(text)]
    if done.source is not None and done.split is not None and done.eyes is not None:
        tiles = ", ".join(f"{count} for {part}" for part, count in done.split.counts().items())
        blocks.append(
            paragraph(
                f"{_counted(len(done.source.scenes), 'image')} with {_counted(len(done.eyes.band_names), 'band')} "
                f"({', '.join(map(str, done.eyes.band_names))}); {done.eyes.what}: {', '.join(done.eyes.class_names)}; "
                f"tiles of {done.split.tile_px} px: {tiles}. {len(done.looks)} samples were looked at pixel by pixel."
            )
        )
    return blocks


def _data_blocks(done: Checked) -> list[Block]:
    assert done.source is not None
    assert done.eyes is not None
    blocks = []
    rows = value_table(done.looks, done.eyes.band_names)
    if rows:
        head = ["band", "least", "1 %", "middle", "99 %", "largest"]
        blocks.append(table(head, rows, caption="Values as stored: medians over the samples, and the extremes."))
    if done.totals:
        head, cells = class_table(done.counts, done.totals, done.eyes.class_names)
        blocks.append(table(head, cells, caption="Share of the pixels that count, by part of the split."))
    if done.split is not None:
        parts = done.eyes.parts(done.split)
        counts = done.split.counts()
        cells = [
            [part, str(sum(own == part for own in parts.values())), str(counts[part])]
            for part in ("train", "val", "test")
        ]
        blocks.append(table(["part", "whole images", "tiles"], cells, caption=f"Split by {done.split.by}."))
    return blocks


def _plan_blocks(done: Checked) -> list[Block]:
    plan = done.plan
    assert plan is not None
    field = "anywhere" if plan.receptive_field_px is None else f"{2 * plan.receptive_field_px + 1} px"
    cells = [
        ["device", plan.device],
        ["weights", f"{plan.parameters / 1e6:.2f} million"],
        ["sees", field],
        ["steps", f"{plan.steps_per_epoch} an epoch, {plan.steps_per_epoch * plan.epochs} in {plan.epochs} epochs"],
        ["time", f"about {_minutes(plan.minutes)} (good to a factor of 1.5)"],
        ["memory", f"about {plan.memory_mb:.0f} MB (give or take 30 %), {plan.free_memory_mb:.0f} MB free"],
        ["disk", f"about {plan.disk_mb:.0f} MB, {plan.cache_mb:.0f} MB of it cache; {plan.free_disk_mb:.0f} MB free"],
    ]
    return [
        table(["what", "forecast"], cells),
        paragraph(
            "Measured in a few steps on two samples: memory is 16 bytes for each weight, what one sample keeps for the "
            f"backward pass ({plan.activations_mb:.1f} MB) times the batch and 1.3, the batch twice, and the program."
        ),
    ]


def _odd_blocks(done: Checked) -> list[Block]:
    assert done.eyes is not None
    eyes = done.eyes
    panels = []
    for odd in done.odd:
        sample = done.samples[odd.index]
        panels.append((sample.name, _captioned(eyes.picture(sample.place), f"{odd.why} [{sample.part or 'not used'}]")))
    entries = list(zip(eyes.class_names, eyes.colors, strict=True))
    sheet = contact_sheet(panels, columns=3, panel_px=_PANEL_PX, entries=entries)  # as large as the panels are
    text = "The samples farthest from the usual in brightness, contrast, edges and foreground. Odd is not wrong: look."
    return [paragraph(text), figure(sheet, "Under each picture stands in what it differs most.")]


def _finding_pictures(done: Checked, findings: Sequence[Finding]) -> list[Block]:
    blocks: list[Block] = []
    for finding in findings:
        if finding.code == "mask_shifted":
            blocks.append(_shift_figure(done, finding))
        elif finding.code in ("near_copies_across_parts", "exact_copies_across_parts"):
            blocks += _copy_figures(done, finding)
        elif finding.code == "blank_border":
            blocks += _border_figures(done)
    return blocks


def _shift_figure(done: Checked, finding: Finding) -> Block:
    """Masks where they are and where they would fit, on the samples with most outline."""
    assert done.eyes is not None
    eyes = done.eyes
    down, right = round(finding.numbers["down_px"]), round(finding.numbers["right_px"])
    order = sorted(range(len(done.looks)), key=lambda i: -min(done.looks[i].foreground, 0.2))
    panels = []
    for index in order[:3]:
        place = _middle(done.samples[index].place)
        moved = Place(place.scene, Window(place.window.row - down, place.window.col - right, *_size(place)))
        panels.append((f"{done.samples[index].name}: as it is", _outlined(eyes, place, place)))
        panels.append((f"moved {down} px down, {right} px right", _outlined(eyes, place, moved)))
    return figure(contact_sheet(panels, columns=2, panel_px=420), finding.what)


def _outlined(eyes: Any, place: Place, masks_from: Place) -> NDArray[np.uint8]:
    from maskwright.pictures import draw_outlines

    painted: NDArray[np.uint8] = eyes.plain(place)
    for mask, color in zip(eyes.masks(masks_from), eyes.colors, strict=True):
        painted = draw_outlines(painted, mask, color)
    return painted


def _copy_figures(done: Checked, finding: Finding) -> list[Block]:
    assert done.eyes is not None
    assert done.source is not None
    scenes, parts = done.source.scenes, done.eyes.parts(done.split)
    across = [
        copy
        for copy in done.copies
        if (a := parts.get(scenes[copy.first].name)) and (b := parts.get(scenes[copy.second].name)) and a != b
    ]
    across.sort(key=lambda copy: -copy.alike)
    panels = []
    for copy in across[:_MOST_PAIRS]:
        for index in (copy.first, copy.second):
            scene = scenes[index]
            plain = done.eyes.plain(Place(scene.name, scene.grid.window))
            panels.append((f"{scene.name} ({parts[scene.name]})", plain))
    return [figure(contact_sheet(panels, columns=4, panel_px=230), finding.what)] if panels else []


def _border_figures(done: Checked) -> list[Block]:
    assert done.eyes is not None
    held = sorted(range(len(done.looks)), key=lambda i: -done.looks[i].blank_share)[:4]
    panels = [
        (f"{done.samples[i].name}: {done.looks[i].blank_share:.0%} plain", done.eyes.plain(done.samples[i].place))
        for i in held
        if done.looks[i].blank_share > 0
    ]
    return [figure(contact_sheet(panels, panel_px=230), "Plain borders that count as if measured.")] if panels else []


def _next_blocks(findings: Sequence[Finding], target: Path) -> list[Block]:
    if any(finding.level == "error" for finding in findings):
        return [paragraph("Mend the errors above, then check again:"), code(f"maskwright check {target}")]
    if target.is_dir():
        return [code(f"maskwright init {target} --out experiment.yaml"), code("maskwright train experiment.yaml")]
    return [code(f"maskwright train {target}")]


def _captioned(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A picture of the panel's size with a text of up to three lines below it."""
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont

    image: Image = PIL.Image.fromarray(np.ascontiguousarray(picture))
    scale = min(_PANEL_PX / image.width, _PICTURE_PX / image.height)
    way = PIL.Image.Resampling.NEAREST if scale >= 1 else PIL.Image.Resampling.BOX
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), way)
    font = PIL.ImageFont.load_default(13)
    lines = _wrapped(text, _PANEL_PX, font)[:3]
    sheet = PIL.Image.new("RGB", (_PANEL_PX, image.height + _LINE_PX * len(lines) + 2), (255, 255, 255))
    sheet.paste(image, (0, 0))
    draw = PIL.ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((0, image.height + 2 + number * _LINE_PX), line, fill=(80, 82, 86), font=font)
    return np.asarray(sheet)


def _wrapped(text: str, width_px: int, font: Any) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width_px or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _middle(place: Place) -> Place:
    """The middle of a large place."""
    window = place.window
    height, width = min(window.height, _CROP_PX), min(window.width, _CROP_PX)
    row, col = window.row + (window.height - height) // 2, window.col + (window.width - width) // 2
    return Place(place.scene, Window(row, col, height, width))


def _size(place: Place) -> tuple[int, int]:
    return place.window.height, place.window.width


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1, math.ceil(minutes * 60))} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
