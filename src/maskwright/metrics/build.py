"""From settings and names to meters; every name knows whether higher is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from maskwright.config.metric_names import canonical_metric
from maskwright.errors import ConfigError
from maskwright.metrics.by_threshold import ThresholdMeter
from maskwright.metrics.grid import GridMeter
from maskwright.metrics.scores import SCORES

if TYPE_CHECKING:
    from maskwright.config.metrics import MetricsConfig

__all__ = ["METRICS", "build_grid_meter", "build_meter", "mode_of"]

_BEYOND_COUNTS = {
    "boundary_f1": True,
    "boundary_precision": True,
    "boundary_recall": True,
    "cldice": True,
    "hd95": False,
    "mae": False,
    "miou": True,
    "mse": False,
    "nsd": True,
    "object_f1": True,
    "object_iou": True,
    "object_precision": True,
    "object_recall": True,
    "pr_auc": True,
    "r2": True,
    "rmse": False,
    "roc_auc": True,
    "size_correlation": True,
    "size_mae": False,
    "size_rmse": False,
    "surface_distance": False,
    "topology_precision": True,
    "topology_recall": True,
}

METRICS: dict[str, bool] = {
    "loss": False,
    **{name: score.higher_is_better for name, score in SCORES.items() if score.higher_is_better is not None},
    **_BEYOND_COUNTS,
}
"""Names that can be monitored, and whether a higher value is better."""

_PARTS = ("train", "val", "test")
_IMAGE_MEANS = ("_images_skip", "_images_zero", "_images_one")  # what an image without the class scores


def build_meter(config: MetricsConfig, heights_m: Sequence[float]) -> ThresholdMeter:
    """The meter of a validation or test pass over these heights in metres."""
    return ThresholdMeter(heights_m, config.probability_threshold)


def build_grid_meter(config: MetricsConfig, heights_m: Sequence[float], pixel_size_m: Mapping[str, float]) -> GridMeter:
    """The grid evaluation over these heights; ``pixel_size_m`` in metres, by scene."""
    return GridMeter(config.grid_m, pixel_size_m, heights_m)


def mode_of(metric_name: str) -> Literal["min", "max"]:
    """Whether a monitored score should fall or rise.

    Args:
        metric_name: For example ``val/iou``, ``val/iou@5m``, ``val/iou@road``, ``val/iou_images_skip``, ``val/loss`` or
            ``val_loss``. The parts of a loss, named ``loss/...``, ``loss_...``, ``..._loss`` or ``..._error``, fall;
            ``..._score`` rises.

    Raises:
        ConfigError: If the score is not known or has no direction; the message lists those available.
    """
    name, _, height = _without_part(canonical_metric(metric_name)).partition("@")
    for suffix in _IMAGE_MEANS:
        name = name.removesuffix(suffix) if name.removesuffix(suffix) in SCORES else name
    if name in METRICS and not (name == "loss" and height):
        return "max" if METRICS[name] else "min"
    if name.startswith(("loss/", "loss_")) or name.endswith(("_loss", "_error")):
        return "min"
    if name.endswith("_score"):
        return "max"
    reason = "has no better direction" if name in SCORES else "is not a known score"
    available = ", ".join(f"val/{known}" for known in sorted(METRICS))
    raise ConfigError(
        f'monitor "{metric_name}" {reason}. Available: {available}; scores also at one height, for example val/iou@5m.'
    )


def _without_part(key: str) -> str:
    part, _, rest = key.partition("/")
    return rest if part in _PARTS else key
