"""Scores: whole-number counts first, ratios after, with intervals and baselines beside them."""

from __future__ import annotations

from maskwright.metrics.breakdown import score_groups
from maskwright.metrics.build import METRICS, build_grid_meter, build_meter, mode_of
from maskwright.metrics.by_class import SegmentationMetrics
from maskwright.metrics.by_threshold import ThresholdMeter
from maskwright.metrics.calibration import CalibrationMeter, OperatingPointMeter
from maskwright.metrics.confidence import (
    Comparison,
    bootstrap,
    bootstrap_difference,
    compare_models,
    group_counts,
    interval_note,
    verdict,
)
from maskwright.metrics.counts import confusion_counts
from maskwright.metrics.curves import Area, CurveMeter
from maskwright.metrics.functions import (
    MetricsTracker,
    compute_all_metrics,
    compute_dice,
    compute_iou,
    compute_pixel_accuracy,
    compute_precision_recall_f1,
)
from maskwright.metrics.grid import GridMeter
from maskwright.metrics.matrix import confusion_matrix, matrix_scores, one_vs_rest
from maskwright.metrics.meter import MeanMeter
from maskwright.metrics.objects import ObjectMeter, match_objects, sample_counts
from maskwright.metrics.regression import RegressionMeter
from maskwright.metrics.scores import SCORES, distribution, per_image
from maskwright.metrics.skeleton import SkeletonMeter, betti_numbers, thinned
from maskwright.metrics.surface import SurfaceMeter, surface_distances
from maskwright.metrics.temperature import Temperature, TemperatureMeter
from maskwright.metrics.threshold_metrics import ThresholdMetrics

__all__ = [
    "METRICS",
    "SCORES",
    "Area",
    "CalibrationMeter",
    "Comparison",
    "CurveMeter",
    "GridMeter",
    "MeanMeter",
    "MetricsTracker",
    "ObjectMeter",
    "OperatingPointMeter",
    "RegressionMeter",
    "SegmentationMetrics",
    "SkeletonMeter",
    "SurfaceMeter",
    "Temperature",
    "TemperatureMeter",
    "ThresholdMeter",
    "ThresholdMetrics",
    "betti_numbers",
    "bootstrap",
    "bootstrap_difference",
    "build_grid_meter",
    "build_meter",
    "compare_models",
    "compute_all_metrics",
    "compute_dice",
    "compute_iou",
    "compute_pixel_accuracy",
    "compute_precision_recall_f1",
    "confusion_counts",
    "confusion_matrix",
    "distribution",
    "group_counts",
    "interval_note",
    "match_objects",
    "matrix_scores",
    "mode_of",
    "one_vs_rest",
    "per_image",
    "sample_counts",
    "score_groups",
    "surface_distances",
    "thinned",
    "verdict",
]
