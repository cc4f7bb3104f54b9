from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from maskwright.data.gap_statistics import GapSizes
from maskwright.prediction.gap_sizes import fit_power_law, fits_of_gaps, write_gap_sizes


@pytest.mark.parametrize("exponent", [1.8, 2.5, 3.2])
def test_the_exponent_of_drawn_whole_sizes_is_found_within_its_error(exponent: float) -> None:
    sizes = stats.zipf(exponent).rvs(20_000, random_state=np.random.default_rng(1))
    law = fit_power_law(sizes, discrete=True, first_size=1)
    assert law is not None
    assert abs(law.exponent - exponent) < 3 * law.standard_error
    assert law.standard_error < 0.05
    assert law.sizes == 20_000


def test_the_error_of_the_exponent_is_the_spread_over_samples() -> None:
    rng = np.random.default_rng(3)
    laws = [fit_power_law(stats.zipf(2.5).rvs(2000, random_state=rng), discrete=True, first_size=1) for _ in range(80)]
    spread = np.std([law.exponent for law in laws if law is not None], ddof=1)
    assert laws[0] is not None
    assert laws[0].standard_error == pytest.approx(spread, rel=0.35)


def test_sizes_of_any_value_follow_the_closed_form() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    law = fit_power_law(sizes, discrete=False, first_size=1.0, least=2)
    assert law is not None
    assert law.exponent == pytest.approx(1 + 4 / np.log(64))
    assert law.standard_error == pytest.approx((law.exponent - 1) / 2)


def test_sizes_below_the_law_are_left_out() -> None:
    rng = np.random.default_rng(0)
    tail = 10 * (1 - rng.random(5000)) ** (-1 / 1.5)  # density falls as size ** -2.5 from 10 on
    law = fit_power_law(np.concatenate([tail, rng.uniform(0.5, 10, 5000)]), discrete=False)
    assert law is not None
    assert 8 < law.first_size < 14
    assert law.exponent == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("sizes", [np.array([], int), np.arange(1, 20), np.full(500, 7)], ids=["none", "few", "equal"])
def test_what_says_nothing_about_an_exponent_gives_none(sizes: np.ndarray) -> None:
    assert fit_power_law(sizes, discrete=True) is None


@pytest.mark.parametrize("discrete", [True, False])
def test_sizes_told_with_their_counts_give_the_law_of_sizes_told_one_by_one(discrete: bool) -> None:
    sizes = stats.zipf(2.2).rvs(3000, random_state=np.random.default_rng(6))
    values, counts = np.unique(sizes, return_counts=True)
    together, apart = (
        fit_power_law(values, counts, discrete=discrete),
        fit_power_law(sizes, discrete=discrete),
    )
    assert together is not None
    assert together == apart


def test_the_table_counts_gaps_in_classes_that_double(tmp_path: Path) -> None:
    areas = [GapSizes.of(np.array([1, 1, 2, 3, 9])), GapSizes.of(np.array([], np.int64))]
    laws = fits_of_gaps(areas, 0.25)
    assert laws == [None, None]
    write_gap_sizes(tmp_path / "sizes.csv", tmp_path / "sizes.png", (5.0, 10.0), areas, 0.25, laws)
    rows = list(csv.DictReader((tmp_path / "sizes.csv").open()))
    assert [(row["from_m2"], row["below_m2"], row["gaps"], row["gaps_at_least"]) for row in rows] == [
        ("0.25", "0.5", "2", "5"),
        ("0.5", "1.0", "2", "3"),
        ("1.0", "2.0", "0", "1"),
        ("2.0", "4.0", "1", "1"),
    ]
    assert {row["height_m"] for row in rows} == {"5.0"}
    assert Image.open(tmp_path / "sizes.png").width > 100


def test_the_law_of_gaps_begins_at_an_area_on_the_ground(tmp_path: Path) -> None:
    areas = [GapSizes.of(stats.zipf(2.2).rvs(3000, random_state=np.random.default_rng(5)))]
    (law,) = fits_of_gaps(areas, 4.0)
    assert law is not None
    assert law["first_size"] % 4.0 == 0
    write_gap_sizes(tmp_path / "sizes.csv", tmp_path / "sizes.png", (5.0,), areas, 4.0, [law])
    rows = list(csv.DictReader((tmp_path / "sizes.csv").open()))
    assert float(rows[0]["exponent"]) == pytest.approx(law["exponent"], abs=1e-4)
