from __future__ import annotations

import csv
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
from rio_cogeo.cogeo import cog_validate
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.cli.main import main
from maskwright.config.model import UNetConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.band_normalise import BandNormaliser, PerTileBands
from maskwright.data.sources.image_file import ImageFormat, resize_image
from maskwright.errors import DataError, PredictionError
from maskwright.prediction import ModelCard, Predictor, RasterResult
from maskwright.tasks.binary import Binary
from maskwright.tasks.height import Height
from maskwright.tasks.multiclass import Multiclass
from maskwright.tasks.multilabel import Multilabel
from maskwright.workflows.predict import predict

UNIT = BandNormaliser("unit", (0.0,) * 3, (255.0,) * 3, False)
TRANSFORM = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
TASKS = {"binary": Binary(["crack"]), "multiclass": Multiclass(["background", "red", "green"])}
TASKS["multilabel"] = Multilabel(["red", "green"])


def _description(task: Any, **changes: Any) -> dict[str, Any]:
    return {
        "task": task.to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 3,
        "batch_size": 8,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": UNIT.to_dict(),
        "classes": list(task.class_names),
        "heights_m": [],
        "pixel_size_m": None,
        "tile_px": 32,
        "probability_threshold": 0.5,
        "prediction": {},
        **changes,
    }


class _Pointwise(nn.Module):
    """A 1x1 convolution: what it answers at a pixel can be computed by hand from that pixel alone."""

    receptive_field_px = 0

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(len(weight[0]), len(weight), 1)
        self.conv.weight.data = torch.tensor(weight)[:, :, None, None]
        self.conv.bias.data = torch.tensor(bias)

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.conv(image)


def _predictor(kind: str, **changes: Any) -> Predictor:
    """binary: red above half; multiclass and multilabel: red or green stand out."""
    weight, bias = [[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]], [-10.0, -10.0]
    if kind == "binary":
        weight, bias = weight[:1], bias[:1]
    if kind == "multiclass":
        weight, bias = [[0.0] * 3, *weight], [0.0, *bias]
    description = _description(TASKS[kind], **changes) | {"weights": {"sha256": "abc"}}
    return Predictor(_Pointwise(weight, bias), ModelCard.from_description(description, Path("model.json")), "cpu")


def _pixels(height: int = 75, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _photograph(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def _raster(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    height, width, bands = pixels.shape
    profile = {"crs": CRS.from_epsg(32611), "transform": TRANSFORM} | tags
    options = {"height": height, "width": width, "count": bands, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **options, **profile) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
    return path


def _png(result: RasterResult, name: str = "mask") -> np.ndarray:
    with Image.open(result.files[name]) as image:
        return np.asarray(image)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


# --- photographs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(75, 90), (5, 200), (1, 1), (32, 32)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_binary_mask_of_any_size_holds_255_where_the_class_is_likelier_than_not(
    size: tuple[int, int], overlap: float, tmp_path: Path
) -> None:
    pixels = _pixels(*size)
    path = _photograph(tmp_path / "wall.png", pixels)
    settings = PredictionConfig(overlap=overlap)
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=settings)
    np.testing.assert_array_equal(_png(result), np.where(pixels[..., 0] > 127.5, 255, 0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["wall_mask.png", "wall_overlay.png"]
    assert result.size == size
    assert result.per_class[0]["share"] == pytest.approx((pixels[..., 0] > 127.5).mean())


def test_the_likeliest_of_classes_that_exclude_each_other_wins_and_has_its_colour(tmp_path: Path) -> None:
    pixels = _pixels()
    result = _predictor("multiclass").predict_photograph(_photograph(tmp_path / "a.png", pixels), tmp_path / "out")
    red, green = 20.0 * pixels[..., 0] / 255 - 10, 20.0 * pixels[..., 1] / 255 - 10
    np.testing.assert_array_equal(_png(result), np.stack([np.zeros_like(red), red, green]).argmax(axis=0))
    with Image.open(result.files["mask"]) as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 0, 114, 178, 213, 94, 0]


def test_classes_that_may_overlap_have_a_mask_and_a_threshold_each(tmp_path: Path) -> None:
    pixels = _pixels()
    predictor = _predictor("multilabel", probability_thresholds=[0.5, 0.9])
    result = predictor.predict_photograph(_photograph(tmp_path / "a.png", pixels), tmp_path / "out")
    assert result.files["mask red"].name == "a_red.png"
    np.testing.assert_array_equal(_png(result, "mask red") == 255, pixels[..., 0] > 127.5)
    expected = _sigmoid(20.0 * pixels[..., 1] / 255 - 10) > 0.9
    np.testing.assert_array_equal(_png(result, "mask green") == 255, expected)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_temperature_divides_logits_once(temperature: float, tmp_path: Path) -> None:
    pixels = _pixels()
    predictor = _predictor("binary", temperature=temperature)
    settings = PredictionConfig(probabilities=True, probability_format="tif")
    path = _photograph(tmp_path / "a.png", pixels)
    result = predictor.predict_photograph(path, tmp_path / "out", settings=settings)
    expected = _sigmoid((20.0 * pixels[..., 0] / 255 - 10) / temperature)
    np.testing.assert_allclose(_png(result, "probability crack"), expected, atol=1e-5)
    direct = predictor.predict_image(pixels.transpose(2, 0, 1))
    np.testing.assert_allclose(_png(result, "probability crack"), direct[0], atol=1e-5)


def test_probabilities_fit_into_a_byte_where_asked(tmp_path: Path) -> None:
    pixels = _pixels()
    path = _photograph(tmp_path / "a.png", pixels)
    settings = PredictionConfig(probabilities=True)
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=settings)
    expected = np.rint(255 * _sigmoid(20.0 * pixels[..., 0] / 255 - 10))
    assert np.abs(_png(result, "probability crack").astype(int) - expected).max() <= 1


def test_transparent_pixels_are_no_part_of_a_mask_and_do_not_bleed(tmp_path: Path) -> None:
    pixels = np.full((40, 50, 4), 255, np.uint8)
    pixels[10:30, 20:40, 3] = 0
    path = _photograph(tmp_path / "a.png", pixels)
    result = _predictor("multiclass").predict_photograph(path, tmp_path / "out")
    hidden = pixels[..., 3] == 0
    assert (_png(result)[hidden] == 255).all()
    assert (_png(result)[~hidden] == 1).all()
    assert result.valid_px == 40 * 50 - 400
    assert result.per_class[1]["share"] == 1.0


def test_a_photograph_is_predicted_at_the_size_of_the_training_and_its_mask_is_brought_back(tmp_path: Path) -> None:
    pixels = _pixels(60, 80)
    predictor = _predictor("binary", image=ImageFormat(resize_px=(30, 20)).to_dict())
    path = _photograph(tmp_path / "a.png", pixels)
    settings = PredictionConfig(probabilities=True, probability_format="tif")
    result = predictor.predict_photograph(path, tmp_path / "out", settings=settings)
    small, _ = resize_image(pixels.transpose(2, 0, 1), np.ones((60, 80), bool), (30, 20))
    np.testing.assert_array_equal(_png(result) == 255, (small[0] > 127.5).repeat(2, axis=0).repeat(4, axis=1))
    probs = _png(result, "probability crack")
    assert probs.shape == (60, 80)
    corner = _sigmoid(20.0 * small[0, 0, 0] / 255 - 10)
    assert probs[0, 0] == pytest.approx(corner, abs=1e-5)  # beyond the outermost centres the value stays


def test_holes_are_filled_and_small_objects_left_out(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[5:20, 5:20, 0] = 255
    pixels[10:12, 10:12, 0] = 0  # a hole of 4 px
    pixels[14:18, 14:18, 0] = 0  # a hole of 16 px
    pixels[30:32, 30:32, 0] = 255  # an object of 4 px
    path = _photograph(tmp_path / "a.png", pixels)
    settings = PredictionConfig(fill_holes_px=4, min_area_px=5)
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=settings)
    expected = pixels[..., 0].copy()
    expected[10:12, 10:12], expected[30:32, 30:32] = 255, 0
    np.testing.assert_array_equal(_png(result), expected)
    assert result.per_class[0]["objects"] == 1


def test_polygons_of_a_photograph_are_in_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[5:15, 20:40, 0] = 255
    path = _photograph(tmp_path / "a.png", pixels)
    settings = PredictionConfig(polygons="geojson")
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=settings)
    info, _, geometry, columns = pyogrio.raw.read(result.files["polygons"])
    values = dict(zip(info["fields"], columns, strict=True))
    assert shapely.from_wkb(geometry)[0].bounds == (20.0, 5.0, 40.0, 15.0)
    assert (values["class"][0], values["area_px"][0], values["perimeter_px"][0]) == ("crack", 200.0, 60.0)


def test_otsu_cuts_each_class_and_is_refused_where_the_likeliest_is_called(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[5:20, 5:20, 0] = 120  # 120 / 255 is just below the cut of the model
    path = _photograph(tmp_path / "a.png", pixels)
    settings = PredictionConfig(probability_rule="otsu")
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=settings)
    np.testing.assert_array_equal(_png(result) > 0, pixels[..., 0] > 0)
    with pytest.raises(PredictionError, match=r"the likeliest is called\. Set prediction\.probability_rule: model"):
        _predictor("multiclass").predict_photograph(path, tmp_path / "out", settings=settings)


def test_probabilities_of_a_photograph_are_sharpened_before_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def everything(probs: np.ndarray, rgb: np.ndarray, valid: np.ndarray, *, exclusive: bool) -> np.ndarray:
        seen.append(rgb)
        return np.ones_like(probs)

    monkeypatch.setattr("maskwright.prediction.map_image.require_crf", lambda: None)
    monkeypatch.setattr("maskwright.prediction.map_image.refined", everything)
    pixels = _pixels(40, 30)
    path = _photograph(tmp_path / "a.png", pixels)
    result = _predictor("binary").predict_photograph(path, tmp_path / "out", settings=PredictionConfig(crf=True))
    assert (_png(result) == 255).all()
    np.testing.assert_array_equal(seen[0], pixels)


def test_edges_of_a_raster_that_is_mapped_in_bands_are_refused(tmp_path: Path) -> None:
    path = _raster(tmp_path / "ortho.tif", _pixels(60, 60))
    with pytest.raises(PredictionError, match=r"ortho\.tif is a raster that is mapped in bands"):
        _predictor("binary").predict_photograph(path, tmp_path / "out", settings=PredictionConfig(crf=True))


@pytest.mark.parametrize("views", [2, 4, 8])
def test_views_of_a_network_that_looks_at_one_pixel_agree(views: int, tmp_path: Path) -> None:
    path = _photograph(tmp_path / "a.png", _pixels(40, 70))
    predictor, masks = _predictor("multiclass"), []
    for tta in (1, views):
        out = tmp_path / str(tta)
        masks.append(_png(predictor.predict_photograph(path, out, settings=PredictionConfig(tta=tta))))
    np.testing.assert_array_equal(*masks)


# --- rasters with a place on the ground -------------------------------------------------------------------------------


def test_a_georeferenced_raster_becomes_rasters_on_its_grid(tmp_path: Path) -> None:
    pixels = _pixels(130, 150)
    pixels[40:60, 30:90] = 7  # nodata in every band
    path = _raster(tmp_path / "ortho.tif", pixels, nodata=7)
    result = _predictor("multiclass").predict_photograph(path, tmp_path / "out")
    missing = (pixels == 7).all(axis=2)
    scores = np.stack([np.zeros(missing.shape), *(20.0 * pixels[..., band] / 255 - 10 for band in (0, 1))])
    assert cog_validate(result.files["mask"], strict=True)[0]
    with rasterio.open(result.files["mask"]) as mask, rasterio.open(result.files["probability"]) as probs:
        assert (mask.crs.to_epsg(), mask.transform, mask.nodata) == (32611, TRANSFORM, 255)
        assert mask.tags()["MASKWRIGHT_CLASSES"] == "background,red,green"
        assert mask.tags()["MASKWRIGHT_MODEL_SHA256"] == "abc"
        assert mask.colormap(1)[1] == (0, 114, 178, 255)
        np.testing.assert_array_equal(mask.read(1), np.where(missing, 255, scores.argmax(axis=0)))
        soft = np.exp(scores) / np.exp(scores).sum(axis=0)
        np.testing.assert_array_equal(np.isnan(probs.read(1)), missing)
        np.testing.assert_allclose(probs.read()[:, ~missing], soft[:, ~missing], atol=1e-5)
        codes = mask.read(1)
    info, _, _, columns = pyogrio.raw.read(result.files["polygons"])
    values = dict(zip(info["fields"], columns, strict=True))
    for name, code in (("red", 1), ("green", 2)):
        assert values["area_m2"][values["class"] == name].sum() == pytest.approx((codes == code).sum() * 0.25)
    assert info["crs"] == "EPSG:32611"


def test_per_tile_stretching_and_windows_go_together(tmp_path: Path) -> None:
    pixels = _pixels(32, 32)
    path = _raster(tmp_path / "ortho.tif", pixels)
    predictor = _predictor("binary", normaliser=PerTileBands().to_dict())
    result = predictor.predict_photograph(path, tmp_path / "out")
    red = pixels[..., 0].astype(float)
    with rasterio.open(result.files["probability"]) as probs:
        expected = _sigmoid(20 * (red - red.min()) / np.ptp(red) - 10)
        np.testing.assert_allclose(probs.read(1), expected, atol=1e-5)


# --- a whole batch ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    task = TASKS["binary"]
    save_model(folder, task.build_model(UNetConfig(base_channels=4, depth=2), 3), _description(task))
    return folder


def _photos(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a", "b"):
        _photograph(folder / f"{name}.png", _pixels(40, 50))
    (folder / "broken.jpg").write_bytes((folder / "a.png").read_bytes()[:200])
    Image.fromarray(np.full((40, 50), 3000, np.uint16)).save(folder / "deep.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_goes_on_where_one_file_fails_and_all_are_listed(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    assert main(["predict", str(model_folder), str(_photos(tmp_path / "photos")), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "2 of 4 files failed; the others were finished" in said.err
    assert "broken.jpg" in said.err
    assert "deep.png has 1 bands" in said.err
    with (out / "summary.csv").open(newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.png": "done",
        "b.png": "done",
        "broken.jpg": "failed",
        "deep.png": "failed",
    }
    assert 0 <= float(rows["a.png"]["share crack"]) <= 1
    assert (rows["a.png"]["height_px"], rows["a.png"]["width_px"]) == ("40", "50")
    assert "damaged" in rows["broken.jpg"]["reason"]
    assert {path.name for path in out.iterdir()} == {
        "a_mask.png",
        "a_overlay.png",
        "b_mask.png",
        "b_overlay.png",
        "summary.csv",
    }


def test_a_single_image_that_fails_is_an_error(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"broken\.jpg is damaged"):
        predict(model_folder, _photos(tmp_path / "photos") / "broken.jpg", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_only_image_fails_still_gets_its_summary(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "maps"
    photos.mkdir()
    (photos / "broken.jpg").write_bytes(b"no image")
    assert main(["predict", str(model_folder), str(photos), "--out", str(out)]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    with (out / "summary.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed"]
    with pytest.raises(PredictionError, match=r"summary\.csv would be replaced"):
        predict(model_folder, photos, out)


def test_a_folder_without_images_says_how_folders_inside_are_searched(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "inside").mkdir(parents=True)
    _photograph(tmp_path / "photos" / "inside" / "a.png", _pixels(40, 50))
    with pytest.raises(PredictionError, match="Folders inside it are not searched"):
        predict(model_folder, tmp_path / "photos", tmp_path / "out")
    (result,) = predict(model_folder, str(tmp_path / "photos" / "**" / "*.png"), tmp_path / "out")
    assert result.raster.name == "a.png"


def test_patterns_choose_files_and_earlier_results_are_kept_unless_told(model_folder: Path, tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos")
    results = predict(model_folder, str(photos / "[ab].png"), tmp_path / "out")
    assert [result.raster.name for result in results] == ["a.png", "b.png"]
    with pytest.raises(PredictionError, match=r"a_mask\.png and 4 more would be replaced.*--overwrite"):
        predict(model_folder, str(photos / "?.png"), tmp_path / "out")
    predict(model_folder, str(photos / "?.png"), tmp_path / "out", overwrite=True)
    with pytest.raises(PredictionError, match=r"No file matches .*\*\.bmp"):
        predict(model_folder, str(photos / "*.bmp"), tmp_path / "out")
    with pytest.raises(PredictionError, match="is the folder of the inputs"):
        predict(model_folder, photos, photos)


def test_files_of_one_name_are_told_before_any_work(model_folder: Path, tmp_path: Path) -> None:
    first = _photograph(tmp_path / "a.png", _pixels(20, 20))
    second = _photograph(tmp_path / "a.bmp", _pixels(20, 20))
    with pytest.raises(PredictionError, match="Several rasters are called a"):
        predict(model_folder, [first, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_background_the_first_class_is_one_like_the_others(tmp_path: Path) -> None:
    path = _photograph(tmp_path / "a.png", _pixels(20, 20))
    for background, counted in (("background", False), (None, True)):
        predictor = _predictor("multiclass", class_table={"background": background})
        result = predictor.predict_photograph(path, tmp_path / "out")
        assert (result.per_class[0]["objects"] is not None) is counted


def test_sixteen_bits_are_refused_where_eight_were_trained(tmp_path: Path) -> None:
    path = _raster(tmp_path / "deep.tif", np.full((20, 20, 3), 3000, np.uint16))
    with pytest.raises(PredictionError, match="holds uint16 values and the model was trained on uint8"):
        _predictor("binary").predict_photograph(path, tmp_path / "out")


def test_a_loaded_network_gives_what_one_pass_gives(model_folder: Path, tmp_path: Path) -> None:
    pixels = _pixels(90, 120)
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(probabilities=True, probability_format="tif", tile_px=96, overlap=0.75)
    path = _photograph(tmp_path / "a.png", pixels)
    result = predictor.predict_photograph(path, tmp_path / "out", settings=settings)
    expected = predictor.predict_image(pixels.transpose(2, 0, 1))[0]
    np.testing.assert_allclose(_png(result, "probability crack"), expected, atol=1e-4)


def test_heights_are_no_question_for_a_model_of_images(model_folder: Path, tmp_path: Path) -> None:
    path = _photograph(tmp_path / "a.png", _pixels(20, 20))
    with pytest.raises(PredictionError, match="heights_m belong to height rasters"):
        predict(model_folder, path, tmp_path / "out", heights_m=[5.0])


# --- canopy height ----------------------------------------------------------------------------------------------------


def test_a_model_of_heights_writes_metres(tmp_path: Path) -> None:
    task = Height(30.0)
    description = _description(task) | {
        "weights": {"sha256": "abc"},
        "input": "chm",
        "in_channels": 1,
        "normaliser": {"kind": "metres", "scale_m": 30.0, "reference_cell_m": 60.0, "reference_percentile": 5.0},
        "nodata": {},
        "pixel_size_m": [0.5, 0.5],
    }
    card = ModelCard.from_description(description, Path("model.json"))
    heights = np.random.default_rng(0).uniform(0, 40, (70, 80, 1)).astype(np.float32)
    heights[:10] = -9999.0
    path = _raster(tmp_path / "canopy.tif", heights, nodata=-9999.0)
    result = Predictor(_Pointwise([[2.0]], [0.0]), card, "cpu").predict_raster(path, tmp_path / "out")
    with rasterio.open(result.files["height"]) as dataset:
        np.testing.assert_allclose(dataset.read(1)[10:], 2 * heights[10:, :, 0], rtol=1e-5)
        assert np.isnan(dataset.read(1)[:10]).all()
    assert cog_validate(result.files["height"], strict=True)[0]
