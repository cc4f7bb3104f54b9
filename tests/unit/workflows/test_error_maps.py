"""Maps of right and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from maskwright.data.sources.interface import Grid, Scene
from maskwright.types import Place, Window
from maskwright.workflows.error_maps import CODES, ErrorMaps, error_codes

SAID = np.array([[[True, True], [False, False]]])
TRUE = np.array([[[True, False], [True, False]]])
VALID = np.ones((2, 2), bool)


def scene(name: str, crs: str | None) -> Scene:
    return Scene(name, Grid(2, 4, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), crs), name, ())


def test_each_pair_of_answers_has_a_code() -> None:
    codes = error_codes(SAID, TRUE, np.array([[True, True], [True, False]]))
    assert codes.tolist() == [[[CODES["rightly called"], CODES["wrongly called"]], [CODES["missed"], 255]]]


def test_tiles_are_put_together_on_the_grid_of_the_site(tmp_path: Path) -> None:
    tiles = [Place("a", Window(0, 0, 2, 2)), Place("a", Window(0, 2, 2, 2))]
    options = {"metres": False, "photographs": False, "things": [0]}
    with ErrorMaps(tmp_path, [scene("a", "EPSG:32616")], ("5 m",), **options) as maps:  # type: ignore[arg-type]
        maps.add(np.stack([SAID, SAID]), np.stack([TRUE, TRUE]), np.stack([VALID, VALID]), tiles)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.read(1).tolist() == [[1, 2, 1, 2], [3, 0, 3, 0]]
        assert file.nodata == 255


def test_predicted_heights_leave_differences_in_metres(tmp_path: Path) -> None:
    options = {"metres": True, "photographs": False, "things": [0]}
    with ErrorMaps(tmp_path, [scene("a", "EPSG:32616")], ("height",), **options) as maps:  # type: ignore[arg-type]
        said, true = np.full((1, 1, 2, 2), 7.0, np.float32), np.full((1, 1, 2, 2), 5.0, np.float32)
        maps.add(said, true, np.array([[[True, False], [True, True]]]), [Place("a", Window(0, 0, 2, 2))])
    with rasterio.open(tmp_path / "a.tif") as file:
        found = file.read(1)[:, :2]
    assert found[0, 0] == 2.0
    assert np.isnan(found[0, 1])


def test_a_photograph_becomes_one_picture_of_the_worst_of_all_things(tmp_path: Path) -> None:
    both = np.concatenate([SAID, ~SAID])
    options = {"metres": False, "photographs": True, "things": [0, 1]}
    with ErrorMaps(tmp_path, [scene("a b", None)], ("rust", "pit"), **options) as maps:  # type: ignore[arg-type]
        maps.add(both[None], np.concatenate([TRUE, TRUE])[None], VALID[None], [Place("a b", Window(0, 0, 2, 2))])
    values = np.asarray(Image.open(tmp_path / "a_b.png"))
    assert values[:, :2].tolist() == [[3, 2], [3, 2]]
    assert (values[:, 2:] == 255).all()
