"""Mask R-CNN: losses for any number of objects, and what it finds drawn into the maps that are grouped."""

from __future__ import annotations

import pytest
import torch

from maskwright.config import MaskRcnnConfig
from maskwright.models import build_model
from maskwright.models.grouping import GroupSettings, group
from maskwright.models.heads import split_heads
from maskwright.models.mask_rcnn import MaskRcnn, ProposalOutputs

HEADS = {"semantic": 3, "centre": 2, "offset": 2, "diameter": 1}
SIZE = 64


@pytest.fixture
def network() -> MaskRcnn:
    torch.manual_seed(0)
    config = MaskRcnnConfig(base_channels=4, depth=3, head_channels=4, norm="group")
    built = build_model(config, in_channels=3, num_classes=8, heads=HEADS)
    assert isinstance(built, MaskRcnn)
    return built


def square(row: int, col: int, side: int) -> tuple[list[float], torch.Tensor]:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    mask[row : row + side, col : col + side] = 1
    return [float(edge) for edge in (col, row, col + side, row + side)], mask


def test_in_training_it_gives_what_losses_are_taken_of(network: MaskRcnn) -> None:
    outputs = network(torch.randn(2, 3, SIZE, SIZE))
    assert isinstance(outputs, ProposalOutputs)
    assert outputs.dense.shape == (2, 8, SIZE, SIZE)
    parts = split_heads(outputs.dense, HEADS)
    assert not parts["centre"].any()
    assert not parts["offset"].any()
    box, mask = square(10, 20, 16)
    some = {"boxes": torch.tensor([box]), "labels": torch.tensor([2]), "masks": mask[None]}
    none = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, SIZE, SIZE, dtype=torch.uint8),
    }
    loss = outputs.losses([0, 1], [some, none])
    (loss + outputs.dense.square().mean()).backward()
    assert torch.isfinite(loss)
    assert loss > 0
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert without == []
    alone = network(torch.randn(1, 3, SIZE, SIZE)).losses([0], [none])
    assert torch.isfinite(alone)


def test_what_is_found_is_drawn_so_that_grouping_finds_it_again(network: MaskRcnn) -> None:
    whole = torch.ones(1, 28, 28)
    found = {
        "boxes": torch.tensor([[10.0, 12.0, 26.0, 30.0], [40.0, 40.0, 60.0, 58.0]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.6]),
        "masks": torch.stack([whole, whole]),
    }
    network.offset_unit_px = 4.0
    drawn = network._drawn(torch.zeros(1, 8, SIZE, SIZE), [found])
    parts = split_heads(drawn, HEADS)
    maps = {
        "semantic": torch.softmax(parts["semantic"], 1)[0].numpy(),
        "centre": torch.sigmoid(parts["centre"])[0].numpy(),
        "offset": parts["offset"][0].numpy() * 4.0,
    }
    objects = group(maps, GroupSettings(object_ids=(1, 2), min_score=0.3))
    assert objects.labels.tolist() == [1, 2]
    assert objects.boxes.tolist() == found["boxes"].tolist()
    assert objects.areas().tolist() == [16 * 18, 20 * 18]
    assert objects.scores.tolist() == pytest.approx([0.9, 0.6], abs=1e-3)


def test_in_evaluation_it_answers_with_all_heads(network: MaskRcnn) -> None:
    with torch.no_grad():
        outputs = network.eval()(torch.randn(1, 3, 50, 41))
    assert outputs.shape == (1, 8, 50, 41)
    assert torch.isfinite(outputs).all()
