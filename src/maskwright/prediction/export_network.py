"""What an exported file holds: the network with what goes before and after it, as one module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from maskwright.data.normalise import BandNormaliser, MetresNormaliser
from maskwright.errors import PredictionError
from maskwright.models.height_cdf import HeightCdf
from maskwright.prediction.model_card import ModelCard
from maskwright.tasks.height_gaps import HeightGaps

__all__ = ["Activation", "ExportedNetwork", "InputRule", "Values", "asks_heights", "height_by_height", "input_rule"]

Values = Literal["normalised", "raw", "unit"]
Activation = Literal["none", "sigmoid", "softmax"]

_LARGEST_BYTE = 255.0


@dataclass(frozen=True)
class InputRule:
    """What an exported file is given, and how that becomes the network's input.

    Attributes:
        values: ``normalised``: the network's input itself, 0 where a pixel does not count; ``raw``: pixels or metres as
            files hold them, NaN in any band where a pixel does not count; ``unit``: 8-bit pixels divided by 255.
        shift: (C,) what becomes 0, in raw values; empty for ``normalised``.
        scale: (C,) what raw values are divided by then.
        clip: True if what lies beyond 0..1 is cut.
    """

    values: Values = "normalised"
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    clip: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON takes."""
        return {"values": self.values, "shift": list(self.shift), "scale": list(self.scale), "clip": self.clip}

    @classmethod
    def from_dict(cls, described: dict[str, Any]) -> InputRule:
        """The inverse of :meth:`to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        shift, scale = (tuple(float(number) for number in described[name]) for name in ("shift", "scale"))
        return cls(described["values"], shift, scale, bool(described["clip"]))

    def given(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What to give the file for the network's input (B, C, H, W), 0 where a pixel does not count.

        Raw values at 0 are the shift, which the file turns into 0 again: no pixel needs to be marked.
        """
        if self.values == "normalised":
            return image
        by_band = (np.asarray(numbers, np.float32)[:, None, None] for numbers in (self.scale, self.shift))
        scale, shift = by_band
        raw = image * scale + shift
        return np.asarray(raw / np.float32(_LARGEST_BYTE) if self.values == "unit" else raw, np.float32)


def input_rule(card: ModelCard, values: Values) -> InputRule:
    """The rule for a model.

    Raises:
        PredictionError: If the normalisation cannot stand in a graph, because it depends on more than the pixel.
    """
    if values == "normalised":
        return InputRule()
    why = _not_by_pixel(card)
    if why:
        raise PredictionError(
            f"The normalisation of this model cannot be put into the file: {why}. Export without "
            "--with-normalisation, and give the file input normalised as in training."
        )
    if isinstance(card.normaliser, BandNormaliser):
        rule = card.normaliser
        return InputRule(values, rule.shift, rule.scale, rule.clip)
    assert isinstance(card.normaliser, MetresNormaliser)
    return InputRule(values, (0.0,) * card.in_channels, (card.normaliser.scale_m,) * card.in_channels)


def _not_by_pixel(card: ModelCard) -> str:
    """Why the input of a pixel depends on others; empty if it does not."""
    if card.context:
        return f"its bands {', '.join(card.context)} are made from neighbouring pixels"
    if isinstance(card.normaliser, BandNormaliser):
        return ""
    if not isinstance(card.normaliser, MetresNormaliser):
        return "each tile is stretched by its own least and largest value, so it is not linear by band"
    if "dsm" in card.bands:
        return "a surface (DSM) is shifted by a reference that depends on the place on the ground, beyond the tile"
    return ""


class ExportedNetwork(nn.Module):
    """Values of a file to logits or probabilities.

    Args:
        network: In evaluation mode.
        rule: What is given.
        channels: Outputs kept, by number; None: all.
        activation: ``none`` gives logits; the others probabilities.
        temperature: Logits are divided by this before an activation.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        rule: InputRule,
        *,
        channels: Sequence[int] | None = None,
        activation: Activation = "none",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.channels = None if channels is None else list(channels)
        self.activation, self.temperature = activation, temperature
        self.values, self.clip = rule.values, rule.clip
        for name, numbers in (("shift", rule.shift), ("scale", rule.scale)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Image (B, C, H, W) and, where heights are free, heights (B, K) in metres to (B, K, H, W)."""
        image = self._normalised(image)
        logits: Tensor = self.network(image) if condition is None else self.network(image, condition)
        if self.channels is not None:
            logits = logits[:, self.channels]
        if self.activation == "none":
            return logits
        logits = logits / self.temperature
        return torch.sigmoid(logits) if self.activation == "sigmoid" else torch.softmax(logits, dim=1)

    def _normalised(self, image: Tensor) -> Tensor:
        if self.values == "normalised":
            return image
        valid = torch.isfinite(image).all(dim=1, keepdim=True)
        raw = image * _LARGEST_BYTE if self.values == "unit" else image
        values = (raw - self.shift) / self.scale
        if self.clip:
            values = values.clamp(0.0, 1.0)
        return torch.where(valid, values, torch.zeros_like(values))


def asks_heights(card: ModelCard) -> bool:
    """Whether the network is given heights beside the image."""
    return isinstance(card.task, HeightGaps) and not card.task.fixed


def height_by_height(network: nn.Module, count: int) -> nn.Module:
    """A network whose trace holds for any batch: one that orders heights answers ``count`` of them one at a time."""
    return _OneByOne(network, count) if isinstance(network, HeightCdf) else network


class _OneByOne(nn.Module):
    def __init__(self, network: HeightCdf, count: int) -> None:
        super().__init__()
        self.network, self.count = network, count

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        mixture = self.network.distribution(image)
        return torch.cat([mixture.logits_below(condition[:, k : k + 1]) for k in range(self.count)], dim=1)
