"""The fields of document 004 by tab: which settings each stands for, and the range and default it has there.

Everything else the dialog knows of a setting (help, unit, type) comes from the schema.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from maskwright.config import FieldSpec
from maskwright.config.flat import flat_settings
from maskwright.desktop.fields import narrowed

__all__ = ["DATA", "DEFAULTS", "MODEL", "TRAINING", "Entry", "Option", "initial_settings"]

_Values = Mapping[str, Any]

DEFAULTS: dict[str, Any] = {
    "architecture": "U-Net",
    "encoder": "resnet34",
    "encoder_weights": "imagenet",
    "loss": "Combined",
    "dice_weight": 0.5,
    "bce_weight": 0.5,
    "num_epochs": 50,
    "batch_size": 8,
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "optimizer": "Adam",
    "scheduler": "ReduceLROnPlateau",
    "early_stopping_patience": 10,
    "image_width": 512,
    "image_height": 512,
    "augmentation_prob": 0.5,
}
"""What the dialog of document 004 begins with, in its own names."""

_TO_COME = "to come"  # stands for a folder nobody has chosen yet
_DIRS = ("split_dir", "images_dir", "masks_dir", "checkpoint_dir")


@dataclass(frozen=True)
class Option:
    """A word of a choice and the settings it stands for."""

    label: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A field of the dialog.

    Attributes:
        label: With ``&`` before the letter that leads to it.
        path: The setting it stands for, or the first of several; its help is the field's.
        minimum: Of the dialog; None: that of the schema.
        maximum: As ``minimum``.
        step: Of the arrows; None: the usual one.
        decimals: Behind the point; None: two.
        options: A choice between these instead.
        is_box: A box to tick instead.
        read: From all settings to what it shows; None: the value of ``path``.
        write: From what it shows and all settings to the settings it changes; None: ``path`` alone.
        applies: From all settings to whether it is shown.
        otherwise: The setting whose value a choice shows where ``path`` does not exist.
    """

    label: str
    path: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    decimals: int | None = None
    options: tuple[Option, ...] = ()
    is_box: bool = False
    read: Callable[[_Values], Any] | None = None
    write: Callable[[Any, _Values], dict[str, Any]] | None = None
    applies: Callable[[_Values], bool] = lambda values: True
    otherwise: str = ""

    @property
    def stands_alone(self) -> bool:
        """Whether it shows its setting as it is, so that the setting need not be shown again."""
        return not (self.options or self.is_box or self.read)

    def spec(self, of_schema: FieldSpec) -> FieldSpec:
        """What its editor is made from."""
        if self.options:
            labels = tuple(option.label for option in self.options)
            return replace(of_schema, type="choice", choices=labels, optional=False, default=None)
        if self.is_box:
            return replace(of_schema, type="bool", choices=(), optional=False, default=None)
        if self.minimum is not None:
            return narrowed(replace(of_schema, type=_plain(of_schema), optional=False), self.minimum, self.maximum)
        return of_schema

    def shows(self, values: _Values) -> Any:
        """What it shows of these settings; of a choice that none of its words means, the settings themselves."""
        if self.read is not None:
            return self.read(values)
        for option in self.options:
            if all(values.get(path) == value for path, value in option.settings.items()):
                return option.label
        return values.get(self.path, values.get(self.otherwise))

    def settings(self, shown: Any, values: _Values) -> dict[str, Any]:
        """The settings that change when this is chosen or written."""
        if self.write is not None:
            return self.write(shown, values)
        for option in self.options:
            if option.label == shown:
                return dict(option.settings)
        return {} if self.options else {self.path: shown}


def initial_settings(config: Mapping[str, Any], paths: Mapping[str, Any]) -> dict[str, Any]:
    """The settings the dialog begins with: those of document 004, and over them what a host gives in its names.

    Args:
        config: Its configuration dictionary, any part of it.
        paths: Its dictionary of folders: ``split_dir``, ``images_dir``, ``masks_dir``, ``checkpoint_dir``.

    Raises:
        ConfigError: Names nobody knows, or values that have no place, one a line.
    """
    dirs = {name: os.path.abspath(value) for name, value in paths.items() if name in _DIRS and value}
    given = {name: value for name, value in paths.items() if name not in _DIRS}
    flat = DEFAULTS | {"images_dir": _TO_COME} | given | dirs | dict(config)
    settings = flat_settings({name: value for name, value in flat.items() if value != ""})
    return {
        "name": "training",
        "tracking.log_every_steps": 1,
        **{path: value for path, value in settings.items() if value != _TO_COME},
    }


def _plain(spec: FieldSpec) -> str:
    return "int" if spec.type.startswith("list[") else spec.type


def _smp(decoder: str) -> dict[str, str]:
    return {"model.kind": "smp", "model.decoder": decoder}


def _loss(weights: str = "strict", **terms: float) -> dict[str, Any]:
    return {
        "loss.weights": weights,
        **{f"loss.{term}": terms.get(term, 0.0) for term in ("bce", "dice", "focal", "jaccard")},
    }


def _loss_shown(values: _Values) -> Any:
    if values.get("loss.weights") == "raw":
        others = [path for path in ("loss.jaccard", "loss.tversky", "loss.lovasz") if values.get(path)]
        return "Combined" if not others else "several terms"
    for option in _LOSSES[1:]:
        if all(values.get(path) == value for path, value in option.settings.items()):
            return option.label
    return "several terms" if values.get("loss.kind") == "combined" else values.get("loss.kind")


def _is_combined(values: _Values) -> bool:
    return bool(_loss_shown(values) == "Combined")


def _is_smp(values: _Values) -> bool:
    return values.get("model.kind") in ("smp", "smp_film")


def _has_folders(values: _Values) -> bool:
    """Folders of images and masks apart, as in document 004; experiments of files may name one folder for all."""
    return values.get("data.kind") == "images" and not values.get("data.folder")


def _image_side(side: int) -> Callable[[_Values], Any]:
    def read(values: _Values) -> Any:
        size = values.get("data.resize_px")
        return size[side] if size else values.get("data.tiles.size_px")

    return read


def _sized(side: int) -> Callable[[Any, _Values], dict[str, Any]]:
    def write(pixels: Any, values: _Values) -> dict[str, Any]:
        if not values.get("data.resize_px"):
            return {"data.tiles.size_px": pixels}
        size = list(values["data.resize_px"])
        size[side] = pixels
        return {"data.resize_px": size, "data.tiles.size_px": max(size)}

    return write


def _probability(values: _Values) -> float:
    return float(values["data.augment.strength"]) / 2 if values.get("data.augment.enabled") else 0.0


def _augmented(probability: Any, values: _Values) -> dict[str, Any]:
    strength = {"data.augment.strength": 2 * probability} if probability else {}
    return {"data.augment.enabled": bool(probability), **strength}


_LOSSES = (
    Option("Combined", _loss("raw", bce=0.5, dice=0.5)),
    Option("Dice", _loss(dice=1.0)),
    Option("BCE", _loss(bce=1.0)),
    Option("Focal", _loss(focal=1.0)),
    Option("IoU", _loss(jaccard=1.0)),
)
_ENCODERS = (  # all work with every architecture of the dialog
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "efficientnet-b0",
    "efficientnet-b3",
    "mobilenet_v2",
)
_SCHEDULES = {
    "ReduceLROnPlateau": "reduce_on_plateau",
    "CosineAnnealing": "cosine",
    "StepLR": "step",
    "None": "constant",
}

MODEL = (
    Entry(
        "&Architecture",
        "model.decoder",
        options=(
            Option("U-Net", _smp("unet")),
            Option("DeepLabV3+", _smp("deeplabv3plus")),
            Option("FPN", _smp("fpn")),
        ),
        otherwise="model.kind",
    ),
    Entry(
        "&Encoder",
        "model.encoder",
        options=tuple(Option(name, {"model.encoder": name}) for name in _ENCODERS),
        applies=_is_smp,
    ),
    Entry(
        "I&mageNet weights",
        "model.encoder_weights",
        is_box=True,
        read=lambda values: values.get("model.encoder_weights") == "imagenet",
        write=lambda ticked, values: {"model.encoder_weights": "imagenet" if ticked else "none"},
        applies=_is_smp,
    ),
    Entry("L&oss", "loss.kind", options=_LOSSES, read=_loss_shown),
    Entry("&Dice weight", "loss.dice", 0, 1, 0.05, applies=_is_combined),
    Entry("&BCE weight", "loss.bce", 0, 1, 0.05, applies=_is_combined),
)

TRAINING = (
    Entry("&Epochs", "training.epochs", 1, 1000),
    Entry("&Batch size", "data.loader.batch_size", 1, 128),
    Entry("&Learning rate", "optim.optimizer.lr", 1e-6, 1, decimals=6),
    Entry("&Weight decay", "optim.optimizer.weight_decay", 0, 0.1, decimals=6),
    Entry(
        "&Optimizer",
        "optim.optimizer.kind",
        options=tuple(Option(name, {"optim.optimizer.kind": name.lower()}) for name in ("Adam", "AdamW", "SGD")),
    ),
    Entry(
        "Sc&heduler",
        "optim.schedule.kind",
        options=tuple(Option(name, {"optim.schedule.kind": kind}) for name, kind in _SCHEDULES.items()),
    ),
    Entry("P&atience", "callbacks.early_stopping.patience", 1, 100),
)

DATA = (
    Entry(
        "Data &folder",
        "data.folder",
        applies=lambda values: not _has_folders(values),
    ),
    Entry(
        "Split &lists",
        "data.split.files",
        write=lambda folder, values: {"data.split.files": folder, "data.split.by": "files" if folder else "auto"},
        applies=_has_folders,
    ),
    Entry("&Images", "data.images", applies=_has_folders),
    Entry(
        "&Masks",
        "data.labels.folder",
        applies=lambda values: _has_folders(values) and values.get("data.labels.kind") == "masks",
    ),
    Entry("Chec&kpoints", "tracking.output_dir"),
    Entry("Image &width", "data.resize_px", 128, 2048, 32, read=_image_side(1), write=_sized(1)),
    Entry(
        "Image hei&ght",
        "data.resize_px",
        128,
        2048,
        32,
        read=_image_side(0),
        write=_sized(0),
        applies=lambda values: bool(values.get("data.resize_px")),
    ),
    Entry(
        "A&ugmentation probability",
        "data.augment.strength",
        0,
        1,
        0.05,
        read=_probability,
        write=_augmented,
        applies=lambda values: "data.augment.strength" in values,
    ),
)
