"""Where the data lies and how it becomes tiles: sites, nodata, tiles, splits, normalisation, augmentation, cache."""

from __future__ import annotations

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
from maskwright.config.images import ImagesData

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "HeightRastersData",
    "MetresNormalise",
    "NormaliseConfig",
    "PerTileNormalise",
    "SiteConfig",
    "SplitConfig",
    "TerrainConfig",
]


class SiteConfig(Section):
    """One site: a canopy height model (CHM), or a surface model (DSM) with a terrain model (DTM), or DSM and CHM."""

    name: str = Field(help="Name of the site, unique in the experiment.", min_length=1)
    dsm: Path | None = Field(None, help="Digital surface model: elevation of the top of everything.", unit="m")
    chm: Path | None = Field(None, help="Canopy height model: height above ground.", unit="m")
    dtm: Path | None = Field(None, help="Digital terrain model: elevation of the ground.", unit="m")
    nodata: float | None = Field(
        None, help="Value meaning 'not measured' in this site's rasters; unset: data.nodata, then the file's tag."
    )
    chm_nodata: float | Literal["tag", "none"] | None = Field(
        None,
        help="Value meaning 'not measured' in this site's CHM; 'tag' takes the file's tag, 'none' ignores it, for "
        "files that declare 0 though bare ground is 0 m high. Unset: data.chm_nodata.",
    )
    ground: str | None = Field(
        None, help="Sites with the same word count as one ground in the split; unset: found from the extents."
    )

    @model_validator(mode="after")
    def _has_heights(self) -> SiteConfig:
        if self.chm is None and (self.dsm is None or self.dtm is None):
            raise ValueError(f"the site {self.name} has no heights above ground. Give its chm, or both dsm and dtm")
        return self


class TerrainConfig(Section):
    """A DSM made from a CHM by adding smooth invented terrain, for archives that hold CHMs alone."""

    simulate: bool = Field(
        False, help="Add smooth random terrain to sites that have no DSM, so that a model for DSMs can be trained."
    )
    amplitude_m: float = Field(20.0, ge=0, unit="m", help="Standard deviation of the invented terrain.")
    wavelength_m: float = Field(200.0, gt=0, unit="m", help="Typical distance between invented hills.")
    seed: int = Field(
        7, ge=0, help="Seed of the invented terrain; it depends on the ground coordinates and this alone."
    )


class MetresNormalise(Section):
    """Heights minus a reference surface of the ground, divided by a constant: metres stay metres."""

    kind: Literal["metres"] = Field("metres", help="Subtract a reference surface, divide by a constant.")
    scale_m: float = Field(30.0, gt=0, unit="m", help="Heights are divided by this.")
    reference_cell_m: float = Field(
        60.0, gt=0, unit="m", help="Cell of the coarse grid of low percentiles that is the reference of a DSM."
    )
    reference_percentile: float = Field(
        5.0, ge=0, le=50, unit="%", help="Percentile of the valid heights of a cell taken as its reference."
    )


class PerTileNormalise(Section):
    """Each tile stretched to 0..1 by its own valid minimum and maximum; loses the scale in metres."""

    kind: Literal["per_tile"] = Field("per_tile", help="Stretch each tile to 0..1; for comparison.")


NormaliseConfig = Annotated[
    MetresNormalise
    | PerTileNormalise
    | StandardNormalise
    | MinMaxNormalise
    | PercentileNormalise
    | RobustNormalise
    | AdaptiveNormalise,
    pydantic.Field(discriminator="kind"),
]


class SplitConfig(Section):
    """Which ground is trained on, which steers the training, which is kept for the final numbers."""

    by: Literal["auto", "site", "blocks", "lists"] = Field(
        "auto", help="auto: by site from six sites on, else spatial blocks inside sites; lists: the names below."
    )
    shares: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15), help="Shares of training, validation and test, counted on kept tiles; they add up to 1."
    )
    seed: int = Field(42, ge=0, help="Seed of the split; apart from the training seed so that runs stay comparable.")
    buffer_px: int | None = Field(
        None, ge=0, unit="px", help="Least distance between tiles of different parts; unset: one tile."
    )
    train: tuple[str, ...] = Field((), help="Sites to train on, with by: lists.")
    val: tuple[str, ...] = Field(
        (), help="Sites for validation, with by: lists; empty: blocks out of the training sites."
    )
    test: tuple[str, ...] = Field((), help="Sites for the final test, with by: lists.")
    keep: Literal["auto", "none"] | Path = Field(
        "auto",
        help="Earlier split to keep, so that new sites never reshuffle old ones: auto looks at the newest run of the "
        "same name, a path names a run folder or a splits.geojson, none starts afresh.",
    )

    @model_validator(mode="after")
    def _shares_and_lists(self) -> SplitConfig:
        faults = share_faults(self.shares)
        if self.by == "lists" and not (self.train and self.test):
            faults.append("by: lists needs the names of sites in train and in test (val may stay empty)")
        if self.by != "lists" and (self.train or self.val or self.test):
            faults.append(
                f"by: {self.by} takes no names of sites in train, val and test. Set by: lists, or leave them out"
            )
        everyone = (*self.train, *self.val, *self.test)
        for name in sorted({name for name in everyone if everyone.count(name) > 1}):
            faults.append(f'the site "{name}" is listed more than once. A site belongs to one of train, val and test')
        refuse(faults)
        return self


class AugmentConfig(Section):
    """Random changes of training tiles; validation is never changed."""

    enabled: bool = Field(True, help="Change training tiles at random.")
    jitter: bool = Field(True, help="Shift each training tile at random inside its part of the split.")
    flip_p: float = Field(0.5, ge=0, le=1, help="Probability of a mirror image, for each axis.")
    turn_p: float = Field(0.75, ge=0, le=1, help="Probability of a turn by 90, 180 or 270 degrees.")
    rotate_p: float = Field(0.0, ge=0, le=1, help="Probability of a free rotation and zoom, one resampling for both.")
    rotate_deg: float = Field(15.0, ge=0, le=180, unit="degrees", help="Largest free rotation to either side.")
    zoom: tuple[float, float] = Field((0.8, 1.25), help="Smallest and largest zoom; heights keep their metres.")
    noise_m: float = Field(0.0, ge=0, unit="m", help="Standard deviation of random noise added to the surface.")
    shift_m: float = Field(0.0, ge=0, unit="m", help="Standard deviation of a constant added to the surface of a tile.")
    terrain_p: float = Field(0.0, ge=0, le=1, help="Probability that smooth random terrain is added to a DSM tile.")
    terrain_m: float = Field(5.0, ge=0, unit="m", help="Standard deviation of the random terrain added to a DSM tile.")
    terrain_wavelength_m: float = Field(
        150.0, gt=0, unit="m", help="Typical distance between the hills of the added terrain."
    )

    clearing_p: float = Field(
        0.0,
        ge=0,
        le=1,
        help="Probability that part of a tile, up to all of it, is cleared to low regrowth, so that a model trained in "
        "closed forest knows open ground.",
    )
    clearing_regrowth_m: float = Field(5.0, ge=0, unit="m", help="Highest regrowth left in a cleared part.")

    @model_validator(mode="after")
    def _zoom_rises(self) -> AugmentConfig:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom: {list(self.zoom)} must be two positive numbers, the smaller first")
        return self


class HeightRastersData(Section):
    """Height rasters: CHM, DSM with CHM, or DSM with DTM; single band, metres."""

    kind: Literal["height_rasters"] = Field("height_rasters", help="GeoTIFFs of heights.")
    folder: Path | None = Field(
        None, help="Folder searched for pairs that share a prefix, for example a_DSM.tif, a_CHM.tif."
    )
    shards: Path | None = Field(None, help=SHARDS_HELP)
    dsm_suffix: str = Field("DSM", min_length=1, help="Ending of DSM file names in the folder, before .tif.")
    chm_suffix: str = Field("CHM", min_length=1, help="Ending of CHM file names in the folder.")
    dtm_suffix: str = Field("DTM", min_length=1, help="Ending of DTM file names in the folder.")
    sites: tuple[SiteConfig, ...] = Field((), help="Sites named one by one.")
    input: Literal["dsm", "chm", "both"] = Field(
        "dsm",
        help="What the network sees: the surface (the usual case), the canopy height itself, or both as two bands.",
    )
    context: tuple[Literal["slope", "aspect", "altitude"], ...] = Field(
        (),
        help="Bands derived from the surface and added to the input: slope in degrees / 90, aspect as its sine and "
        "cosine (two bands, 0 where flat), altitude in metres / 1000.",
    )
    nodata: float | None = Field(None, help="Value meaning 'not measured' where a file has no tag; overrides the tag.")
    chm_nodata: float | Literal["tag", "none"] = Field(
        "tag",
        help="Value meaning 'not measured' in CHMs; 'tag' takes the file's tag, 'none' ignores it, for files that "
        "declare 0 though bare ground is 0 m high.",
    )
    align: Literal["refuse", "resample"] = Field(
        "refuse",
        help="What to do with rasters of a site on different grids: refuse, or resample onto the surface's grid.",
    )
    terrain: TerrainConfig = Field(
        default_factory=TerrainConfig, help="Invented terrain for sites that have a CHM alone."
    )
    tiles: TileConfig = Field(default_factory=TileConfig, help="How scenes are cut into tiles.")
    normalise: NormaliseConfig = Field(default_factory=MetresNormalise, help="How heights become network input.")
    split: SplitConfig = Field(default_factory=SplitConfig, help="Training, validation and test ground.")
    augment: AugmentConfig = Field(default_factory=AugmentConfig, help="Random changes of training tiles.")
    balance: BalanceConfig = Field(default_factory=BalanceConfig, help="Which training tiles come more often.")
    cache: CacheConfig = Field(default_factory=CacheConfig, help="Decoded rasters on disk.")
    loader: LoaderConfig = Field(default_factory=LoaderConfig, help="How batches are made.")

    @model_validator(mode="after")
    def _sites_make_sense(self) -> HeightRastersData:
        faults = shard_faults(self.shards, self.cache)
        names = [site.name for site in self.sites]
        faults += self._context_faults()
        if self.folder is None and not self.sites:
            faults.append("no data is named. Set data.folder to a folder of rasters, or list data.sites")
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.append(f'sites: the name "{name}" appears more than once')
        for i, site in enumerate(self.sites):
            if self.input != "chm" and site.dsm is None and not self.terrain.simulate:
                faults.append(
                    f'sites[{i}]: the site "{site.name}" has no dsm, which input: {self.input} needs. '
                    "Name its dsm, set terrain.simulate: true, or set input: chm"
                )
        for part in ("train", "val", "test") if self.folder is None and self.sites else ():
            for name in sorted(set(getattr(self.split, part)) - set(names)):
                faults.append(f'split.{part}: no site is called "{name}". Sites: {", ".join(names)}')
        refuse(faults)
        return self

    def _context_faults(self) -> list[str]:
        faults = []
        if len(set(self.context)) < len(self.context):
            faults.append(f"context: {list(self.context)} names a band twice")
        changes = self.augment
        moved = {
            "rotate_p": changes.rotate_p,
            "noise_m": changes.noise_m,
            "shift_m": changes.shift_m,
            "terrain_p": changes.terrain_p,
            "clearing_p": changes.clearing_p,
        }
        wrong = [f"augment.{name}" for name, value in moved.items() if value > 0]
        if self.context and changes.enabled and wrong:
            faults.append(
                f"context: bands derived from the surface would no longer fit it after {', '.join(wrong)}. Set these "
                "to 0 (mirror images and quarter turns stay possible), or leave context empty"
            )
        return faults


DataConfig = Annotated[HeightRastersData | ImagesData, pydantic.Field(discriminator="kind")]
