"""What rounds of pseudo-labels added and whether it helped: a page, a JSON file, and a sentence for the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config import Experiment
from maskwright.errors import MaskwrightError
from maskwright.files import write_json, write_text
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.compare import RunDifference, compare_runs
from maskwright.workflows.outer_run import InnerRun
from maskwright.workflows.pseudo_labelling import BINS, Added, ImageLabels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maskwright.pictures import Block

__all__ = ["PAGE", "Round", "round_line", "verdict", "write_rounds"]

PAGE = "pseudo_labels.html"
"""Name of the page in the outer run folder."""

_MOST_ROWS = 40
_MOST_PICTURES = 8
_PICTURE_PX = 256
_UNSURE = 0.35  # how bright pixels that are not trained on are shown


@dataclass(frozen=True)
class Round:
    """A training and what was added for it.

    Attributes:
        number: From 1; 0 is the training on labelled images alone.
        run: The training.
        added: What was added; None for number 0.
        note: Why no further round followed; empty otherwise.
    """

    number: int
    run: InnerRun
    added: Added | None
    note: str = ""

    def ending(self, note: str) -> Round:
        """The same as the last round."""
        return replace(self, note=note)

    @property
    def name(self) -> str:
        return "labelled images alone" if self.number == 0 else f"round {self.number}"


def round_line(one: Round) -> str:
    """A round in a line: what was added, validation and test score."""
    added = "" if one.added is None else f", {len(one.added.used)} of {len(one.added.images)} images added"
    numbers = one.run.numbers()
    mean, interval = numbers.get("mean"), numbers.get("mean_interval") or (None, None)
    test = "" if mean is None else f"; test {numbers['score']} {_with_interval(mean, interval)}"
    return f"{one.name.capitalize()}{added}: {one.run.score_text}{test}."


def verdict(rounds: Sequence[Round], best: Round) -> str:
    """Whether pseudo-labels helped, by the best round that had some, on the same held-out images."""
    if len(rounds) == 1:
        return "Pseudo-labels were not tried: no image was sure enough. Lower pseudo_labels.confidence or min_share."
    tried = best if best.number else max(rounds[1:], key=_worth)
    difference = _difference(rounds[0], tried)
    chosen = "" if best.number else " (the labelled images alone are better on the validation part)"
    if difference is None or math.isnan(difference.low):
        better = best.number > 0
        return (
            f"Pseudo-labels {'helped' if better else 'did not help'} on the validation part, by which rounds are "
            "chosen; there are too few test images to say more."
        )
    figures = (
        f"{difference.column} IoU {difference.value:+.3f} on the same test images "
        f"(95% interval {difference.low:+.3f} to {difference.high:+.3f}, p {difference.p_value:.3f})"
    )
    if difference.low > 0:
        return f"Pseudo-labels helped: {tried.name} against labelled images alone, {figures}{chosen}."
    if difference.high < 0:
        return f"Pseudo-labels did harm: {tried.name} against labelled images alone, {figures}{chosen}."
    return (
        f"Whether pseudo-labels helped cannot be told: {tried.name} against labelled images alone, {figures}{chosen}."
    )


def write_rounds(folder: RunFolder, experiment: Experiment, rounds: Sequence[Round], *, best: Round) -> None:
    """Write the page and its numbers into the outer run folder.

    Raises:
        RunError: If the disk refuses.
    """
    from maskwright.pictures import page, paragraph, table

    settings = experiment.pseudo_labels
    about = paragraph(
        f"Images without labels of {settings.folder}. A pixel takes its class where the calibrated probability is "
        f"above {settings.confidence:g}; the others do not count. An image is added if that is "
        f"{settings.min_share:.0%} of its pixels or more; a tile of it comes {settings.weight:g} times for one of a "
        "labelled image. All rounds are scored on the same held-out images, and none of those is trained on."
    )
    sections: list[tuple[str, Sequence[Block]]] = [
        ("Did it help?", [paragraph(verdict(rounds, best)), paragraph(f"Kept: {best.name}."), about]),
        ("Scores", [table(*_score_table(rounds))]),
    ]
    for one in rounds[1:]:
        assert one.added is not None
        sections.append((f"What {one.name} added", _added_blocks(one.added)))
    write_text(folder.path / PAGE, page(f"{experiment.name}: pseudo-labels", sections))
    plain = [_plain(one, rounds) for one in rounds]
    write_json(folder.path / "pseudo_labels.json", {"kept": best.number, "rounds": plain})


# --- scores -----------------------------------------------------------------------------------------------------------


def _score_table(rounds: Sequence[Round]) -> tuple[list[str], list[list[str]]]:
    head = ["", "images added", rounds[0].run.monitor, "test", "95% interval", "difference", "95% interval of it", "p"]
    rows = []
    for one in rounds:
        numbers = one.run.numbers()
        mean, interval = numbers.get("mean"), numbers.get("mean_interval") or (None, None)
        difference = _difference(rounds[0], one) if one.number else None
        rows.append(
            [
                one.name,
                "0" if one.added is None else str(len(one.added.used)),
                "-" if one.run.best_score is None else f"{one.run.best_score:.3f}",
                "-" if mean is None else f"{mean:.3f}",
                "" if None in interval else f"({interval[0]:.3f} to {interval[1]:.3f})",
                "" if difference is None else f"{difference.value:+.3f}",
                "" if difference is None else f"({difference.low:+.3f} to {difference.high:+.3f})",
                "" if difference is None else f"{difference.p_value:.3f}",
            ]
        )
    return head, rows


def _difference(first: Round, other: Round) -> RunDifference | None:
    """The other round minus the first on the same test images; None if there are none."""
    try:
        found = compare_runs([first.run.folder.path, other.run.folder.path]).differences
    except MaskwrightError:  # a run without numbers to compare has no difference
        return None
    return found[-1] if found else None  # the mean over classes stands last


def _worth(one: Round) -> float:
    score = one.run.best_score
    return float("-inf") if score is None else score if one.run.mode == "max" else -score


def _plain(one: Round, rounds: Sequence[Round]) -> dict[str, Any]:
    difference = _difference(rounds[0], one) if one.number else None
    added = one.added
    return {
        "number": one.number,
        "run": one.run.folder.path.name,
        one.run.monitor: one.run.best_score,
        "test": one.run.numbers().get("mean"),
        "difference": None if difference is None else difference.value,
        "images_added": [] if added is None else [image.name for image in added.used],
        "class_shares": {} if added is None else dict(zip(added.columns, added.class_shares, strict=True)),
        "confidence_histogram": [] if added is None else list(added.histogram),
        "note": one.note,
    }


def _with_interval(value: float, interval: Sequence[float | None]) -> str:
    low, high = interval
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


# --- what was added ---------------------------------------------------------------------------------------------------


def _added_blocks(added: Added) -> list[Block]:
    from maskwright.pictures import bars_chart, figure, paragraph, table

    used = added.used
    shares = ", ".join(f"{name} {share:.2%}" for name, share in zip(added.columns, added.class_shares, strict=True))
    edges = np.linspace(0.5, 1, BINS + 1)[:-1]
    labels = [f"{edge:.2f}" if place % 4 == 0 else "" for place, edge in enumerate(edges)]
    chart = bars_chart(labels, {"pixels": added.histogram}, y="share")
    rows = [
        [
            image.name,
            "yes" if image.used else "no",
            f"{image.sure_share:.1%}",
            *(f"{share:.2%}" for share in image.class_shares),
        ]
        for image in sorted(added.images, key=lambda image: -image.sure_share)[:_MOST_ROWS]
    ]
    head = ["image", "added", "sure of", *added.columns]
    more = f" The {_MOST_ROWS} surest of them:" if len(added.images) > _MOST_ROWS else ""
    blocks = [
        paragraph(f"{len(used)} of {len(added.images)} images. Of the pixels that are trained on: {shares}.{more}"),
        table(head, rows),
        figure(chart, "Share of all pixels of the images by how sure the model is of them."),
    ]
    if used:
        blocks.append(figure(_sheet(added), "What is trained on, painted; pixels that do not count are dark."))
    return blocks


def _sheet(added: Added) -> Any:
    from maskwright.pictures import contact_sheet, series_colors

    colors = series_colors(list(added.columns))
    step = max(1, len(added.used) // _MOST_PICTURES)
    panels = [(image.name, _painted(added, image, colors)) for image in added.used[::step][:_MOST_PICTURES]]
    entries = list(zip(added.columns, colors, strict=False))
    return contact_sheet(panels, panel_px=_PICTURE_PX, entries=entries)


def _painted(added: Added, image: ImageLabels, colors: Sequence[Any]) -> NDArray[np.uint8]:
    """A small picture of an image with its made mask."""
    import PIL.Image

    from maskwright.data.sources.image_file import read_image, resize_nearest
    from maskwright.pictures import overlay_mask

    decoded = read_image(Path(image.file))
    bands = decoded.values[:3] if len(decoded.values) >= 3 else np.repeat(decoded.values[:1], 3, axis=0)
    low, high = np.percentile(bands, (1, 99))
    rgb = np.clip((bands.transpose(1, 2, 0) - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    with PIL.Image.open(added.mask_of(image)) as file:
        ids = np.asarray(file)
    scale = min(1.0, _PICTURE_PX / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[0] * scale)), max(1, round(rgb.shape[1] * scale))
    ids = resize_nearest(ids, size)
    rgb = np.stack([resize_nearest(rgb[..., band], size) for band in range(3)], axis=-1)
    unknown = ids == (65535 if ids.dtype == np.uint16 else 255)
    rgb[unknown] = (rgb[unknown] * _UNSURE).astype(np.uint8)
    for column, color in enumerate(colors):
        if ids.dtype == np.uint16:
            found = ~unknown & ((ids >> column & 1) == 1)
        else:
            found = ~unknown & (ids == column + (len(colors) == 1))
        if ids.dtype == np.uint16 or column or len(colors) == 1:
            rgb = overlay_mask(rgb, found, color, 0.45)
    return np.ascontiguousarray(rgb)
