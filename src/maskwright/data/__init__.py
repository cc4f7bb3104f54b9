"""From files on disk to batches: sources, splits, samples, augmentation, loaders."""

from __future__ import annotations

from maskwright.data.build import build_loaders, build_normaliser, build_source, build_split_of, fit_normaliser
from maskwright.data.foreign import compute_class_weights, create_dataloaders, load_dataset_from_split_files
from maskwright.data.loaders import EvalLoader, TrainLoader, masks
from maskwright.data.sampling import Augment, Draw, HeightChoice, TrainPlan
from maskwright.data.sources.images import ImageScenes
from maskwright.data.sources.interface import Grid, Scene, Source
from maskwright.data.splits import Region, Split, assert_apart, build_split, read_manifest, write_manifest
from maskwright.data.tiles import tile_grid

__all__ = [
    "Augment",
    "Draw",
    "EvalLoader",
    "Grid",
    "HeightChoice",
    "ImageScenes",
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
    "compute_class_weights",
    "create_dataloaders",
    "fit_normaliser",
    "load_dataset_from_split_files",
    "masks",
    "read_manifest",
    "tile_grid",
    "write_manifest",
]
