"""Shards: a network of which every process holds a share, for one whose training does not fit one device.

Weights, gradients, averages and what the optimizer remembers are divided along the first dimension (FSDP2). A stage of
the network is put together in all processes when it is computed, and forgotten behind it. Gradients are ADDED over the
processes, as by :class:`~maskwright.distributed.replicas.Replicas`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, zeros
from torch.nn.utils import get_total_norm

from maskwright.distributed.replicas import add_gradients

__all__ = ["Shards", "is_divided", "norm_of_all", "own_part", "own_share", "read_tensors", "whole", "write_tensors"]

_BY_ROWS = (Shard(0),)


class Shards:
    """The share of this process in a network; the network itself is changed, its weights keep their names.

    Args:
        model: The network, whole and on the CPU; afterwards its share is on the device, with the weights of process 0.
        others: Parameters trained beside those of the network, such as factors of a loss; every process has them all.
        device: Where to compute.
        stages: Pieces of the network that are put together one after the other; each must be called as a whole.
    """

    overlap = True
    """A pass that failed cannot be tried again: it has exchanged gradients already."""

    def __init__(
        self, model: nn.Module, others: Iterable[nn.Parameter], device: torch.device, stages: Iterable[nn.Module] = ()
    ) -> None:
        self.model = model
        self.others = list(others)
        for tensor in (*model.parameters(), *model.buffers(), *self.others):
            dist.broadcast(tensor.detach(), src=0)
        model.register_forward_hook(lambda *passed: _standing_alone(passed[-1]))
        self._mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for part in (*stages, model):
            fully_shard(part, mesh=self._mesh, reshard_after_forward=True)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    @contextlib.contextmanager
    def passing(self, *, last: bool) -> Iterator[Callable[..., Any]]:
        """The network for a forward and a backward pass inside; every pass leaves the summed gradient of a share."""
        yield self.model

    def meet(self) -> None:
        """After the passes of an update: what is not divided becomes that of all, buffers those of process 0."""
        add_gradients(self.others)
        for buffer in self.model.buffers():
            dist.broadcast(buffer.detach(), src=0)

    def divide(self, tensor: Tensor) -> Tensor:
        """This process's share of a whole tensor that all have; what has no rows stays whole."""
        if is_divided(tensor) or tensor.ndim == 0:
            return tensor
        return distribute_tensor(tensor.to(self._mesh.device_type), self._mesh, _BY_ROWS, src_data_rank=None)

    def room_for(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory for this process's share of a tensor."""
        return zeros(*shape, dtype=dtype, device_mesh=self._mesh, placements=_BY_ROWS)


def _standing_alone(output: Any) -> Any:
    """What a network gives, in memory of its own: a view changed in place would lose the hook of the weights."""
    if isinstance(output, Tensor):
        return output.clone() if output._is_view() else output
    return {name: _standing_alone(each) for name, each in output.items()} if isinstance(output, dict) else output


# --- tensors of which this process has a share ------------------------------------------------------------------------


def is_divided(tensor: Tensor) -> bool:
    """Whether this process has a share of the tensor only."""
    return isinstance(tensor, DTensor)


def own_share(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory; of one that is not divided all of it."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():  # else it would be a step of a graph
        return tensor.to_local()


def own_part(parameter: nn.Parameter) -> nn.Parameter:
    """This process's share of a parameter and of its gradient, in the same memory; of one not divided the same one."""
    if not isinstance(parameter, DTensor):
        return parameter
    part = nn.Parameter(own_share(parameter), requires_grad=parameter.requires_grad)
    part.grad = None if parameter.grad is None else own_share(parameter.grad)
    return part


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors put together on the CPU, one after the other; all processes must ask for the same."""
    with torch.no_grad():
        return {
            name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()).cpu()
            for name, tensor in tensors.items()
        }


def norm_of_all(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all entries of all tensors, those of the other processes included; a scalar."""
    shares = [own_share(tensor) for tensor in tensors if is_divided(tensor)]
    rest = [tensor for tensor in tensors if not is_divided(tensor)]
    square = get_total_norm(shares).square()
    dist.all_reduce(square)
    return (square + get_total_norm(rest).square()).sqrt() if rest else square.sqrt()


# --- files ------------------------------------------------------------------------------------------------------------


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of each process to a folder, in the form of safetensors; all must call it at the same point.

    Args:
        folder: The same for all, on a disk they share.
        tensors: By name: divided, or whole and the same in all, which then lie in one of the files.

    Raises:
        OSError: In every process if one of them could not write.
    """
    try:
        with _quietly():
            save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise OSError(_reason(error)) from error


def read_tensors(folder: Path, into: Mapping[str, Tensor], *, alone: bool) -> None:
    """Read the files that :func:`write_tensors` wrote, by whatever number of processes.

    Args:
        folder: Where they lie.
        into: Memory by name; a divided tensor receives its share.
        alone: True: this process reads for itself; else all must call it at the same point.

    Raises:
        OSError: If something is missing or damaged.
    """
    try:
        with _quietly():
            load(dict(into), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)
    except CheckpointException as error:
        raise OSError(_reason(error)) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """That a process works alone is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def _reason(error: CheckpointException) -> str:
    failures = [failure[0] for failure in error.failures.values()]
    return "; ".join(dict.fromkeys(str(failure).partition("\n")[0] for failure in failures))
