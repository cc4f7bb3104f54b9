from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwright.data.cache import Cache
from maskwright.data.loaders import EvalLoader
from maskwright.data.normalise import MetresNormaliser
from maskwright.data.sources import HeightRasters, Site
from maskwright.types import Place, Window

SHAPE = (150, 210)
WINDOWS = [Window(0, 0, 64, 64), Window(40, 100, 64, 64), Window(-20, 170, 64, 64), Window(400, 400, 64, 64)]


@pytest.fixture
def site(write_raster: Callable[..., Path]) -> Site:
    rng = np.random.default_rng(0)
    chm = rng.uniform(0, 30, SHAPE).astype(np.float32)
    dsm = chm + np.linspace(100, 160, SHAPE[1], dtype=np.float32)
    chm[:9], dsm[:, 50:58] = -9999, -9999
    return Site("a", dsm=write_raster("a_DSM.tif", dsm, nodata=-9999), chm=write_raster("a_CHM.tif", chm, nodata=-9999))


def samples(source: HeightRasters) -> list[np.ndarray]:
    return [values for window in WINDOWS for values in source.sample("a", window)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def read_all(source: HeightRasters) -> None:
    for _ in range(3):
        source.sample("a", Window(0, 0, *SHAPE))


@pytest.mark.parametrize("options", [{}, {"input": "both"}, {"context": ("slope", "altitude")}])
def test_a_scene_read_often_gives_the_same_bits_from_one_more_plane(site: Site, tmp_path: Path, options: dict) -> None:
    cache = Cache(tmp_path / "cache")
    source = HeightRasters([site], cache=cache, **options)
    before = samples(source)
    assert not [entry for entry in cache.entries() if entry.note.startswith("level of")]
    read_all(source)
    assert [entry.bytes for entry in cache.entries() if entry.note.startswith("level of")] == [150 * 210 * 4 + 128]
    assert same(before, samples(source))
    assert same(before, samples(pickle.loads(pickle.dumps(source))))


def test_the_bytes_foretold_are_those_on_disk_once_all_is_read(site: Site, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = HeightRasters([site], cache=cache)
    assert source.cache_bytes == 3 * 150 * 210 * 4  # surface, canopy, and the surface as the network sees it
    read_all(source)
    planes = [entry.bytes for entry in cache.entries() if not entry.note.startswith("reference")]
    assert source.cache_bytes == sum(planes) - 128 * len(planes)


def test_another_scale_gets_a_plane_of_its_own(site: Site, tmp_path: Path) -> None:
    source = HeightRasters([site], cache=Cache(tmp_path / "cache"))
    read_all(source)
    source.normaliser = MetresNormaliser(scale_m=10.0)
    fresh = HeightRasters([site], cache=Cache(tmp_path / "other"), normaliser=MetresNormaliser(scale_m=10.0))
    expected = samples(fresh)
    assert same(expected, samples(source))
    read_all(source)
    assert same(expected, samples(source))


def test_without_room_every_window_is_levelled_when_it_is_read(site: Site, tmp_path: Path) -> None:
    plain = samples(HeightRasters([site], cache=Cache(tmp_path / "other")))
    cache = Cache(tmp_path / "cache", max_bytes=300_000)  # two planes take 252,000
    source = HeightRasters([site], cache=cache)
    read_all(source)
    assert not [entry for entry in cache.entries() if entry.note.startswith("level of")]
    assert same(plain, samples(source))


def test_the_canopy_as_input_needs_no_plane(site: Site, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    read_all(HeightRasters([site], input="chm", cache=cache))
    assert len(cache.entries()) == 1


def test_batches_hold_what_single_samples_are(site: Site, tmp_path: Path) -> None:
    source = HeightRasters([site], cache=Cache(tmp_path / "cache"))
    places = [Place("a", window) for window in WINDOWS]
    for _ in range(2):  # the first batch learns the types
        for batch in EvalLoader(source, places, (5.0,), 3):
            for index, place in enumerate(batch.where):
                image, target, valid = source.sample(place.scene, place.window)
                assert same(
                    [batch.image[index].numpy(), batch.target[index].numpy(), batch.valid[index].numpy()],
                    [image, target, valid],
                )
