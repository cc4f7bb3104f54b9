"""The numbers of one part of the split: a plain record that the screen, the page and the JSON file share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from maskwright.types import Place

__all__ = ["Evaluation", "ImageRow", "ScoreRow"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one column: a height, a class, or the heights a model predicts.

    Attributes:
        column: Its name: ``5 m``, ``crack``.
        height_m: The height in metres, where the column is one.
        scores: By name; nan where not defined.
        intervals: (low, high) by name.
        share_true: Share 0..1 of the pixels that truly belong to it.
        share_called: Share 0..1 of the pixels that are said to.
    """

    column: str
    height_m: float | None
    scores: dict[str, float]
    intervals: dict[str, Interval]
    share_true: float = math.nan
    share_called: float = math.nan


@dataclass(frozen=True)
class ImageRow:
    """One image: which classes it holds, which were called in it, and how well they overlap.

    An image holds a class if one pixel of it is that class; likewise for what is called.
    """

    image: str
    true: tuple[str, ...]
    called: tuple[str, ...]
    iou: float
    share_true: float
    share_called: float


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one part of the split.

    Attributes:
        part: ``val`` or ``test``.
        task: Kind of the task.
        columns: What is scored, one row each.
        heights_m: The columns as heights in metres; empty for classes.
        score: Name of the score that decides: ``iou`` or ``rmse``.
        model: Rows of the model.
        baselines: Rows of answers that need no training, by name.
        sentences: The verdict in plain words.
        sites: Rows by site, or by group of images.
        unit: What the intervals are drawn over: ``block of ground``, ``image``.
        mean: Mean of the deciding score over the columns that occur.
        mean_interval: Its interval.
        absent: Columns without a true pixel; they are in no mean.
        grid: Agreement of gap shares in cells of the ground, by height.
        violations: Pixels likelier a gap at the lower of two heights, before that is mended.
        confusion: (K, K) pixels, row = true class, for classes that exclude each other.
        samples: Scores of whole images as right or wrong, by column.
        images: A row for each image.
        probabilities: Areas under curves and calibration errors, by name.
        reliability: The reliability curve, rows by column and bin.
        thin: Scores of thin things and outlines, by name.
        operating_point: Where probabilities are cut, and how that was found.
        worst: Tiles with the lowest scores.
        best: Tiles with the highest.
        objects: Scores of objects found one by one, by name; empty for tasks that find none.
        objects_baselines: The same scores of answers that need no training, by their name.
        objects_unit: Unit of their distances and diameters: ``m`` or ``px``.
        block_counts: TP, FP, FN, TN of each column by image or block, by its name: what a paired comparison needs.
    """

    part: str
    task: str
    columns: tuple[str, ...]
    heights_m: tuple[float, ...]
    score: str
    model: list[ScoreRow]
    baselines: dict[str, list[ScoreRow]]
    sentences: list[str]
    sites: dict[str, list[ScoreRow]]
    tiles: int
    unit: str
    blocks: int
    valid_pixels: int
    confidence: float
    elapsed_s: float
    mean: float = math.nan
    mean_interval: Interval = (math.nan, math.nan)
    absent: tuple[str, ...] = ()
    grid: list[dict[str, float]] = field(default_factory=list)
    violations: int = 0
    confusion: list[list[int]] | None = None
    samples: list[ScoreRow] = field(default_factory=list)
    images: list[ImageRow] = field(default_factory=list)
    probabilities: dict[str, float] = field(default_factory=dict)
    reliability: list[dict[str, Any]] = field(default_factory=list)
    thin: dict[str, float] = field(default_factory=dict)
    operating_point: dict[str, Any] = field(default_factory=dict)
    worst: tuple[Place, ...] = ()
    best: tuple[Place, ...] = ()
    notes: list[str] = field(default_factory=list)
    objects: dict[str, float] = field(default_factory=dict)
    objects_baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    objects_unit: str = ""
    block_counts: dict[str, list[list[int]]] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        """Direction of the deciding score."""
        return self.score != "rmse"

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the heights or classes that occur; nan for tasks that have none."""
        return self.mean if self.score == "iou" else math.nan

    def at_heights(self, heights_m: Sequence[float]) -> Evaluation:
        """The same numbers at some of the heights."""
        kept = [k for k, height in enumerate(self.heights_m) if height in heights_m]
        if len(kept) == len(self.heights_m):
            return self

        def pick(rows: Sequence[Any]) -> list[Any]:
            return [rows[k] for k in kept]

        columns = tuple(pick(self.columns))
        others = set(self.columns) - set(columns)
        named = tuple(f"At {column} " for column in columns)
        known = [row.scores["iou"] for row in pick(self.model) if not math.isnan(row.scores["iou"])]
        return replace(
            self,
            columns=columns,
            heights_m=tuple(pick(self.heights_m)),
            model=pick(self.model),
            baselines={name: pick(rows) for name, rows in self.baselines.items()},
            grid=pick(self.grid),
            block_counts={name: pick(rows) for name, rows in self.block_counts.items()},
            sites={site: pick(rows) for site, rows in self.sites.items()},
            sentences=[text for text in self.sentences if text.startswith(named) or not text.startswith("At ")],
            mean=float(np.mean(known)) if known else math.nan,
            mean_interval=(math.nan, math.nan),
            absent=tuple(name for name in self.absent if name in columns),
            probabilities={key: v for key, v in self.probabilities.items() if key.partition("@")[2] in columns},
            reliability=[row for row in self.reliability if row["name"] not in others],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``evaluation.json``; what is not defined is None. The counts of blocks go elsewhere."""
        plain: dict[str, Any] = _plain(asdict(replace(self, block_counts={})) | {"mean_iou": self.mean_iou})
        del plain["block_counts"]
        if self.heights_m:
            rows = [*plain["model"], *(row for more in ("baselines", "sites") for row in _rows_of(plain[more]))]
            for row in rows:
                row["gap_share_true"], row["gap_share_predicted"] = row.pop("share_true"), row.pop("share_called")
        return plain


def _rows_of(named: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in named.values() for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value
