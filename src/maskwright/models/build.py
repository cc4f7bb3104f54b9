"""From the model section to a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from maskwright.models.blocks import norm_for_batch
from maskwright.models.film_unet import FilmUNet
from maskwright.models.unet import UNet

if TYPE_CHECKING:
    from torch import nn

    from maskwright.config.model import ModelConfig, UNetConfig

    AnyModelConfig = TypeVar("AnyModelConfig", bound=UNetConfig)

__all__ = ["MODELS", "build_model", "count_parameters", "settle_norm"]

MODELS: dict[str, type[UNet] | type[FilmUNet]] = {"film_unet": FilmUNet, "unet": UNet}


def build_model(
    config: ModelConfig, in_channels: int, num_classes: int, condition_scale: float, batch_size: int
) -> UNet | FilmUNet:
    """The network a section describes, its weights drawn from torch's random generator.

    Args:
        config: The section.
        in_channels: Channels of the image.
        num_classes: Channels of the logits of a network without condition, for example one for each listed height.
        condition_scale: Conditions are divided by this; for heights in metres.
        batch_size: Tiles in a training batch; settles ``norm: auto``.
    """
    options = settle_norm(config, batch_size).model_dump(exclude={"kind"})
    if config.kind == "film_unet":
        return FilmUNet(in_channels, condition_scale=condition_scale, **options)
    return UNet(in_channels, num_classes, **options)


def settle_norm(config: AnyModelConfig, batch_size: int) -> AnyModelConfig:
    """The section with ``norm: auto`` replaced by the norm this batch size gets: what belongs into a saved model."""
    return config.model_copy(update={"norm": norm_for_batch(config.norm, batch_size)})


def count_parameters(model: nn.Module, *, trainable_only: bool = True) -> int:
    """Number of weights, by default of those that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trainable_only)
