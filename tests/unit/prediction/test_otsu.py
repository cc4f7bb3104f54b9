from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.data.sources.interface import Grid
from maskwright.prediction.geotiff import RowWriter
from maskwright.prediction.otsu import otsu_of_raster, otsu_threshold


def test_two_heaps_are_cut_in_the_middle_between_them() -> None:
    counts = np.zeros(10, np.int64)
    counts[1], counts[7] = 30, 5
    assert otsu_threshold(counts) == pytest.approx((2 + 7) / 2 / 10)


def test_the_cut_is_the_one_that_a_search_over_all_cuts_finds() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(np.concatenate([rng.normal(0.2, 0.08, 900), rng.normal(0.7, 0.1, 400)]), 0, 0.999)
    counts = np.bincount((values * 64).astype(int), minlength=64)
    middles = (np.arange(64) + 0.5) / 64

    def within(cut: int) -> float:  # the smallest variance inside is the largest between
        total = 0.0
        for part in (slice(0, cut), slice(cut, 64)):
            weight = counts[part].sum()
            mean = (counts[part] * middles[part]).sum() / weight
            total += (counts[part] * (middles[part] - mean) ** 2).sum()
        return total

    cuts = [cut for cut in range(1, 64) if counts[:cut].sum() and counts[cut:].sum()]
    best = min(within(cut) for cut in cuts)
    ties = [cut for cut in cuts if within(cut) <= best * (1 + 1e-12)]
    assert otsu_threshold(counts) == pytest.approx(np.mean(ties) / 64)


def test_values_of_one_bin_have_no_cut() -> None:
    assert otsu_threshold(np.array([0, 4, 0])) is None


def test_a_raster_gives_a_cut_for_each_band_and_one_for_all(tmp_path: Path) -> None:
    probs = np.full((2, 3, 4), 0.1, np.float32)
    probs[0, 1], probs[1] = 0.5, 0.9
    probs[:, 2] = np.nan
    path = tmp_path / "probs.tif"
    with RowWriter(
        path, Grid(3, 4, (1, 0, 0, 0, -1, 0), None), dtype="float32", nodata=np.nan, names=("a", "b")
    ) as out:
        out.write(0, probs)
    first, second, together = otsu_of_raster(path)
    assert first is not None
    assert 0.1 < first < 0.5
    assert second is None
    assert together is not None
    assert 0.5 < together < 0.9
