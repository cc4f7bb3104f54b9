from __future__ import annotations

import pytest
import torch

from maskwright.errors import ModelError
from maskwright.models.droppath import DropPath, rising_rates


def test_samples_lose_their_branch_whole_and_the_others_make_up_for_it() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25)(torch.ones(4000, 3, 2, 2))
    per_sample = out.flatten(1)
    assert torch.equal(per_sample.amin(dim=1), per_sample.amax(dim=1))
    assert sorted(out.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert out.mean().item() == pytest.approx(1, abs=0.03)


def test_in_use_and_at_a_rate_of_0_nothing_happens() -> None:
    branch = torch.randn(4, 2, 3, 3)
    assert DropPath(0.9).eval()(branch) is branch
    assert DropPath(0.0)(branch) is branch


def test_deeper_blocks_are_left_out_more_often() -> None:
    assert rising_rates(0.2, 4) == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ModelError, match=r"model\.drop_path: .* must lie from 0 to below 1"):
        DropPath(rate)
