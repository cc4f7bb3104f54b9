from __future__ import annotations

import torch

from maskwright.data.mixup import mixed, with_partners
from maskwright.data.sampling import Draw, Mix
from maskwright.types import Batch, Place, Window

PLACES = tuple(Place(name, Window(0, 0, 4, 4)) for name in "abc")


def test_images_are_blended_and_truths_stand_side_by_side() -> None:
    draws = [Draw(PLACES[0], ()), Draw(PLACES[1], (), mix=Mix(0.75, Draw(PLACES[2], ())))]
    everyone = with_partners(draws)
    assert [draw.place.scene for draw in everyone] == ["a", "b", "c"]
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[2, 0] = False
    image = torch.stack([torch.full((1, 4, 4), value) for value in (1.0, 4.0, 8.0)]) * valid[:, None]
    target = torch.stack([torch.full((4, 4), value) for value in (1, 2, 3)]) * valid
    batch = Batch(image.clone(), target.clone(), valid.clone(), None, tuple(draw.place for draw in everyone))
    result = mixed(batch, draws)
    assert len(result) == 2
    assert torch.equal(result.image[0], image[0])
    assert (result.image[1, 0, 1:] == 5.0).all()
    assert (result.image[1, 0, 0] == 4.0).all()  # the partner does not count there
    assert torch.equal(result.target, target[:2])
    assert result.mix is not None
    assert result.mix.share.tolist() == [1.0, 0.75]
    assert torch.equal(result.mix.target[0], target[0])
    assert (result.mix.target[1, 1:] == 3).all()
    assert not result.mix.valid[1, 0].any()
    assert result.where == PLACES[:2]


def test_without_a_partner_the_batch_is_left_as_it_is() -> None:
    batch = Batch(torch.ones(1, 1, 4, 4), torch.ones(1, 4, 4), torch.ones(1, 4, 4) > 0, None, PLACES[:1])
    assert mixed(batch, [Draw(PLACES[0], ())]) is batch
