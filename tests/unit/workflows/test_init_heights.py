"""Height rasters by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from maskwright.workflows.init_draft import Draft
from maskwright.workflows.init_heights import find_heights, put_heights, read_stored


def raster(path: Path, *, bands: int = 1, dtype: str = "float32", nodata: float | None = None) -> Path:
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": bands, "dtype": dtype, "nodata": nodata}
    with rasterio.open(path, "w", crs="EPSG:32616", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **profile) as file:
        file.write(np.full((bands, 8, 8), 3, dtype))
    return path


def test_rasters_belong_together_by_what_is_left_of_their_names(tmp_path: Path) -> None:
    for name in ("plot1_DSM", "plot1_CHM", "plot2_dsm", "plot2_dtm", "plot3_DSM"):
        raster(tmp_path / f"{name}.tif")
    raster(tmp_path / "photo.tif", bands=3, dtype="uint8")
    sites, others = find_heights(tmp_path)
    assert [(site.name, bool(site.dsm), bool(site.chm), bool(site.dtm)) for site in sites] == [
        ("plot1", True, True, False),
        ("plot2", True, False, True),
    ]
    assert others == ["photo.tif", "plot3_DSM.tif"]  # a surface alone tells no canopy


def test_a_name_that_says_nothing_is_taken_as_heights_and_asked_about(tmp_path: Path) -> None:
    raster(tmp_path / "north.tif")
    (site,), _ = find_heights(tmp_path)
    assert site.guessed
    draft = Draft()
    put_heights(draft, tmp_path, [site], [])
    settings = draft.settings()
    assert settings["data"]["input"] == "chm"
    assert "whether these are heights above ground: north" in draft.unknown


def test_stored_values_are_read_with_the_nodata_they_declare(tmp_path: Path) -> None:
    values, nodata = read_stored(raster(tmp_path / "a.tif", nodata=-9999.0)) or (None, None)
    assert nodata == -9999.0
    assert values is not None
    assert (values == 3).all()
    assert read_stored(raster(tmp_path / "b.tif")) is None
