from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from maskwright.data.image_augment import ImageChanger
from maskwright.data.loaders import EvalLoader, TrainLoader, masks
from maskwright.data.regions import Region, Split
from maskwright.data.sampling import Augment, HeightChoice, ImageAugment, TrainPlan
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.targets import gap_mask
from maskwright.data.tiles import tile_grid
from maskwright.errors import DataError
from maskwright.types import Batch, Place, Window

TILE = 16


class Hills:
    """A source held in memory: canopy heights, some not measured, under a surface that slopes."""

    def __init__(self, bands: int = 1, size: int = 70) -> None:
        rng = np.random.default_rng(0)
        grid = Grid(size, size, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None)
        self.scenes = (Scene("a", grid, "a", ()), Scene("b", grid, "b", ()))
        self.in_channels = bands
        self.canopy = {name: rng.uniform(0, 30, (size, size)).astype(np.float32) for name in "ab"}
        self.measured = {name: rng.random((size, size)) < 0.9 for name in "ab"}
        self.broken = ""

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if scene == self.broken:
            raise DataError(f"{scene}.tif is damaged. Copy it again.")
        target, valid = self._part(self.canopy[scene], window), self._part(self.measured[scene], window)
        target = np.where(valid, target, 0).astype(np.float32)
        slope = np.where(valid, np.add.outer(np.arange(TILE), np.arange(TILE)) / 10, 0)
        image = np.stack([target / 30 + slope, target / 30])[: self.in_channels]
        return image.astype(np.float32), target, valid

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        image, _, valid = self.sample(scene, window)
        return image, valid

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        _, target, valid = self.sample(scene, window)
        return target, valid

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        return np.ones((-(-70 // tile_px), -(-70 // tile_px)))

    @staticmethod
    def _part(values: np.ndarray, window: Window) -> np.ndarray:
        out = np.zeros((window.height, window.width), values.dtype)
        part = values[window.row : window.row_stop, window.col : window.col_stop]
        out[: part.shape[0], : part.shape[1]] = part
        return out


def split_of(source: Hills) -> Split:
    tiles = tuple(Place(scene.name, window) for scene in source.scenes for window in tile_grid(70, 70, TILE))
    regions = tuple(Region(scene.name, "train", scene.grid.window) for scene in source.scenes)
    grids = {scene.name: scene.grid for scene in source.scenes}
    return Split("lists", 0, (1.0, 0.0, 0.0), TILE, TILE, regions, {"train": tiles, "val": (), "test": ()}, grids)


def loader_of(source: Hills, *, workers: int = 0, augment: Augment | None = None, **options: object) -> TrainLoader:
    plan = TrainPlan(split_of(source), HeightChoice(heights_m=(2.0, 5.0, 10.0), per_sample=2), augment, seed=7)
    surface = {"scale_m": 30.0, "surface_bands": (0,), **options}
    return TrainLoader(source, plan, batch_size=8, workers=workers, **surface)  # type: ignore[arg-type]


RICH = Augment(rotate_p=0.3, noise_m=0.2, shift_m=1.0, terrain_p=0.3)


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.where == other.where
        for name in ("image", "target", "valid", "condition"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_batch_holds_what_the_source_gives_in_the_promised_types() -> None:
    source = Hills(bands=2)
    batch = next(loader_of(source).batches(0))
    assert (batch.image.shape, batch.image.dtype) == ((8, 2, TILE, TILE), torch.float32)
    assert (batch.target.shape, batch.target.dtype) == ((8, TILE, TILE), torch.float32)
    assert (batch.valid.shape, batch.valid.dtype) == ((8, TILE, TILE), torch.bool)
    assert batch.condition is not None
    assert (batch.condition.shape, batch.condition.dtype) == ((8, 2), torch.float32)
    assert batch.image.is_contiguous()
    for index, place in enumerate(batch.where):
        image, target, valid = source.sample(place.scene, place.window)
        np.testing.assert_array_equal(batch.image[index].numpy(), image)
        np.testing.assert_array_equal(batch.target[index].numpy(), target)
        np.testing.assert_array_equal(batch.valid[index].numpy(), valid)


def test_an_epoch_ends_with_a_smaller_batch_and_has_the_promised_length() -> None:
    loader = loader_of(Hills())
    sizes = [len(batch) for batch in loader.batches(0)]
    assert sizes == [8, 8, 8, 8, 8, 8, 2]  # 2 scenes of 25 tiles
    assert len(loader) == 7


def test_batches_are_the_same_with_and_without_workers() -> None:
    alone, helped = loader_of(Hills(), augment=RICH), loader_of(Hills(), augment=RICH, workers=2)
    for epoch in (0, 1, 0):
        assert_equal(list(alone.batches(epoch)), list(helped.batches(epoch)))


def test_starting_in_the_middle_gives_the_rest_of_the_epoch() -> None:
    loader = loader_of(Hills(), augment=RICH)
    whole = list(loader.batches(3))
    for start in (0, 1, 5, 6, 7):
        assert_equal(list(loader.batches(3, start)), whole[start:])


def test_an_epoch_left_early_does_not_disturb_the_next() -> None:
    loader = loader_of(Hills(), workers=2)
    expected = list(loader_of(Hills()).batches(4, 2))
    for _ in range(3):
        walk = loader.batches(1)
        next(walk)
        walk.close()  # type: ignore[attr-defined]
        assert_equal(list(loader.batches(4, 2)), expected)


def test_batches_kept_by_the_caller_do_not_change_afterwards() -> None:
    loader = loader_of(Hills())
    walk = loader.batches(0)
    first = next(walk)
    copy = first.image.clone()
    list(walk)
    assert torch.equal(first.image, copy)


def test_neither_workers_nor_augmentation_touch_the_global_random_state() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(loader_of(Hills(), augment=RICH).batches(0))
    list(loader_of(Hills(), augment=RICH, workers=2).batches(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_told_in_its_own_words(workers: int) -> None:
    source = Hills()
    source.broken = "b"
    with pytest.raises(DataError) as caught:
        list(loader_of(source, workers=workers).batches(0))
    assert str(caught.value) == "b.tif is damaged. Copy it again."


class Fatal(Hills):
    """A source whose worker process is ended by the system."""

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if get_worker_info() is not None:
            os._exit(9)
        return super().sample(scene, window)


def test_a_worker_that_dies_is_told_with_advice() -> None:
    with pytest.raises(DataError, match=r"A loader process ended unexpectedly .* lower data\.loader\.workers"):
        list(loader_of(Fatal(), workers=1).batches(0))


def test_metres_cannot_be_added_to_an_input_without_a_surface() -> None:
    with pytest.raises(DataError, match=r"data\.augment: noise_m, shift_m and terrain_p add metres to the surface"):
        loader_of(Hills(), augment=RICH, surface_bands=())
    with pytest.raises(DataError, match=r"data\.normalise\.kind: metres"):
        loader_of(Hills(), augment=RICH, scale_m=None)


def test_evaluation_walks_all_tiles_in_order_and_asks_all_heights() -> None:
    source = Hills()
    places = split_of(source).tiles["train"]
    loader = EvalLoader(source, places, (2.0, 5.0, 10.0), 8)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 8, 2]
        assert tuple(place for batch in batches for place in batch.where) == places
        for batch in batches:
            assert batch.condition is not None
            assert batch.condition.tolist() == [[2.0, 5.0, 10.0]] * len(batch)
    assert len(loader) == 7
    assert_equal(batches, list(EvalLoader(source, places, (2.0, 5.0, 10.0), 8, workers=2)))


def test_padding_beyond_the_scene_does_not_count() -> None:
    source = Hills()
    (batch,) = EvalLoader(source, [Place("a", Window(64, 64, TILE, TILE))], (5.0,), 1)
    assert not batch.valid[0, 6:].any()
    assert not batch.valid[0, :, 6:].any()
    assert (batch.image[0, :, 6:] == 0).all()


def test_evaluation_of_no_tiles_gives_no_batches() -> None:
    loader = EvalLoader(Hills(), (), (5.0,), 8)
    assert len(loader) == 0
    assert list(loader) == []


def test_masks_for_other_loops_hold_gaps_at_the_asked_heights() -> None:
    source = Hills()

    def batches() -> Iterator[Batch]:
        return islice(loader_of(source).batches(0), 2)

    for batch, pair in zip(batches(), masks(batches()), strict=True):
        assert isinstance(pair, tuple)
        image, mask, condition = pair
        assert torch.equal(image, batch.image)
        assert mask.dtype == torch.uint8
        for index in range(len(batch)):
            expected = gap_mask(batch.target[index].numpy(), batch.valid[index].numpy(), condition[index].tolist())
            np.testing.assert_array_equal(mask[index].numpy(), expected)
    by_name = next(masks(batches(), "dict"))
    assert isinstance(by_name, dict)
    assert list(by_name) == ["image", "mask", "condition"]


def test_masks_of_an_unknown_form_or_without_heights_are_refused() -> None:
    source = Hills()
    with pytest.raises(DataError, match=r"form: 'list' is not known\. Known: tuple, dict"):
        next(masks(loader_of(source).batches(0), "list"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="These batches ask no heights"):
        next(masks(EvalLoader(source, split_of(source).tiles["train"], (), 8)))


class Photographs(Hills):
    """A source of class ids in three bands."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 3

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, target, valid = super().sample(scene, window)
        image = np.stack([target / 30] * 3).astype(np.float32)
        return image, np.where(valid, target > 10, 0).astype(np.int64), valid


def photo_loader(workers: int = 0, batch_size: int = 8, **options: object) -> TrainLoader:
    source = Photographs()
    rich = ImageAugment(flip_p=0.5, rotate_p=0.5, elastic_p=0.5, color_p=0.5, blur_p=0.5, noise_p=0.5, mixup_p=0.3)
    plan = TrainPlan(split_of(source), None, rich, seed=7)
    change = ImageChanger(rich, in_channels=3, largest=255.0)
    return TrainLoader(
        source,
        plan,
        batch_size=batch_size,
        workers=workers,
        change=change,
        **options,  # type: ignore[arg-type]
    )


def test_batches_of_images_have_class_ids_and_no_heights() -> None:
    batch = next(photo_loader().batches(0))
    assert batch.condition is None
    assert batch.target.dtype == torch.int64
    assert batch.mix is not None
    assert (batch.mix.target.shape, batch.mix.share.shape) == (batch.target.shape, (8,))
    assert len(batch) == len(batch.where) == 8


def test_images_are_changed_alike_with_workers_and_whatever_the_size_of_a_batch() -> None:
    def stacked(loader: TrainLoader, name: str) -> torch.Tensor:
        return torch.cat([getattr(batch, name) for batch in loader.batches(2)])

    for name in ("image", "target", "valid"):
        expected = stacked(photo_loader(), name)
        assert torch.equal(stacked(photo_loader(workers=2), name), expected)
        assert torch.equal(stacked(photo_loader(batch_size=5), name), expected)


def test_a_smaller_last_batch_may_be_left_out() -> None:
    loader = loader_of(Hills(), drop_last=True)
    assert [len(batch) for batch in loader.batches(0)] == [8] * 6
    assert len(loader) == 6
    with pytest.raises(DataError, match="drop_last leaves no batch: an epoch has 50 samples and a batch 64"):
        photo_loader(batch_size=64, drop_last=True)


def test_what_is_decoded_once_is_read_without_workers() -> None:
    assert loader_of(Hills(), workers="auto").workers == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("device", "is_pinned"), [("cuda", True), ("cpu", False)])
def test_tiles_for_a_gpu_are_stacked_in_pinned_memory_so_that_copies_need_no_wait(
    monkeypatch: pytest.MonkeyPatch, device: str, is_pinned: bool
) -> None:
    asked: list[bool] = []
    empty = torch.empty

    def recorded(*sizes: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*sizes, **options)  # this machine may have no GPU to pin memory for

    moved: list[dict[str, Any]] = []
    to = torch.Tensor.to

    def sent(tensor: torch.Tensor, where: Any, **options: Any) -> torch.Tensor:
        moved.append(options)
        return to(tensor, "cpu")

    source = Hills()
    loader = EvalLoader(source, split_of(source).tiles["train"][:3], (5.0,), 3, device=device)
    monkeypatch.setattr(torch, "empty", recorded)
    monkeypatch.setattr(torch.Tensor, "to", sent)
    (batch,) = loader
    assert len(batch) == 3
    assert asked == [is_pinned] * 3
    assert moved == [{"non_blocking": True}] * 4
