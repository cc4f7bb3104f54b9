"""Replicas: a network that every process holds whole, and how the gradients of all come together.

Gradients are ADDED over the processes, not averaged: each process divides its losses by the weight of the whole update,
so that the sum is the gradient of one process with all samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket

__all__ = ["Replicas", "add_gradients"]

_AT_ONCE_BYTES = 64 * 2**20


class Replicas:
    """The network of this process beside its replicas in the others.

    Where it can, a gradient is exchanged by DistributedDataParallel while the rest is still computed; else after all
    passes of the update, which leaves time to agree on what is done with one that failed.

    Args:
        model: The network on its device; afterwards all have the weights of process 0.
        others: Parameters trained beside those of the network, such as factors of a loss.
        overlap: False: never exchange while computing.
    """

    def __init__(self, model: nn.Module, others: Iterable[nn.Parameter] = (), *, overlap: bool = True) -> None:
        self.model = model
        self.others = list(others)
        self.overlap = overlap
        self._wrapped: DistributedDataParallel | None = None
        self._wrapped_for: tuple[bool, ...] = ()
        self._is_exchanged = False
        for tensor in (*model.parameters(), *model.buffers(), *self.others):
            dist.broadcast(tensor.detach(), src=0)

    @contextlib.contextmanager
    def passing(self, *, last: bool) -> Iterator[Callable[..., Any]]:
        """The network for a forward and a backward pass inside.

        Args:
            last: Whether it is the last pass of the update, in every process.
        """
        if not self.overlap:
            yield self.model
            return
        wrapped = self._wrap()
        with contextlib.nullcontext() if last else wrapped.no_sync():
            yield wrapped
        self._is_exchanged = last

    def meet(self) -> None:
        """After the passes of an update: gradients become those of all processes, buffers those of process 0."""
        add_gradients(self.others if self._is_exchanged else [*self.model.parameters(), *self.others])
        self._is_exchanged = False
        for buffer in self.model.buffers():
            dist.broadcast(buffer.detach(), src=0)

    def _wrap(self) -> DistributedDataParallel:
        """The wrapper, made anew when other parameters are trained than before."""
        trained = tuple(parameter.requires_grad for parameter in self.model.parameters())
        if self._wrapped is None or trained != self._wrapped_for:
            self._wrapped = None  # its hooks go with it
            self._wrapped_for = trained
            self._wrapped = DistributedDataParallel(
                _Spare(self.model),
                forward_sync_buffers=False,
                gradient_as_bucket_view=True,
                # Also keeps the order in which gradients are summed the same from the first update on, so that a
                # resumed run sums like one that ran through.
                find_unused_parameters=True,
            )
            self._wrapped.register_comm_hook(None, lambda _, bucket: _sum(bucket))
        return self._wrapped


class _Spare(nn.Module):
    """The network, and one number that is never used: DistributedDataParallel warns of a search that finds none."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.spare = nn.Parameter(next(model.parameters()).new_zeros(1))

    def forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)


def _sum(bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Add over the processes; the usual hook averages."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


@torch.no_grad()
def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over the processes; a parameter that none of them used keeps having none."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    used = torch.tensor([int(parameter.grad is not None) for parameter in trained], device=trained[0].device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, is_used in zip(trained, used.tolist(), strict=True):
        if is_used and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for part in _parts(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in part])
        dist.all_reduce(flat)
        for gradient, values in zip(part, torch.split(flat, [each.numel() for each in part]), strict=True):
            gradient.copy_(values.view(gradient.shape))


def _parts(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one type and device in portions that are sent at once."""
    part: list[Tensor] = []
    size = 0
    for gradient in gradients:
        kind = gradient.dtype, gradient.device
        if part and (size >= _AT_ONCE_BYTES or kind != (part[0].dtype, part[0].device)):
            yield part
            part, size = [], 0
        part.append(gradient)
        size += gradient.numel() * gradient.itemsize
    if part:
        yield part
