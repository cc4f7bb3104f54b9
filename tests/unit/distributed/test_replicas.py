"""Gradients of a network that several processes hold; in a group of one, where their sum is that of one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskwright.distributed import replicas as module
from maskwright.distributed.replicas import Replicas


@pytest.fixture(autouse=True)
def _group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Halves(nn.Module):
    """Two layers, of which one may be left out, and a count of the passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 1), nn.Linear(3, 1)
        self.passes: Tensor
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, values: Tensor, both: bool = True) -> Tensor:
        self.passes += 1
        return self.first(values) + (self.second(values) if both else 0.0)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if each.grad is None else each.grad.clone() for name, each in model.named_parameters()}


def learn(replicas: Replicas, values: list[Tensor], both: bool = True) -> dict[str, Tensor | None]:
    for number, each in enumerate(values, 1):
        with replicas.passing(last=number == len(values)) as network:
            network(each, both).sum().backward()
    replicas.meet()
    return gradients(replicas.model)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_the_gradient_of_a_group_of_batches_is_their_sum_and_an_unused_weight_has_none(
    overlap: bool, both: bool
) -> None:
    values = [torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 0.0, -1.0], [0.0, 0.0, 5.0]])]
    found = learn(Replicas(Halves(), overlap=overlap), values, both)
    assert torch.equal(found["first.weight"], torch.tensor([[11.0, 2.0, 7.0]]))  # the sum of the rows
    assert torch.equal(found["first.bias"], torch.tensor([3.0]))
    if both:
        assert torch.equal(found["second.weight"], torch.tensor([[11.0, 2.0, 7.0]]))
    else:
        assert found["second.weight"] is None


def test_weights_beside_the_network_meet_too() -> None:
    factor = nn.Parameter(torch.ones(2))
    factor.grad = torch.tensor([1.0, -1.0])
    replicas = Replicas(Halves(), [factor])
    learn(replicas, [torch.ones(1, 3)])
    assert torch.equal(factor.grad, torch.tensor([1.0, -1.0]))


def test_a_part_that_begins_to_learn_later_is_exchanged_from_then_on() -> None:
    model = Halves()
    model.second.requires_grad_(False)
    replicas = Replicas(model)
    assert learn(replicas, [torch.ones(1, 3)])["second.weight"] is None
    model.zero_grad()
    model.second.requires_grad_(True)
    assert torch.equal(learn(replicas, [torch.ones(1, 3)])["second.weight"], torch.ones(1, 3))
    assert int(model.passes) == 2


def test_what_is_sent_at_once_is_of_one_type_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE_BYTES", 12)
    given = [torch.zeros(2), torch.zeros(2), torch.zeros(1), torch.zeros(1, dtype=torch.float64), torch.zeros(1)]
    parts = list(module._parts(given))
    assert [[each.dtype for each in part] for part in parts] == [
        [torch.float32, torch.float32],
        [torch.float32],
        [torch.float64],
        [torch.float32],
    ]
    assert [each for part in parts for each in part] == given
