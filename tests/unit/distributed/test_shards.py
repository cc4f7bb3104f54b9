"""A network that is divided, in a group of one, which has all shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from maskwright.distributed.shards import (
    Shards,
    is_divided,
    norm_of_all,
    own_part,
    own_share,
    read_tensors,
    whole,
    write_tensors,
)


@pytest.fixture(autouse=True)
def _group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def shards() -> Shards:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1, bias=False))
    return Shards(model, [], torch.device("cpu"), [model[0]])


def test_weights_are_divided_and_keep_names_and_values_and_statistics_stay_whole(shards: Shards) -> None:
    torch.manual_seed(0)
    same = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1, bias=False)).state_dict()
    found = shards.model.state_dict()
    assert list(found) == list(same)
    assert {name for name, value in found.items() if not is_divided(value)} == {
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    for name, value in whole(found).items():
        assert torch.equal(value, same[name])


def test_gradients_of_several_passes_are_added_not_averaged(shards: Shards) -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]])
    shards.model.eval()
    for number in range(2):
        with shards.passing(last=number == 1) as network:
            network(values).sum().backward()
    shards.meet()
    gradient = shards.model[2].weight.grad
    assert isinstance(gradient, DTensor)
    first = whole(shards.model[0].state_dict())
    hidden = (values @ first["weight"].T + first["bias"]) / (1 + 1e-5) ** 0.5  # of untrained statistics
    torch.testing.assert_close(gradient.full_tensor(), 2 * hidden.sum(dim=0, keepdim=True))


def test_a_share_lies_in_the_memory_of_the_weight(shards: Shards) -> None:
    weight = shards.model[0].weight
    weight.grad = torch.ones_like(weight)
    part = own_part(weight)
    assert part.grad is not None
    with torch.no_grad():
        part.fill_(7.0)
        part.grad.mul_(3.0)
    assert torch.equal(own_share(weight), torch.full((4, 3), 7.0))
    assert torch.equal(own_share(weight.grad), torch.full((4, 3), 3.0))
    plain = nn.Parameter(torch.zeros(2))
    assert own_part(plain) is plain


def test_the_norm_counts_what_is_divided_and_what_is_not(shards: Shards) -> None:
    divided = shards.divide(torch.tensor([[3.0], [4.0]]))
    assert float(norm_of_all([divided])) == 5.0
    assert float(norm_of_all([divided, torch.tensor([12.0])])) == 13.0


def test_a_number_stays_whole(shards: Shards) -> None:
    number = torch.tensor(3.0)
    assert shards.divide(number) is number
    rows = shards.divide(torch.arange(6.0).view(3, 2))
    assert is_divided(rows)
    assert shards.divide(rows) is rows


def test_files_hold_safetensors_that_any_process_can_read(shards: Shards, tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {
        "rows": shards.divide(torch.arange(6.0).view(3, 2)),
        "number": torch.tensor(3, dtype=torch.int64),
        "nothing": torch.zeros(0),
    }
    write_tensors(tmp_path / "a", tensors)
    (file,) = (tmp_path / "a").iterdir()
    with safe_open(file, framework="pt") as opened:
        assert torch.equal(opened.get_tensor("rows"), torch.arange(6.0).view(3, 2))
    alone = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in tensors.items()}
    read_tensors(tmp_path / "a", alone, alone=True)
    assert torch.equal(alone["rows"], torch.arange(6.0).view(3, 2))
    assert int(alone["number"]) == 3
    shared = {"rows": shards.room_for([3, 2], torch.float32)}
    read_tensors(tmp_path / "a", shared, alone=False)
    assert torch.equal(whole(shared)["rows"], alone["rows"])


def test_a_disk_that_refuses_is_an_error_of_the_system(shards: Shards, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(OSError, match="a"):
        write_tensors(tmp_path / "a", {"number": torch.tensor(3)})
    with pytest.raises(OSError, match="missing"):
        read_tensors(tmp_path, {"missing": torch.zeros(2)}, alone=True)
