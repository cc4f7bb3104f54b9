"""Sites and heights of one step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.data.build import build_source
from maskwright.data.synthetic import write_forest
from maskwright.errors import DataError
from maskwright.workflows.prepare import Cleaning, check_heights, mask_rows, sites_from_paths, sites_of


def test_heights_rise_and_lie_above_the_ground() -> None:
    assert check_heights((10, 2, 5, 5), Cleaning()) == (2.0, 5.0, 10.0)
    for wrong in ((), (0.0, 5.0), (-1.0,)):
        with pytest.raises(DataError, match="Heights must be larger than 0 m"):
            check_heights(wrong, Cleaning())
    with pytest.raises(DataError, match="takes one height at a time"):
        check_heights((2, 5), Cleaning(max_gap_px=9))


def test_a_folder_or_rasters_but_not_both(tmp_path: Path) -> None:
    write_forest(tmp_path, name="a", size_px=64, seed=1)
    assert [site.name for site in sites_of(sites_from_paths([tmp_path]))] == ["a"]
    named = sites_from_paths([tmp_path / "a_CHM.tif"], nodata=-1.0)
    assert [(site.name, site.nodata) for site in sites_of(named)] == [("a_CHM", -1.0)]
    with pytest.raises(DataError, match="name one folder, or rasters, but not both"):
        sites_from_paths([tmp_path, tmp_path / "a_CHM.tif"])
    with pytest.raises(DataError, match="No such file or folder"):
        sites_from_paths([tmp_path / "b_CHM.tif"])


def test_masks_are_gaps_below_each_height_and_nest(tmp_path: Path) -> None:
    write_forest(tmp_path, name="a", size_px=64, seed=1)
    source = build_source(sites_from_paths([tmp_path]))
    ((window, masks),) = mask_rows(source, source.scenes[0], (5.0, 10.0), Cleaning())
    canopy = source.canopy("a", window)
    measured = np.isfinite(canopy)
    assert np.array_equal(masks[0][measured] == 1, canopy[measured] < 5.0)
    assert (masks[:, ~measured] == 255).all()
    assert (masks[1] >= masks[0]).all()
