"""Loaders of several processes: shares of batches that together are the batches of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwright.data import loaders
from maskwright.data.loaders import EvalLoader, TrainLoader
from maskwright.data.regions import Region, Split
from maskwright.data.sampling import Augment, HeightChoice, TrainPlan
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.tiles import tile_grid
from maskwright.distributed import ranks
from maskwright.errors import DataError
from maskwright.types import Batch, Place, Window

TILE, SIDE = 16, 48


class Slope:
    """A source held in memory: heights that rise to the south-east."""

    in_channels = 1

    def __init__(self) -> None:
        grid = Grid(SIDE, SIDE, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None)
        self.scenes = (Scene("a", grid, "a", ()),)

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, cols = np.arange(window.row, window.row_stop), np.arange(window.col, window.col_stop)
        heights = np.add.outer(rows, cols).astype(np.float32) / 4
        return heights[None] / 30, heights, np.ones_like(heights, dtype=bool)


def loader_of(**options: int) -> TrainLoader:
    source = Slope()
    tiles = tuple(Place("a", window) for window in tile_grid(SIDE, SIDE, TILE))
    region = Region("a", "train", source.scenes[0].grid.window)
    grids = {"a": source.scenes[0].grid}
    split = Split("lists", 0, (1.0, 0.0, 0.0), TILE, TILE, (region,), {"train": tiles, "val": (), "test": ()}, grids)
    plan = TrainPlan(split, HeightChoice(heights_m=(2.0, 5.0)), Augment(rotate_p=0.5, noise_m=0.1), seed=3)
    given = {"batch_size": 4} | options
    return TrainLoader(source, plan, scale_m=30.0, surface_bands=(0,), **given)  # type: ignore[arg-type]


def become(monkeypatch: pytest.MonkeyPatch, number: int, size: int) -> None:
    monkeypatch.setattr(ranks, "rank", lambda: number)
    monkeypatch.setattr(ranks, "world_size", lambda: size)
    monkeypatch.setattr(loaders, "world_size", lambda: size)


def joined(parts: list[Batch], name: str) -> torch.Tensor:
    return torch.cat([getattr(part, name) for part in parts])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_shares_put_together_are_the_batches_of_one_process(
    monkeypatch: pytest.MonkeyPatch, size: int, workers: int
) -> None:
    whole = list(loader_of().batches(1))
    assert [len(batch) for batch in whole] == [4, 4, 1]
    shares = []
    for number in range(size):
        become(monkeypatch, number, size)
        loader = loader_of(workers=workers if number == 0 else 0)
        assert len(loader) == 3
        shares.append(list(loader.batches(1)))
    for position, batch in enumerate(whole):
        parts = [share[position] for share in shares]
        assert tuple(place for part in parts for place in part.where) == batch.where
        for name in ("image", "target", "valid", "condition"):
            assert torch.equal(joined(parts, name), getattr(batch, name)), name


def test_a_process_without_a_sample_of_the_last_batch_gets_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1, 2)
    sizes = [(len(batch), batch.image.shape[1:], batch.where) for batch in loader_of().batches(0)]
    assert sizes[-1] == (0, (1, TILE, TILE), ())
    assert [size for size, *_ in sizes] == [2, 2, 0]


def test_batches_with_fewer_samples_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0, 5)
    with pytest.raises(DataError, match=r"5 processes cannot share a batch of 4 samples\. .* raise it, or start fewer"):
        loader_of()


def test_batches_of_an_evaluation_can_be_read_some_at_a_time() -> None:
    source = Slope()
    tiles = [Place("a", window) for window in tile_grid(SIDE, SIDE, TILE)]
    loader = EvalLoader(source, tiles, (2.0,), 4)
    whole = list(loader)
    some = [*loader.some(range(0, 1)), *loader.some(range(1, 3)), *loader.some(range(3, 3))]
    assert [batch.where for batch in some] == [batch.where for batch in whole]
    assert all(torch.equal(one.image, other.image) for one, other in zip(some, whole, strict=True))
