"""Draw the picture of docs/how-to/qgis.md: a small model maps invented ground, drawn in the colours of its styles.

Run: ``OMP_NUM_THREADS=1 .venv/bin/python docs/_hooks/draw_qgis.py`` (a minute or two of one core). QGIS itself is not
run: raster and polygons are drawn by matplotlib with the values and colours that stand in the .qml files.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyogrio
import rasterio
import shapely
from PIL import Image

import maskwright
from maskwright.data.synthetic import write_forest
from maskwright.pictures import shade

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.collections import PatchCollection
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline

IMAGES = Path(__file__).resolve().parents[1] / "images"
HEIGHTS = (5.0, 10.0, 15.0)
EXPERIMENT = {
    "name": "qgis",
    "task": {"heights_m": HEIGHTS},
    "data": {"tiles": {"size_px": 64}, "loader": {"batch_size": 8, "samples_per_epoch": 128}},
    "model": {"base_channels": 8, "depth": 3},
    "optim": {"optimizer": {"lr": 3e-3}},
    "training": {"epochs": 8, "threads": 1},
    "metrics": {"bootstrap": 100},
    "tracking": {"quiet": True, "tensorboard": False},
}


def colors_of(style: Path) -> tuple[dict[str, tuple[str, Any]], dict[str, tuple[str, Any]]]:
    """Value to label and colour (0..1), of the raster and of the polygons of a style file."""
    root = ElementTree.fromstring(style.read_text(encoding="utf-8").partition("\n")[2])
    raster = {}
    for entry in root.iter("paletteEntry"):
        red, green, blue = (int(entry.attrib["color"][at : at + 2], 16) / 255 for at in (1, 3, 5))
        raster[entry.attrib["value"]] = (entry.attrib["label"], (red, green, blue, int(entry.attrib["alpha"]) / 255))
    symbols = {}
    for symbol in root.iter("symbol"):
        (color,) = (option.attrib["value"] for option in symbol.iter("Option") if option.get("name") == "color")
        symbols[symbol.attrib["name"]] = tuple(int(part) / 255 for part in color.split(","))
    polygons = {
        entry.attrib["value"]: (entry.attrib["label"], symbols[entry.attrib["symbol"]])
        for entry in root.iter("category")
    }
    return raster, polygons


def patch_of(polygon: Any) -> PathPatch:
    """A polygon with its holes."""
    rings = [polygon.exterior, *polygon.interiors]
    return PathPatch(Outline.make_compound_path(*(Outline(np.asarray(ring.coords)[:, :2]) for ring in rings)))


def draw(folder: Path, out: Path) -> None:
    """Surface, mask and polygons of a map side by side."""
    with rasterio.open(folder / "area_DSM.tif") as file:
        relief, box = shade(file.read(1), file.transform.a), file.bounds
    extent = (box.left, box.right, box.bottom, box.top)
    with rasterio.open(folder / "maps/area_DSM_gaps.tif") as file:
        mask = file.read(1)
    raster, polygons = colors_of(folder / "maps/area_DSM_gaps.qml")
    painted = np.zeros((*mask.shape, 4))
    for value, (_, color) in raster.items():
        painted[mask == int(value)] = color
    figure, panes = plt.subplots(1, 3, figsize=(13.5, 4.9), layout="constrained")
    for pane, title in zip(panes, ("area_DSM.tif", "area_DSM_gaps.tif, first band", "area_DSM_gaps.gpkg"), strict=True):
        pane.imshow(relief, extent=extent)
        pane.set_title(title, fontsize=10)
        pane.set_axis_off()
    panes[1].imshow(painted, extent=extent)
    _, _, geometry, (heights,) = pyogrio.raw.read(folder / "maps/area_DSM_gaps.gpkg", columns=["height_m"])
    for value, (_, color) in polygons.items():  # in the order of the file: the lowest height comes last and on top
        shapes = [
            shape for shape, height in zip(shapely.from_wkb(geometry), heights, strict=True) if height == float(value)
        ]
        patches = [patch_of(part) for shape in shapes for part in shapely.get_parts(shape)]
        panes[2].add_collection(PatchCollection(patches, facecolor=color, edgecolor=color[:3], linewidth=0.6))
    entries = [Patch(color=color[:3], label=label) for label, color in polygons.values()]
    panes[2].legend(handles=entries, loc="lower right", fontsize=8)
    figure.savefig(out, dpi=80)
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)


def main() -> None:
    """Make the map and the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (1, 2):
            write_forest(folder / "rasters", name=f"plot{seed}", size_px=384, seed=seed)
        write_forest(folder, name="area", size_px=320, seed=7)
        settings = {**EXPERIMENT, "data": {**EXPERIMENT["data"], "folder": str(folder / "rasters")}}  # type: ignore[dict-item]
        settings["tracking"] = {**EXPERIMENT["tracking"], "output_dir": str(folder / "outputs")}  # type: ignore[dict-item]
        outcome = maskwright.train(maskwright.load_experiment((), settings))
        maskwright.predict(outcome.folder.path, folder / "area_DSM.tif", folder / "maps", heights_m=HEIGHTS)
        print(*outcome.lines, sep="\n")
        IMAGES.mkdir(exist_ok=True)
        draw(folder, IMAGES / "qgis.png")


if __name__ == "__main__":
    main()
