"""When memory is short: what that looks like, what would need less, and batches in pieces that add up to the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from maskwright.types import Batch

__all__ = ["clear_cache", "is_out_of_memory", "out_of_memory_advice", "pieces"]

_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "cannot allocate memory",
)
_TILE_STEP_PX = 32
_GB = 2**30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of the GPU or of the machine, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def out_of_memory_advice(
    images: Tensor,
    *,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    accumulate: int = 1,
    automatic: bool = False,
    checkpointing: bool = False,
    doing: str = "training",
) -> str:
    """What happened and which settings would need less, with numbers, a few sentences.

    Args:
        images: (B, C, H, W), the batch that was too large.
        device: Where they were computed; None: where they are.
        at_once: Images of it that were computed together; None: all.
        accumulate: Batches of an update.
        automatic: Whether smaller pieces are tried by themselves already.
        checkpointing: Whether gradients are computed again instead of kept already.
        doing: ``training`` or ``validation``.
    """
    count, height, width = int(images.shape[0]), int(images.shape[-2]), int(images.shape[-1])
    now = count if at_once is None else min(at_once, count)
    what = f"{now} image{'s' if now > 1 else ''} of {height} x {width} px at once"
    ways = []
    if now > 1 and not automatic:
        half = count // 2
        ways.append(
            f"data.loader.batch_size: {half} with training.accumulate: {2 * accumulate} (the same images in an update)"
        )
    if not checkpointing and doing == "training":
        ways.append("training.gradient_checkpointing: true")
    smaller = max(max(height, width) // 2 // _TILE_STEP_PX * _TILE_STEP_PX, _TILE_STEP_PX)
    if smaller < max(height, width):
        ways.append(f"data.tiles.size_px: {smaller}")
    ways.append("a smaller model (model.base_channels)")
    if not automatic:
        ways.append("training.out_of_memory: smaller, which makes the pieces smaller by itself")
    place = torch.device(images.device if device is None else device)
    return f"Out of memory on {place}{_used(place)} in {doing} with {what}. Needs less: {'; '.join(ways)}."


def _used(device: torch.device) -> str:
    """How full the memory is, for the devices that tell."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
    elif device.type == "cpu":
        import psutil

        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    else:
        return ""
    return f" ({(total - free) / _GB:.1f} of {total / _GB:.1f} GB in use)"


def clear_cache(device: torch.device) -> None:
    """Give back what torch keeps for later; does nothing where it keeps nothing."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def pieces(batch: Batch, most: int | None) -> Iterator[Batch]:
    """The batch in pieces of ``most`` images, the last with what is left; None: as a whole."""
    count = len(batch)
    if most is None or most >= count:
        yield batch
        return
    for start in range(0, count, most):
        yield batch.part(slice(start, min(start + most, count)))
