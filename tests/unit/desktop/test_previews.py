from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from PySide6.QtGui import QImage

from maskwright.desktop.model_facts import ModelFacts
from maskwright.desktop.pictures_view import ICON_PX, NOT_VALID
from maskwright.desktop.previews import make_icon, make_preview
from maskwright.errors import PredictionError

BINARY = ModelFacts("binary", ("crack",), threshold=0.4)


def _photograph(path: Path, width: int = 6, height: int = 4) -> Path:
    pixels = np.full((height, width, 3), (10, 200, 30), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _raster(path: Path, values: np.ndarray, nodata: float | None = None) -> Path:
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs="EPSG:32632",
        transform=transform,
        nodata=nodata,
    ) as file:
        file.write(values)
    return path


def _row(path: Path, files: dict[str, Path], classes: tuple[str, ...] = ("crack",), **more: Any) -> dict[str, Any]:
    named = {name: str(file) for name, file in files.items()}
    return {
        "input": str(path),
        "files": named,
        "heights_m": [],
        "per_class": [{"class": name} for name in classes],
        **more,
    }


def _level(image: QImage, x: int, y: int) -> int:
    return image.pixelIndex(x, y)


def test_a_photograph_and_its_8_bit_probabilities(tmp_path: Path) -> None:
    probs = np.array([[0, 51, 102, 153, 204, 255]] * 4, np.uint8)
    Image.fromarray(probs).save(tmp_path / "a_crack_probability.png")
    row = _row(_photograph(tmp_path / "a.png"), {"probability crack": tmp_path / "a_crack_probability.png"})
    preview = make_preview(row, BINARY)
    assert (preview.picture.width(), preview.picture.height()) == (6, 4)
    assert preview.picture.pixelColor(3, 2).getRgb()[:3] == (10, 200, 30)
    (layer,) = preview.layers
    assert (layer.name, preview.threshold) == ("crack", 0.4)
    assert [_level(layer.levels, x, 1) for x in range(6)] == [0, 51, 102, 152, 203, 254]  # 254 p


def test_gaps_at_two_heights_on_a_relief(tmp_path: Path) -> None:
    probs = np.zeros((2, 4, 6), np.float32)
    probs[1, :, 3:] = 0.5
    probs[:, 0, 0] = np.nan
    heights = np.random.default_rng(0).normal(20, 3, (1, 4, 6)).astype(np.float32)
    row = _row(
        _raster(tmp_path / "chm.tif", heights),
        {"probability": _raster(tmp_path / "p.tif", probs, nodata=np.nan)},
        (),
        heights_m=[5.0, 10.0],
    )
    preview = make_preview(row, ModelFacts("height_gaps", (), (5.0, 10.0), 0.5, sees_images=False))
    assert [layer.name for layer in preview.layers] == ["below 5 m", "below 10 m"]
    assert [_level(layer.levels, 4, 2) for layer in preview.layers] == [0, 127]
    assert [_level(layer.levels, 0, 0) for layer in preview.layers] == [NOT_VALID] * 2
    red, green, blue = preview.picture.pixelColor(2, 2).getRgb()[:3]
    assert max(abs(red - green), abs(green - blue)) < 40  # a grey relief


def test_of_classes_that_exclude_each_other_only_the_likeliest_is_painted(tmp_path: Path) -> None:
    probs = np.array([[[0.6, 0.2]], [[0.3, 0.7]], [[0.1, 0.1]]], np.float32)
    path = _raster(tmp_path / "a.tif", np.zeros((3, 1, 2), np.uint8))
    row = _row(path, {"probability": _raster(tmp_path / "p.tif", probs)}, ("background", "red", "green"))
    model = ModelFacts("multiclass", ("background", "red", "green"), has_background=True)
    preview = make_preview(row, model)
    assert [layer.name for layer in preview.layers] == ["red", "green"]
    assert [_level(preview.layers[0].levels, x, 0) for x in (0, 1)] == [0, 178]
    assert [_level(preview.layers[1].levels, x, 0) for x in (0, 1)] == [0, 0]
    assert preview.threshold == 0.01


def test_without_probabilities_the_finished_picture_is_shown(tmp_path: Path) -> None:
    overlay = _photograph(tmp_path / "a_overlay.png", 30, 20)
    row = _row(_photograph(tmp_path / "a.png"), {"overlay": overlay})
    preview = make_preview(row, BINARY)
    assert preview.layers == ()
    assert preview.picture.width() == 30
    bare = make_preview(_row(tmp_path / "a.png", {}), BINARY)
    assert (bare.layers, bare.picture.width()) == ((), 6)


def test_a_large_raster_is_thinned_out_and_16_bits_are_stretched(tmp_path: Path) -> None:
    values = np.tile(np.linspace(1000, 3000, 3000).astype(np.uint16), (3, 20, 1))
    row = _row(_raster(tmp_path / "big.tif", values), {})
    picture = make_preview(row, BINARY).picture
    assert picture.width() == 1400
    assert picture.pixelColor(2, 2).red() == 0
    assert picture.pixelColor(1397, 2).red() == 255


def test_bytes_of_a_raster_stay_as_they_are_and_nodata_is_grey(tmp_path: Path) -> None:
    values = np.full((3, 4, 4), 77, np.uint8)
    values[:, 0, 0] = 0
    picture = make_preview(_row(_raster(tmp_path / "a.tif", values, nodata=0), {}), BINARY).picture
    assert picture.pixelColor(2, 2).getRgb()[:3] == (77, 77, 77)
    assert picture.pixelColor(0, 0).getRgb()[:3] == (200, 200, 200)


def test_icons_are_small_whatever_they_show(tmp_path: Path) -> None:
    overlay = _photograph(tmp_path / "o.png", 600, 300)
    assert make_icon(_row(tmp_path / "a.png", {"overlay": overlay})).width() == ICON_PX
    values = np.zeros((1, 500, 250), np.float32)
    icon = make_icon(_row(_raster(tmp_path / "chm.tif", values), {}))
    assert (icon.width(), icon.height()) == (ICON_PX // 2, ICON_PX)


def test_a_result_that_is_gone_is_named(tmp_path: Path) -> None:
    row = _row(_photograph(tmp_path / "a.png"), {"probability": tmp_path / "gone.tif"})
    with pytest.raises(PredictionError, match=r"gone\.tif cannot be shown"):
        make_preview(row, BINARY)
