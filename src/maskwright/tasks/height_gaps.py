"""Canopy gaps at any height: pixels whose canopy is lower than the heights asked of the network."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import DataError, ModelError, ShapeError
from maskwright.losses import mixture_likelihood_by_sample
from maskwright.metrics import SCORES, ThresholdMeter, mode_of
from maskwright.models import HeightCdf, HeightMixture, build_model
from maskwright.tasks.combined import CombinedTask
from maskwright.types import Batch, Prediction

if TYPE_CHECKING:
    from torch import nn

    from maskwright.config.model import ModelConfig
    from maskwright.losses import CombinedLoss, HeightWeights

__all__ = ["HeightGaps"]

_LIKELIHOOD = "likelihood"


class HeightGaps(CombinedTask):
    """Binary logits per height; the target is made from the canopy height, so any height can be asked.

    Args:
        heights_m: Heights in metres at which the model is scored and predicts by default; ascending.
        loss: The loss; None where nothing is trained (prediction).
        condition_scale: The network divides heights in metres by this.
        probability_threshold: A pixel is called a gap above this probability, 0..1.
        fixed: True for a network without condition: its output channels are ``heights_m``, in this order, and every
            batch must ask exactly these.
        height_weights: How much a sample counts in the loss by the height it is asked for; None: all alike.
        options: ``schedule`` and ``learned`` of ``CombinedTask``.

    A loss with the term ``likelihood`` is taken of the whole distribution of heights: networks built by such a task
    give distributions, which it takes for outputs, and any height is read off them.

    Raises:
        DataError: If the heights do not ascend.
    """

    kind: ClassVar[str] = "height_gaps"
    default_monitor: ClassVar[str] = "val/iou"
    class_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        heights_m: Sequence[float],
        loss: CombinedLoss | None = None,
        *,
        condition_scale: float = 30.0,
        probability_threshold: float = 0.5,
        fixed: bool = False,
        height_weights: HeightWeights | None = None,
        **options: Any,
    ) -> None:
        super().__init__(loss, **options)
        self.heights_m = _ascending(heights_m)
        self.height_weights = height_weights
        self.condition_scale = float(condition_scale)
        self.probability_threshold = float(probability_threshold)
        self.fixed = fixed
        self._looked_at: set[str] = set()

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], loss: CombinedLoss | None = None) -> HeightGaps:
        """The inverse of :meth:`to_dict`."""
        options = {name: value for name, value in description.items() if name not in ("kind", "heights_m")}
        return cls(description["heights_m"], loss, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        return {
            "kind": self.kind,
            "heights_m": list(self.heights_m),
            "condition_scale": self.condition_scale,
            "probability_threshold": self.probability_threshold,
            "fixed": self.fixed,
        }

    @property
    def num_classes(self) -> int:
        """K: the listed heights."""
        return len(self.heights_m)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is scored: ``5 m``, ``10 m``."""
        return tuple(f"{height:g} m" for height in self.heights_m)

    @property
    def takes_distributions(self) -> bool:
        """Whether outputs are distributions of height, (B, 3 M, H, W), and not logits."""
        return self.combined_loss is not None and _LIKELIHOOD in self.combined_loss.functions

    def build_model(self, model: ModelConfig, in_channels: int, batch_size: int = 1) -> nn.Module:
        """A network for this task; ``batch_size`` decides the normalisation where the setting says ``auto``."""
        network = build_model(
            model,
            in_channels=in_channels,
            num_classes=len(self.heights_m),
            condition_scale=self.condition_scale,
            batch_size=batch_size,
        )
        if self.takes_distributions:
            if not isinstance(network, HeightCdf):
                raise ModelError(
                    f"loss.likelihood is taken of a distribution of heights, which model.kind {model.kind} does not "
                    "give. Set it to 0, or model.kind: height_cdf."
                )
            network.gives_mixture = True
        return network

    def at_heights(self, heights_m: Sequence[float]) -> HeightGaps:
        """The same task with other listed heights.

        Raises:
            DataError: If the heights do not ascend, or the network answers its own heights only.
        """
        if self.fixed and tuple(heights_m) != self.heights_m:
            raise DataError(
                f"This model answers the heights {_list(self.heights_m)} m only, not {_list(heights_m)} m. "
                "A model of kind film_unet answers any height."
            )
        other = copy.copy(self)
        other.heights_m = _ascending(heights_m)
        return other

    # --- truth and answers --------------------------------------------------------------------------------------------

    def target(self, batch: Batch) -> Tensor:
        """(B, K, H, W) bool: True where the canopy is lower than the height asked of the sample."""
        heights = _condition(batch)
        return batch.target.unsqueeze(1) < heights[:, :, None, None]

    # --- scores -------------------------------------------------------------------------------------------------------

    def meters(self) -> ThresholdMeter:
        """A fresh meter over the listed heights."""
        return ThresholdMeter(self.heights_m, probability_threshold=self.probability_threshold)

    def update(self, meter: ThresholdMeter, outputs: Tensor, batch: Batch) -> None:
        """Count decoded outputs against the target on the valid pixels.

        Raises:
            DataError: If the batch asks other heights than the listed ones.
        """
        self._look_at_heights(batch, "counted")
        prediction = self.decode(outputs, self.heights_m)
        meter.update(prediction.probs, self.target(batch), batch.valid, batch.where)

    def decode(
        self, outputs: Tensor, heights_m: Sequence[float] | None = None, valid: Tensor | None = None
    ) -> Prediction:
        """Probabilities that never fall as the height rises: a gap at 5 m is a gap at 10 m.

        Args:
            outputs: (B, K, H, W) logits, before the sigmoid; (B, 3 M, H, W) where distributions are taken.
            heights_m: The K heights in metres the channels answer, ascending; unset: the listed ones.
            valid: (B, H, W) bool; violations are counted there only. Unset: everywhere.

        Returns:
            Probabilities after one sigmoid and a running maximum over the heights, and for each neighbouring pair the
            number of pixels where the raw probability at the lower height was larger.

        Raises:
            DataError: If the heights do not ascend.
            ShapeError: If their number is not the number of channels.
        """
        heights = self.heights_m if heights_m is None else _ascending(heights_m)
        if self.takes_distributions:
            mixture = HeightMixture.unpacked(outputs.float())
            outputs = mixture.logits_below(outputs.new_tensor(heights, dtype=torch.float32).expand(len(outputs), -1))
        if outputs.ndim != 4 or outputs.shape[1] != len(heights):
            raise ShapeError(
                f"Outputs of shape {tuple(outputs.shape)} do not answer {len(heights)} heights; "
                f"(B, {len(heights)}, H, W) is needed."
            )
        raw = torch.sigmoid(outputs.float())
        broken = raw[:, :-1] > raw[:, 1:]
        if valid is not None:
            broken &= valid.unsqueeze(1)
        return Prediction(
            probs=raw if len(heights) == 1 else raw.cummax(dim=1).values,
            heights_m=heights,
            violations=broken.sum(dim=(0, 2, 3), dtype=torch.int64),
        )

    def called(self, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: where the probability of a gap lies above the threshold."""
        return prediction.probs > self.probability_threshold

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that can be better or worse: ``iou``, ``iou@10m`` ...; not gap shares."""
        names = self.meters().compute()
        return tuple(name for name in names if SCORES[name.partition("@")[0]].higher_is_better is not None)

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score, or of a loss, is better."""
        return mode_of(name)

    # --- loss and checks ----------------------------------------------------------------------------------------------

    def _loss_target(self, target: Tensor, batch: Batch) -> Tensor:
        return (target.unsqueeze(1) < _condition(batch)[:, :, None, None]).float()

    def _as_loss_input(self, outputs: Tensor, batch: Batch) -> Tensor:
        if not self.takes_distributions:
            return outputs
        heights_m = _condition(batch)
        if set(self._loss.terms) == {_LIKELIHOOD}:  # no term looks at them
            return outputs.new_zeros(()).expand(*heights_m.shape, *outputs.shape[-2:])
        return HeightMixture.unpacked(outputs).logits_below(heights_m)

    @property
    def _outputs_are_logits(self) -> bool:
        return not self.takes_distributions

    def _given(self, outputs: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        if not self.takes_distributions:
            return {}
        mixture = HeightMixture.unpacked(outputs)
        parts = mixture.centre_m, mixture.spread_m, mixture.weight
        return {_LIKELIHOOD: mixture_likelihood_by_sample(*parts, target, valid)}

    def _channels(self, batch: Batch) -> int:
        return _condition(batch).shape[1]

    def _sample_weights(self, batch: Batch) -> Tensor | None:
        return None if self.height_weights is None else self.height_weights.of(_condition(batch))

    def _check_batch(self, batch: Batch) -> None:
        """A network without condition cannot answer other heights than its own."""
        if self.fixed:
            self._look_at_heights(batch, "learned from")

    def _look_at_heights(self, batch: Batch, use: str) -> None:
        """On an accelerator the values are looked at once: reading them would make every batch wait for the device."""
        if _condition(batch).is_cpu or use not in self._looked_at:
            self._require_listed_heights(batch)
            self._looked_at.add(use)

    def _require_listed_heights(self, batch: Batch) -> None:
        asked = _condition(batch)
        listed = asked.new_tensor(self.heights_m).expand(len(batch), -1)
        if asked.shape != listed.shape or not torch.equal(asked, listed):
            others: list[list[float]] = [heights for heights in asked.tolist() if heights != listed[0].tolist()]
            raise DataError(
                f"A batch asks the heights {_list(others[0])} m where exactly {_list(self.heights_m)} m, in this "
                "order, are answered. "
                "Give all listed heights to every sample, or use model.kind: film_unet, which answers any height."
            )

    def _check_outputs(self, outputs: Tensor, batch: Batch) -> None:
        wanted = (len(batch), _condition(batch).shape[1], *batch.target.shape[-2:])
        if self.takes_distributions:
            wanted = (len(batch), outputs.shape[1] if outputs.ndim == 4 else 3, *batch.target.shape[-2:])
        if tuple(outputs.shape) != wanted:
            raise ShapeError(
                f"The network answered with shape {tuple(outputs.shape)} where the batch needs {wanted}: "
                "samples, heights asked, rows, columns."
            )


def _condition(batch: Batch) -> Tensor:
    if batch.condition is None or batch.condition.ndim != 2:
        raise DataError("A batch for height gaps needs condition (B, K): the K heights in metres asked of each sample.")
    return batch.condition


def _list(heights_m: Sequence[float]) -> str:
    return ", ".join(f"{height:g}" for height in heights_m)


def _ascending(heights_m: Sequence[float]) -> tuple[float, ...]:
    heights = tuple(float(height) for height in heights_m)
    if not heights or any(low >= high for low, high in itertools.pairwise(heights)):
        raise DataError(f"Heights must rise and differ, for example 2, 5, 10 m; these do not: {list(heights)}.")
    return heights
