"""Photographs and multi-band rasters with labels: where they lie, how they are read, divided and changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse
from maskwright.config.data_parts import (
    SHARDS_HELP,
    AdaptiveNormalise,
    BalanceConfig,
    CacheConfig,
    LoaderConfig,
    MinMaxNormalise,
    PercentileNormalise,
    RobustNormalise,
    StandardNormalise,
    TileConfig,
    shard_faults,
    share_faults,
)
from maskwright.config.image_augment import ImageAugmentConfig
from maskwright.config.labels import LabelsConfig, MaskLabels
from maskwright.config.pseudo_labels import ExtraConfig

__all__ = [
    "AutoNormalise",
    "ImageNormaliseConfig",
    "ImageSplitConfig",
    "ImageTileConfig",
    "ImagenetNormalise",
    "ImagesData",
    "PerTileImageNormalise",
    "UnitNormalise",
]


class ImageTileConfig(TileConfig):
    """How images are cut into tiles."""

    min_valid: float = Field(
        0.02, ge=0, le=1, help="A tile is kept if at least this share of its pixels lies in the image and counts."
    )


class AutoNormalise(Section):
    """imagenet for three bands of 8 or 16 bits, standard for anything else."""

    kind: Literal["auto"] = Field("auto", help="imagenet for three bands of whole numbers, standard otherwise.")


class ImagenetNormalise(Section):
    """Values scaled to 0..1 by their type, then the mean and deviation of ImageNet taken out."""

    kind: Literal["imagenet"] = Field("imagenet", help="Mean and deviation of ImageNet; three bands.")


class UnitNormalise(Section):
    """Values divided by the largest of their type."""

    kind: Literal["unit"] = Field("unit", help="Divide by the largest value of the type: 0..1.")
    largest: float | None = Field(None, gt=0, help="Divide by this; unset: 255 or 65535 by type. Needed for floats.")


class PerTileImageNormalise(Section):
    """Each tile stretched to 0..1 by its own valid minimum and maximum, band by band."""

    kind: Literal["per_tile"] = Field("per_tile", help="Stretch each tile to 0..1; loses what brightness means.")


ImageNormaliseConfig = Annotated[
    AutoNormalise
    | ImagenetNormalise
    | UnitNormalise
    | StandardNormalise
    | MinMaxNormalise
    | PercentileNormalise
    | RobustNormalise
    | AdaptiveNormalise
    | PerTileImageNormalise,
    pydantic.Field(discriminator="kind"),
]


class ImageSplitConfig(Section):
    """Which images are trained on, which steer the training, which are kept for the final numbers."""

    by: Literal["auto", "image", "group", "folders", "files", "lists", "blocks"] = Field(
        "auto",
        help="image: whole images; group: images of one group stay together; folders: train, val and test inside the "
        "folder of images; files: train.txt, val.txt, test.txt; lists: the names below; blocks: spatial blocks inside "
        "large rasters. auto: files, then folders where they exist, blocks for fewer than six georeferenced rasters, "
        "then group where groups are set, else image.",
    )
    shares: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15), help="Shares of training, validation and test; they add up to 1."
    )
    seed: int = Field(42, ge=0, help="Seed of the split; apart from the training seed so that runs stay comparable.")
    files: Path | None = Field(None, help="Folder of train.txt, val.txt and test.txt; unset: the data folder.")
    group_pattern: str | None = Field(
        None,
        help="Regular expression; what its first bracket finds in an image's name is its group, for example (.*)_\\d+.",
    )
    copies: Literal["together", "ignore"] = Field(
        "together",
        help="Images that are copies or near copies of each other, as exposures of one part or frames of one film are: "
        "together keeps them in one part where images are divided at random, ignore divides them like others.",
    )
    stratify: bool = Field(True, help="Divide images with and without foreground in the same shares.")
    buffer_px: int | None = Field(
        None, ge=0, unit="px", help="With by: blocks, least distance between tiles of different parts; unset: one tile."
    )
    train: tuple[str, ...] = Field((), help="Images to train on, with by: lists.")
    val: tuple[str, ...] = Field((), help="Images for validation, with by: lists.")
    test: tuple[str, ...] = Field((), help="Images for the final test, with by: lists; empty: there is none.")
    keep: Literal["auto", "none"] | Path = Field(
        "auto",
        help="Earlier split to keep, so that new images never reshuffle old ones: auto looks at the newest run of the "
        "same name, a path names a run folder or a splits.geojson, none starts afresh.",
    )

    @model_validator(mode="after")
    def _shares_and_lists(self) -> ImageSplitConfig:
        faults = share_faults(self.shares)
        if self.by == "lists" and not (self.train and self.val):
            faults.append("by: lists needs the names of images in train and in val (test may stay empty)")
        if self.by != "lists" and (self.train or self.val or self.test):
            faults.append(f"by: {self.by} takes no names in train, val and test. Set by: lists, or leave them out")
        if self.by == "group" and self.group_pattern is None:
            faults.append("by: group needs group_pattern, for example (.*)_\\d+")
        faults += _pattern_faults(self.group_pattern)
        everyone = (*self.train, *self.val, *self.test)
        for name in sorted({name for name in everyone if everyone.count(name) > 1}):
            faults.append(
                f'the image "{name}" is listed more than once. An image belongs to one of train, val and test'
            )
        refuse(faults)
        return self


def _pattern_faults(pattern: str | None) -> list[str]:
    if pattern is None:
        return []
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return [f"group_pattern: {pattern} is no regular expression: {error}. An example is (.*)_\\d+"]
    return (
        []
        if groups
        else [f"group_pattern: {pattern} has no bracket around what names the group. An example is (.*)_\\d+"]
    )


class ImagesData(Section):
    """Photographs or multi-band rasters with masks, COCO, YOLO, vector or point labels."""

    kind: Literal["images"] = Field("images", help="Photographs and multi-band rasters with labels.")
    folder: Path | None = Field(
        None,
        help="The data's folder; imgs/masks, images/labels, JPEGImages and the like, also inside train, val and test, "
        "are found by themselves.",
    )
    images: Path | None = Field(
        None, help="Folder of the images, where folder does not tell; searched with subfolders."
    )
    shards: Path | None = Field(None, help=SHARDS_HELP)
    labels: LabelsConfig = Field(default_factory=MaskLabels, help="What the labels are.")
    bands: tuple[int | str, ...] | None = Field(
        None, min_length=1, help="Bands used, by number from 1 or by the name the file gives; unset: all."
    )
    alpha: Literal["auto", "mask", "band", "drop"] = Field(
        "auto",
        help="A fourth band: mask: pixels less than half opaque do not count; band: it is data, as near infrared; "
        "drop: left out. auto: what the file declares, refused where that does not look true.",
    )
    nodata: float | None = Field(
        None,
        help="Value of pixels that do not count: in all bands of whole numbers, in any band of floats; unset: what the "
        "file declares. NaN never counts.",
    )
    pixel_size_m: float | None = Field(
        None, gt=0, unit="m", help="Side of a pixel of images without georeference; unset: sizes are told in pixels."
    )
    unreadable: Literal["refuse", "skip"] = Field(
        "refuse", help="A file that cannot be read: refuse the data, or skip the image with a note."
    )
    resize_px: tuple[int, int] | None = Field(
        None,
        unit="px",
        help="Rows and columns every image is resized to before it is cut into tiles; masks by nearest pixel.",
    )
    tiles: ImageTileConfig = Field(default_factory=ImageTileConfig, help="How images are cut into tiles.")
    normalise: ImageNormaliseConfig = Field(default_factory=AutoNormalise, help="How values become network input.")
    split: ImageSplitConfig = Field(default_factory=ImageSplitConfig, help="Training, validation and test images.")
    augment: ImageAugmentConfig = Field(default_factory=ImageAugmentConfig, help="Random changes of training tiles.")
    balance: BalanceConfig = Field(default_factory=BalanceConfig, help="Which training tiles come more often.")
    cache: CacheConfig = Field(default_factory=CacheConfig, help="Decoded images on disk.")
    loader: LoaderConfig = Field(default_factory=LoaderConfig, help="How batches are made.")
    extra: ExtraConfig = Field(
        default_factory=ExtraConfig, help="Images with masks made by a model, for the training part alone."
    )

    @model_validator(mode="after")
    def _data_is_named(self) -> ImagesData:
        faults = shard_faults(self.shards, self.cache)
        if self.folder is None and self.images is None:
            faults.append("no data is named. Set data.folder to the folder that holds images and masks, or data.images")
        if self.bands is not None and len(set(self.bands)) < len(self.bands):
            faults.append(f"bands: {list(self.bands)} names a band twice. Name each band once")
        if self.resize_px is not None and min(self.resize_px) < 16:
            faults.append(f"resize_px: {list(self.resize_px)} is too small. Give rows and columns of at least 16 px")
        if self.extra.folder is not None and self.extra.weight != 1 and self.balance.by == "foreground":
            faults.append("extra.weight: balance.by: foreground decides how often tiles come. Set it to 1")
        refuse(faults)
        return self
