from __future__ import annotations

import pytest
import torch

from maskwright.prediction.tta import VIEWS, views_of


def test_one_view_is_the_answer_itself() -> None:
    images = torch.rand(2, 1, 4, 6)
    (view,) = views_of(lambda seen: seen, images, 1)
    assert view is images


@pytest.mark.parametrize("views", [2, 4, 8])
def test_every_view_is_turned_back(views: int) -> None:
    images = torch.rand(2, 3, 4, 6)
    turned_back = list(views_of(lambda seen: 2 * seen, images, views))
    assert len(turned_back) == views
    for view in turned_back:
        torch.testing.assert_close(view, 2 * images)


def test_eight_views_are_all_different() -> None:
    seen: list[torch.Tensor] = []

    def answer(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images

    list(views_of(answer, torch.arange(9.0).reshape(1, 1, 3, 3), 8))
    assert len({tuple(images.flatten().tolist()) for images in seen}) == len(VIEWS[8]) == 8


def test_a_shift_to_the_right_becomes_a_blur_in_all_directions() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    mean = torch.stack(list(views_of(lambda seen: seen.roll(1, -1), image, 4))).mean(dim=0)[0, 0]
    expected = torch.zeros(5, 5)
    expected[2, 1] = expected[2, 3] = expected[1, 2] = expected[3, 2] = 0.25
    torch.testing.assert_close(mean, expected)
