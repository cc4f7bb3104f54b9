"""Networks and their options; each kind has its own class, so an option that does nothing cannot exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = [
    "AttentionUNetConfig",
    "DeepLabV3PlusConfig",
    "DeepLabV3PlusFilmConfig",
    "FilmUNetConfig",
    "HeightCdfConfig",
    "MaskRcnnConfig",
    "ModelConfig",
    "MultitaskSmpConfig",
    "MultitaskUNetConfig",
    "RegressionUNetConfig",
    "ResUNetConfig",
    "ResUNetFilmConfig",
    "SmpConfig",
    "SmpFilmConfig",
    "UNetAllFeaturesConfig",
    "UNetConfig",
]


_HEAD_CHANNELS = {
    "unet": 16,
    "unetplusplus": 16,
    "manet": 16,
    "linknet": 32,
    "fpn": 128,
    "pspnet": 512,
    "pan": 32,
    "deeplabv3": 256,
    "deeplabv3plus": 256,
    "upernet": 256,
    "segformer": 256,
    "dpt": 256,
}


class _BackboneConfig(Section):
    """What every network of our own can be told.

    Attributes:
        conditioned: True if the network is told heights and answers any; False if it answers those of the task only.
    """

    conditioned: ClassVar[bool] = False

    kind: str
    base_channels: int = Field(32, ge=4, le=256, help="Channels of the first level; doubled at each level below.")
    depth: int = Field(4, ge=1, le=5, help="Times the image is halved.")
    norm: Literal["batch", "group", "instance", "auto"] = Field(
        "batch", help="Normalisation; auto: batch from 16 tiles in a batch on, else group."
    )
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "mish"] = Field("relu", help="Activation function.")
    dropout: float = Field(0.0, ge=0, lt=1, help="Share of channels dropped at the bottleneck in training.")
    downsampling: Literal["max", "average", "strided"] = Field("max", help="How the encoder halves the size.")
    positional: bool = Field(False, help="Add four channels that say where in the tile a pixel lies.")
    init: Literal["kaiming", "xavier", "orthogonal", "default"] = Field(
        "kaiming", help="Initialisation of the weights."
    )
    initial_weights: Path | None = Field(
        None, help="Weights to start from: a file, the folder of a run or that of a model. Unset: drawn anew."
    )
    partial_weights: bool = Field(False, help="Take from initial_weights what fits; off: insist that all does.")

    @model_validator(mode="after")
    def _parts_of_something(self) -> Self:
        if self.partial_weights and self.initial_weights is None:
            raise ValueError(
                "partial_weights: there are no initial_weights to take a part of. Set them, or leave it out"
            )
        return self

    def bare(self) -> Self:
        """The same network for weights that come later."""
        return self.model_copy(update={"initial_weights": None, "partial_weights": False})


class _TrunkConfig(_BackboneConfig):
    upsampling: Literal["bilinear", "transpose", "pixel_shuffle"] = Field(
        "bilinear", help="How the decoder doubles the size."
    )


class _Attentive(Section):
    attention: Literal["none", "se", "cbam", "gate"] = Field(
        "none",
        help="What weighs features: se and cbam those of each level, gate those of the skips.",
    )


class _Residual(Section):
    drop_path: float = Field(
        0.1, ge=0, lt=1, help="Chance of leaving out the last residual block in training; less for those before it."
    )


class _Filmed(Section):
    film_hidden: int = Field(64, ge=4, le=1024, help="Width of the small network that a height goes through.")
    condition_by: Literal["film", "bottleneck", "both"] = Field(
        "film",
        help="Where the height comes in: film modulates every level of the decoder, bottleneck adds channels to the "
        "deepest features.",
    )


class _Shrunken(Section):
    shrink: Literal[1, 2, 4] = Field(
        1,
        help="The network works on blocks of this many pixels to a side, whose pixels are channels, and answers for "
        "each pixel: 2 is about four times faster; a number of pixels.",
    )


class _DeepLabConfig(_BackboneConfig):
    aspp_channels: int = Field(256, ge=4, le=2048, help="Channels of each part of the pyramid.")
    aspp_rates: tuple[Annotated[int, pydantic.Field(ge=1, le=64)], ...] = Field(
        (6, 12, 18), min_length=1, help="Dilation of each 3x3 convolution of the pyramid."
    )
    low_level_channels: int = Field(48, ge=4, le=1024, help="Channels the shallow features are brought down to.")


class UNetConfig(_Shrunken, _Attentive, _TrunkConfig):
    """U-Net: encoder and decoder with skips. arXiv:1505.04597."""

    kind: Literal["unet"] = Field("unet", help="U-Net without condition: one output per class or listed height.")


class FilmUNetConfig(_Shrunken, _Filmed, _Attentive, _TrunkConfig):
    """U-Net whose decoder is modulated by a height (FiLM, arXiv:1709.07871), so that it answers any height."""

    conditioned: ClassVar[bool] = True

    kind: Literal["film_unet"] = Field("film_unet", help="U-Net conditioned on a height.")


class HeightCdfConfig(_Shrunken, _Attentive, _TrunkConfig):
    """U-Net that predicts the distribution of canopy height: all heights in one pass, never in the wrong order."""

    conditioned: ClassVar[bool] = True

    kind: Literal["height_cdf"] = Field(
        "height_cdf", help="U-Net that predicts the distribution of canopy height, so any height in one pass."
    )
    components: int = Field(3, ge=1, le=8, help="Logistic distributions in the mixture of each pixel.")


class ResUNetConfig(_Shrunken, _Residual, _Attentive, _TrunkConfig):
    """U-Net with a shortcut beside the convolutions of each level. arXiv:1711.10684."""

    kind: Literal["resunet"] = Field("resunet", help="Residual U-Net without condition.")


class ResUNetFilmConfig(_Shrunken, _Filmed, _Residual, _Attentive, _TrunkConfig):
    """Residual U-Net whose decoder is modulated by a height."""

    conditioned: ClassVar[bool] = True

    kind: Literal["resunet_film"] = Field("resunet_film", help="Residual U-Net conditioned on a height.")


class AttentionUNetConfig(_Shrunken, _TrunkConfig):
    """U-Net whose skips are weighed by the deeper features. arXiv:1804.03999."""

    kind: Literal["attention_unet"] = Field(
        "attention_unet", help="U-Net without condition whose skips are weighed by attention gates."
    )


class UNetAllFeaturesConfig(_Shrunken, _Filmed, _Residual, _TrunkConfig):
    """Residual U-Net with FiLM, CBAM and stochastic depth."""

    conditioned: ClassVar[bool] = True

    kind: Literal["unet_all_features"] = Field(
        "unet_all_features", help="Residual U-Net conditioned on a height, with CBAM and stochastic depth."
    )


class RegressionUNetConfig(_Shrunken, _Residual, _Attentive, _TrunkConfig):
    """Residual U-Net whose one output is a height, without bounds."""

    kind: Literal["regression_unet"] = Field("regression_unet", help="U-Net whose one output is a height.")


class DeepLabV3PlusConfig(_DeepLabConfig):
    """DeepLabV3+: a pyramid of dilated convolutions, sharpened by shallow features. arXiv:1802.02611."""

    kind: Literal["deeplabv3plus"] = Field("deeplabv3plus", help="DeepLabV3+ without condition.")


class DeepLabV3PlusFilmConfig(_Filmed, _DeepLabConfig):
    """DeepLabV3+ told a height."""

    conditioned: ClassVar[bool] = True

    kind: Literal["deeplabv3plus_film"] = Field("deeplabv3plus_film", help="DeepLabV3+ conditioned on a height.")


class SmpConfig(Section):
    """A decoder of segmentation_models_pytorch over one of its encoders, or of timm's."""

    conditioned: ClassVar[bool] = False

    kind: Literal["smp"] = Field("smp", help="Decoder and encoder of segmentation_models_pytorch, without condition.")
    decoder: Literal[
        "unet",
        "unetplusplus",
        "manet",
        "linknet",
        "fpn",
        "pspnet",
        "pan",
        "deeplabv3",
        "deeplabv3plus",
        "upernet",
        "segformer",
        "dpt",
    ] = Field("unet", help="Decoder; dpt needs a vision transformer of timm as encoder.")
    encoder: str = Field("resnet34", min_length=1, help="Encoder by name; those of timm start with tu-.")
    encoder_weights: Literal["none", "imagenet", "optional"] | Path = Field(
        "none",
        help="Weights the encoder starts from: none, imagenet from the library's hub, optional (imagenet, or random "
        "weights with a warning where the hub cannot be reached), or a file.",
    )
    initial_weights: Path | None = Field(
        None,
        help="Weights the whole network starts from, in place of encoder_weights: a file, the folder of a run or that "
        "of a model. Unset: the decoder is drawn anew.",
    )
    partial_weights: bool = Field(False, help="Take from a file of weights what fits; off: insist that all does.")

    @property
    def depth(self) -> int:
        """Times the image is halved by the deepest encoders."""
        return 5

    @property
    def base_channels(self) -> int:
        """Channels of the features the head sees, as in the networks of our own."""
        return _HEAD_CHANNELS[self.decoder]

    def bare(self) -> Self:
        """The same network for weights that come later: nothing is fetched for its encoder."""
        return self.model_copy(update={"encoder_weights": "none", "initial_weights": None})


class SmpFilmConfig(SmpConfig):
    """As ``SmpConfig``, with FiLM on what every level of the decoder receives."""

    conditioned: ClassVar[bool] = True

    kind: Literal["smp_film"] = Field(  # type: ignore[assignment]
        "smp_film", help="Decoder and encoder of segmentation_models_pytorch, conditioned on a height."
    )
    film_hidden: int = Field(64, ge=4, le=1024, help="Width of the small network that a height goes through.")


class _Headed(Section):
    head_channels: int = Field(32, ge=4, le=512, help="Channels inside each head.")


class MultitaskUNetConfig(_Headed, _Residual, _Attentive, _TrunkConfig):
    """Residual U-Net with a small head for each thing asked: classes, centres, offsets, crown diameter, density."""

    kind: Literal["multitask_unet"] = Field("multitask_unet", help="U-Net with a head of its own for each output.")
    shrink: Literal[1, 2, 4] = Field(
        1,
        help="The network works on blocks of this many pixels to a side and enlarges its answers: 2 is about four "
        "times faster and suits objects from 12 px; a number of pixels.",
    )


class MaskRcnnConfig(_Headed, _Residual, _Attentive, _TrunkConfig):
    """Mask R-CNN over the encoder of a residual U-Net, with heads for classes, crown diameter and density beside it."""

    kind: Literal["mask_rcnn"] = Field("mask_rcnn", help="Mask R-CNN over the encoder of a U-Net.")
    detections: int = Field(300, ge=1, le=10_000, help="Most objects of a tile.")


class MultitaskSmpConfig(_Headed, SmpConfig):
    """As ``SmpConfig``, with a small head for each thing asked."""

    kind: Literal["multitask_smp"] = Field(  # type: ignore[assignment]
        "multitask_smp", help="Decoder and encoder of segmentation_models_pytorch with a head for each output."
    )


ModelConfig = Annotated[
    UNetConfig
    | FilmUNetConfig
    | HeightCdfConfig
    | ResUNetConfig
    | ResUNetFilmConfig
    | AttentionUNetConfig
    | UNetAllFeaturesConfig
    | RegressionUNetConfig
    | DeepLabV3PlusConfig
    | DeepLabV3PlusFilmConfig
    | SmpConfig
    | SmpFilmConfig
    | MultitaskUNetConfig
    | MaskRcnnConfig
    | MultitaskSmpConfig,
    pydantic.Field(discriminator="kind"),
]
