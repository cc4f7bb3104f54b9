"""Canopy height in metres for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import ShapeError
from maskwright.metrics import METRICS, RegressionMeter, mode_of
from maskwright.models import build_model
from maskwright.tasks.combined import CombinedTask
from maskwright.types import Batch, Place, Prediction

if TYPE_CHECKING:
    from torch import nn

    from maskwright.config.model import ModelConfig
    from maskwright.losses import CombinedLoss

__all__ = ["Height", "HeightMeter"]

_COLUMN = "height"


class HeightMeter:
    """Errors of heights, over the data set and by scene.

    Attributes:
        metrics: The sums; ``by_group()`` tells the errors of each scene.
    """

    def __init__(self) -> None:
        self.metrics = RegressionMeter((_COLUMN,))
        self._places: list[Place] = []

    @property
    def places(self) -> tuple[Place, ...]:
        """The place of each image, in the order of the updates."""
        return tuple(self._places)

    def update(self, values: Tensor, target: Tensor, valid: Tensor, where: Sequence[Place]) -> None:
        """Add a batch: (B, 1, H, W) metres twice, (B, H, W) bool, B places."""
        self.metrics.update(values, target, valid, [place.scene for place in where])
        self._places += where

    def merge(self, other: HeightMeter) -> None:
        """Add the images of another meter, behind these."""
        self.metrics.merge(other.metrics)
        self._places += other.places

    def compute(self) -> dict[str, float]:
        """``rmse``, ``mae``, ``mse``, ``bias`` (predicted minus true) in metres or their square, and ``r2``."""
        return {name: value for name, value in self.metrics.compute().items() if "@" not in name}


class Height(CombinedTask):
    """Heights from the network's one output, multiplied by a scale.

    Args:
        scale_m: What an output of 1 means, in metres; larger than 0.
        loss: The loss, of values in metres; None where nothing is trained (prediction).
        options: ``schedule`` and ``learned`` of ``CombinedTask``.
    """

    kind: ClassVar[str] = "height"
    default_monitor: ClassVar[str] = "val/rmse"
    heights_m: ClassVar[tuple[float, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = (_COLUMN,)  # type: ignore[assignment,unused-ignore]
    class_names: ClassVar[tuple[str, ...]] = ()
    num_classes: ClassVar[int] = 1

    def __init__(self, scale_m: float = 30.0, loss: CombinedLoss | None = None, **options: Any) -> None:
        super().__init__(loss, **options)
        self.scale_m = float(scale_m)

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], loss: CombinedLoss | None = None) -> Height:
        """The inverse of :meth:`to_dict`."""
        return cls(description["scale_m"], loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        return {"kind": self.kind, "scale_m": self.scale_m}

    def build_model(self, model: ModelConfig, in_channels: int, batch_size: int = 1) -> nn.Module:
        """A network for this task; ``batch_size`` decides the normalisation where the setting says ``auto``."""
        return build_model(model, in_channels=in_channels, num_classes=1, batch_size=batch_size)

    def target(self, batch: Batch) -> Tensor:
        """(B, 1, H, W) float, metres; 0 where not valid."""
        return batch.target.unsqueeze(1)

    def decode(
        self, outputs: Tensor, heights_m: Sequence[float] | None = None, valid: Tensor | None = None
    ) -> Prediction:
        """Heights in metres, (B, 1, H, W) float32, in the place of probabilities.

        Args:
            outputs: (B, 1, H, W), raw from the network.
            heights_m: Not asked of this task; ignored.
            valid: Not needed; ignored.

        Raises:
            ShapeError: If there is not one channel.
        """
        if outputs.ndim != 4 or outputs.shape[1] != 1:
            raise ShapeError(f"Outputs of shape {tuple(outputs.shape)} are no heights; (B, 1, H, W) is needed.")
        return Prediction(outputs.float() * self.scale_m)

    def called(self, prediction: Prediction) -> Tensor:
        """(B, 1, H, W) bool: everywhere, since every pixel has a height."""
        return torch.ones_like(prediction.probs, dtype=torch.bool)

    def meters(self) -> HeightMeter:
        """A fresh meter."""
        return HeightMeter()

    def update(self, meter: HeightMeter, outputs: Tensor, batch: Batch) -> None:
        """Add decoded heights and true ones on the valid pixels."""
        meter.update(self.decode(outputs).probs, self.target(batch), batch.valid, batch.where)

    def score_names(self) -> tuple[str, ...]:
        """Names of the errors that can be better or worse; not the bias."""
        return tuple(name for name in self.meters().compute() if name in METRICS)

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score, or of a loss, is better."""
        return mode_of(name)

    def _loss_target(self, target: Tensor, batch: Batch) -> Tensor:
        return target.unsqueeze(1)

    def _as_loss_input(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs * self.scale_m

    @property
    def _outputs_are_logits(self) -> bool:
        return False

    def _channels(self, batch: Batch) -> int:
        return 1

    def _check_outputs(self, outputs: Tensor, batch: Batch) -> None:
        wanted = (len(batch), 1, *batch.target.shape[-2:])
        if tuple(outputs.shape) != wanted:
            raise ShapeError(
                f"The network answered with shape {tuple(outputs.shape)} where the batch needs {wanted}: "
                "samples, one height, rows, columns."
            )
