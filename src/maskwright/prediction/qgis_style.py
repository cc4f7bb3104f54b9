"""Style files for QGIS: a layer ``name.tif`` or ``name.gpkg`` is drawn as ``name.qml`` beside it says.

A mask and its polygons have one name, so their file holds both: QGIS takes ``pipe`` for a raster and ``renderer-v2``
for a layer of polygons.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from maskwright.errors import PredictionError
from maskwright.files import write_bytes
from maskwright.pictures import RGB, height_colors, hex_color

__all__ = ["class_style", "gap_style", "ramp_style"]

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_POLYGONS = "2"  # geometry type
_PROBABILITY: tuple[tuple[float, RGB], ...] = ((0.0, (247, 246, 242)), (0.5, (230, 159, 0)), (1.0, (140, 20, 20)))


def gap_style(path: Path, heights_m: Sequence[float]) -> None:
    """Gaps: polygons coloured by height, the largest height below the others; of the mask its first band.

    Raises:
        PredictionError: If the file cannot be written.
    """
    colors = height_colors(len(heights_m))
    named = [(f"below {height:g} m", f"{height:g}", color) for height, color in zip(heights_m, colors, strict=True)]
    root = _root()
    _palette(root, [("no gap", 0, None), (named[0][0], 1, colors[0])])
    _categories(root, "height_m", named[::-1])  # drawn in this order, so the lowest height comes last and on top
    _write(path, root)


def class_style(mask: Path | None, polygons: Path | None, classes: Sequence[tuple[str, int, RGB | None]]) -> None:
    """Classes: the codes of a mask, and the polygons of the same classes.

    Args:
        mask: Style of the mask.
        polygons: Style of the polygons; classes without a colour have none.
        classes: Name, code in the mask, colour; None: see-through.

    Raises:
        PredictionError: If a file cannot be written.
    """
    if mask is not None:
        root = _root()
        _palette(root, classes)
        _write(mask, root)
    if polygons is not None:
        root = _root()
        _categories(root, "class", [(name, name, color) for name, _, color in classes if color is not None])
        _write(polygons, root)


def ramp_style(path: Path, steps: Sequence[tuple[float, RGB]] = _PROBABILITY) -> None:
    """A raster of one quantity, its first band: colours between steps; unset: probabilities from 0 to 1.

    Raises:
        PredictionError: If the file cannot be written.
    """
    root = _root()
    low, high = f"{steps[0][0]:g}", f"{steps[-1][0]:g}"
    renderer = _renderer(
        root, type="singlebandpseudocolor", classificationMin=low, classificationMax=high, opacity="1", alphaBand="-1"
    )
    shader = ElementTree.SubElement(ElementTree.SubElement(renderer, "rastershader"), "colorrampshader")
    shader.attrib.update(colorRampType="INTERPOLATED", clip="0", minimumValue=low, maximumValue=high)
    for value, color in steps:
        _add(shader, "item", value=f"{value:g}", label=f"{value:g}", color=hex_color(color), alpha="255")
    _write(path, root)


def _root() -> ElementTree.Element:
    return ElementTree.Element("qgis", version="3.34", styleCategories="Symbology")


def _renderer(root: ElementTree.Element, **facts: str) -> ElementTree.Element:
    return _add(_add(root, "pipe"), "rasterrenderer", band="1", **facts)


def _palette(root: ElementTree.Element, entries: Sequence[tuple[str, int, RGB | None]]) -> None:
    renderer = _renderer(root, type="paletted", opacity="1", alphaBand="-1", nodataColor="")
    palette = _add(renderer, "colorPalette")
    for name, code, color in entries:
        shown = "#000000" if color is None else hex_color(color)
        _add(palette, "paletteEntry", value=str(code), label=name, color=shown, alpha="0" if color is None else "255")


def _categories(root: ElementTree.Element, attribute: str, entries: Sequence[tuple[str, str, RGB]]) -> None:
    renderer = _add(root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="1")
    categories, symbols = _add(renderer, "categories"), _add(renderer, "symbols")
    for number, (label, value, color) in enumerate(entries):
        _add(categories, "category", symbol=str(number), value=value, label=label, render="true")
        symbol = _add(symbols, "symbol", type="fill", name=str(number), alpha="1")
        layer = _add(symbol, "layer", **{"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": str(number)})
        options = _add(layer, "Option", type="Map")
        red, green, blue = color
        for name, text in (
            ("color", f"{red},{green},{blue},110"),
            ("outline_color", f"{red},{green},{blue},255"),
            ("outline_style", "solid"),
            ("outline_width", "0.4"),
            ("style", "solid"),
        ):
            _add(options, "Option", type="QString", name=name, value=text)
    _add(root, "layerGeometryType").text = _POLYGONS


def _add(parent: ElementTree.Element, tag: str, **facts: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, facts)


def _write(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    text = _HEAD + ElementTree.tostring(root, encoding="unicode") + "\n"
    write_bytes(path, text.encode("utf-8"), error=PredictionError)
