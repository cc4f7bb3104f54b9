from __future__ import annotations

import pytest
import torch

from maskwright.errors import ShapeError
from maskwright.models.film import FilmGenerator, Modulation, as_conditions


def test_modulation_by_hand() -> None:
    features = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    gamma, beta = torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[10.0, 20.0]]])
    assert Modulation(gamma, beta).apply_to(features).flatten().tolist() == [13.0, 20.0]


def test_modulation_tells_the_conditions_of_a_sample_apart() -> None:
    torch.manual_seed(0)
    gamma, beta = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    features = torch.randn(2, 4, 5, 6)
    apart = Modulation(gamma, beta).apply_to(features)
    assert apart.shape == (6, 4, 5, 6)
    for sample in range(2):
        for k in range(3):
            factor, offset = 1 + gamma[sample, k, :, None, None], beta[sample, k, :, None, None]
            torch.testing.assert_close(apart[sample * 3 + k], factor * features[sample] + offset)
    again = Modulation(gamma, beta).apply_to(apart)  # told apart already
    torch.testing.assert_close(again[4], (1 + gamma[1, 1, :, None, None]) * apart[4] + beta[1, 1, :, None, None])


def test_modulation_keeps_channels_last_in_memory() -> None:
    features = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    apart = Modulation(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)).apply_to(features)
    assert apart.is_contiguous(memory_format=torch.channels_last)


def test_a_new_generator_changes_nothing() -> None:
    features = torch.randn(2, 5, 3, 3)
    first, second = FilmGenerator((5, 1), hidden=8, scale=30)(torch.tensor([[2.0], [50.0]]))
    assert torch.equal(first.apply_to(features), features)
    assert second.factor.shape == (2, 1, 1, 1, 1)


def test_conditions_are_divided_by_the_scale() -> None:
    torch.manual_seed(0)
    small, large = FilmGenerator((4,), hidden=8, scale=1), FilmGenerator((4,), hidden=8, scale=30)
    torch.nn.init.normal_(small.out.weight)
    large.load_state_dict(small.state_dict())
    (of_small,), (of_large,) = small(torch.tensor([[0.5]])), large(torch.tensor([[15.0]]))
    torch.testing.assert_close(of_small.factor, of_large.factor)
    torch.testing.assert_close(of_small.offset, of_large.offset)


@pytest.mark.parametrize("given", [torch.ones(3), torch.ones(3, 1)])
def test_one_height_per_image_comes_in_two_shapes(given: torch.Tensor) -> None:
    assert as_conditions(given, 3).shape == (3, 1)


@pytest.mark.parametrize("shape", [(2,), (1, 3), (3, 1, 1), (), (3, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"for 3 images. Give one number for each image, \(3,\)"):
        as_conditions(torch.ones(shape), 3)
