"""Loaders for training loops of one's own: plain pairs of image and target, from split files and two folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maskwright.config.data_parts import CacheConfig, LoaderConfig
from maskwright.config.image_augment import ImageAugmentConfig
from maskwright.config.images import ImagesData, ImageSplitConfig, ImageTileConfig
from maskwright.config.labels import MaskLabels
from maskwright.data.balance import compute_class_weights
from maskwright.data.build import build_loaders, build_source, build_split_of, fit_normaliser
from maskwright.data.loaders import EvalLoader, TrainLoader
from maskwright.data.sources.folders import find_images, find_masks
from maskwright.data.split_names import find_split_files, parts_from_files
from maskwright.errors import DataError
from maskwright.pixels import IGNORE_INDEX
from maskwright.types import Batch

__all__ = [
    "PairLoader",
    "PairLoaders",
    "compute_class_weights",
    "create_dataloaders",
    "load_dataset_from_split_files",
]

_SMALLEST_TILE_PX = 16


class PairLoader:
    """Batches as (image, target), for a loop of one's own; every walk over a training loader is the next epoch.

    Args:
        batches: Epoch to its batches.
        length: Batches in an epoch.
        class_names: What the target's ids mean; 0 is the background.

    Attributes:
        epoch: Epoch of the next walk, from 0; may be set to go on where a loop stopped.
        class_names: As given.
    """

    def __init__(self, batches: Callable[[int], Iterator[Batch]], length: int, class_names: tuple[str, ...]) -> None:
        self.epoch = 0
        self.class_names = class_names
        self._batches = batches
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Image (B, C, H, W) float32, normalised; target (B, H, W) int64 class ids, 255 where it does not count."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        for batch in self._batches(epoch):
            yield batch.image, batch.target.masked_fill(~batch.valid, IGNORE_INDEX)


@dataclass(frozen=True)
class PairLoaders:
    """Loaders of each part; ``train, val = create_dataloaders(...)`` takes the first two.

    Attributes:
        train: Training images in random order, changed at random.
        val: Validation images in order, unchanged.
        test: Test images in order, unchanged; None without a test.txt.
    """

    train: PairLoader
    val: PairLoader
    test: PairLoader | None = None

    def __iter__(self) -> Iterator[PairLoader]:
        return iter((self.train, self.val))


def create_dataloaders(
    split_dir: Path | str,
    images_dir: Path | str,
    masks_dir: Path | str,
    image_size: int | tuple[int, int] = 512,
    batch_size: int = 8,
    num_workers: int = 0,
    augmentation_prob: float = 0.5,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    cache_dir: Path | str | None = None,
) -> PairLoaders:
    """Loaders of a folder of images and a folder of 0/255 masks, divided by train.txt, val.txt and test.txt.

    Args:
        split_dir: Folder of train.txt, val.txt and, if there is one, test.txt: one image a line, with or without its
            ending.
        images_dir: Folder of the images.
        masks_dir: Folder of the masks, named like their images.
        image_size: Side in pixels, or rows and columns, that every image is resized to; masks by the nearest pixel.
        batch_size: Images in a batch.
        num_workers: Processes that read; 0 reads in this one, which is fastest once images are decoded.
        augmentation_prob: Probability of changes, 0..1; 0.5 is that of the preset, 0 changes nothing.
        seed: Of the order and the changes.
        device: Where batches are moved and changed.
        cache_dir: Where decoded images lie; None: the user's cache folder.

    Raises:
        DataError: If a file is missing, damaged or does not fit; all faults at once.
    """
    rows, cols = (image_size, image_size) if isinstance(image_size, int) else image_size
    config = ImagesData(
        images=Path(images_dir),
        labels=MaskLabels(folder=Path(masks_dir)),
        resize_px=(rows, cols),
        tiles=ImageTileConfig(size_px=max(rows, cols, _SMALLEST_TILE_PX)),
        split=ImageSplitConfig(by="files", files=Path(split_dir), shares=(1.0, 0.0, 0.0)),
        augment=ImageAugmentConfig(
            enabled=augmentation_prob > 0, strength=min(2.0, 2 * augmentation_prob), jitter=False
        ),
        cache=CacheConfig(folder=None if cache_dir is None else Path(cache_dir)),
        loader=LoaderConfig(batch_size=batch_size, workers=num_workers),
    )
    source = build_source(config, "binary")
    split = build_split_of(config, source)
    if not split.tiles["val"]:
        raise DataError(f"{split_dir} names no image for validation. Add a val.txt with one image a line.")
    fit_normaliser(config, source, split)
    train, evals = build_loaders(config, source, split, seed=seed, device=device)
    names = ("background", *source.classes.names)  # type: ignore[union-attr]
    test = _evaluated(evals["test"], names) if split.tiles["test"] else None
    return PairLoaders(_trained(train, names), _evaluated(evals["val"], names), test)


def load_dataset_from_split_files(
    split_dir: Path | str, images_dir: Path | str, masks_dir: Path | str
) -> dict[str, list[tuple[Path, Path]]]:
    """The pairs of image and mask that split files name.

    Args:
        split_dir: Folder of train.txt, val.txt and, if there is one, test.txt.
        images_dir: Folder of the images.
        masks_dir: Folder of the masks.

    Returns:
        ``train``, ``val`` and ``test`` to their pairs, in the order of the names.

    Raises:
        DataError: If a file names an image that is not there, or an image has no mask; all of them at once.
    """
    files = find_split_files(Path(split_dir))
    if not files:
        raise DataError(f"{split_dir} has no train.txt. It names one image a line; val.txt and test.txt lie beside it.")
    found = find_images(None, Path(images_dir))
    masks = find_masks(found, Path(masks_dir))
    named = parts_from_files(files, found.images)
    lacking = sorted(name for name in named.parts if name not in masks.masks)
    faults = [*found.faults, *masks.faults, *named.faults]
    faults += [f"{found.images[name]} has no mask in {masks_dir}. Add it, or take the image out." for name in lacking]
    if faults:
        raise DataError("\n".join(faults))
    pairs: dict[str, list[tuple[Path, Path]]] = {part: [] for part in files}
    for name in sorted(named.parts):
        pairs[named.parts[name]].append((found.images[name], masks.masks[name]))
    return pairs


def _trained(loader: TrainLoader, names: tuple[str, ...]) -> PairLoader:
    return PairLoader(loader.batches, len(loader), names)


def _evaluated(loader: EvalLoader, names: tuple[str, ...]) -> PairLoader:
    return PairLoader(lambda _: iter(loader), len(loader), names)
