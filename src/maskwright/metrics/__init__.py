"""Scores: whole-number counts first, ratios after, with intervals and baselines beside them."""

from __future__ import annotations

from maskwright.metrics.build import METRICS, build_grid_meter, build_meter, mode_of, monitor_key
from maskwright.metrics.by_threshold import ThresholdMeter
from maskwright.metrics.calibration import OperatingPointMeter
from maskwright.metrics.confidence import bootstrap, bootstrap_difference, group_counts, interval_note, verdict
from maskwright.metrics.counts import confusion_counts
from maskwright.metrics.grid import GridMeter
from maskwright.metrics.meter import MeanMeter
from maskwright.metrics.scores import SCORES, distribution, per_image

__all__ = [
    "METRICS",
    "SCORES",
    "GridMeter",
    "MeanMeter",
    "OperatingPointMeter",
    "ThresholdMeter",
    "bootstrap",
    "bootstrap_difference",
    "build_grid_meter",
    "build_meter",
    "confusion_counts",
    "distribution",
    "group_counts",
    "interval_note",
    "mode_of",
    "monitor_key",
    "per_image",
    "verdict",
]
