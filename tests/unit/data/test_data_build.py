from __future__ import annotations

import gc
import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from maskwright.config.data import HeightRastersData, MetresNormalise, NormaliseConfig, PerTileNormalise
from maskwright.data.build import NORMALISERS, build_loaders, build_normaliser, build_source, build_split_of
from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser
from maskwright.data.splits import assert_apart, read_manifest, write_manifest
from maskwright.data.synthetic import write_forest
from maskwright.errors import DataError

HEIGHTS = (2.0, 5.0, 10.0)


@pytest.fixture(scope="module")
def forests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forests")
    for seed, name in enumerate(("north", "south")):
        write_forest(folder, name=name, size_px=200, seed=seed)
    return folder


def config_of(data: Path, **options: object) -> HeightRastersData:
    usual = {"folder": data, "tiles": {"size_px": 16, "min_valid": 0.5}, "cache": {"folder": data / "cache"}}
    return HeightRastersData.model_validate({**usual, **options})


def test_every_kind_of_normalisation_can_be_built() -> None:
    kinds = typing.get_args(typing.get_args(NormaliseConfig)[0])
    assert set(NORMALISERS) == {kind.model_fields["kind"].default for kind in kinds}
    metres = MetresNormalise(scale_m=20.0, reference_cell_m=50.0, reference_percentile=10.0)
    assert build_normaliser(metres) == MetresNormaliser(20.0, 50.0, 10.0)
    assert build_normaliser(PerTileNormalise()) == PerTileNormaliser()


def test_rasters_of_a_folder_become_batches_end_to_end(forests: Path, tmp_path: Path) -> None:
    config = config_of(forests, augment={"rotate_p": 0.5, "noise_m": 0.1}, loader={"batch_size": 4})
    source = build_source(config)
    split = build_split_of(config, source)
    assert_apart(split, source.scenes)
    write_manifest(split, source.scenes, tmp_path / "splits.geojson")
    assert read_manifest(tmp_path / "splits.geojson") == split
    train, evals = build_loaders(config, source, split, heights_m=HEIGHTS, seed=1)
    assert [scene.name for scene in source.scenes] == ["north", "south"]
    assert len(train) == -(-len(split.tiles["train"]) // 4)
    batch = next(train.batches(0))
    assert batch.image.shape == (4, 1, 16, 16)
    assert torch.isfinite(batch.image).all()
    assert batch.condition is not None
    assert set(batch.condition.flatten().tolist()) <= set(HEIGHTS)
    for part, loader in evals.items():
        seen = [place for found in loader for place in found.where]
        assert tuple(seen) == split.tiles[part]
    kept = [
        1 - np.count_nonzero(~found.valid[index].numpy()) / 256 for found in evals["val"] for index in range(len(found))
    ]
    assert min(kept) >= 0.5


def test_tiles_are_kept_by_what_the_rasters_really_hold(forests: Path) -> None:
    config = config_of(forests, split={"shares": (1.0, 0.0, 0.0)})
    source = build_source(config)
    split = build_split_of(config, source)
    with rasterio.open(forests / "north_CHM.tif") as chm, rasterio.open(forests / "north_DSM.tif") as dsm:
        measured = (chm.read(1) != chm.nodata) & (dsm.read(1) != dsm.nodata)
    padded = np.zeros((208, 208), dtype=bool)
    padded[:200, :200] = measured
    shares = padded.reshape(13, 16, 13, 16).mean(axis=(1, 3))
    expected = {(16 * row, 16 * col) for row, col in np.argwhere(shares >= 0.5)}
    assert {(p.window.row, p.window.col) for p in split.tiles["train"] if p.scene == "north"} == expected


def test_listed_sites_stand_in_place_of_found_ones(forests: Path) -> None:
    north = {"name": "north", "chm": forests / "north_CHM.tif", "dsm": forests / "north_DSM.tif"}
    source = build_source(config_of(forests, sites=[north]))
    assert [scene.name for scene in source.scenes] == ["north", "south"]
    assert f"north: data.sites stands in place of the files found in {forests}" in source.notes


def test_rasters_without_a_partner_are_told(tmp_path: Path) -> None:
    write_forest(tmp_path, name="a", size_px=96)
    (tmp_path / "lonely_DSM.tif").write_bytes((tmp_path / "a_DSM.tif").read_bytes())
    source = build_source(config_of(tmp_path))
    assert len(source.notes) == 1
    assert "holds a raster that is not used: lonely_DSM.tif" in source.notes[0]


def test_a_missing_folder_and_a_folder_without_sites_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is no folder"):
        build_source(config_of(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no site"):
        build_source(config_of(tmp_path))


def test_nodata_of_the_experiment_reaches_every_site(tmp_path: Path) -> None:
    write_forest(tmp_path, name="a", size_px=96, nodata_edge=False)
    with rasterio.open(tmp_path / "a_CHM.tif", "r+") as chm:
        heights = chm.read(1)
        heights[:10] = -77.0
        chm.write(heights, 1)
    listed = [{"name": "b", "chm": tmp_path / "a_CHM.tif", "dsm": tmp_path / "a_DSM.tif"}]
    for options in ({"folder": tmp_path}, {"folder": None, "sites": listed}):
        config = HeightRastersData.model_validate(
            {"nodata": -77.0, "tiles": {"size_px": 16}, "cache": {"folder": tmp_path / "cache"}, **options}
        )
        source = build_source(config)
        assert source.valid_share(source.scenes[0].name, 96)[0, 0] == pytest.approx(86 / 96)


def test_without_a_cache_decoded_rasters_vanish_with_the_source(
    forests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = build_source(config_of(forests, cache={"enabled": False}))
    assert len(list(tmp_path.glob("maskwright-*/*.npy"))) >= 2
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_a_failed_opening_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, temporary = tmp_path / "data", tmp_path / "temporary"
    temporary.mkdir()
    write_forest(data, name="a", size_px=96)
    (data / "a_DSM.tif").write_bytes(b"no raster")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(DataError, match=r"a_DSM\.tif"):
        build_source(config_of(data, cache={"enabled": False}))
    assert list(temporary.iterdir()) == []


def test_heights_are_drawn_as_the_task_says(forests: Path) -> None:
    config = config_of(forests)
    source = build_source(config)
    split = build_split_of(config, source)

    def asked(**options: object) -> torch.Tensor:
        train, evals = build_loaders(config, source, split, heights_m=HEIGHTS, seed=1, **options)  # type: ignore[arg-type]
        evaluated = next(iter(evals["test"])).condition
        assert evaluated is not None
        assert evaluated[0].tolist() == list(HEIGHTS)
        conditions = [batch.condition for batch in train.batches(0)]
        return torch.cat([condition for condition in conditions if condition is not None])

    assert set(asked(train_heights_m=(3.0, 7.0)).flatten().tolist()) == {3.0, 7.0}
    assert asked(heights_per_sample=3).tolist() == [list(HEIGHTS)] * len(split.tiles["train"])
    drawn = asked(train_range_m=(2.0, 20.0), heights_per_sample=2)
    assert drawn.shape[1] == 2
    assert 2.0 <= float(drawn.min()) < float(drawn.max()) <= 20.0
    with pytest.raises(DataError, match="heights_per_sample: 4 different heights cannot be drawn from 3"):
        asked(heights_per_sample=4)


def test_changes_reach_the_surface_band_alone(forests: Path) -> None:
    still = {"jitter": False, "flip_p": 0.0, "turn_p": 0.0}
    plain, moved = (
        config_of(forests, input="both", augment={**still, **changes}) for changes in ({}, {"shift_m": 5.0})
    )
    source = build_source(plain)
    split = build_split_of(plain, source)
    first = next(build_loaders(plain, source, split, heights_m=HEIGHTS, seed=1)[0].batches(0))
    second = next(build_loaders(moved, source, split, heights_m=HEIGHTS, seed=1)[0].batches(0))
    assert torch.equal(first.image[:, 1], second.image[:, 1])
    assert not torch.equal(first.image[:, 0], second.image[:, 0])
    assert torch.equal(first.target, second.target)


@pytest.mark.parametrize("options", [{"input": "chm"}, {"normalise": {"kind": "per_tile"}}])
def test_metres_on_an_input_without_a_surface_in_metres_are_refused(forests: Path, options: dict[str, object]) -> None:
    config = config_of(forests, augment={"noise_m": 0.5}, **options)
    source = build_source(config)
    with pytest.raises(DataError, match="this input has no surface in metres"):
        build_loaders(config, source, build_split_of(config, source), heights_m=HEIGHTS, seed=1)


def test_augmentation_can_be_switched_off(forests: Path) -> None:
    config = config_of(forests, augment={"enabled": False, "noise_m": 0.5})
    source = build_source(config)
    split = build_split_of(config, source)
    train, _ = build_loaders(config, source, split, heights_m=HEIGHTS, seed=1)
    for batch in train.batches(0):
        assert set(batch.where) <= set(split.tiles["train"])
        for index, place in enumerate(batch.where):
            np.testing.assert_array_equal(batch.image[index].numpy(), source.sample(place.scene, place.window)[0])


def test_an_earlier_split_is_kept_when_a_site_joins(forests: Path, tmp_path: Path) -> None:
    north = {"name": "north", "chm": forests / "north_CHM.tif", "dsm": forests / "north_DSM.tif"}
    alone = config_of(forests, folder=None, sites=[north])
    old = build_split_of(alone, build_source(alone))
    both = config_of(forests)
    new = build_split_of(both, build_source(both), previous=old)
    assert [region for region in new.regions if region.scene == "north"] == list(old.regions)
    assert replace(new, notes=()).counts()["train"] > old.counts()["train"]


def test_workers_read_the_same_from_rasters(forests: Path) -> None:
    batches = []
    for workers in (0, 2):
        config = config_of(forests, loader={"batch_size": 16, "workers": workers})
        source = build_source(config)
        train, _ = build_loaders(config, source, build_split_of(config, source), heights_m=HEIGHTS, seed=1)
        batches.append(list(train.batches(1, 2)))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.target, other.target)


@pytest.mark.real
def test_real_forests_are_divided_and_read(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "forest_chm"
    config = HeightRastersData.model_validate(
        {
            "sites": [
                {"name": "laselva", "chm": folder / "laselva_west_chm_2009_125cm.tif"},
                {"name": "cauaxi_2012", "chm": folder / "cauaxi_chm_2012_1m.tif"},
                {"name": "cauaxi_2014", "chm": folder / "cauaxi_chm_2014_1m.tif"},
                {"name": "quesnel", "chm": folder / "quesnel_chm_2m.tif"},
                {"name": "nz", "chm": folder / "nz_forest_chm_1m.tif", "dsm": folder / "nz_forest_dsm_1m.tif"},
            ],
            "terrain": {"simulate": True},
            "tiles": {"size_px": 48},
            "cache": {"folder": tmp_path / "cache"},
            "split": {
                "by": "lists",
                "train": ["laselva", "cauaxi_2012", "cauaxi_2014"],
                "test": ["quesnel", "nz"],
            },
        }
    )
    source = build_source(config)
    split = build_split_of(config, source)
    assert_apart(split, source.scenes)
    assert min(split.counts().values()) >= 4
    train, evals = build_loaders(config, source, split, heights_m=HEIGHTS, seed=1)
    for batch in (next(train.batches(0)), next(iter(evals["test"]))):
        assert float(batch.valid.float().mean()) > 0.5
        assert float(batch.image.abs().max()) < 10
