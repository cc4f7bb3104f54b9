"""Decoders of segmentation_models_pytorch over its own and timm's encoders, behind our interface.

Both libraries are imported when first used. Encoders of timm have names that start with ``tu-``.
"""

from __future__ import annotations

import importlib
import logging
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskwright.errors import ModelError
from maskwright.models.blocks import build_norm, pad_to_multiple
from maskwright.models.film import FilmGenerator, as_conditions, check_scale
from maskwright.models.trunk import check_image, check_sizes
from maskwright.models.weights import load_pretrained

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DECODERS", "Ecosystem", "EcosystemFilm", "get_available_encoders"]

log = logging.getLogger("maskwright")

DECODERS = (
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
)
_MULTIPLE = 32  # what every encoder can halve
_MULTIPLES = {"pan": 128}  # halves three times more
_TIMM = "tu-"
_SMALL_PX, _LARGER_PX = 64, 256


class _Ecosystem(nn.Module):
    """What both networks share.

    Attributes:
        receptive_field_px: None: it is not known of encoders in general.
    """

    receptive_field_px: int | None = None

    def __init__(
        self, in_channels: int, outputs: int, decoder: str, encoder: str, encoder_weights: str | Path, partial: bool
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, num_classes=outputs)
        network = _build(in_channels, outputs, decoder, encoder, encoder_weights, partial)
        self.in_channels = in_channels
        self.multiple = _MULTIPLES.get(decoder, _MULTIPLE)
        self.encoder: nn.Module = network.encoder
        self.decoder: nn.Module = network.decoder
        self.head: nn.Module = network.segmentation_head
        self.is_transformer = decoder == "dpt"
        _let_single_images_train(self.decoder)
        self._drop_idle_parts()

    def _encode(self, image: Tensor) -> tuple[list[Tensor], tuple[Any, ...]]:
        """Features of each level, and what the decoder of a vision transformer wants beside them."""
        check_image(image, self.in_channels)
        features = self.encoder(pad_to_multiple(image, self.multiple))
        return (list(features[0]), tuple(features[1:])) if self.is_transformer else (list(features), ())

    def _drop_idle_parts(self) -> None:
        """Some decoders look at the first levels of an encoder only: what cannot learn takes no memory and no space.

        The parameters that have a part in the output are read off the graph of one small pass.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        with torch.enable_grad():
            reached = _parameters_behind(self._small_pass())
        for module, mode in modes.items():
            module.training = mode
        for part in (self.encoder, self.decoder):
            _replace_idle(part, reached)

    def _small_pass(self) -> Tensor:
        """The output of an empty image, as small as the encoder takes."""
        like = next(self.head.parameters())
        for side in (max(_SMALL_PX, self.multiple), _LARGER_PX):
            try:
                features, beside = self._encode(like.new_zeros(1, self.in_channels, side, side))
            except (AssertionError, RuntimeError):  # attention in windows needs a larger image
                if side == _LARGER_PX:
                    raise
                continue
            break
        logits: Tensor = self.head(self.decoder(features, *beside))
        return logits


class Ecosystem(_Ecosystem):
    """An encoder and a decoder of the ecosystem, for images of any size; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        decoder: One of ``DECODERS``.
        encoder: One of :func:`get_available_encoders`.
        encoder_weights: ``none``, ``imagenet``, a file, or ``optional``: imagenet, with a warning and none where it
            cannot be had. A first layer for three bands is adapted to the image's.
        partial_weights: True to take from a file what fits, False to insist that all does.

    Raises:
        ModelError: If something is unknown or does not fit together, or weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        decoder: str = "unet",
        encoder: str = "resnet34",
        encoder_weights: str | Path = "none",
        partial_weights: bool = False,
    ) -> None:
        super().__init__(in_channels, num_classes, decoder, encoder, encoder_weights, partial_weights)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes, H, W) of an image (B, C, H, W); ``condition`` is ignored."""
        features, beside = self._encode(image)
        logits: Tensor = self.head(self.decoder(features, *beside))
        return logits[:, :, : image.shape[2], : image.shape[3]]


class EcosystemFilm(_Ecosystem):
    """As :class:`Ecosystem`, told heights: FiLM on what every level of the decoder receives, on what it gives, and at
    the head; the encoder runs once for all heights.

    Args:
        in_channels: Channels of the image.
        decoder: One of ``DECODERS``.
        encoder: One of :func:`get_available_encoders`.
        encoder_weights: As of ``Ecosystem``.
        partial_weights: As of ``Ecosystem``.
        film_hidden: Width of the small network that a height goes through.
        condition_scale: Heights are divided by this, so that usual ones lie in 0..1.

    Raises:
        ModelError: If something is unknown or does not fit together, or weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        decoder: str = "unet",
        encoder: str = "resnet34",
        encoder_weights: str | Path = "none",
        partial_weights: bool = False,
        film_hidden: int = 64,
        condition_scale: float = 30.0,
    ) -> None:
        super().__init__(in_channels, 1, decoder, encoder, encoder_weights, partial_weights)
        check_sizes(film_hidden=film_hidden)
        check_scale(condition_scale)
        channels = list(self.encoder.out_channels)  # type: ignore[arg-type]
        # The first features of a convolutional encoder are the image itself, which no decoder looks at.
        self.modulated = tuple(
            level for level, count in enumerate(channels) if count > 0 and (level > 0 or self.is_transformer)
        )
        last = next(module for module in self.head.modules() if isinstance(module, nn.Conv2d)).in_channels
        self.film = FilmGenerator(
            (*(channels[level] for level in self.modulated), last, 1), film_hidden, condition_scale
        )

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of an image (B, C, H, W) at heights in metres, (B,), (B, 1) or (B, K)."""
        features, beside = self._encode(image)
        conditions = as_conditions(condition, image.shape[0])
        *levels, last, head = self.film(conditions)
        modulations = dict(zip(self.modulated, levels, strict=True))
        told = [
            modulations[level].apply_to(each) if level in modulations else _repeat(each, conditions.shape[1])
            for level, each in enumerate(features)
        ]
        tokens = tuple(
            [None if token is None else _repeat(token, conditions.shape[1]) for token in each] for each in beside
        )
        logits: Tensor = head.apply_to(self.head(last.apply_to(self.decoder(told, *tokens))))
        logits = logits.view(image.shape[0], -1, *logits.shape[2:])
        return logits[:, :, : image.shape[2], : image.shape[3]]


def get_available_encoders(*, timm: bool = False) -> tuple[str, ...]:
    """Names of encoders, sorted; with ``timm`` also those of timm, which start with ``tu-``."""
    smp = _import_smp()
    names = {name for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")}  # superseded by tu-
    if timm:
        import timm as library

        names |= {_TIMM + name for name in library.list_models()}
    return tuple(sorted(names))


def _build(
    in_channels: int, outputs: int, decoder: str, encoder: str, encoder_weights: str | Path, partial: bool
) -> Any:
    """The network of the library, with its weights."""
    smp = _import_smp()
    if decoder not in DECODERS:
        raise ModelError(f"model.decoder: {decoder!r} is unknown. Available: {', '.join(DECODERS)}.")
    _check_encoder(encoder)
    extra: dict[str, Any] = {"dynamic_img_size": True} if decoder == "dpt" else {}

    def build(weights: str | bool | None) -> Any:
        return smp.create_model(
            decoder, encoder_name=encoder, encoder_weights=weights, in_channels=in_channels, classes=outputs, **extra
        )

    from_hub = str(encoder_weights) in ("imagenet", "optional")
    try:
        network = build(
            (encoder.startswith(_TIMM) or "imagenet") if from_hub else None
        )  # timm only wants to know whether
    except Exception as cause:  # the hub's clients raise many kinds, and so do encoders that a decoder cannot use
        if str(encoder_weights) == "optional":
            log.warning(
                "The imagenet weights of %s could not be had (%s). The encoder starts from random weights, since "
                "model.encoder_weights is optional.",
                encoder,
                _first_line(cause),
            )
            return _build(in_channels, outputs, decoder, encoder, "none", partial)
        if from_hub:
            raise ModelError(
                f"model.encoder_weights: the imagenet weights of {encoder} could not be had ({_first_line(cause)}). "
                "Connect to the internet once, give a file of weights, or set model.encoder_weights: none or optional."
            ) from cause
        raise ModelError(
            f"model.encoder: {encoder} does not work with the decoder {decoder} ({_first_line(cause)}). "
            + (
                "DPT takes vision transformers of timm, for example tu-vit_tiny_patch16_224."
                if decoder == "dpt"
                else ""
            )
        ) from cause
    if not from_hub and str(encoder_weights) != "none":
        report = load_pretrained(network.encoder, encoder_weights, prefix="encoder.", partial=partial)
        log.info("%s: %s", encoder_weights, report)
    return network


def _check_encoder(encoder: str) -> None:
    if encoder.startswith(_TIMM):
        import timm

        if timm.is_model(encoder.removeprefix(_TIMM)):
            return
        known = [_TIMM + name for name in timm.list_models()]
    else:
        known = list(get_available_encoders())
        if encoder in known:
            return
    close = get_close_matches(encoder, known, 3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "get_available_encoders() lists them all."
    raise ModelError(f"model.encoder: {encoder!r} is unknown. {hint}")


def _import_smp() -> Any:
    try:
        return importlib.import_module("segmentation_models_pytorch")
    except ImportError as cause:
        raise ModelError(
            "Networks of the kinds smp and smp_film need segmentation-models-pytorch. "
            "Install it: pip install segmentation-models-pytorch"
        ) from cause


def _let_single_images_train(decoder: nn.Module) -> None:
    """Batch norm behind an average over the whole image has one number to work with; group norm has all channels."""
    for branch in decoder.modules():
        if not isinstance(branch, nn.Sequential) or not len(branch):
            continue
        pool = branch[0]
        if not isinstance(pool, nn.AdaptiveAvgPool2d) or pool.output_size not in (1, (1, 1)):
            continue
        for part in branch.modules():
            for name, child in list(part.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(part, name, build_norm("group", child.num_features))


def _parameters_behind(output: Tensor) -> set[int]:
    """Ids of the parameters that an output was computed from."""
    found: set[int] = set()
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found


class _Idle(nn.Module):
    """Stands where a part was that nothing looks at."""

    def forward(self, image: Tensor, *_: Any, **__: Any) -> Tensor:
        return image


def _replace_idle(part: nn.Module, reached: set[int]) -> None:
    for name, child in list(part.named_children()):
        weights = [id(weight) for weight in child.parameters()]
        if weights and not reached.intersection(weights):
            setattr(part, name, _Idle())
        else:
            _replace_idle(child, reached)


def _repeat(each: Tensor, count: int) -> Tensor:
    """(B, ...) to (B * count, ...), the copies of a sample in a row."""
    return each[:, None].expand(-1, count, *each.shape[1:]).flatten(0, 1)


def _first_line(cause: Exception) -> str:
    sentence = str(cause).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
    return f"{type(cause).__name__}: {sentence}"
