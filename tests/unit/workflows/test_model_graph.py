"""A network as a graph of operations, without computing anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tensorboard")

from maskwright.workflows.model_graph import model_graph


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1)])

    def forward(self, image: Tensor, condition: Tensor | None) -> Tensor:
        features = self.first(image)
        return torch.cat((features, self.blocks[0](features).relu()), dim=1)


def test_each_operation_stands_under_its_module_and_names_what_it_reads() -> None:
    with torch.device("meta"):
        graph = model_graph(Toy(), {"image": torch.empty(1, 3, 8, 8), "condition": None})
    assert [(node.name, list(node.input)) for node in graph.node] == [
        ("image", []),
        ("Toy/first/convolution", ["image"]),
        ("Toy/blocks/0/convolution", ["Toy/first/convolution"]),
        ("Toy/relu", ["Toy/blocks/0/convolution"]),
        ("Toy/cat", ["Toy/first/convolution", "Toy/relu"]),
    ]
    (shape,) = graph.node[-1].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [1, 8, 8, 8]


def test_random_numbers_of_the_training_are_left_alone() -> None:
    before = torch.get_rng_state()
    with torch.device("meta"):
        model_graph(Toy(), {"image": torch.empty(1, 3, 8, 8), "condition": None})
    assert torch.equal(before, torch.get_rng_state())
