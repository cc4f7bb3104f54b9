"""From the data section of an experiment to its parts: normaliser, source, split, loaders."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config.data import HeightRastersData, MetresNormalise, NormaliseConfig, PerTileNormalise, SiteConfig
from maskwright.data.cache import Cache, default_cache_folder
from maskwright.data.loaders import EvalLoader, TrainLoader
from maskwright.data.normalise import MetresNormaliser, Normaliser, PerTileNormaliser
from maskwright.data.sampling import Augment, HeightChoice, TrainPlan
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.sources.sites import Site, find_sites
from maskwright.data.splits import Split, build_split
from maskwright.data.terrain import Terrain

if TYPE_CHECKING:
    import torch

    from maskwright.data.sources.interface import Source

__all__ = ["NORMALISERS", "build_loaders", "build_normaliser", "build_source", "build_split_of"]

_SURFACE_BANDS = {"dsm": (0,), "chm": (), "both": (0,)}


def _metres(config: MetresNormalise) -> MetresNormaliser:
    return MetresNormaliser(config.scale_m, config.reference_cell_m, config.reference_percentile)


def _per_tile(_: PerTileNormalise) -> PerTileNormaliser:
    return PerTileNormaliser()


NORMALISERS: dict[str, Callable[[Any], Normaliser]] = {"metres": _metres, "per_tile": _per_tile}


def build_normaliser(config: NormaliseConfig) -> Normaliser:
    """What turns heights in metres into network input."""
    return NORMALISERS[config.kind](config)


def build_source(config: HeightRastersData) -> HeightRasters:
    """Open the sites that are listed and those found in the folder.

    Files of the folder that belong to no site are told in the source's notes.

    Raises:
        DataError: If the folder or a file is missing or unfit; all faults of all sites at once.
    """
    sites, notes = _sites(config)
    terrain = config.terrain
    cache = config.cache
    folder = (cache.folder or default_cache_folder()) if cache.enabled else Path(tempfile.mkdtemp(prefix="maskwright-"))
    try:
        source = HeightRasters(
            sites,
            input=config.input,
            align=config.align,
            terrain=Terrain(terrain.amplitude_m, terrain.wavelength_m, terrain.seed) if terrain.simulate else None,
            normaliser=build_normaliser(config.normalise),
            cache=Cache(folder, int(cache.max_gb * 1e9)),
            notes=notes,
        )
    except BaseException:
        if not cache.enabled:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not cache.enabled:
        weakref.finalize(source, _remove, folder, os.getpid())
    return source


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


def build_split_of(config: HeightRastersData, source: Source, previous: Split | None = None) -> Split:
    """Divide the ground of a source as the settings say.

    Args:
        config: Its sections ``tiles`` and ``split`` are used.
        source: What is divided.
        previous: An earlier split whose sites keep their part.

    Raises:
        DataError: If the ground cannot be divided so, with advice.
    """
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


def build_loaders(
    config: HeightRastersData,
    source: Source,
    split: Split,
    *,
    heights_m: tuple[float, ...],
    train_heights_m: tuple[float, ...] | None = None,
    train_range_m: tuple[float, float] | None = None,
    heights_per_sample: int = 1,
    seed: int,
    device: torch.device | str = "cpu",
) -> tuple[TrainLoader, dict[str, EvalLoader]]:
    """Loaders for training and for the parts ``val`` and ``test``.

    Args:
        config: Its sections ``augment``, ``loader`` and ``normalise`` are used.
        source: Where pixels come from.
        split: Which tiles belong to which part.
        heights_m: Heights asked in evaluation, in metres.
        train_heights_m: Heights drawn in training; None: ``heights_m``.
        train_range_m: Lowest and highest height drawn in training; takes the place of a list.
        heights_per_sample: Different heights asked of each training sample.
        seed: Of sampling and augmentation.
        device: Where batches are moved and augmented.

    Returns:
        The training loader, and ``val`` and ``test`` with all their tiles in order.

    Raises:
        DataError: If the heights cannot be drawn so, a change does not suit the input, or there is no training tile.
    """
    options = config.loader
    heights = HeightChoice(
        heights_m=() if train_range_m is not None else (train_heights_m or heights_m),
        range_m=train_range_m,
        per_sample=heights_per_sample,
    )
    plan = TrainPlan(split, heights, _augment(config), seed=seed, samples_per_epoch=options.samples_per_epoch)
    normalise = config.normalise
    train = TrainLoader(
        source,
        plan,
        batch_size=options.batch_size,
        workers=options.workers,
        prefetch=options.prefetch,
        device=device,
        scale_m=normalise.scale_m if isinstance(normalise, MetresNormalise) else None,
        surface_bands=_SURFACE_BANDS[config.input],
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
        )
        for part in ("val", "test")
    }
    return train, evals


def _augment(config: HeightRastersData) -> Augment | None:
    settings = config.augment
    return Augment(**settings.model_dump(exclude={"enabled"})) if settings.enabled else None
