"""Where a trained model cuts its probabilities, and the temperature that makes them mean what they say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.config import EXCLUSIVE, MetricsConfig
from maskwright.metrics import OperatingPointMeter, TemperatureMeter
from maskwright.tasks.object_task import ObjectTask
from maskwright.types import Batch, Prediction
from maskwright.workflows.object_point import find_object_point

if TYPE_CHECKING:
    from maskwright.data.loaders import EvalLoader
    from maskwright.tasks.build import AnyTask

__all__ = ["OperatingPoint", "answer", "find_operating_point"]

_WHOLE = "all"  # heights share one threshold: a gap at 5 m must stay a gap at 10 m, and any height may be asked
_ENOUGH_PX = 1_000_000
_TEMPERATURES = np.geomspace(0.05, 20.0, 61)  # 1.0 in the middle


@dataclass(frozen=True)
class OperatingPoint:
    """How outputs become answers.

    Attributes:
        thresholds: A probability for each column; called above it. Of classes that exclude each other the likeliest
            is called, whatever stands here.
        temperature: Outputs are divided by this before they become probabilities.
        rule: How the thresholds were chosen.
        notes: What a person must know about the choice.
        objects: For tasks of objects: from which ``min_score`` and ``min_area_px`` one counts; None: as the task says.
    """

    thresholds: tuple[float, ...]
    temperature: float = 1.0
    rule: str = "fixed"
    notes: tuple[str, ...] = ()
    objects: dict[str, Any] | None = None

    @classmethod
    def fixed(cls, task: AnyTask, threshold: float) -> OperatingPoint:
        """The threshold of the settings for every column."""
        return cls(() if task.kind == "height" else (threshold,) * len(task.columns))

    @classmethod
    def of_model(cls, description: Mapping[str, Any], task: AnyTask) -> OperatingPoint:
        """What ``model.json`` says; models saved without it cut where their settings say."""
        found = description.get("operating_point")
        if found is None:
            return cls.fixed(task, float(description["probability_threshold"]))
        thresholds = tuple(float(value) for value in found["thresholds"])
        if task.kind == "height_gaps":  # other heights may be asked than those it was chosen at
            thresholds = thresholds[:1] * len(task.columns)
        rule, notes = str(found["rule"]), tuple(found["notes"])
        return cls(thresholds, float(found["temperature"]), rule, notes, found.get("objects"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``model.json`` and ``evaluation.json``."""
        return {**asdict(self), "thresholds": list(self.thresholds), "notes": list(self.notes)}

    def describe(self) -> dict[str, Any]:
        """The keys of ``model.json`` that prediction reads."""
        return {
            "probability_thresholds": list(self.thresholds),
            "temperature": self.temperature,
            "operating_point": self.to_dict(),
        }

    def called(self, task: AnyTask, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: what is called."""
        if task.kind in (*EXCLUSIVE, "height"):
            return task.called(prediction)
        return prediction.probs > prediction.probs.new_tensor(self.thresholds).view(1, -1, 1, 1)


def answer(
    model: nn.Module, task: AnyTask, batch: Batch, heights_m: Sequence[float], temperature: float = 1.0
) -> Prediction:
    """Decoded outputs of a batch, divided by the temperature first."""
    outputs = model(batch.image, batch.condition)
    if temperature != 1.0:
        outputs = outputs / temperature
    return task.decode(outputs, heights_m or None, valid=batch.valid)


def find_operating_point(
    model: nn.Module, task: AnyTask, batches: EvalLoader, heights_m: Sequence[float], metrics: MetricsConfig
) -> OperatingPoint:
    """Temperature and thresholds by the rule of the settings, from the validation part alone.

    Args:
        model: The trained network, in evaluation mode.
        task: What its outputs mean.
        batches: The validation part; walked through once for each of the two.
        heights_m: Heights asked, for tasks that are asked for heights.
        metrics: Its fields ``operating_point``, ``operating_value``, ``calibrate`` and ``probability_threshold``.
    """
    point = OperatingPoint.fixed(task, metrics.probability_threshold)
    if task.kind == "height":
        return point
    if isinstance(task, ObjectTask):
        return _point_of_objects(model, task, batches, metrics, point)
    with torch.inference_mode():
        temperature, notes = _temperature(model, task, batches) if metrics.calibrate else (1.0, [])
        if metrics.operating_point == "fixed" or task.kind in EXCLUSIVE:
            return OperatingPoint(point.thresholds, temperature, "fixed", tuple(notes))
        meter = OperatingPointMeter(_numbers(task))
        for batch in _on_device(batches, model):
            prediction = answer(model, task, batch, heights_m, temperature)
            meter.update(*_joined(task, prediction.probs, task.target(batch), batch.valid))
    rule = metrics.operating_point
    rows = meter.choose("f1" if rule == "max_f1" else rule, metrics.operating_value)
    names = (_WHOLE,) if task.kind == "height_gaps" else task.columns
    found = []
    for name, row in zip(names, rows, strict=True):
        value = row["probability_threshold"]
        if math.isnan(value):
            value = metrics.probability_threshold
            notes.append(
                f"{name}: no threshold fulfils operating_point {rule} on validation data, so {value:g} is kept."
            )
        found.append(value)
    thresholds = tuple(found * len(task.columns) if task.kind == "height_gaps" else found)
    return OperatingPoint(thresholds, temperature, rule, tuple(notes))


def _point_of_objects(
    model: nn.Module, task: ObjectTask, batches: EvalLoader, metrics: MetricsConfig, point: OperatingPoint
) -> OperatingPoint:
    """Where objects begin to count. Pixels take the likeliest class, and offsets are no probabilities to calibrate."""
    if metrics.operating_point == "fixed":
        return point
    chosen, notes = find_object_point(model, task, batches, metrics)
    objects = None if chosen is None else asdict(chosen)
    return OperatingPoint(point.thresholds, 1.0, metrics.operating_point, notes, objects)


def _numbers(task: AnyTask) -> tuple[float, ...]:
    """Channels of the meter, which calls them heights: one for all heights together, else one a column."""
    return (0.0,) if task.kind == "height_gaps" else tuple(float(k) for k in range(len(task.columns)))


def _joined(task: AnyTask, values: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heights side by side as one channel; other columns as they are."""
    if task.kind != "height_gaps":
        return values, target, valid
    heights = values.shape[1]
    return values.flatten(0, 1).unsqueeze(1), target.flatten(0, 1).unsqueeze(1), valid.repeat_interleave(heights, 0)


def _temperature(model: nn.Module, task: AnyTask, batches: EvalLoader) -> tuple[float, list[str]]:
    """The one temperature with the lowest log-loss, over all columns together."""
    if task.kind == "multiclass":
        losses = np.zeros(len(_TEMPERATURES))
        step = _every(batches)
        for batch in _on_device(batches, model):
            losses += _softmax_losses(model(batch.image, batch.condition), task.target(batch), batch.valid, step)
        best = int(losses.argmin())
        at_end = best in (0, len(_TEMPERATURES) - 1)
        return (1.0 if not losses.any() else float(_TEMPERATURES[best])), _unsure(at_end)
    meter = TemperatureMeter([_WHOLE])
    for batch in _on_device(batches, model):
        logits, target = model(batch.image, batch.condition).float(), task.target(batch)
        columns = logits.shape[1]
        joined = logits.flatten(0, 1).unsqueeze(1), target.flatten(0, 1).unsqueeze(1)
        meter.update(*joined, batch.valid.repeat_interleave(columns, 0))
    fitted = meter.fit()[_WHOLE]
    return fitted.temperature, _unsure(fitted.bounded)


def _every(batches: EvalLoader) -> int:
    """Every so many-th pixel is looked at: a million of them settle one number."""
    pixels = sum(place.window.height * place.window.width for place in batches.places)
    return max(1, pixels // _ENOUGH_PX)


def _softmax_losses(logits: Tensor, target: Tensor, valid: Tensor, step: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Summed log-loss of the true class at each temperature, over every ``step``-th valid pixel."""
    rows = logits.float().permute(0, 2, 3, 1)[valid][::step]
    true = target.permute(0, 2, 3, 1)[valid][::step].float().argmax(dim=1)
    sums = [nn.functional.cross_entropy(rows / t, true, reduction="sum").double() for t in _TEMPERATURES]
    return torch.stack(sums).cpu().numpy()


def _unsure(bounded: bool) -> list[str]:
    return ["The best temperature lies outside the range that was searched."] if bounded else []


def _on_device(batches: EvalLoader, model: nn.Module) -> Iterable[Batch]:
    device = next(model.parameters()).device
    return (batch.to(device) for batch in batches)
