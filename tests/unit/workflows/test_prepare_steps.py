from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from maskwright.config import HeightRastersData
from maskwright.data.sources.sites import Site
from maskwright.errors import DataError, GridError, RunError
from maskwright.workflows import prepare_align as align_module
from maskwright.workflows import prepare_tiles as tiles_module
from maskwright.workflows.prepare_align import prepare_align
from maskwright.workflows.prepare_masks import prepare_masks
from maskwright.workflows.prepare_tiles import prepare_tiles


def _write(path: Path, values: np.ndarray, *, left: float = 500_000.0, pixel: float = 1.0) -> Path:
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "dtype": values.dtype,
        "crs": "EPSG:32622",
        "nodata": -9999.0,
        "transform": from_origin(left, 100.0, pixel, pixel),
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    heights = np.random.default_rng(0).uniform(0, 30, (40, 50)).astype(np.float32)
    heights[:4, :5] = -9999
    _write(folder / "a_CHM.tif", heights)
    _write(folder / "a_DSM.tif", np.where(heights < 0, heights, heights + 300).astype(np.float32))
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _values(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def test_masks_are_one_below_the_height_and_255_where_not_measured(pair: Path, tmp_path: Path) -> None:
    paths = prepare_masks(HeightRastersData(folder=pair, input="chm"), [5, 2], tmp_path / "out")
    assert [path.name for path in paths] == ["a_gap_mask_2m.tif", "a_gap_mask_5m.tif"]
    canopy = _values(pair / "a_CHM.tif")
    for path, height in zip(paths, (2, 5), strict=True):
        assert np.array_equal(_values(path), np.where(canopy == -9999, 255, canopy < height))
        with rasterio.open(path) as file:
            assert (file.nodata, file.dtypes[0]) == (255, "uint8")


def test_finished_files_are_kept_and_damaged_ones_made_again(pair: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", HeightRastersData(folder=pair, input="chm")
    paths = prepare_masks(data, [5], out)
    before, stamp = _contents(out), paths[0].stat().st_mtime_ns
    prepare_masks(data, [5], out)
    assert paths[0].stat().st_mtime_ns == stamp
    paths[0].write_bytes(b"cut")
    prepare_masks(data, [5], out)
    assert _contents(out) == before


def test_files_of_another_job_are_refused_unless_told_otherwise(pair: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", HeightRastersData(folder=pair, input="chm")
    out.mkdir()
    (out / "a_gap_mask_5m.tif").write_text("mine")
    with pytest.raises(RunError, match=r"holds a_gap_mask_5m\.tif already.*--overwrite"):
        prepare_masks(data, [5], out)
    assert (out / "a_gap_mask_5m.tif").read_text() == "mine"
    prepare_masks(data, [5], out, overwrite=True)
    assert _values(out / "a_gap_mask_5m.tif").shape == (40, 50)


def test_rasters_are_laid_onto_the_grid_of_the_surface(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:40, :50]
    dsm = _write(tmp_path / "a_DSM.tif", (300 + 0.5 * cols).astype(np.float32))
    fine = np.repeat(np.repeat((2.0 * rows).astype(np.float32), 2, 0), 2, 1)
    chm = _write(tmp_path / "a_CHM.tif", fine, pixel=0.5)
    (site,) = prepare_align([Site("a", dsm=dsm, chm=chm)], tmp_path / "out")
    assert len(site.changes) == 1
    assert "CHM laid onto the grid of the DSM: pixel size" in site.changes[0]
    assert np.array_equal(_values(site.files["dsm"]), _values(dsm))
    with rasterio.open(site.files["chm"]) as file, rasterio.open(dsm) as base:
        assert (file.shape, file.transform, file.nodata) == (base.shape, base.transform, -9999.0)
    np.testing.assert_allclose(_values(site.files["chm"])[2:-2, 2:-2], (2.0 * rows)[2:-2, 2:-2], atol=0.6)


def test_aligning_goes_on_after_a_failure_and_leaves_nothing_half_done(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, site = tmp_path / "out", Site("a", dsm=pair / "a_DSM.tif", chm=pair / "a_CHM.tif")
    write = align_module._write
    monkeypatch.setattr(align_module, "_write", lambda path, *rest, **more: _stop_at_canopy(write, path, *rest, **more))
    with pytest.raises(KeyboardInterrupt):
        prepare_align([site], out)
    assert list(_contents(out)) == ["a_DSM.tif"]
    stamp = (out / "a_DSM.tif").stat().st_mtime_ns
    monkeypatch.undo()
    prepare_align([site], out)
    assert (out / "a_DSM.tif").stat().st_mtime_ns == stamp
    assert np.array_equal(_values(out / "a_CHM.tif"), _values(pair / "a_CHM.tif"))


def _stop_at_canopy(write, path: Path, *rest, **more) -> None:
    if "CHM" in path.name:
        raise KeyboardInterrupt
    write(path, *rest, **more)


def test_rasters_of_different_ground_are_refused(tmp_path: Path) -> None:
    dsm = _write(tmp_path / "a.tif", np.ones((8, 8), np.float32))
    chm = _write(tmp_path / "b.tif", np.ones((8, 8), np.float32), left=600_000.0)
    with pytest.raises(GridError, match="cover different ground"):
        prepare_align([Site("a", dsm=dsm, chm=chm)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["tif", "npy"])
def test_tiles_cover_the_raster_and_the_index_says_where_they_are(pair: Path, tmp_path: Path, form: str) -> None:
    sites = {"a": {kind: pair / f"a_{kind}.tif" for kind in ("DSM", "CHM")}}
    summary = prepare_tiles(sites, tmp_path / "out", tile_px=16, overlap=4, min_valid=0.0, form=form)
    rows = [json.loads(line) for line in summary.index.read_text().splitlines()]
    canopy, seen = _values(pair / "a_CHM.tif"), np.zeros((40, 50), bool)
    padded = np.pad(canopy, ((0, 16), (0, 16)), constant_values=-9999)
    for row in rows:
        top, left, height, width = row["window"]
        assert (height, width) == (16, 16)
        path = tmp_path / "out" / row["files"]["CHM"]
        tile = np.load(path)[0] if form == "npy" else _values(path)
        expected = padded[top : top + 16, left : left + 16]
        assert np.array_equal(tile, expected)
        assert row["valid_share"] == (expected != -9999).mean()
        seen[top : top + 16, left : left + 16] = True
        if form == "tif":
            with rasterio.open(path) as file:
                assert list(file.bounds) == row["bounds"] == [500_000 + left, 84 - top, 500_016 + left, 100 - top]
    assert seen.all()
    assert summary.kept == {"a": 12}
    assert summary.left_out == {"a": 0}


def test_tiles_with_too_little_measured_are_left_out(pair: Path, tmp_path: Path) -> None:
    summary = prepare_tiles({"a": {"CHM": pair / "a_CHM.tif"}}, tmp_path / "out", tile_px=20, min_valid=0.96)
    assert (summary.kept, summary.left_out) == ({"a": 3}, {"a": 3})
    assert len(list((tmp_path / "out").glob("*_CHM.tif"))) == 3


def test_tiling_goes_on_where_it_was_stopped(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {"a": {"CHM": pair / "a_CHM.tif"}}
    prepare_tiles(sites, tmp_path / "whole", tile_px=20)
    written: list[Path] = []
    write = tiles_module._write

    def stop_after_two(path: Path, *rest) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest)

    monkeypatch.setattr(tiles_module, "_write", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        prepare_tiles(sites, tmp_path / "out", tile_px=20)
    assert len(_contents(tmp_path / "out")) == 2
    first = list(written)
    written.clear()
    monkeypatch.setattr(tiles_module, "_write", lambda path, *rest: (written.append(path), write(path, *rest)))
    prepare_tiles(sites, tmp_path / "out", tile_px=20)
    assert not set(first) & set(written)
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")


def test_tiles_of_rasters_on_different_grids_are_refused(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.tif", np.ones((8, 8), np.float32))
    second = _write(tmp_path / "b.tif", np.ones((8, 9), np.float32))
    with pytest.raises(GridError, match="maskwright prepare align"):
        prepare_tiles({"a": {"DSM": first, "CHM": second}}, tmp_path / "out")
    with pytest.raises(DataError, match="not smaller than the tile"):
        prepare_tiles({"a": {"DSM": first}}, tmp_path / "out", tile_px=32, overlap=32)
