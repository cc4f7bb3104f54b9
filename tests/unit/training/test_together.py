"""What a run of several processes does at each step, as far as one process can tell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from maskwright.config.training import TrainingConfig
from maskwright.distributed.replicas import Replicas
from maskwright.errors import ConfigError, TrainingError
from maskwright.training import together as module
from maskwright.training.averages import LossSums
from maskwright.training.together import ShortElsewhereError, Together, Wish, divided, with_sync_batch_norm
from maskwright.types import LossOutput


@pytest.fixture
def together(toy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Together]:
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Together(Replicas(toy.net(), overlap=False), seed=7)
    dist.destroy_process_group()


class Store:
    """A loader that knows of other processes."""

    divides = True


@pytest.fixture
def as_the_second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "share_of", lambda count: range((count + 1) // 2, count))


def test_batches_are_cut_to_the_share_of_each_process(toy: Any, as_the_second_of_two: None) -> None:
    loader = toy.loader(4, samples=3)
    own = divided(loader)
    assert len(own) == 4
    for whole, part in zip(loader.batches(1, 2), own.batches(1, 2), strict=True):
        assert torch.equal(part.image, whole.image[2:])
        assert part.where == whole.where[2:]


def test_a_loader_that_divides_is_left_alone_and_so_is_that_of_one_process(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader: Any = toy.loader(1)
    assert divided(loader) is loader
    monkeypatch.setattr(module, "world_size", lambda: 2)
    store: Any = Store()
    assert divided(store) is store


def test_random_numbers_differ_between_processes_epochs_and_positions_and_repeat(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    for number in (0, 1):
        monkeypatch.setattr(module, "rank", lambda number=number: number)
        seeds += [together.seed_for(epoch, position) for epoch in (0, 1) for position in (0, 2)]
    assert len(set(seeds)) == 8
    assert together.seed_for(1, 2) == seeds[-1]


def test_images_are_counted_over_a_group_and_empty_shares_forbid_to_exchange_while_computing(
    toy: Any, together: Together
) -> None:
    group = [toy.batch(0, samples=2), toy.batch(1, samples=3)]
    weights = {"pixels": torch.tensor(4.0)}
    assert together.add_weights(weights, group) == {"pixels": torch.tensor(4.0)}
    assert together.images == 5
    assert together._can_overlap
    together.add_weights(weights, [group[0], group[1].part(slice(0, 0))])
    assert together.images == 2
    assert not together._can_overlap


def test_memory_that_is_short_elsewhere_is_an_error_here_where_passes_may_be_tried_again(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    together.require_room()  # nobody complains
    monkeypatch.setattr(module, "largest", lambda own: max(own, 6))
    with pytest.raises(ShortElsewhereError, match="out of memory in another process") as error:
        together.require_room()
    assert error.value.at_once == 6
    assert together.tell_short(8) == 8
    together.replicas.overlap = True
    together.require_room()  # nobody listens: gradients are exchanged in the middle of the pass


def test_a_loss_that_all_compute_of_all_images_counts_in_the_first_process_alone(
    toy: Any, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = LossOutput(torch.tensor(3.0), {"bce": torch.tensor(2.0), "dice": torch.tensor(1.0)})
    updater = toy.state().updater
    assert together.count_once(updater, loss) is loss
    factor = nn.Parameter(torch.ones(1))
    factor.grad = torch.ones(1)
    together.replicas.others = [factor]
    monkeypatch.setattr(module, "rank", lambda: 1)
    left = together.count_once(updater, loss)
    assert (float(left.total), [float(each) for each in left.terms.values()]) == (0.0, [0.0, 0.0])
    assert float(updater.loss) == 0.0
    assert factor.grad is None


def test_an_empty_share_is_refused_where_the_network_is_divided(toy: Any, together: Together) -> None:
    together.shards = together.replicas  # type: ignore[assignment]
    group = [toy.batch(0), toy.batch(1).part(slice(0, 0))]
    with pytest.raises(TrainingError, match=r"fewer samples than the 1 processes .* Set data\.loader\.drop_last: true"):
        together.add_weights({"pixels": torch.tensor(4.0)}, group)


def test_what_the_first_process_wishes_is_done_by_all(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    assert together.agreed(Wish()) == Wish()
    monkeypatch.setattr(module, "largest", lambda own: 1)
    others = [Wish(), Wish(("enough", True), checkpoint=True), Wish(("too late", False), lr=0.5)]
    monkeypatch.setattr(module, "gathered", lambda own: [*others, own])
    assert together.agreed(Wish(lr=0.1)) == Wish(("enough", True), 0.5, checkpoint=True)


def test_what_was_counted_elsewhere_is_added_in_the_order_of_the_processes(
    toy: Any, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [0.1, 0.2, 0.3, 0.4, 1e9]  # their sum depends on the order
    parts = [LossSums(toy.task.loss_terms, keep_rows=True) for _ in range(2)]
    alone = LossSums(toy.task.loss_terms)
    for number, value in enumerate(values):
        terms = {name: torch.tensor(value, dtype=torch.float64) for name in toy.task.loss_terms}
        for sums in (parts[number // 3], alone):
            sums.begin_group(dict.fromkeys(sums.weights, torch.tensor(1.0)))
            sums.add(LossOutput(torch.tensor(value), terms), dict.fromkeys(sums.weights, torch.tensor(1.0)))
            sums.end_group()
    parts[1].settle()
    second = parts[1].rows, toy.task.meters()
    monkeypatch.setattr(module, "gathered", lambda own: [own, second])
    total, _ = together.merged(parts[0], toy.task.meters(), toy.task)
    assert total.averages("val") == alone.averages("val")


# --- batch norm over all processes ------------------------------------------------------------------------------------


def loader_of(samples: int, batch: int) -> Any:
    class Loader:
        plan, batch_size = range(samples), batch

        def __len__(self) -> int:
            return -(-samples // batch)

    return Loader()


@pytest.mark.parametrize(
    ("device", "settings", "loader", "told"),
    [
        ("cpu", {}, (8, 4), r"PyTorch has it on GPUs only, the device is cpu\. .* group norm \(model\.norm: group\)"),
        ("cuda", {"out_of_memory": "smaller"}, (8, 4), r"smaller pieces\. Set training\.out_of_memory: advise\."),
        ("cuda", {}, (9, 4), r"the last batch of an epoch has 1 samples for 2 processes.*drop_last: true"),
    ],
)
def test_batch_norm_over_all_processes_is_refused_where_it_cannot_be(
    toy: Any, as_the_second_of_two: None, device: str, settings: dict[str, Any], loader: tuple[int, int], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        with_sync_batch_norm(toy.net(norm=True), torch.device(device), TrainingConfig(**settings), loader_of(*loader))


def test_elsewhere_the_weights_keep_their_names(toy: Any, as_the_second_of_two: None) -> None:
    model = toy.net(norm=True)
    names = list(model.state_dict())
    for loader in (loader_of(8, 4), SimpleNamespace()):
        found = with_sync_batch_norm(model, torch.device("cuda"), TrainingConfig(), loader)  # type: ignore[arg-type]
        assert isinstance(found.norm, nn.SyncBatchNorm)
        assert list(found.state_dict()) == names
