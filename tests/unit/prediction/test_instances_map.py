"""Rasters whose bands are the maps themselves: what comes out can be told from what was put in."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from PIL import Image
from rasterio.crs import CRS
from torch import nn

from maskwright.config.model import UNetConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.band_normalise import BandNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.errors import DataError, PredictionError
from maskwright.prediction import ModelCard, Predictor, RasterResult, instances_map
from maskwright.tasks.agroforestry import Agroforestry
from maskwright.tasks.multiclass import Multiclass

NAMES = ["background", "cacao", "shade", "soil"]
TASK = Agroforestry(NAMES, object_classes=["cacao", "shade"])
BANDS = sum(TASK.heads.values())
TRANSFORM = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 8_300_000)
UTM = CRS.from_epsg(32724)

Tree = tuple[float, float, float, int]  # x, y, radius in pixels; class


class _Given(nn.Module):
    """Answers what it is shown."""

    receptive_field_px = 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return image * self.weight


def _predictor(**changes: Any) -> Predictor:
    description = {
        "task": TASK.to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": BANDS,
        "batch_size": 4,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": BandNormaliser("standard", (0.0,) * BANDS, (1.0,) * BANDS, False).to_dict(),
        "classes": NAMES,
        "heights_m": [],
        "pixel_size_m": None,
        "tile_px": 64,
        "probability_threshold": 0.5,
        "prediction": {},
        "weights": {"sha256": "abc"},
        **changes,
    }
    return Predictor(_Given(), ModelCard.from_description(description, Path("model.json")), "cpu")


def _bands(trees: list[Tree], height: int, width: int) -> np.ndarray:
    """What a network would have to answer for discs at these places; later ones lie on top."""
    semantic = np.full((4, height, width), -10.0, np.float32)
    semantic[0] = 10.0
    centre = np.full((2, height, width), -10.0, np.float32)
    offset, diameter = np.zeros((2, height, width), np.float32), np.zeros((1, height, width), np.float32)
    density = np.zeros((1, height, width), np.float32)
    rows, cols = np.mgrid[:height, :width]
    for x, y, radius, label in trees:
        inside = (rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2 <= radius**2
        semantic[:, inside] = -10.0
        semantic[label, inside] = 10.0
        centre[label - 1, int(y), int(x)] = 10.0
        offset[0, inside] = (int(x) - cols[inside]) / TASK.scale_px
        offset[1, inside] = (int(y) - rows[inside]) / TASK.scale_px
        diameter[0, inside] = 2 * radius / TASK.scale_px
        density[0, int(y), int(x)] = 2 * math.pi * TASK.density_sigma_px**2
    return np.concatenate([semantic, centre, offset, diameter, density])


def _raster(path: Path, bands: np.ndarray, **tags: Any) -> Path:
    profile = {"crs": UTM, "transform": TRANSFORM} | tags
    shape = {"height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": "float32"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as dataset:
        dataset.write(bands)
    return path


def _field(size: int = 200, seed: int = 1, count: int = 60) -> list[Tree]:
    """Trees that keep apart, many over the seams of blocks of 64 px."""
    rng = np.random.default_rng(seed)
    trees: list[Tree] = []
    places = [(64.0, 64.0), (128.0, 20.0), (20.0, 128.0), (63.7, 110.0), (128.3, 128.6), (192.0, 100.0)]
    for x, y in (*places, *rng.uniform(8, size - 8, (count, 2)).tolist()):
        radius = float(rng.uniform(3, 9))
        if all(math.hypot(x - a, y - b) > radius + r + 1.5 for a, b, r, _ in trees):
            trees.append((x, y, radius, 1 + len(trees) % 2))
    return trees


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    return _field()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, trees: list[Tree]) -> RasterResult:
    """One raster of 100 m with its trees, in blocks smaller than it and with a canopy height model."""
    folder = tmp_path_factory.mktemp("mapped")
    raster = _raster(folder / "plot.tif", _bands(trees, 200, 200))
    heights = np.zeros((1, 100, 100), np.float32)
    for x, y, radius, _ in trees:
        heights[0, int(y) // 2, int(x) // 2] = 2 * radius
    chm = _raster(folder / "chm.tif", heights, transform=TRANSFORM @ rasterio.Affine.scale(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instances_map, "_CORE_PX", 64)
        patch.setattr(instances_map, "_HALO_PX", 12)
        return _predictor().predict_photograph(raster, folder / "out", chm=chm)


def test_every_tree_comes_once_with_its_class_place_and_size(mapped: RasterResult, trees: list[Tree]) -> None:
    rows = _read_table(mapped.files["inventory"])
    assert len(rows) == len(trees)
    assert [row["tree_id"] for row in rows] == [str(number) for number in range(1, len(trees) + 1)]
    found = {(float(row["x"]), float(row["y"])): row for row in rows}
    for x, y, radius, label in trees:
        place = TRANSFORM @ (int(x) + 0.5, int(y) + 0.5)
        row = found[(round(place[0], 3), round(place[1], 3))]
        assert row["class"] == NAMES[label]
        assert float(row["diameter_m"]) == pytest.approx(radius, abs=0.01)  # 2 r pixels of half a metre
        assert float(row["area_m2"]) == pytest.approx(math.pi * (radius / 2) ** 2, rel=0.15)
        assert float(row["height_m"]) == pytest.approx(2 * radius, abs=1e-3)
        assert row["cut"] == "no"
        assert -40 < float(row["longitude"]) < -38


def test_outlines_are_those_of_the_crowns(mapped: RasterResult, trees: list[Tree]) -> None:
    meta, _, geometry, fields = pyogrio.raw.read(mapped.files["crowns"])
    assert "32724" in meta["crs"]
    assert list(meta["fields"]) == ["tree_id", "class", "score", "area_m2", "diameter_m", "height_m"]
    shapes = shapely.from_wkb(geometry)
    areas = dict(zip(meta["fields"], fields, strict=True))["area_m2"]
    np.testing.assert_allclose(shapely.area(shapes), areas)
    assert sorted(np.round(areas / 0.25).astype(int)) == sorted(_pixels_of(trees, 200))


def _pixels_of(trees: list[Tree], size: int) -> list[int]:
    rows, cols = np.mgrid[:size, :size]
    return [int(((rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2 <= r * r).sum()) for x, y, r, _ in trees]


def test_coco_annotations_are_in_pixels_of_the_file(mapped: RasterResult, trees: list[Tree]) -> None:
    content = json.loads(mapped.files["coco"].read_text("utf-8"))
    assert content["images"] == [{"id": 1, "file_name": "plot.tif", "height": 200, "width": 200}]
    assert content["categories"] == [{"id": 1, "name": "cacao"}, {"id": 2, "name": "shade"}]
    assert sorted(entry["area"] for entry in content["annotations"]) == sorted(_pixels_of(trees, 200))
    entry = content["annotations"][0]
    ring = np.array(entry["segmentation"][0]).reshape(-1, 2)
    x, y, width, height = entry["bbox"]
    np.testing.assert_allclose([*ring.min(axis=0), *ring.max(axis=0)], [x, y, x + width, y + height])
    assert shapely.Polygon(ring).area == pytest.approx(entry["area"])


def test_maps_of_density_and_shade_lie_on_the_ground_and_say_what_they_should(
    mapped: RasterResult, trees: list[Tree]
) -> None:
    with rasterio.open(mapped.files["density"]) as dataset:
        assert dataset.crs == UTM
        assert dataset.transform == TRANSFORM
        density = dataset.read(1)
    with rasterio.open(mapped.files["shade"]) as dataset:
        shade = dataset.read(1)
    rows, cols = np.mgrid[:200, :200]
    near = (rows - 100) ** 2 + (cols - 100) ** 2 <= 24**2  # 12 m
    centres = np.array([(int(y), int(x)) for x, y, _, _ in trees])
    inside = ((centres - 100) ** 2).sum(axis=1) <= 24**2
    assert density[100, 100] == pytest.approx(inside.sum() / (near.sum() * 0.25) * 1e4, rel=1e-3)
    under = np.zeros((200, 200), bool)
    for x, y, radius, label in trees:
        if label == 2:
            under |= (rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2 <= radius**2
    assert shade[100, 100] == pytest.approx(under[near].mean(), abs=1e-3)


def test_the_summary_tells_the_stand_in_metres(mapped: RasterResult, trees: list[Tree]) -> None:
    summary = json.loads(mapped.files["summary"].read_text("utf-8"))
    stand = summary["stand"]
    assert summary["trees"] == len(trees)
    assert summary["trees_by_density"] == pytest.approx(len(trees), rel=1e-3)
    assert stand["unit"] == "m"
    assert stand["area"] == pytest.approx(100 * 100)
    assert stand["classes"]["all trees"]["per_area"] == pytest.approx(len(trees))
    assert stand["canopy_cover"] == pytest.approx(sum(_pixels_of(trees, 200)) / 200**2)
    centres = np.array([(int(x) + 0.5, int(y) + 0.5) for x, y, _, _ in trees]) / 2
    apart = np.hypot(*np.moveaxis(centres[:, None] - centres[None], -1, 0)) + np.eye(len(trees)) * 1e9
    assert stand["spacing"]["all trees"]["nearest_mean"] == pytest.approx(apart.min(axis=1).mean())
    assert stand["verdicts"]["shaded_share"]["word"] in ("good", "acceptable", "poor")
    assert summary["grouping"]["seconds"] > 0
    assert mapped.per_class[0]["objects"] + mapped.per_class[1]["objects"] == len(trees)


def test_the_page_opens_without_a_network_and_tells_the_count(mapped: RasterResult, trees: list[Tree]) -> None:
    text = mapped.files["report"].read_text("utf-8")
    assert f"{len(trees)} trees on 1.00 ha" in text
    assert "Clark-Evans" in text
    assert "http" not in text


def test_land_cover_is_the_likeliest_class(mapped: RasterResult, trees: list[Tree]) -> None:
    with rasterio.open(mapped.files["mask"]) as dataset:
        codes = dataset.read(1)
    assert [int((codes == label).sum()) for label in (1, 2)] == [
        sum(n for n, tree in zip(_pixels_of(trees, 200), trees, strict=True) if tree[3] == label) for label in (1, 2)
    ]


def test_a_model_that_learned_no_classes_shows_those_of_its_objects(tmp_path: Path) -> None:
    task = TASK.to_dict()
    task |= {"covers": False, "grouping": {**task["grouping"], "shapes": "discs"}}
    bands = _bands([(20.0, 20.0, 6.0, 1), (60.0, 30.0, 4.0, 2)], 64, 96)
    bands[:4] = np.random.default_rng(0).normal(size=(4, 64, 96))  # as of a head that nothing has trained
    bands[:, :, 90:] = -9999.0
    raster = _raster(tmp_path / "a.tif", bands, nodata=-9999.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instances_map, "_CORE_PX", 40)
        result = _predictor(task=task).predict_photograph(raster, tmp_path / "out")
    with rasterio.open(result.files["mask"]) as dataset:
        codes = dataset.read(1)
    rows, cols = np.mgrid[:64, :96]
    expected = np.where((rows - 20) ** 2 + (cols - 20) ** 2 <= 36, 1, 0)
    expected[(rows - 30) ** 2 + (cols - 60) ** 2 <= 16] = 2
    expected[:, 90:] = 255
    np.testing.assert_array_equal(codes, expected)
    assert not list((tmp_path / "out").glob("*.part*"))


@pytest.mark.parametrize(("tile_px", "core_px"), [(32, 40), (64, 1024), (200, 90), (48, 33)])
def test_trees_do_not_depend_on_windows_and_blocks(
    tile_px: int, core_px: int, mapped: RasterResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances_map, "_CORE_PX", core_px)
    monkeypatch.setattr(instances_map, "_HALO_PX", 6)  # smaller than crowns: those at its end are seen again with more
    settings = PredictionConfig(tile_px=tile_px, qgis_style=False)
    result = _predictor().predict_photograph(mapped.raster, tmp_path / "out", settings=settings)
    told = {(row["x"], row["y"], row["class"], row["area_m2"]) for row in _read_table(result.files["inventory"])}
    assert told == {
        (row["x"], row["y"], row["class"], row["area_m2"]) for row in _read_table(mapped.files["inventory"])
    }


class _Drawn(_Given):
    """Draws what it is shown, a pixel more to the right in every other window."""

    receptive_field_px = None
    draws_objects = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        self.seen += 1
        return torch.roll(image, self.seen % 2, dims=3)


def test_windows_of_drawn_maps_are_laid_side_by_side_so_that_trees_stay_one(
    mapped: RasterResult, trees: list[Tree], tmp_path: Path
) -> None:
    predictor = Predictor(_Drawn(), _predictor().card, "cpu")
    result = predictor.predict_photograph(mapped.raster, tmp_path / "out", settings=PredictionConfig(tile_px=128))
    rows = _read_table(result.files["inventory"])
    assert len(rows) == len(trees)
    assert all(float(row["score"]) > 0.99 for row in rows)
    whole = dict(
        zip(sorted(_pixels_of(trees, 200)), sorted(float(row["area_m2"]) / 0.25 for row in rows), strict=False)
    )
    assert all(area == pytest.approx(pixels, rel=0.4) for pixels, area in whole.items())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_photograph_tells_pixels_and_says_so(tmp_path: Path) -> None:
    trees: list[Tree] = [(20.0, 20.0, 6.0, 1), (50.0, 20.0, 8.0, 2), (30.0, 50.0, 5.0, 1)]
    path = _raster(tmp_path / "photo.tif", _bands(trees, 80, 80), crs=None, transform=rasterio.Affine.identity())
    result = _predictor().predict_photograph(path, tmp_path / "out")
    rows = _read_table(result.files["inventory"])
    assert [(row["x_px"], row["y_px"]) for row in rows] == [("20.5", "20.5"), ("50.5", "20.5"), ("30.5", "50.5")]
    assert [float(row["diameter_px"]) for row in rows] == pytest.approx([12, 16, 10], abs=0.02)
    assert any("told in pixels" in note for note in result.notes)
    assert "not known, so all distances and areas are in pixels" in result.files["report"].read_text("utf-8")
    with Image.open(result.files["mask"]) as image:
        assert image.size == (80, 80)


def test_no_tree_at_all_gives_empty_files_and_a_note(tmp_path: Path) -> None:
    path = _raster(tmp_path / "bare.tif", _bands([], 70, 90))
    result = _predictor().predict_photograph(path, tmp_path / "out")
    assert _read_table(result.files["inventory"]) == []
    assert json.loads(result.files["coco"].read_text("utf-8"))["annotations"] == []
    meta, _, geometry, _ = pyogrio.raw.read(result.files["crowns"])
    assert len(geometry) == 0
    assert list(meta["fields"])[:2] == ["tree_id", "class"]
    assert any("no tree reached the score" in note for note in result.notes)
    assert "no tree was found" in result.files["report"].read_text("utf-8")


def test_ground_that_was_not_measured_holds_no_trees_and_does_not_count(tmp_path: Path) -> None:
    bands = _bands([(20.0, 20.0, 6.0, 1), (80.0, 20.0, 6.0, 1)], 64, 128)
    bands[:, :, 64:] = -9999.0
    result = _predictor().predict_photograph(_raster(tmp_path / "a.tif", bands, nodata=-9999.0), tmp_path / "out")
    summary = json.loads(result.files["summary"].read_text("utf-8"))
    assert summary["trees"] == 1
    assert summary["stand"]["area"] == pytest.approx(32 * 32)


def test_the_score_and_the_least_area_of_the_settings_decide(tmp_path: Path) -> None:
    bands = _bands([(20.0, 20.0, 6.0, 1), (50.0, 20.0, 2.5, 1), (20.0, 50.0, 6.0, 2)], 70, 70)
    bands[4, 20, 20] = 0.0  # a centre that is no surer than not
    path = _raster(tmp_path / "a.tif", bands)
    for said, left in (({}, 3), ({"probability_threshold": 0.7}, 2), ({"min_area_m2": 10.0}, 2)):
        result = _predictor().predict_photograph(path, tmp_path / f"{left}{said}", settings=PredictionConfig(**said))
        assert len(_read_table(result.files["inventory"])) == left


def test_a_canopy_height_model_without_a_place_must_have_the_same_pixels(tmp_path: Path) -> None:
    path = _raster(tmp_path / "a.tif", _bands([], 40, 40))
    chm = _raster(tmp_path / "chm.tif", np.zeros((1, 30, 40), np.float32), crs=None)
    with pytest.raises(DataError, match="Give rasters with a CRS, or of the same pixels"):
        _predictor().predict_photograph(path, tmp_path / "out", chm=chm)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"tta": 4}, "offsets from pixels to the centres of trees point elsewhere"),
        ({"uncertainty": "entropy"}, "not of trees"),
        ({"probability_rule": "otsu"}, "not trees"),
    ],
)
def test_settings_without_a_meaning_for_trees_are_refused(said: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = _raster(tmp_path / "a.tif", _bands([], 40, 40))
    with pytest.raises(PredictionError, match=text):
        _predictor().predict_photograph(path, tmp_path / "out", settings=PredictionConfig(**said))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_areas_in_square_metres_need_pixels_with_a_size(tmp_path: Path) -> None:
    path = _raster(tmp_path / "a.tif", _bands([], 40, 40), crs=None, transform=rasterio.Affine.identity())
    with pytest.raises(PredictionError, match=r"Set prediction\.min_area_px"):
        _predictor().predict_photograph(path, tmp_path / "out", settings=PredictionConfig(min_area_m2=3.0))


def test_an_array_gives_its_objects_and_its_classes(trees: list[Tree]) -> None:
    bands = _bands(trees, 200, 200)
    found = _predictor().find_objects(bands)
    assert sorted(found.areas()) == sorted(_pixels_of(trees, 200))
    valid = np.ones((200, 200), bool)
    valid[:, :100] = False
    right = _predictor().find_objects(bands, valid)
    assert (right.centres[:, 0] > 100).all()
    probs = _predictor().predict_image(bands, valid)
    assert probs.shape == (4, 200, 200)
    assert np.isnan(probs[:, :, :100]).all()
    np.testing.assert_allclose(probs[:, :, 100:].sum(axis=0), 1, rtol=1e-5)


def test_a_model_of_classes_finds_no_objects() -> None:
    task = Multiclass(["background", "crack"])
    described = {"task": task.to_dict(), "classes": list(task.class_names), "in_channels": 2}
    two = {"normaliser": BandNormaliser("standard", (0.0,) * 2, (1.0,) * 2, False).to_dict()}
    with pytest.raises(PredictionError, match="finds no objects one by one"):
        _predictor(**described, **two).find_objects(np.zeros((2, 8, 8), np.float32))
