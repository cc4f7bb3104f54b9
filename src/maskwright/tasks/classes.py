"""What the tasks of classes share: binary, multiclass and multilabel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics import SCORES, SegmentationMetrics, mode_of
from maskwright.models import build_model
from maskwright.tasks.combined import CombinedTask
from maskwright.types import Batch, Place, Prediction

if TYPE_CHECKING:
    from torch import nn

    from maskwright.config.model import ModelConfig
    from maskwright.losses import CombinedLoss

__all__ = ["REPORTED", "ClassMeter", "ClassTask"]

REPORTED = ("iou", "dice", "precision", "recall", "f1", "mcc", "accuracy", "balanced_accuracy")
"""Scores of each class and their means that a meter computes."""

_BY_IMAGE = ("iou", "dice")  # also as means over images that hold the class or are said to


class ClassMeter:
    """Counts per image and class, and where each image lies.

    Attributes:
        metrics: The counts and all that follows from them: ``counts`` (N, K, 4), ``matrices``, ``absent_classes``.
    """

    def __init__(self, metrics: SegmentationMetrics, *, is_mean: bool) -> None:
        self.metrics = metrics
        self._is_mean = is_mean
        self._places: list[Place] = []

    @property
    def places(self) -> tuple[Place, ...]:
        """The place of each image, in the order of ``counts``."""
        return tuple(self._places)

    @property
    def counts(self) -> Any:
        """(N, K, 4) int64: TP, FP, FN, TN of each image and class."""
        return self.metrics.counts

    def update(self, probs: Tensor, target: Tensor, valid: Tensor, where: Sequence[Place]) -> None:
        """Count a batch.

        Args:
            probs: (B, K, H, W) probabilities.
            target: (B, K, H, W) bool; (B, H, W) class ids for classes that exclude each other.
            valid: (B, H, W) bool; other pixels count nowhere.
            where: B places.

        Raises:
            ShapeError: If sizes do not fit together.
        """
        if len(where) != len(probs):
            raise ShapeError(f"{len(where)} places do not fit {len(probs)} images; give one for each.")
        self.metrics.update(probs, target, valid)
        self._places += where

    def merge(self, other: ClassMeter) -> None:
        """Add the images of another meter, behind these."""
        self.metrics.merge(other.metrics)
        self._places += other.places

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            One class: ``iou`` and so on. Several: ``miou``, the mean over the classes that occur, the means of the
            other scores under their own names, and ``iou@name`` for each class. Also ``iou_images_skip``: the mean
            over images, without those where the class is neither true nor called.
        """
        scores = {}
        for name, value in self.metrics.compute().items():
            base, by_image, _ = name.partition("_images_")
            if not by_image or base in _BY_IMAGE:
                scores["miou" if self._is_mean and name == "iou" else name] = value
        return scores


class ClassTask(CombinedTask):
    """Classes for every pixel.

    Args:
        class_names: What is scored, in the order of the network's outputs.
        loss: The loss; None where nothing is trained (prediction).
        probability_threshold: Called above this probability, 0..1; of classes that exclude each other the largest is.
        options: ``schedule`` and ``learned`` of ``CombinedTask``.

    Raises:
        ConfigError: If there are no names, or a wrong number of them.
    """

    kind: ClassVar[str]
    default_monitor: ClassVar[str] = "val/miou"
    heights_m: ClassVar[tuple[float, ...]] = ()

    def __init__(
        self,
        class_names: Sequence[str],
        loss: CombinedLoss | None = None,
        *,
        probability_threshold: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(loss, **options)
        self.class_names = tuple(class_names)
        self.probability_threshold = float(probability_threshold)
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise ConfigError(f"The names of the classes must differ, at least one: {list(self.class_names)}.")

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], loss: CombinedLoss | None = None) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(
            description["class_names"], loss, probability_threshold=description.get("probability_threshold", 0.5)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        return {
            "kind": self.kind,
            "class_names": list(self.class_names),
            "probability_threshold": self.probability_threshold,
        }

    @property
    def num_classes(self) -> int:
        """K, the channels of the outputs."""
        return len(self.class_names)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is scored."""
        return self.class_names

    def build_model(self, model: ModelConfig, in_channels: int, batch_size: int = 1) -> nn.Module:
        """A network for this task; ``batch_size`` decides the normalisation where the setting says ``auto``."""
        return build_model(model, in_channels=in_channels, num_classes=self.num_classes, batch_size=batch_size)

    # --- truth and answers --------------------------------------------------------------------------------------------

    def target(self, batch: Batch) -> Tensor:
        """(B, K, H, W) bool: where each class is true; False where not valid."""
        return self._as_masks(batch.target) & batch.valid.unsqueeze(1)

    def decode(
        self, outputs: Tensor, heights_m: Sequence[float] | None = None, valid: Tensor | None = None
    ) -> Prediction:
        """Probabilities (B, K, H, W) in float32.

        Args:
            outputs: (B, K, H, W) logits.
            heights_m: Not asked of classes; ignored.
            valid: Not needed; ignored.

        Raises:
            ShapeError: If the number of channels is not that of the classes.
        """
        if outputs.ndim != 4 or outputs.shape[1] != self.num_classes:
            raise ShapeError(
                f"Outputs of shape {tuple(outputs.shape)} do not answer {self.num_classes} classes; "
                f"(B, {self.num_classes}, H, W) is needed."
            )
        return Prediction(self._probabilities(outputs.float()))

    def called(self, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: where the probability lies above the threshold."""
        return prediction.probs > self.probability_threshold

    # --- scores -------------------------------------------------------------------------------------------------------

    def meters(self) -> ClassMeter:
        """A fresh meter."""
        metrics = SegmentationMetrics(
            self.num_classes,
            class_names=self.class_names,
            multilabel=self.kind == "multilabel",
            probability_threshold=self.probability_threshold,
            scores=REPORTED,
            image_means=("skip",),
        )
        return ClassMeter(metrics, is_mean=self.default_monitor == "val/miou")

    def update(self, meter: ClassMeter, outputs: Tensor, batch: Batch) -> None:
        """Count decoded outputs against the truth on the valid pixels."""
        meter.update(self.decode(outputs).probs, self._scored_target(batch), batch.valid, batch.where)

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that can be better or worse: ``miou``, ``iou@crack``, ``iou_images_skip`` ..."""
        names = []
        for name in REPORTED:
            assert SCORES[name].higher_is_better is not None
            names.append("miou" if name == "iou" and self.default_monitor == "val/miou" else name)
            names += [f"{name}@{label}" for label in self.class_names] if self.num_classes > 1 else []
            names += [f"{name}_images_skip"] if name in _BY_IMAGE else []
        return tuple(names)

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score, or of a loss, is better."""
        return mode_of(name)

    # --- said by the kinds --------------------------------------------------------------------------------------------

    def _as_masks(self, target: Tensor) -> Tensor:
        """(B, H, W) of a batch as (B, K, H, W) bool."""
        raise NotImplementedError

    def _probabilities(self, logits: Tensor) -> Tensor:
        raise NotImplementedError

    def _scored_target(self, batch: Batch) -> Tensor:
        return self._as_masks(batch.target)

    def _loss_target(self, target: Tensor, batch: Batch) -> Tensor:
        return self._as_masks(target).float()

    def _channels(self, batch: Batch) -> int:
        return self.num_classes

    def _check_outputs(self, outputs: Tensor, batch: Batch) -> None:
        wanted = (len(batch), self.num_classes, *batch.target.shape[-2:])
        if tuple(outputs.shape) != wanted:
            raise ShapeError(
                f"The network answered with shape {tuple(outputs.shape)} where the batch needs {wanted}: "
                "samples, classes, rows, columns."
            )
