"""Together: what a run of several processes does at each step beyond what one does alone.

Each process has its share of every batch. Weights of losses are added over the processes before the forward pass,
gradients and sums after the backward pass, so an update is that of one process with all samples. What decides over the
run (to stop, to compute in smaller pieces) is agreed on once a step, at the same point in all of them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.distributed import add_up, gathered, largest, rank, share_of, world_size
from maskwright.distributed.replicas import Replicas
from maskwright.errors import ConfigError, TrainingError
from maskwright.training.averages import LossSums
from maskwright.types import Batch, LossOutput

if TYPE_CHECKING:
    from maskwright.config.training import TrainingConfig
    from maskwright.distributed.shards import Shards
    from maskwright.tasks.interface import Meter, Task
    from maskwright.training.loop import EvalBatches, TrainBatches
    from maskwright.training.state import TrainState
    from maskwright.training.updater import StepUpdater

__all__ = [
    "ShortElsewhereError",
    "Stop",
    "Together",
    "Wish",
    "divided",
    "require_a_sample_each",
    "with_sync_batch_norm",
]

_T = TypeVar("_T")
_IMAGES, _FULL = "images of all processes", "processes with images in every batch"
Stop = tuple[str, bool]
"""Why a run is to end, and whether it has reached its goal by that."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a process asks of all.

    Attributes:
        stop: To end the run.
        lr: This learning rate from here on.
        checkpoint: A checkpoint; of networks that are divided, which no process can save alone.
    """

    stop: Stop | None = None
    lr: float | None = None
    checkpoint: bool = False


class ShortElsewhereError(MemoryError):
    """Memory was short in another process.

    Attributes:
        at_once: Images that were computed there at once.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__("out of memory in another process")
        self.at_once = at_once


class Together:
    """The part of a training run that concerns the other processes.

    Args:
        replicas: The network, of which every process has a replica or a share.
        seed: Of the run; random numbers inside the network follow from it, the process and the place in the run.

    Attributes:
        images: Images of the update at hand, of all processes.
        network: What computes the pass at hand.
        shards: The network where it is divided: all processes must then compute with it at the same points.
    """

    def __init__(self, replicas: Replicas | Shards, *, seed: int) -> None:
        self.replicas = replicas
        self.shards: Shards | None = None if isinstance(replicas, Replicas) else replicas
        self.network: Callable[..., Any] = replicas.model
        self.images = 0
        self._seed = seed
        self._can_overlap = True

    def add_weights(self, weights: Mapping[str, Tensor], group: Sequence[Batch]) -> dict[str, Tensor]:
        """What the terms of an update are divided by: the weights of all processes.

        Raises:
            TrainingError: If the network is divided and a process has nothing of a batch.
        """
        some = next(iter(weights.values()))
        counts = {
            _IMAGES: some.new_tensor(sum(len(batch) for batch in group)),
            _FULL: some.new_tensor(all(map(len, group))),
        }
        total = add_up({**weights, **counts})
        self.images = int(total.pop(_IMAGES))
        self._can_overlap = int(total.pop(_FULL)) == world_size()
        if self.shards is not None and not self._can_overlap:
            raise TrainingError(
                f"A batch has fewer samples than the {world_size()} processes that divide the network, and all must "
                "have one (training.strategy: fsdp). Set data.loader.drop_last: true, or change "
                "data.loader.batch_size."
            )
        return total

    def seed_for(self, epoch: int, position: int) -> int:
        """Seed of what is random inside the network, such as dropout: another one in each process and each update."""
        words = np.random.SeedSequence([self._seed, rank(), epoch, position]).generate_state(2)
        return int(words[0]) << 31 ^ int(words[1])

    @contextlib.contextmanager
    def passing(self, *, last: bool) -> Iterator[None]:
        """Inside, ``network`` is what computes a pass; the last one of an update may exchange gradients by itself."""
        with self.replicas.passing(last=last and self._can_overlap) as self.network:
            yield

    def require_room(self) -> None:
        """Where a pass may be tried again in smaller pieces: refuse to go on if one failed elsewhere.

        Raises:
            ShortElsewhereError: If memory was short in another process, which tells so by :meth:`tell_short`.
        """
        if not self.replicas.overlap and (at_once := largest(0)):
            raise ShortElsewhereError(at_once)

    def tell_short(self, at_once: int) -> int:
        """Tell the others that memory was short with so many images at once; returns the most that any process tells.

        The others hear it from :meth:`require_room`, or when they agree on a round of the validation.
        """
        return largest(at_once)

    def with_others(self, outputs: Sequence[Tensor], parts: Sequence[Batch]) -> tuple[list[Tensor], list[Batch]]:
        """Outputs and truths of all processes, for a loss that cannot be taken apart; one's own keep their gradient."""
        self.require_room()
        bare = [replace(part, image=part.image[:, :0]) for part in parts]
        shown = [output.detach().cpu() for output in outputs], [part.to("cpu") for part in bare]
        everyone = gathered(shown)
        device = next(self.replicas.model.parameters()).device
        said: list[Tensor] = []
        truths: list[Batch] = []
        for number, (theirs, batches) in enumerate(everyone):
            own = number == rank()
            said += list(outputs) if own else [output.to(device) for output in theirs]
            truths += bare if own else [batch.to(device) for batch in batches]
        return said, truths

    def count_once(self, updater: StepUpdater, loss: LossOutput) -> LossOutput:
        """A loss that every process has computed of all images: that of process 0 counts."""
        if rank() == 0:
            return loss
        for parameter in self.replicas.others:
            parameter.grad = None
        updater.loss = torch.zeros_like(loss.total.detach())
        return LossOutput(updater.loss, {name: torch.zeros_like(value) for name, value in loss.terms.items()})

    def meet(self, updater: StepUpdater, sums: LossSums) -> None:
        """After the passes of an update: gradients, loss and sums become those of all processes.

        Raises:
            ShortElsewhereError: If memory was short in another process.
        """
        self.require_room()
        self.replicas.meet()
        own = sums.group_total()
        device = next(self.replicas.model.parameters()).device
        loss = torch.zeros((), device=device) if updater.loss is None else updater.loss
        row = {str(index): value.to(device) for index, value in enumerate([loss.double(), *own])}
        both = torch.stack(list(add_up(row).values()))
        updater.loss = both[0].to(loss.dtype)
        sums.set_group_total(both[1:])

    def rounds(self, loader: EvalBatches, state: TrainState) -> Iterator[Batch]:
        """This process's batches of a validation; between two of them all agree on whether to go on.

        Raises:
            ShortElsewhereError: If memory was short in another process.
        """
        own = share_of(len(loader))
        for batch in itertools.chain(
            _batches(loader, own), itertools.repeat(None, len(share_of(len(loader), 0)) - len(own))
        ):
            if batch is not None:
                yield batch
            elif self.shards is not None:
                self._accompany(loader, own)
            self.require_room()
            if state.must_stop():
                return

    def _accompany(self, loader: EvalBatches, own: range) -> None:
        """Compute beside the others, whose weights are here too; what comes of it counts nowhere."""
        some = range(own.stop - 1, own.stop) if own else range(1)
        batch = next(iter(_batches(loader, some))).to(next(self.replicas.model.parameters()).device)
        self.replicas.model(batch.image, batch.condition)

    def merged(self, sums: LossSums, meter: Meter, task: Task) -> tuple[LossSums, Meter]:
        """What all processes have counted, in the order of the data: the same as one process has of all of it."""
        sums.settle()
        total, whole = LossSums(task.loss_terms), task.meters()
        for rows, theirs in gathered((sums.rows or [], meter)):
            total.replay(rows)
            whole.merge(theirs)
        return total, whole

    def first(self, found: _T | None) -> _T | None:
        """What the first process that has found anything has found."""
        return next((each for each in gathered(found) if each is not None), None)

    def agreed(self, own: Wish) -> Wish:
        """What any of the processes wishes; all ask at the same point."""
        if not largest(int(own != Wish())):
            return own
        wishes = gathered(own)
        return Wish(
            next((wish.stop for wish in wishes if wish.stop is not None), None),
            next((wish.lr for wish in wishes if wish.lr is not None), None),
            any(wish.checkpoint for wish in wishes),
        )


def _batches(loader: EvalBatches, numbers: range) -> Iterator[Batch]:
    """Some batches in a row of a loader; of one that can, without reading the others."""
    some = getattr(loader, "some", None)
    return iter(some(numbers)) if some is not None else itertools.islice(iter(loader), numbers.start, numbers.stop)


class _Divided:
    """A loader that knows nothing of other processes, cut to the share of this one after loading."""

    def __init__(self, loader: TrainBatches) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._loader.batches(epoch, start):
            own = share_of(len(batch))
            yield batch.part(slice(own.start, own.stop))


def divided(loader: TrainBatches) -> TrainBatches:
    """The loader, each batch cut to this process's share where it does not do so itself."""
    return loader if world_size() == 1 or getattr(loader, "divides", False) else _Divided(loader)


def with_sync_batch_norm(
    model: nn.Module, device: torch.device, settings: TrainingConfig, loader: TrainBatches
) -> nn.Module:
    """The network with batch norms that see the images of all processes; their weights keep their names.

    Raises:
        ConfigError: If it cannot be: on the CPU, or where processes would wait for one that has no image.
    """
    where = "training.sync_batch_norm"
    if device.type != "cuda":
        raise ConfigError(
            f"{where}: PyTorch has it on GPUs only, the device is {device}. Set it to false, and use a network with "
            "group norm (model.norm: group), which does not depend on how batches are divided."
        )
    if settings.out_of_memory == "smaller":
        raise ConfigError(f"{where}: batches cannot be computed in smaller pieces. Set training.out_of_memory: advise.")
    require_a_sample_each(where, loader)
    found: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return found


def require_a_sample_each(where: str, loader: TrainBatches) -> None:
    """Refuse a last batch of an epoch that has fewer samples than there are processes.

    Raises:
        ConfigError: Beginning with ``where``, the setting that asks for it.
    """
    plan, size = getattr(loader, "plan", None), getattr(loader, "batch_size", None)
    last = 0 if plan is None or size is None or len(loader) * size <= len(plan) else len(plan) % size
    if 0 < last < world_size():
        raise ConfigError(
            f"{where}: the last batch of an epoch has {last} samples for {world_size()} processes, and all must have "
            "one. Set data.loader.drop_last: true, or change data.loader.batch_size."
        )
