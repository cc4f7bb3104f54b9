"""From files on disk to batches: sources, splits, samples, augmentation, loaders."""

from __future__ import annotations

from maskwright.data.build import build_loaders, build_normaliser, build_source, build_split_of
from maskwright.data.loaders import EvalLoader, TrainLoader, masks
from maskwright.data.sampling import Augment, Draw, HeightChoice, TrainPlan
from maskwright.data.sources.interface import Grid, Scene, Source
from maskwright.data.splits import Region, Split, assert_apart, build_split, read_manifest, write_manifest
from maskwright.data.tiles import tile_grid

__all__ = [
    "Augment",
    "Draw",
    "EvalLoader",
    "Grid",
    "HeightChoice",
    "Region",
    "Scene",
    "Source",
    "Split",
    "TrainLoader",
    "TrainPlan",
    "assert_apart",
    "build_loaders",
    "build_normaliser",
    "build_source",
    "build_split",
    "build_split_of",
    "masks",
    "read_manifest",
    "tile_grid",
    "write_manifest",
]
