"""Parts of a network that begin to learn one after another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from maskwright.training.callbacks.thawing import Thawing


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)


def learning(net: Net, thawing: Thawing, epoch: int) -> set[str]:
    state: Any = SimpleNamespace(model=net, epoch=epoch)
    thawing.on_epoch_begin(state)
    return {name for name, part in net.named_children() if all(p.requires_grad for p in part.parameters())}


def test_each_part_begins_at_its_epoch() -> None:
    net, thawing = Net(), Thawing(["head", "decoder", "encoder"], start_epoch=2, every=3)
    assert [sorted(learning(net, thawing, epoch)) for epoch in (0, 1, 2, 4, 5)] == [
        *([["head"]] * 2),
        *([["decoder", "head"]] * 2),
        ["decoder", "encoder", "head"],
    ]


def test_a_resumed_run_stands_where_the_number_of_its_epoch_says() -> None:
    assert learning(Net(), Thawing(["head", "encoder"], start_epoch=2), 7) == {"decoder", "encoder", "head"}
    assert learning(Net(), Thawing(["head", "encoder"], start_epoch=2), 1) == {"decoder", "head"}
