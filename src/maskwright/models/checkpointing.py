"""Gradient checkpointing: less memory in training, for computing every stage of a network a second time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["enable_gradient_checkpointing", "forgets_inside", "stages_of"]


def enable_gradient_checkpointing(model: nn.Module) -> int:
    """From now on forget what happens inside the stages of encoder and decoder; the backward pass computes it again.

    Gradients, dropout and running means are those of the network as it was, to the last bit. Names of weights stay.
    Nothing changes outside training. Asking again changes nothing.

    Args:
        model: A network with ``encoder`` and ``decoder``.

    Returns:
        The number of stages.

    Raises:
        ModelError: If the network has no such parts.
    """
    stages = stages_of(model)
    if not stages:
        raise ModelError(f"{type(model).__name__} has no encoder and decoder whose stages could be computed again.")
    for stage in stages:
        if "forward" not in vars(stage):
            stage.forward = partial(_forgetful, stage, stage.forward)
    return len(stages)


def stages_of(model: nn.Module) -> list[nn.Module]:
    """The largest pieces of encoder and decoder that are called one after the other; none without such parts."""
    return [stage for part in ("encoder", "decoder") for stage in _stages(getattr(model, part, None))]


def forgets_inside(model: nn.Module) -> bool:
    """Whether :func:`enable_gradient_checkpointing` was asked of a network."""
    return any(getattr(vars(module).get("forward"), "func", None) is _forgetful for module in model.modules())


def _stages(part: nn.Module | None) -> list[nn.Module]:
    """The largest pieces below a part that are called one after the other."""
    if part is None:
        return []
    children = [child for child in part.children() if next(child.parameters(), None) is not None]
    if len(children) == 1 and next(children[0].children(), None) is not None:
        return _stages(children[0])
    stages: list[nn.Module] = []
    for child in children:
        is_list = isinstance(child, nn.ModuleList | nn.ModuleDict)
        stages += [each for each in child.children() if next(each.children(), None)] if is_list else []
        stages += [child] if not is_list and next(child.children(), None) is not None else []
    return stages


def _forgetful(stage: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not stage.training:
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(stage)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Batch norm must not take the same batch into its running means a second time."""
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm)]
    kept: list[tuple[float | None, Tensor | None]] = []
    for norm in norms:
        counted = norm.num_batches_tracked
        kept.append((norm.momentum, None if counted is None else counted.clone()))
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if counted is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(counted)
