"""From the model section, or a name, to a network."""

from __future__ import annotations

import logging
import re
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from maskwright.config.base import kind_of, sections_in
from maskwright.config.model import ModelConfig, SmpConfig
from maskwright.errors import ModelError
from maskwright.models.blocks import norm_for_batch
from maskwright.models.deeplab import DeepLabV3Plus, DeepLabV3PlusFilm
from maskwright.models.ecosystem import Ecosystem, EcosystemFilm
from maskwright.models.film_unet import FilmUNet
from maskwright.models.height_cdf import HeightCdf
from maskwright.models.mask_rcnn import MaskRcnn
from maskwright.models.multitask_unet import MultitaskSmp, MultitaskUNet
from maskwright.models.regression_unet import RegressionUNet
from maskwright.models.unet import UNet
from maskwright.models.weights import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

__all__ = ["ALIASES", "MODELS", "build_model", "count_parameters", "model_config", "settle_norm"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "attention_unet": partial(UNet, attention="gate"),
    "deeplabv3plus": DeepLabV3Plus,
    "deeplabv3plus_film": DeepLabV3PlusFilm,
    "film_unet": FilmUNet,
    "height_cdf": HeightCdf,
    "mask_rcnn": partial(MaskRcnn, residual=True),
    "multitask_smp": MultitaskSmp,
    "multitask_unet": partial(MultitaskUNet, residual=True),
    "regression_unet": partial(RegressionUNet, residual=True),
    "resunet": partial(UNet, residual=True),
    "resunet_film": partial(FilmUNet, residual=True),
    "smp": Ecosystem,
    "smp_film": EcosystemFilm,
    "unet": UNet,
    "unet_all_features": partial(FilmUNet, residual=True, attention="cbam"),
}

# Other names people write, without capitals and signs, a plus spelled out.
ALIASES: dict[str, str] = {
    "attunet": "attention_unet",
    "deeplab": "deeplabv3plus",
    "deeplabv3plusthreshold": "deeplabv3plus_film",
    "filmresunet": "resunet_film",
    "unetall": "unet_all_features",
    "unetfilm": "film_unet",
}


log = logging.getLogger("maskwright.models")

_WITH_HEADS = ("mask_rcnn", "multitask_smp", "multitask_unet")
_WEIGHTS = ("initial_weights", "partial_weights")
_OF_OUTPUT = ("sigmoid", "softmax", "softmax2d", "logsoftmax")


def build_model(
    config: ModelConfig | str,
    in_channels: int = 1,
    num_classes: int = 1,
    condition_scale: float = 30.0,
    batch_size: int = 1,
    heads: Mapping[str, int] | None = None,
    **options: Any,
) -> nn.Module:
    """The network a section describes, its weights drawn from torch's random generator.

    Args:
        config: The section, or a name with ``options`` as :func:`model_config` takes them.
        in_channels: Channels of the image.
        num_classes: Channels of the logits of a network without condition, for example one for each listed height.
        condition_scale: Conditions are divided by this; for heights in metres.
        batch_size: Tiles in a training batch; settles ``norm: auto``.
        heads: Name of each output to its channels, ``num_classes`` together, for networks with a head for each.
        options: Settings of the section, where a name is given. ``classes`` is another name of ``num_classes``. An
            ``activation`` of the output may be None only: networks give logits, which losses, meters and predictors
            turn into probabilities, once.

    Raises:
        ModelError: If there is no such network, it cannot be built, or its initial weights do not fit.
        ConfigError: If an option is unknown or out of range.
    """
    if isinstance(config, str):
        num_classes = options.pop("classes", num_classes)
        _refuse_activation(options)
        config = model_config(config, **options)
    elif options:
        raise ModelError(f"{', '.join(options)}: options go with a name. Set them in the section that was given.")
    # Ready-made encoders see to their own weights, which nobody fetches where those of the whole network come after.
    later = ("initial_weights",) if isinstance(config, SmpConfig) else _WEIGHTS
    begun = config if config.initial_weights is None else config.bare()
    settings = settle_norm(begun, batch_size).model_dump(exclude={"kind", *later})
    if config.conditioned:
        network = MODELS[config.kind](in_channels, condition_scale=condition_scale, **settings)
    else:
        named = {"heads": heads} if config.kind in _WITH_HEADS else {}
        network = MODELS[config.kind](in_channels, num_classes, **named, **settings)
    if config.initial_weights is not None:
        report = load_pretrained(network, config.initial_weights, partial=config.partial_weights)
        level = logging.INFO if report.complete else logging.WARNING
        log.log(level, "model.initial_weights, %s: %s", config.initial_weights, report)
    return network


def model_config(name: str, **options: Any) -> ModelConfig:
    """The section of a network by its kind or another of its names.

    Args:
        name: For example ``film_unet``, ``unet_film``, ``ResUNet`` or ``DeepLabV3+``; with the option ``encoder`` (or
            ``encoder_name``) the decoder above it, for example ``unet`` or ``Unet++``.
        options: Settings of the section.

    Raises:
        ModelError: If there is no such network.
        ConfigError: If an option is unknown or out of range.
    """
    word = re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))
    if "encoder_name" in options:
        options["encoder"] = options.pop("encoder_name")
    sections = {str(kind_of(section)): section for section in sections_in(ModelConfig)}
    kinds = {kind.replace("_", ""): kind for kind in sections}
    if "encoder" in options and not word.startswith("smp"):
        return SmpConfig(decoder=word, **options)
    kind = kinds.get(word) or ALIASES.get(word)
    if kind is None:
        close = get_close_matches(word, [*kinds, *ALIASES], 1)
        hint = f"Did you mean {kinds.get(close[0]) or ALIASES[close[0]]}?" if close else ""
        raise ModelError(f"{name!r} is no network. {hint} Available: {', '.join(MODELS)}.".replace("  ", " "))
    section: ModelConfig = sections[kind](**options)  # type: ignore[assignment]
    return section


def _refuse_activation(options: dict[str, Any]) -> None:
    """Take out an output activation of None; the activations inside a network are another matter."""
    if options.get("activation", "") in (None, "none", "identity"):
        options.pop("activation")
    elif options.get("activation") in _OF_OUTPUT:
        raise ModelError(
            f"activation={options['activation']!r}: networks give logits here; losses, meters and predictors turn them "
            "into probabilities, and once more would spoil them. Leave it out."
        )


def settle_norm(config: ModelConfig, batch_size: int) -> ModelConfig:
    """The section with ``norm: auto`` replaced by the norm this batch size gets: what belongs into a saved model."""
    norm = getattr(config, "norm", None)  # ready-made encoders bring their own
    return config if norm is None else config.model_copy(update={"norm": norm_for_batch(norm, batch_size)})


def count_parameters(model: nn.Module, *, trainable_only: bool = True) -> int:
    """Number of weights, by default of those that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trainable_only)
