"""What processes tell each other: sums, decisions, objects. A process that is alone hears itself."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from maskwright.distributed.ranks import is_main, rank, world_size
from maskwright.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_up", "at_main", "from_main", "gathered", "largest", "require_alike", "scattered"]

_T = TypeVar("_T")
_NAMED = 5


def add_up(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by name, each summed over the processes, in one exchange and in double precision.

    Args:
        values: The same names in the same order in every process, all on one device.
    """
    if world_size() == 1:
        return dict(values)
    import torch
    import torch.distributed as dist

    row = torch.stack([value.detach().double() for value in values.values()])
    dist.all_reduce(row)
    return dict(zip(values, row.unbind(), strict=True))


def largest(value: int) -> int:
    """The largest of the numbers that the processes give; all of them must ask at the same point."""
    if world_size() == 1:
        return value
    import torch
    import torch.distributed as dist

    number = torch.tensor([value], dtype=torch.int64)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return int(number)


def gathered(value: _T) -> list[_T]:
    """What every process gives, in the order of their numbers; sent from process to process, never written."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, _packed(value))
    return [pickle.loads(each) for each in found]  # from a process of this run, never from a file


def from_main(make: Callable[[], _T]) -> _T:
    """What process 0 makes, in every process."""
    if world_size() == 1:
        return make()
    import torch.distributed as dist

    box: list[Any] = [_packed(make()) if is_main() else None]
    dist.broadcast_object_list(box, src=0)
    made: _T = pickle.loads(box[0])  # from process 0 of this run, never from a file
    return made


def scattered(parts: Sequence[_T] | None) -> _T:
    """The part for this process of what process 0 gives, one for each; the others give None."""
    if world_size() == 1:
        assert parts is not None
        return parts[0]
    import torch.distributed as dist

    box: list[Any] = [None]
    dist.scatter_object_list(box, None if parts is None else [_packed(part) for part in parts], src=0)
    part: _T = pickle.loads(box[0])  # from process 0 of this run, never from a file
    return part


def at_main(value: _T) -> list[_T]:
    """As :func:`gathered` in process 0; nothing in the others."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(_packed(value), found, dst=0)
    return [pickle.loads(each) for each in found or ()]  # from a process of this run, never from a file


def require_alike(facts: Mapping[str, Any], what: str) -> None:
    """Refuse processes that are not about the same work.

    Args:
        facts: Plain values by name that must be the same in all of them.
        what: What they belong to, for the message: ``the experiment``.

    Raises:
        TrainingError: In every process; names the first that differs from number 0, and in what.
    """
    own = {name: str(value) for name, value in facts.items()}
    everyone = gathered(own)
    for number, other in enumerate(everyone):
        names = sorted(name for name in everyone[0].keys() | other.keys() if everyone[0].get(name) != other.get(name))
        if names:
            told = [f"{name} is {everyone[0].get(name)} in process 0 and {other.get(name)} there" for name in names]
            more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise TrainingError(
                f"Process {number} of {world_size()} does not agree on {what} with process 0: "
                f"{'; '.join(told[:_NAMED])}{more}. Start all of them with the same command, files and data"
                + (f" (this is process {rank()})." if rank() else ".")
            )


def _packed(value: object) -> bytes:
    """As bytes for another process, tensors on the CPU: the other one may not have the device."""
    import torch

    class Packer(pickle.Pickler):
        def reducer_override(self, each: Any) -> Any:
            if isinstance(each, torch.Tensor) and each.device.type != "cpu":
                reduced: Callable[[int], Any] = each.detach().cpu().__reduce_ex__
                return reduced(pickle.HIGHEST_PROTOCOL)
            return NotImplemented

    packed = io.BytesIO()
    Packer(packed, pickle.HIGHEST_PROTOCOL).dump(value)
    return packed.getvalue()
