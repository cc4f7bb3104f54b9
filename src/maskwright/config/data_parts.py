"""Parts of the data section that every kind of data shares: tiles, cache, loader, balance, fitted normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = [
    "SHARDS_HELP",
    "AdaptiveNormalise",
    "BalanceConfig",
    "CacheConfig",
    "LoaderConfig",
    "MinMaxNormalise",
    "PercentileNormalise",
    "RobustNormalise",
    "StandardNormalise",
    "TileConfig",
    "shard_faults",
    "share_faults",
]

SHARDS_HELP = (
    "Folder of shards as maskwright prepare shards writes them, for network disks: read once from end to end and "
    "unpacked into the cache of each machine. The other paths of data then say what was packed. Unset: files are read "
    "where they lie."
)
"""Help of the setting that height rasters and images share."""


def shard_faults(shards: Path | None, cache: CacheConfig) -> list[str]:
    """What is wrong with reading shards so."""
    if shards is None or cache.enabled:
        return []
    return ["shards: they are unpacked into the cache, and cache.enabled is false. Set it to true"]


def share_faults(shares: tuple[float, float, float]) -> list[str]:
    """What is wrong with the shares of train, val and test; empty if nothing is."""
    if min(shares) >= 0 and abs(sum(shares) - 1.0) <= 1e-6:
        return []
    return [
        f"shares: {list(shares)} add up to {sum(shares):g}. Give three shares from 0 to 1 that add up to 1, for "
        "example [0.7, 0.15, 0.15]"
    ]


class TileConfig(Section):
    """How scenes are cut into tiles."""

    size_px: int = Field(256, ge=16, le=4096, unit="px", help="Side of the square tiles.")
    overlap: float = Field(
        0.0, ge=0, help="Overlap of training tiles: below 1 a share of the tile, from 1 on a number of pixels."
    )
    min_valid: float = Field(0.7, ge=0, le=1, help="A tile is kept if at least this share of its pixels is measured.")

    @property
    def overlap_px(self) -> int:
        """The overlap in pixels, whichever way it was given."""
        return round(self.overlap * self.size_px) if self.overlap < 1 else int(self.overlap)

    @model_validator(mode="after")
    def _overlap_makes_sense(self) -> TileConfig:
        if self.overlap >= 1 and self.overlap != int(self.overlap):
            raise ValueError(f"overlap: {self.overlap:g} is neither a share below 1 nor a whole number of pixels")
        if self.overlap_px >= self.size_px:
            raise ValueError(f"overlap: {self.overlap_px} px is not smaller than the tile of {self.size_px} px")
        return self


class BalanceConfig(Section):
    """Which training tiles come more often than once a round, so that rare things are seen."""

    by: Literal["none", "class", "height", "foreground"] = Field(
        "none",
        help="none: every tile equally often; class: tiles with rare classes more often; height: tiles where gaps are "
        "rare at the heights asked more often; foreground: half of each the tiles with and without foreground.",
    )
    cap: float = Field(5.0, ge=1, help="How many times a tile may come for one time of the most common kind.")
    target_share: float = Field(0.5, gt=0, lt=1, help="With by: foreground, the share of tiles that hold foreground.")
    mode: Literal["global", "batch", "alternate"] = Field(
        "global",
        help="global: the share holds over an epoch; batch: in every batch; alternate: batches of one kind in turn.",
    )


class CacheConfig(Section):
    """Rasters are decoded once into uncompressed files that are memory-mapped."""

    enabled: bool = Field(True, help="Decode once; off: a folder in the run's temporary space is used and removed.")
    folder: Path | None = Field(None, help="Where decoded rasters lie; unset: the user's cache folder.")
    max_gb: float = Field(20.0, gt=0, unit="GB", help="Oldest entries are removed when the cache grows beyond this.")


class LoaderConfig(Section):
    """How batches are made."""

    batch_size: int = Field(8, ge=1, le=4096, help="Tiles in a batch.")
    eval_batch_size: int | None = Field(None, ge=1, help="Tiles in a validation batch; unset: batch_size.")
    workers: Annotated[int, pydantic.Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto",
        help="Loader processes; 0 loads in the training process, fastest from the cache. auto: 0 where everything is "
        "decoded once, else one less than the cores, at most 8.",
    )
    prefetch: int = Field(2, ge=1, le=64, advanced=True, help="Batches each worker prepares ahead.")
    samples_per_epoch: int | None = Field(
        None, ge=1, help="Training tiles drawn in an epoch; unset: as many as there are training tiles."
    )
    drop_last: bool = Field(
        False, help="Leave out the last batch of an epoch where it is smaller, for models that need full batches."
    )


class StandardNormalise(Section):
    """Mean 0 and deviation 1 over the training pixels that count, band by band."""

    kind: Literal["standard"] = Field("standard", help="Mean and deviation of the training pixels, by band.")


class MinMaxNormalise(Section):
    """0..1 between the least and the largest training value, band by band."""

    kind: Literal["minmax"] = Field("minmax", help="Least and largest value of the training pixels, by band.")


class PercentileNormalise(Section):
    """0..1 between two percentiles of the training pixels, band by band; what lies beyond is cut."""

    kind: Literal["percentile"] = Field("percentile", help="Two percentiles of the training pixels, by band.")
    low: float = Field(2.0, ge=0, lt=100, unit="%", help="Percentile that becomes 0.")
    high: float = Field(98.0, gt=0, le=100, unit="%", help="Percentile that becomes 1.")

    @model_validator(mode="after")
    def _low_is_low(self) -> PercentileNormalise:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low:g} % is not below high: {self.high:g} %")
        return self


class RobustNormalise(Section):
    """Median 0, divided by the distance of the percentiles 1 and 99 of the training pixels, band by band."""

    kind: Literal["robust"] = Field("robust", help="Median and percentiles 1 and 99 of the training pixels, by band.")


class AdaptiveNormalise(Section):
    """robust for bands with a skewed or wide distribution or outliers, standard for the others."""

    kind: Literal["adaptive"] = Field(
        "adaptive", help="robust where values are skewed or have outliers, else standard."
    )
