from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from scipy import ndimage

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.prediction import polygon_files
from maskwright.prediction.postprocess import find_gaps
from maskwright.prediction.vectorise import outline_gaps, vectorise_mask

UTM = CRS.from_epsg(32611).to_wkt()
HALF_METRE = Grid(80, 60, (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0), UTM)


def _random_mask(seed: int, shape: tuple[int, int] = (80, 60)) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return field > 0


def _outlines(mask: np.ndarray, band_rows: int, band_px: int) -> np.ndarray:
    def read(start: int, stop: int) -> np.ndarray:
        return mask[start:stop]

    gaps = find_gaps(read, *mask.shape, band_rows=band_rows)
    outlines = np.empty(len(gaps), dtype=object)
    for numbers, found in outline_gaps(gaps, read, band_px=band_px):
        outlines[numbers] = found
    return outlines


def _write(path: Path, bands: np.ndarray, grid: Grid) -> Path:
    crs = None if grid.crs is None else CRS.from_wkt(grid.crs)
    options = {"height": grid.height, "width": grid.width, "count": len(bands), "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=grid.affine(), **options) as dataset:
        dataset.write(bands)
    return path


def _read(path: Path) -> tuple[dict, np.ndarray, dict[str, np.ndarray]]:
    info, _, geometry, columns = pyogrio.raw.read(path)
    return info, shapely.from_wkb(geometry), dict(zip(info["fields"], columns, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_outlines_hold_exactly_the_pixels_of_each_gap(seed: int) -> None:
    mask = _random_mask(seed)
    outlines = _outlines(mask, 80, 10**9)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    assert len(outlines) == count
    np.testing.assert_array_equal(shapely.area(outlines), np.bincount(labels.ravel())[1:])
    painted = rasterize(((outline, number) for number, outline in enumerate(outlines, 1)), mask.shape)
    np.testing.assert_array_equal(painted, labels)


@pytest.mark.parametrize("band_rows", [1, 7, 33])
@pytest.mark.parametrize("seed", range(4))
def test_outlines_do_not_depend_on_the_bands(seed: int, band_rows: int) -> None:
    mask = _random_mask(seed)
    whole, pieces = _outlines(mask, 80, 10**9), _outlines(mask, band_rows, 60 * band_rows)
    assert shapely.equals_exact(whole, pieces, 0.0).all()


def test_outlines_are_valid_polygons_even_of_noise() -> None:
    mask = np.random.default_rng(0).random((60, 60)) < 0.5
    outlines = _outlines(mask, 7, 420)
    assert shapely.is_valid(outlines).all()
    assert shapely.area(outlines).sum() == mask.sum()


def test_a_gap_with_a_hole_has_both_outlines_in_its_perimeter(tmp_path: Path) -> None:
    mask = np.zeros((1, 80, 60), np.uint8)
    mask[0, 10:20, 10:30] = 1
    mask[0, 14:16, 15:20] = 0
    counts = vectorise_mask(_write(tmp_path / "mask.tif", mask, HALF_METRE), tmp_path / "gaps.gpkg", heights_m=[5])
    _, geometry, fields = _read(tmp_path / "gaps.gpkg")
    assert counts == (1,)
    assert fields["area_m2"].tolist() == [(200 - 10) * 0.25]
    assert fields["perimeter_m"].tolist() == [(60 + 14) * 0.5]
    assert len(geometry[0].geoms[0].interiors) == 1
    assert geometry[0].bounds == (500_005.0, 3_999_990.0, 500_015.0, 3_999_995.0)


def test_every_gap_is_handed_on_once_as_soon_as_its_last_row_has_passed() -> None:
    mask = np.zeros((40, 10), bool)
    mask[1:3, 1] = mask[2:28, 5] = mask[35, 0] = True

    def read(start: int, stop: int) -> np.ndarray:
        return mask[start:stop]

    chunks = outline_gaps(find_gaps(read, 40, 10, band_rows=10), read, band_px=100)
    assert [numbers.tolist() for numbers, _ in chunks] == [[0], [1], [2]]


def test_pixels_that_touch_at_a_corner_make_one_multi_polygon() -> None:
    outlines = _outlines(np.eye(3, dtype=bool), 2, 6)
    assert [outline.geom_type for outline in outlines] == ["MultiPolygon"]
    assert outlines[0].is_valid
    assert outlines[0].area == 3


def test_areas_of_a_grid_in_feet_are_square_metres(tmp_path: Path) -> None:
    feet = Grid(4, 4, (3.0, 0.0, 0.0, 0.0, -3.0, 0.0), CRS.from_epsg(2263).to_wkt())  # US survey feet
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 1:3, 1:4] = 1
    vectorise_mask(_write(tmp_path / "mask.tif", mask, feet), tmp_path / "gaps.gpkg", heights_m=[5])
    _, _, fields = _read(tmp_path / "gaps.gpkg")
    foot = 1200 / 3937
    assert fields["area_m2"][0] == pytest.approx(6 * 9 * foot**2, rel=1e-12)
    assert fields["perimeter_m"][0] == pytest.approx(10 * 3 * foot, rel=1e-12)


def test_a_geopackage_tells_id_height_area_perimeter_and_probability(tmp_path: Path) -> None:
    masks = np.zeros((2, 80, 60), np.uint8)
    masks[:, :5] = 255  # not measured is no gap
    masks[0, 20:22, 20:24] = masks[1, 20:24, 20:24] = masks[1, 50, 50] = 1
    probs = np.where(masks == 1, np.float32(0.75), np.float32(0.1))
    probs[1, 50, 50] = 0.5
    mask, prob = _write(tmp_path / "mask.tif", masks, HALF_METRE), _write(tmp_path / "prob.tif", probs, HALF_METRE)
    vectorise_mask(mask, tmp_path / "gaps.gpkg", heights_m=[5, 10], probabilities=prob)
    info, geometry, fields = _read(tmp_path / "gaps.gpkg")
    assert info["crs"] == "EPSG:32611"
    assert fields["gap_id"].tolist() == [1, 2, 3]
    assert fields["height_m"].tolist() == [5.0, 10.0, 10.0]
    assert fields["area_m2"].tolist() == [2.0, 4.0, 0.25]
    assert fields["perimeter_m"].tolist() == [6.0, 8.0, 2.0]
    assert fields["confidence"].tolist() == [0.75, 0.75, 0.5]
    np.testing.assert_allclose(fields["compactness"], [4 * np.pi * 2 / 36, np.pi / 4, np.pi / 4])
    np.testing.assert_array_equal(shapely.area(geometry), fields["area_m2"])


def test_geojson_with_a_crs_is_in_longitude_and_latitude(tmp_path: Path) -> None:
    mask = np.zeros((1, 80, 60), np.uint8)
    mask[0, :2, :2] = 1
    vectorise_mask(_write(tmp_path / "mask.tif", mask, HALF_METRE), tmp_path / "gaps.geojson", heights_m=[5])
    collection = json.loads((tmp_path / "gaps.geojson").read_text())
    ring = np.array(collection["features"][0]["geometry"]["coordinates"][0])
    west, north = ring[:, 0].min(), ring[:, 1].max()
    assert west == pytest.approx(-117.0, abs=1e-4)  # the central meridian of zone 11 has an easting of 500 km
    assert north == pytest.approx(36.1446, abs=1e-3)
    assert "crs" not in collection
    assert shapely.LinearRing(ring).is_ccw


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_many_gaps_are_written_in_portions_and_all_arrive(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygon_files, "_AT_ONCE", 7)
    masks = np.zeros((2, 80, 60), np.uint8)
    masks[:, ::4, ::4] = 1
    mask = _write(tmp_path / "mask.tif", masks, HALF_METRE)
    assert vectorise_mask(mask, tmp_path / f"gaps.{ending}", heights_m=[5, 10]) == (300, 300)
    _, _, fields = _read(tmp_path / f"gaps.{ending}")
    assert fields["gap_id"].tolist() == list(range(1, 601))
    assert fields["height_m"].tolist() == [5.0] * 300 + [10.0] * 300


def test_a_crs_that_does_not_lead_to_degrees_is_refused_for_geojson(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    mask = _write(
        tmp_path / "mask.tif", np.ones((1, 4, 4), np.uint8), Grid(4, 4, (1.0, 0.0, 7.0, 0.0, -1.0, 7.0), local)
    )
    with pytest.raises(PredictionError, match=r"gaps\.geojson: GeoJSON is in longitude and latitude.*as gpkg"):
        vectorise_mask(mask, tmp_path / "gaps.geojson", heights_m=[5])


@pytest.mark.filterwarnings("error:'crs'")
@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_without_a_crs_the_coordinates_of_the_file_are_kept(ending: str, tmp_path: Path) -> None:
    grid = Grid(4, 4, (2.0, 0.0, 100.0, 0.0, -2.0, 50.0), None)
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 0, 0] = 1
    vectorise_mask(_write(tmp_path / "mask.tif", mask, grid), tmp_path / f"gaps.{ending}", heights_m=[5])
    _, geometry, fields = _read(tmp_path / f"gaps.{ending}")
    assert geometry[0].bounds == (100.0, 48.0, 102.0, 50.0)
    assert fields["area_m2"].tolist() == [4.0]


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_a_mask_without_gaps_gives_an_empty_file(ending: str, tmp_path: Path) -> None:
    mask = _write(tmp_path / "mask.tif", np.zeros((1, 80, 60), np.uint8), HALF_METRE)
    assert vectorise_mask(mask, tmp_path / f"gaps.{ending}", heights_m=[5]) == (0,)
    assert pyogrio.read_info(tmp_path / f"gaps.{ending}")["features"] == 0


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    mask = np.zeros((1, 80, 60), np.uint8)
    mask[0, 5, 5] = 1
    for _ in range(2):
        vectorise_mask(_write(tmp_path / "mask.tif", mask, HALF_METRE), tmp_path / "gaps.gpkg", heights_m=[5])
    assert pyogrio.read_info(tmp_path / "gaps.gpkg")["features"] == 1


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    mask = _write(tmp_path / "mask.tif", np.zeros((1, 80, 60), np.uint8), HALF_METRE)
    with pytest.raises(PredictionError, match=r"gaps\.shp: polygons are written as \.gpkg or \.geojson"):
        vectorise_mask(mask, tmp_path / "gaps.shp", heights_m=[5])


def test_bands_and_heights_must_match(tmp_path: Path) -> None:
    mask = _write(tmp_path / "mask.tif", np.zeros((2, 80, 60), np.uint8), HALF_METRE)
    with pytest.raises(PredictionError, match=r"mask\.tif has 2 bands for 1 heights"):
        vectorise_mask(mask, tmp_path / "gaps.gpkg", heights_m=[5])
    probs = _write(tmp_path / "prob.tif", np.zeros((1, 80, 60), np.float32), HALF_METRE)
    with pytest.raises(PredictionError, match="differ in size or number of bands"):
        vectorise_mask(mask, tmp_path / "gaps.gpkg", heights_m=[5, 10], probabilities=probs)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
@pytest.mark.parametrize("gaps", [0, 1000])
def test_a_full_disk_is_told(gaps: int, tmp_path: Path) -> None:
    mask = np.zeros((1, 80, 60), np.uint8)
    mask[0, ::2, ::2].flat[:gaps] = 1
    (tmp_path / "gaps.geojson").symlink_to("/dev/full")
    with pytest.raises(PredictionError, match=r"gaps\.geojson could not be written: the disk is full"):
        vectorise_mask(_write(tmp_path / "mask.tif", mask, HALF_METRE), tmp_path / "gaps.geojson", heights_m=[5])


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    mask = _write(tmp_path / "mask.tif", np.zeros((1, 80, 60), np.uint8), HALF_METRE)
    with pytest.raises(PredictionError, match=r"gaps\.gpkg could not be written"):
        vectorise_mask(mask, tmp_path / "nowhere" / "gaps.gpkg", heights_m=[5])
