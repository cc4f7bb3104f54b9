"""GeoTIFFs that appear only when complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from maskwright.data.sources.interface import Grid
from maskwright.errors import RunError
from maskwright.workflows.raster_draft import raster_draft

GRID = Grid(4, 6, (2.0, 0.0, 100.0, 0.0, -2.0, 50.0), "EPSG:32616")


def test_a_finished_raster_has_its_name_and_its_place(tmp_path: Path) -> None:
    with raster_draft(tmp_path / "a.tif", GRID, dtype="uint8", nodata=255) as file:
        assert not (tmp_path / "a.tif").exists()
        file.write(np.full((4, 6), 7, np.uint8), 1)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.read(1) == 7).all()
        assert file.transform[:6] == GRID.transform
        assert (file.nodata, file.crs.to_epsg()) == (255, 32616)


def test_nothing_remains_of_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), raster_draft(tmp_path / "a.tif", GRID, dtype="uint8", nodata=None):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="Check the free space and the rights of the folder"),
        raster_draft(tmp_path / "no/a.tif", GRID, dtype="uint8", nodata=None),
    ):
        pass
