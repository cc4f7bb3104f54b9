from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from maskwright.pictures import height_colors, hex_color
from maskwright.prediction.qgis_style import class_style, gap_style, ramp_style


def test_one_style_draws_the_mask_and_the_polygons_of_gaps(tmp_path: Path) -> None:
    gap_style(tmp_path / "gaps.qml", (5.0, 10.0))
    text = (tmp_path / "gaps.qml").read_text()
    assert text.startswith("<!DOCTYPE qgis")
    root = ElementTree.fromstring(text.partition("\n")[2])
    entries = root.findall("pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    assert [(entry.get("value"), entry.get("alpha")) for entry in entries] == [("0", "0"), ("1", "255")]
    assert entries[1].get("color") == hex_color(height_colors(2)[0])
    renderer = root.find("renderer-v2[@attr='height_m']")
    assert renderer is not None
    assert [category.get("value") for category in renderer.findall("categories/category")] == ["10", "5"]
    assert [symbol.get("type") for symbol in renderer.findall("symbols/symbol")] == ["fill", "fill"]
    assert root.findtext("layerGeometryType") == "2"


def test_classes_keep_their_colours_and_the_background_is_see_through(tmp_path: Path) -> None:
    mask, polygons = tmp_path / "a_mask.qml", tmp_path / "a_objects.qml"
    class_style(mask, polygons, [("ground", 0, None), ("tree <old>", 1, (10, 20, 30))])
    entries = ElementTree.parse(mask).findall("pipe/rasterrenderer/colorPalette/paletteEntry")
    assert [(entry.get("label"), entry.get("color"), entry.get("alpha")) for entry in entries] == [
        ("ground", "#000000", "0"),
        ("tree <old>", "#0a141e", "255"),
    ]
    categories = ElementTree.parse(polygons).findall("renderer-v2[@attr='class']/categories/category")
    assert [category.get("value") for category in categories] == ["tree <old>"]


def test_probabilities_run_from_nothing_to_one(tmp_path: Path) -> None:
    ramp_style(tmp_path / "probability.qml")
    items = ElementTree.parse(tmp_path / "probability.qml").findall(
        "pipe/rasterrenderer/rastershader/colorrampshader/item"
    )
    assert [item.get("value") for item in items] == ["0", "0.5", "1"]
