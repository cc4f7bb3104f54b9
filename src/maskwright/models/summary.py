"""What a network costs and sees, without running it: nothing is computed, only counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from maskwright.models.build import build_model, count_parameters
from maskwright.models.freeze import parts_of

if TYPE_CHECKING:
    from maskwright.config.model import ModelConfig

__all__ = ["ModelFacts", "model_facts"]


@dataclass(frozen=True)
class ModelFacts:
    """A network in numbers.

    Attributes:
        kind: Its kind.
        conditioned: True if it is told heights and answers any.
        parameters: Number of weights.
        multiply_adds: Of the convolutions and matrix products, for one image at one height.
        size_px: Side of that image in pixels.
        receptive_field_px: Farthest an image pixel with a part in a logit can lie from it; None: anywhere, or unknown.
        parts: Name and number of weights of the largest parts.
    """

    kind: str
    conditioned: bool
    parameters: int
    multiply_adds: int
    size_px: int
    receptive_field_px: int | None
    parts: tuple[tuple[str, int], ...]


def model_facts(config: ModelConfig, *, in_channels: int = 1, num_classes: int = 1, size_px: int = 256) -> ModelFacts:
    """Count the weights and multiply-adds of a network, without memory for either.

    Args:
        config: Its section.
        in_channels: Channels of the image.
        num_classes: Channels of the logits of a network without condition.
        size_px: Side of the image in pixels.

    Raises:
        ModelError: If it cannot be built.
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads a compiler for GPUs, a quarter of a second

    with torch.device("meta"), torch.no_grad():
        network = build_model(config.bare(), in_channels, num_classes).eval()
        image, condition = torch.empty(1, in_channels, size_px, size_px), torch.empty(1, 1)
        with FlopCounterMode(display=False) as counter:
            network(image, condition)
    receptive_field_px: int | None = network.receptive_field_px  # type: ignore[assignment]
    return ModelFacts(
        kind=config.kind,
        conditioned=config.conditioned,
        parameters=count_parameters(network, trainable_only=False),
        multiply_adds=counter.get_total_flops() // 2,
        size_px=size_px,
        receptive_field_px=receptive_field_px,
        parts=tuple(
            (name, count_parameters(network.get_submodule(name), trainable_only=False)) for name in parts_of(network)
        ),
    )
