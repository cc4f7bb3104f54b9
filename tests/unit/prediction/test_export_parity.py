from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.errors import PredictionError
from maskwright.prediction.export_network import InputRule
from maskwright.prediction.export_parity import Case, Tiles, compare, make_cases


def _case(values: list[float]) -> Case:
    image = torch.tensor(values)[None, None, None]
    return Case(image, image, None)


def _same(image: Tensor, condition: Tensor | None) -> Tensor:
    return image


def _above_zero(outputs: Tensor, condition: Tensor | None) -> Tensor:
    return outputs > 0


def _compare(exported: Any, *cases: Case, tolerance: float = 1e-3) -> Any:
    return compare(_same, exported, cases, _above_zero, tolerance, is_real=False, what="logits")


def test_the_largest_difference_and_the_share_of_equal_pixels_are_told() -> None:
    result = _compare(lambda image, _: image + 0.25, _case([-0.125, 1.0]), _case([-8.0, 2.0]))
    assert result.difference == 0.25
    assert result.largest == 8.0
    assert result.agreement == 0.75  # one of four pixels crosses 0
    assert not result.passed
    assert result.sentence() == (
        "logits: largest difference 0.25 (allowed 0.008); masks agree on 75.0000% of the pixels; asked on invented "
        "tiles, batch x rows x columns: 1 x 1 x 2, 1 x 1 x 2"
    )


def test_large_outputs_may_differ_by_more_and_small_ones_not_by_less() -> None:
    assert _compare(lambda image, _: image + 0.005, _case([10.0, -10.0])).passed
    assert not _compare(lambda image, _: image + 0.005, _case([0.5, -0.5])).passed
    assert _compare(lambda image, _: image + 0.0009, _case([0.5, -0.5])).passed


def test_masks_that_differ_fail_however_close_the_outputs_are() -> None:
    assert not _compare(lambda image, _: image + 1e-6, _case([-1e-7, 1.0])).passed


def test_an_output_that_is_no_number_never_passes() -> None:
    for cases in ([_case([1.0]), _case([2.0])], [_case([2.0]), _case([1.0])]):
        result = _compare(lambda image, _: torch.where(image == 1.0, torch.nan, image), *cases)
        assert np.isnan(result.difference)
        assert not result.passed


def test_another_shape_and_a_failing_file_are_told() -> None:
    with pytest.raises(PredictionError, match=r"answers \(1, 1, 1, 2\) with \(1, 1, 1, 1\) where the network gives"):
        _compare(lambda image, _: image[..., :1], _case([1.0, 2.0]))

    def fails(image: Tensor, condition: Tensor | None) -> Tensor:
        raise RuntimeError("no such size\nmore")

    with pytest.raises(PredictionError, match=r"cannot answer an input of \(1, 1, 1, 2\): no such size$"):
        _compare(fails, _case([1.0, 2.0]))


# --- cases ------------------------------------------------------------------------------------------------------------


class _Task:
    kind = "binary"


class _Card:
    """As much of a card as the cases look at."""

    task = _Task()
    in_channels, tile_px = 2, 32


def _sizes(**options: Any) -> list[tuple[int, ...]]:
    card: Any = _Card()
    return [tuple(case.given.shape) for case in make_cases(card, InputRule(), (), None, **options)]


def test_odd_sizes_and_batches_of_one_and_three_are_asked() -> None:
    assert _sizes() == [(1, 2, 31, 15), (3, 2, 15, 33), (1, 2, 32, 32), (1, 2, 5, 7)]
    assert _sizes(least_px=64) == [(1, 2, 65, 65), (3, 2, 65, 67), (1, 2, 64, 64)]
    assert _sizes(fixed_px=40) == [(1, 2, 40, 40), (3, 2, 40, 40)]


def test_tiles_of_the_data_are_cut_and_repeated_and_marked_where_they_do_not_count() -> None:
    image = torch.arange(2 * 2 * 16 * 16, dtype=torch.float32).reshape(2, 2, 16, 16)
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    valid[0, 0, 0] = False
    image[0, :, 0, 0] = 0.0
    card: Any = _Card()
    rule = InputRule("raw", (1.0, 1.0), (2.0, 2.0))
    cases = make_cases(card, rule, (), Tiles(image, valid))
    assert [tuple(case.image.shape) for case in cases] == [(1, 2, 15, 7), (3, 2, 7, 17), (1, 2, 16, 16), (1, 2, 5, 7)]
    assert torch.equal(cases[1].image[2], cases[1].image[0])  # the third is the first again
    assert torch.equal(cases[1].image[:, :, :, 16], cases[1].image[:, :, :, 0])
    assert torch.isnan(cases[0].given[0, :, 0, 0]).all()
    assert torch.equal(cases[0].given[0, :, 0, 1], image[0, :, 0, 1] * 2 + 1)
