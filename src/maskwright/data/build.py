"""From the data section of an experiment to its parts: source, split, normaliser, loaders."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config.data import (
    DataConfig,
    HeightRastersData,
    MetresNormalise,
    NormaliseConfig,
    PerTileNormalise,
    SiteConfig,
)
from maskwright.config.images import ImagesData
from maskwright.data.balance import (
    TileBalance,
    balance_by_foreground,
    balance_by_share,
    class_shares,
    gap_shares,
)
from maskwright.data.band_statistics import band_statistics
from maskwright.data.build_images import build_image_normaliser, open_images, split_images
from maskwright.data.cache import Cache, default_cache_folder
from maskwright.data.extra import extra_names
from maskwright.data.image_augment import ImageChanger
from maskwright.data.loaders import EvalLoader, TrainLoader
from maskwright.data.normalise import HeightNormaliser, MetresNormaliser, PerTileNormaliser, Unfitted
from maskwright.data.sampling import Augment, HeightChoice, ImageAugment, TrainPlan
from maskwright.data.shards import from_shards
from maskwright.data.sources.classes import Form
from maskwright.data.sources.images import ImageScenes
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.sources.sites import Site, find_sites
from maskwright.data.splits import Split, build_split
from maskwright.data.terrain import Terrain
from maskwright.errors import DataError

if TYPE_CHECKING:
    import torch

    from maskwright.data.instance_targets import TargetPainter
    from maskwright.data.sources.interface import Source

__all__ = ["NORMALISERS", "build_loaders", "build_normaliser", "build_source", "build_split_of", "fit_normaliser"]

_SURFACE_BANDS = {"dsm": (0,), "chm": (), "both": (0,)}


def _metres(config: MetresNormalise) -> MetresNormaliser:
    return MetresNormaliser(config.scale_m, config.reference_cell_m, config.reference_percentile)


def _per_tile(_: PerTileNormalise) -> PerTileNormaliser:
    return PerTileNormaliser()


def _unfitted(config: Any) -> Unfitted:
    return Unfitted(config.kind, getattr(config, "low", 2.0), getattr(config, "high", 98.0))


NORMALISERS: dict[str, Callable[[Any], HeightNormaliser]] = {
    "metres": _metres,
    "per_tile": _per_tile,
    "standard": _unfitted,
    "minmax": _unfitted,
    "percentile": _unfitted,
    "robust": _unfitted,
    "adaptive": _unfitted,
}


def build_normaliser(config: NormaliseConfig) -> HeightNormaliser:
    """What turns heights in metres into network input; what is taken from training pixels is fitted later."""
    return NORMALISERS[config.kind](config)


def build_source(config: DataConfig, form: Form | None = None) -> HeightRasters | ImageScenes:
    """Open the data.

    Files of a folder that are not used are told in the source's notes.

    Args:
        config: The section ``data``.
        form: What the task makes of the classes of images; None for height rasters.

    Raises:
        DataError: If a folder or a file is missing or unfit; all faults of all files at once.
    """
    config = from_shards(config)
    cache = config.cache
    folder = (cache.folder or default_cache_folder()) if cache.enabled else Path(tempfile.mkdtemp(prefix="maskwright-"))
    opened = Cache(folder, int(cache.max_gb * 1e9))
    source: HeightRasters | ImageScenes
    try:
        if isinstance(config, ImagesData):
            source = open_images(config, form, opened)
        else:
            source = _height_rasters(config, opened)
    except BaseException:
        if not cache.enabled:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not cache.enabled:
        weakref.finalize(source, _remove, folder, os.getpid())
    return source


def _height_rasters(config: HeightRastersData, cache: Cache) -> HeightRasters:
    sites, notes = _sites(config)
    terrain = config.terrain
    return HeightRasters(
        sites,
        input=config.input,
        align=config.align,
        terrain=Terrain(terrain.amplitude_m, terrain.wavelength_m, terrain.seed) if terrain.simulate else None,
        normaliser=build_normaliser(config.normalise),
        context=config.context,
        cache=cache,
        notes=notes,
    )


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked loader must not take the folder away from the others
        shutil.rmtree(folder, ignore_errors=True)


def _sites(config: HeightRastersData) -> tuple[list[Site], list[str]]:
    listed = {site.name: _site(site, config) for site in config.sites}
    if config.folder is None:
        return list(listed.values()), []
    found, orphans = find_sites(config.folder, config.dsm_suffix, config.chm_suffix, config.dtm_suffix)
    notes = [f"{config.folder} holds a raster that is not used: {orphan}" for orphan in orphans]
    notes += [
        f"{site.name}: data.sites stands in place of the files found in {config.folder}"
        for site in found
        if site.name in listed
    ]
    more = [
        replace(site, nodata=config.nodata, chm_nodata=config.chm_nodata) for site in found if site.name not in listed
    ]
    return [*listed.values(), *more], notes


def _site(site: SiteConfig, config: HeightRastersData) -> Site:
    return Site(
        name=site.name,
        dsm=site.dsm,
        chm=site.chm,
        dtm=site.dtm,
        nodata=config.nodata if site.nodata is None else site.nodata,
        chm_nodata=config.chm_nodata if site.chm_nodata is None else site.chm_nodata,
        ground=site.ground,
    )


def build_split_of(config: DataConfig, source: Source, previous: Split | None = None) -> Split:
    """Divide the ground of a source as the settings say.

    Args:
        config: Its sections ``tiles`` and ``split`` are used.
        source: What is divided.
        previous: An earlier split whose sites or images keep their part.

    Raises:
        DataError: If the ground cannot be divided so, with advice.
    """
    config = from_shards(config)  # lists of images may lie in them
    if isinstance(source, ImageScenes) and isinstance(config, ImagesData):
        return split_images(config, source, previous)
    if isinstance(config, ImagesData):
        raise DataError("data.kind: images divides images, and this source holds none. Open it with build_source.")
    split, tiles = config.split, config.tiles
    return build_split(
        source.scenes,
        source.valid_share,
        tile_px=tiles.size_px,
        overlap_px=tiles.overlap_px,
        min_valid=tiles.min_valid,
        by=split.by,
        shares=split.shares,
        seed=split.seed,
        buffer_px=split.buffer_px,
        train=split.train,
        val=split.val,
        test=split.test,
        previous=previous,
    )


def fit_normaliser(config: DataConfig, source: HeightRasters | ImageScenes, split: Split) -> None:
    """Set the normaliser of images, and of height rasters that need it, from the training pixels that count.

    Args:
        config: Its section ``normalise`` is used.
        source: Its ``normaliser`` is set.
        split: Its part ``train`` is measured; the result is kept in the source's cache.

    Raises:
        DataError: If the images do not suit the kind of normalisation.
    """
    if isinstance(source, ImageScenes) and isinstance(config, ImagesData):
        source.normaliser = build_image_normaliser(config.normalise, source, split)
    elif isinstance(source.normaliser, Unfitted):
        statistics = band_statistics(source.training_pieces(split.tiles["train"]))  # type: ignore[union-attr]
        source.normaliser = source.normaliser.fit(statistics)


def build_loaders(
    config: DataConfig,
    source: HeightRasters | ImageScenes,
    split: Split,
    *,
    heights_m: tuple[float, ...] = (),
    train_heights_m: tuple[float, ...] | None = None,
    train_range_m: tuple[float, float] | None = None,
    heights_per_sample: int = 1,
    seed: int,
    device: torch.device | str = "cpu",
    painter: TargetPainter | None = None,
) -> tuple[TrainLoader, dict[str, EvalLoader]]:
    """Loaders for training and for the parts ``val`` and ``test``.

    Args:
        config: Its sections ``augment``, ``balance``, ``loader`` and ``normalise`` are used.
        source: Where pixels come from; that of images with its normaliser set.
        split: Which tiles belong to which part.
        heights_m: Heights asked in evaluation, in metres; empty for tasks that ask none.
        train_heights_m: Heights drawn in training; None: ``heights_m``.
        train_range_m: Lowest and highest height drawn in training; takes the place of a list.
        heights_per_sample: Different heights asked of each training sample.
        seed: Of sampling and augmentation.
        device: Where batches are moved and augmented.
        painter: Gives batches their objects and the maps learned from them; for tasks of objects.

    Returns:
        The training loader, and ``val`` and ``test`` with all their tiles in order.

    Raises:
        DataError: If the heights cannot be drawn so, a change does not suit the input, or there is no training tile.
    """
    options = config.loader
    heights = None
    if heights_m or train_heights_m or train_range_m is not None:
        listed = () if train_range_m is not None else (train_heights_m or heights_m)
        heights = HeightChoice(heights_m=listed, range_m=train_range_m, per_sample=heights_per_sample)
    augment = _augment(config)
    plan = TrainPlan(
        split,
        heights,
        augment,
        seed=seed,
        samples_per_epoch=options.samples_per_epoch,
        balance=_with_extra(_balance(config, source, split, heights_m), config, source, split),
        centres=source.centres if isinstance(source, ImageScenes) else None,
    )
    train = TrainLoader(
        source,
        plan,
        batch_size=options.batch_size,
        workers=options.workers,
        prefetch=options.prefetch,
        device=device,
        painter=painter,
        **_changes(config, source, augment),
    )
    evals = {
        part: EvalLoader(
            source,
            split.tiles[part],
            heights_m,
            options.eval_batch_size or options.batch_size,
            workers=options.workers,
            prefetch=options.prefetch,
            device=device,
            painter=painter,
        )
        for part in ("val", "test")
    }
    return train, evals


def _augment(config: DataConfig) -> Augment | ImageAugment | None:
    settings = config.augment
    if not settings.enabled:
        return None
    kind = ImageAugment if isinstance(config, ImagesData) else Augment
    return kind(**settings.model_dump(exclude={"enabled", "preset"}))


def _changes(
    config: DataConfig, source: HeightRasters | ImageScenes, augment: Augment | ImageAugment | None
) -> dict[str, Any]:
    """How a training loader changes its batches."""
    if isinstance(config, ImagesData):
        if not isinstance(source, ImageScenes) or not isinstance(augment, ImageAugment):
            return {}
        changer = ImageChanger(
            augment,
            in_channels=source.in_channels,
            band_names=source.band_names,
            normaliser=source.normaliser,
            largest=source.largest,
        )
        return {"change": changer}
    normalise = config.normalise
    return {
        "scale_m": normalise.scale_m if isinstance(normalise, MetresNormalise) else None,
        "surface_bands": _SURFACE_BANDS[config.input],
    }


def _balance(
    config: DataConfig, source: HeightRasters | ImageScenes, split: Split, heights_m: tuple[float, ...]
) -> TileBalance | None:
    """Which training tiles come more often, measured on their labels."""
    settings, places = config.balance, split.tiles["train"]
    if settings.by == "none":
        return None
    of_images = isinstance(source, ImageScenes)
    if of_images == (settings.by == "height") or not (of_images or heights_m):
        known = "class or foreground" if of_images else "height, for tasks that ask heights"
        raise DataError(f"data.balance.by: {settings.by} does not suit these data. Set {known}, or none.")
    if not isinstance(source, ImageScenes):
        return balance_by_share(gap_shares(source.label, places, heights_m), cap=settings.cap)
    classes = source.classes
    shares = class_shares(source.class_counts, places, multilabel=classes.form == "multilabel")
    if settings.by == "class":
        return balance_by_share(shares, cap=settings.cap)
    if classes.form == "multiclass" and classes.background is None:
        raise DataError("data.balance.by: foreground needs a background, and there is none. Set class.")
    painted = shares[:, :-1] if classes.form == "multilabel" else shares[:, 1:]
    return balance_by_foreground(
        np.asarray(painted.any(axis=1)),
        target_share=settings.target_share,
        mode=settings.mode,
        cap=settings.cap,
        batch_size=config.loader.batch_size,
    )


def _with_extra(
    balance: TileBalance | None, config: DataConfig, source: HeightRasters | ImageScenes, split: Split
) -> TileBalance | None:
    """The balance with tiles of images whose mask a model made coming less often."""
    if not isinstance(config, ImagesData) or not isinstance(source, ImageScenes) or config.extra.weight == 1:
        return balance
    extra = extra_names(source)
    factors = np.array([config.extra.weight if place.scene in extra else 1.0 for place in split.tiles["train"]])
    if balance is None or balance.weights is None:  # by foreground it is refused by the settings
        return TileBalance(weights=factors)
    return replace(balance, weights=balance.weights * factors)
