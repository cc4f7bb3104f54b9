"""Findings on pixel values."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.preflight_look import Look, look_at
from maskwright.data.preflight_values import (
    band_findings,
    border_findings,
    declared_zero_findings,
    nodata_findings,
    outlier_findings,
    robust_z,
    value_table,
)


def looks(count: int = 20, level: float = 100.0, odd: dict[int, float] | None = None) -> list[Look]:
    generator = np.random.default_rng(1)
    made = []
    for index in range(count):
        values = generator.normal((odd or {}).get(index, level), 10, (1, 32, 32)).astype(np.float32)
        made.append(look_at(values, np.ones((32, 32), bool), name=f"i{index}"))
    return made


def test_robust_z_is_not_moved_by_the_outlier_itself() -> None:
    z = robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert z[4] == pytest.approx((100 - 3) / 1.4826)


def test_undeclared_nodata_is_a_warning_that_says_what_to_set() -> None:
    values = np.random.default_rng(0).normal(500, 10, (1, 40, 40)).astype(np.float32)
    values[:, :4] = -9999
    seen = [look_at(values, np.ones((40, 40), bool), name="site")]
    (finding,) = nodata_findings(seen)
    assert (finding.level, finding.code, finding.where) == ("warning", "nodata_undeclared", "site")
    assert "data.nodata: -9999" in finding.do
    assert nodata_findings(seen, declared=-9999.0) == []


def test_data_that_is_all_nodata_is_an_error() -> None:
    empty = look_at(np.zeros((1, 8, 8), np.float32), np.zeros((8, 8), bool), name="a")
    assert [(f.level, f.code) for f in nodata_findings([empty])] == [("error", "nothing_measured")]
    assert [f.level for f in nodata_findings([empty, *looks(3)])] == ["warning"]


def bordered(count: int, of: int) -> list[Look]:
    made = []
    for index in range(of):
        values = np.random.default_rng(index).integers(1, 255, (3, 40, 40)).astype(np.uint8)
        if index < count:
            values[:, :, :20] = 0
        made.append(look_at(values, np.ones((40, 40), bool), name=f"i{index}"))
    return made


def test_a_wide_blank_border_of_a_few_images_is_a_warning_one_of_all_a_note() -> None:
    assert [f.level for f in border_findings(bordered(1, 4))] == ["warning"]
    assert [f.level for f in border_findings(bordered(4, 4))] == ["note"]
    assert border_findings(bordered(0, 4)) == []


def test_an_image_of_another_brightness_is_named() -> None:
    (finding,) = outlier_findings(looks(odd={7: 900.0}), ["grey"])
    assert finding.code == "unlike_others"
    assert finding.where == "i7"


def test_usual_spread_is_no_outlier() -> None:
    assert outlier_findings(looks(), ["grey"]) == []


def test_a_constant_band_and_far_values_are_warnings() -> None:
    flat = [look_at(np.full((1, 8, 8), 3.0), np.ones((8, 8), bool), name=f"i{i}") for i in range(3)]
    assert [f.code for f in band_findings(flat, ["b"])] == ["band_constant"]
    far = np.random.default_rng(0).normal(10, 1, (1, 32, 32))
    far[0, 0, 0] = 1e6
    assert [f.code for f in band_findings([look_at(far, np.ones((32, 32), bool), name="a")], ["b"])] == [
        "values_far_out"
    ]


def test_a_declared_zero_scattered_on_low_ground_is_a_trap() -> None:
    heights = np.round(np.abs(np.random.default_rng(0).normal(0, 1.5, (60, 60))), 1)
    (finding,) = declared_zero_findings("chm.tif", heights, 0.0)
    assert (finding.code, finding.where) == ("nodata_is_real", "chm.tif")


def test_a_declared_zero_in_one_hole_is_no_trap() -> None:
    heights = np.random.default_rng(0).uniform(5, 20, (60, 60))
    heights[:20, :20] = 0
    assert declared_zero_findings("chm.tif", heights, 0.0) == []


def test_the_table_has_a_row_for_each_band() -> None:
    rows = value_table(looks(3), ["grey"])
    assert rows[0][0] == "grey"
    assert float(rows[0][3]) == pytest.approx(100, abs=2)
