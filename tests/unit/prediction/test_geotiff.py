from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.prediction.geotiff import RowWriter, bytes_on_disk, check_whole, copy_to_cog, remove_rows

GRID = Grid(1100, 700, (2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0), CRS.from_epsg(32611).to_wkt())


def _written(path: Path, values: np.ndarray, grid: Grid, *, nodata: float, rows: int = 130) -> Path:
    names = [f"{5 * k} m" for k in range(1, len(values) + 1)]
    with RowWriter(path, grid, dtype=values.dtype.name, nodata=nodata, names=names) as writer:
        for row in range(0, grid.height, rows):
            writer.write(row, values[:, row : row + rows])
    return path


def test_rows_written_one_band_after_the_other_become_a_valid_cog_that_keeps_everything(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 1100, 700), dtype=np.float32)
    values[:, :40] = np.nan
    source = _written(tmp_path / "rows.vrt", values, GRID, nodata=np.nan)
    copy_to_cog(source, tmp_path / "cog.tif", resampling="average")
    valid, faults, warnings = cog_validate(tmp_path / "cog.tif", strict=True)
    assert (valid, faults, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.descriptions == ("5 m", "10 m")
        assert dataset.crs.to_epsg() == 32611
        assert tuple(dataset.transform[:6]) == GRID.transform
        assert np.isnan(dataset.nodata)
        assert dataset.overviews(1) == [2, 4]
        assert dataset.profile["compress"] == "deflate"


def test_overviews_of_masks_keep_gaps_inside_gaps(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).random((1100, 700))
    masks = np.stack([noise < 0.3, noise < 0.5]).astype(np.uint8)
    copy_to_cog(_written(tmp_path / "rows.vrt", masks, GRID, nodata=255), tmp_path / "cog.tif", resampling="nearest")
    for level in range(2):
        with rasterio.open(tmp_path / "cog.tif", overview_level=level) as dataset:
            low, high = dataset.read()
        assert set(np.unique(low)) == {0, 1}
        assert (low <= high).all()


def test_one_band_at_a_time_can_be_written(tmp_path: Path) -> None:
    grid = Grid(4, 3, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    with RowWriter(tmp_path / "rows.vrt", grid, dtype="uint8", nodata=255, names=["5 m", "10 m"]) as writer:
        writer.write_band(2, 0, np.full((2, 3), 7, np.uint8))
        writer.write_band(2, 2, np.full((2, 3), 9, np.uint8))
    with rasterio.open(tmp_path / "rows.vrt") as dataset:
        assert dataset.read(2)[:, 0].tolist() == [7, 7, 9, 9]


def test_a_raster_of_one_pixel_without_a_place_is_copied(tmp_path: Path) -> None:
    grid = Grid(1, 1, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
    source = _written(tmp_path / "rows.vrt", np.ones((1, 1, 1), np.uint8), grid, nodata=255)
    copy_to_cog(source, tmp_path / "cog.tif", resampling="nearest")
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert dataset.read().tolist() == [[[1]]]
        assert dataset.crs is None


def test_a_cog_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    source = _written(tmp_path / "rows.vrt", np.ones((1, 1100, 700), np.uint8), GRID, nodata=255)
    with pytest.raises(PredictionError, match=r"cog\.tif could not be written: .+ choose another folder"):
        copy_to_cog(source, tmp_path / "nowhere" / "cog.tif", resampling="nearest")


def test_a_cog_cut_short_by_a_full_disk_is_noticed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1, 1100, 700), dtype=np.float32)
    path = tmp_path / "cog.tif"
    copy_to_cog(_written(tmp_path / "rows.vrt", values, GRID, nodata=np.nan), path, resampling="average")
    check_whole(path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(PredictionError, match=r"cog\.tif could not be written"):
        check_whole(path)


def test_rows_that_another_process_left_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    grid = Grid(4, 3, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    options = {"dtype": "uint8", "nodata": 255, "names": ["a", "b"]}
    killed = RowWriter(tmp_path / "rows.vrt", grid, **options)
    killed.__enter__()
    killed.write(0, np.full((2, 2, 3), 7, np.uint8))  # and never closed
    with RowWriter(tmp_path / "rows.vrt", grid, keep=True, **options) as writer:
        writer.write(2, np.full((2, 2, 3), 9, np.uint8))
    with rasterio.open(tmp_path / "rows.vrt") as dataset:
        assert dataset.read()[:, :, 0].tolist() == [[7, 7, 9, 9]] * 2
    remove_rows(tmp_path / "rows.vrt")
    assert list(tmp_path.iterdir()) == []


def test_tags_colours_and_unit_reach_the_cog(tmp_path: Path) -> None:
    options = {"tags": {"MODEL": "a<b"}, "colors": {0: (0, 0, 0, 255), 1: (1, 2, 3, 255), 255: (0, 0, 0, 0)}}
    with RowWriter(tmp_path / "m.vrt", GRID, dtype="uint8", nodata=255, names=["x"], unit="m", **options) as writer:
        writer.write(0, np.ones((1, 1100, 700), np.uint8))
    copy_to_cog(tmp_path / "m.vrt", tmp_path / "m.tif", resampling="nearest")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.tags()["MODEL"] == "a<b"
        assert dataset.colormap(1)[1] == (1, 2, 3, 255)
        assert dataset.units == ("m",)
        assert dataset.nodata == 255


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(PredictionError, match=r"rows\.vrt could not be written: the folder .* does not exist"),
        RowWriter(tmp_path / "gone" / "rows.vrt", GRID, dtype="uint8", nodata=255, names=["x"]),
    ):
        pass


def test_bands_their_copies_and_overviews_are_counted() -> None:
    assert bytes_on_disk(3000, bands=5, finals=3) == 3000 * 5 + 3000 * 3 + 3000
