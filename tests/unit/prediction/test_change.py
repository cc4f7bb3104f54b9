from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from maskwright.cli.main import main
from maskwright.errors import PredictionError
from maskwright.prediction import change as module
from maskwright.prediction.change import change_codes, find_map, map_change

TRANSFORM = rasterio.Affine(2.0, 0, 500_000, 0, -2.0, 4_000_000)  # a pixel is 4 m2


def _write(path: Path, planes: np.ndarray, names: tuple[str, ...] = ("5 m", "10 m"), **options: object) -> Path:
    profile = {"crs": CRS.from_epsg(32611), "transform": TRANSFORM, "nodata": 255, "dtype": planes.dtype, **options}
    tags = profile.pop("tags", {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", "GTiff", planes.shape[2], planes.shape[1], len(planes), **profile) as raster:
        raster.write(planes)
        raster.descriptions = names
        raster.update_tags(**tags)
    return path


def _maps(tmp_path: Path) -> tuple[Path, Path]:
    """At 5 m a gap of 6 px grows by 3 px and one of 4 px closes; at 10 m nothing but one pixel that opens."""
    before, after = np.zeros((2, 2, 30, 40), np.uint8)
    before[0, 2:4, 2:5] = after[0, 2:5, 2:5] = 1
    before[0, 20:22, 20:22] = 1
    after[1, 10, 10] = 1
    before[:, 0] = 255
    after[:, :, 39] = 255
    return _write(tmp_path / "a" / "x_gaps.tif", before), _write(tmp_path / "b" / "x_gaps.tif", after)


@pytest.fixture(params=[2**20, 70], ids=["one band", "many bands"])
def band_px(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BAND_PX", request.param)


def test_codes_tell_what_was_and_what_is() -> None:
    before, after = np.array([[0, 0, 1, 1, 255, 1]], np.uint8), np.array([[0, 1, 0, 1, 1, 255]], np.uint8)
    assert change_codes(before, after).tolist() == [[0, 2, 3, 1, 255, 255]]
    assert change_codes(before * 0 + 2, after, (2, 1)).tolist() == [[3, 1, 3, 1, 1, 255]]


@pytest.mark.usefixtures("band_px")
def test_areas_pieces_polygons_and_raster_agree(tmp_path: Path) -> None:
    result = map_change(*_maps(tmp_path), tmp_path / "out")
    five, ten = result.rows
    assert (five.before_m2, five.after_m2) == (40.0, 36.0)
    assert (five.opened_m2, five.closed_m2, five.persistent_m2) == (12.0, 16.0, 24.0)
    assert (five.opened, five.closed, five.persistent) == (1, 1, 1)
    assert (ten.opened_m2, ten.closed_m2, ten.persistent_m2, ten.opened) == (4.0, 0.0, 0.0, 1)
    assert five.valid_m2 == 29 * 39 * 4
    _, _, geometry, columns = pyogrio.raw.read(result.files["polygons"])
    fields = dict(zip(pyogrio.read_info(result.files["polygons"])["fields"], columns, strict=True))
    assert list(zip(fields["of"], fields["change"], fields["area_m2"], strict=True)) == [
        ("5 m", "persistent", 24.0),
        ("5 m", "opened", 12.0),
        ("5 m", "closed", 16.0),
        ("10 m", "opened", 4.0),
    ]
    assert fields["change_id"].tolist() == [1, 2, 3, 4]
    assert fields["perimeter_m"].tolist() == [20.0, 16.0, 16.0, 8.0]
    assert len(geometry) == 4
    with rasterio.open(result.files["raster"]) as raster:
        assert raster.descriptions == ("5 m", "10 m")
        assert raster.transform == TRANSFORM
        codes = raster.read(1)
    assert (codes[2:4, 2:5] == 1).all()
    assert (codes[4, 2:5] == 2).all()
    assert (codes[20:22, 20:22] == 3).all()
    assert (codes[0] == 255).all()
    assert (codes[:, 39] == 255).all()
    assert cog_validate(result.files["raster"], strict=True)[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(module.ENDINGS)


def test_small_pieces_are_left_out_of_polygons_but_not_of_areas(tmp_path: Path) -> None:
    (row, _) = map_change(*_maps(tmp_path), tmp_path / "out", min_area_m2=16.0).rows
    assert (row.opened, row.closed, row.persistent) == (0, 1, 1)
    assert row.opened_m2 == 12.0


def test_the_command_takes_folders_and_tells_areas(tmp_path: Path, capsys) -> None:
    _maps(tmp_path)
    words = ["change", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "12.0 m2 in 1" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "change.csv").open()))
    assert [row["of"] for row in rows] == ["5 m", "10 m"]
    assert main(words) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_classes_that_exclude_each_other_are_compared_one_by_one(tmp_path: Path) -> None:
    tags = {"MASKWRIGHT_CLASSES": "ground,tree,roof"}
    before = np.array([[[0, 1, 1, 2]]], np.uint8)
    after = np.array([[[1, 1, 2, 2]]], np.uint8)
    paths = [
        _write(tmp_path / name / "x_mask.tif", plane, ("class",), tags=tags)
        for name, plane in (("a", before), ("b", after))
    ]
    tree, roof = map_change(*paths, tmp_path / "out").rows
    assert (tree.of, tree.opened_m2, tree.closed_m2, tree.persistent_m2) == ("tree", 4.0, 4.0, 4.0)
    assert (roof.of, roof.opened_m2, roof.closed_m2, roof.persistent_m2) == ("roof", 4.0, 0.0, 4.0)


def test_maps_on_different_grids_are_refused(tmp_path: Path) -> None:
    before, _ = _maps(tmp_path)
    shifted = TRANSFORM @ rasterio.Affine.translation(3, 0)
    after = _write(tmp_path / "c_gaps.tif", np.zeros((2, 30, 40), np.uint8), transform=shifted)
    with pytest.raises(PredictionError, match=r"lie on different grids: shifted by 6 units.*rio warp --like"):
        map_change(before, after, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_one_map_alone_holds_is_told_and_nothing_in_common_is_refused(tmp_path: Path) -> None:
    before, _ = _maps(tmp_path)
    one = _write(tmp_path / "one_gaps.tif", np.zeros((1, 30, 40), np.uint8), ("10 m",))
    result = map_change(before, one, tmp_path / "out")
    assert [row.of for row in result.rows] == ["10 m"]
    assert result.notes == ("x_gaps.tif alone holds 5 m, which is not compared",)
    other = _write(tmp_path / "other_gaps.tif", np.zeros((1, 30, 40), np.uint8), ("20 m",))
    with pytest.raises(PredictionError, match=r"holds 5 m, 10 m and .* holds 20 m: nothing can be compared"):
        map_change(before, other, tmp_path / "out2")


def test_maps_of_different_models_are_told(tmp_path: Path) -> None:
    plane = np.zeros((1, 5, 5), np.uint8)
    paths = [
        _write(tmp_path / f"{name}_gaps.tif", plane, ("5 m",), tags={"MASKWRIGHT_MODEL_SHA256": name}) for name in "ab"
    ]
    assert "different models" in map_change(*paths, tmp_path / "out").notes[0]


def test_probabilities_are_no_map(tmp_path: Path) -> None:
    before, _ = _maps(tmp_path)
    probs = _write(tmp_path / "p.tif", np.zeros((2, 30, 40), np.float32), nodata=np.nan)
    with pytest.raises(PredictionError, match=r"holds float32 values\. Give the map of gaps or classes"):
        map_change(before, probs, tmp_path / "out")


def test_a_folder_must_hold_one_map(tmp_path: Path) -> None:
    _maps(tmp_path)
    _write(tmp_path / "a" / "y_gaps.tif", np.zeros((1, 3, 3), np.uint8), ("5 m",))
    with pytest.raises(PredictionError, match=r"holds 2 maps, x_gaps\.tif and others"):
        find_map(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictionError, match="holds no map"):
        find_map(tmp_path / "empty")
    with pytest.raises(PredictionError, match="does not exist"):
        find_map(tmp_path / "nothing")
