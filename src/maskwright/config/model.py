"""Networks and their options; each kind has its own class, so an option that does nothing cannot exist."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from maskwright.config.base import Field, Section

__all__ = ["FilmUNetConfig", "ModelConfig", "UNetConfig"]


class UNetConfig(Section):
    """U-Net: encoder and decoder with skips. arXiv:1505.04597."""

    kind: Literal["unet"] = Field("unet", help="U-Net without condition: one output per listed height.")
    base_channels: int = Field(32, ge=4, le=256, help="Channels of the first level; doubled at each level below.")
    depth: int = Field(4, ge=1, le=5, help="Times the image is halved.")
    norm: Literal["batch", "group", "instance", "auto"] = Field(
        "batch", help="Normalisation; auto: batch from 16 tiles in a batch on, else group."
    )
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "mish"] = Field("relu", help="Activation function.")
    dropout: float = Field(0.0, ge=0, lt=1, help="Share of channels dropped at the bottleneck in training.")
    upsampling: Literal["bilinear", "transpose"] = Field("bilinear", help="How the decoder doubles the size.")
    init: Literal["kaiming", "xavier", "orthogonal", "default"] = Field(
        "kaiming", help="Initialisation of the weights."
    )


class FilmUNetConfig(UNetConfig):
    """U-Net whose decoder is modulated by a height (FiLM, arXiv:1709.07871), so that it answers any height."""

    kind: Literal["film_unet"] = Field("film_unet", help="U-Net conditioned on a height.")  # type: ignore[assignment]
    film_hidden: int = Field(64, ge=4, le=1024, help="Width of the small network that turns a height into modulation.")


ModelConfig = Annotated[UNetConfig | FilmUNetConfig, pydantic.Field(discriminator="kind")]
