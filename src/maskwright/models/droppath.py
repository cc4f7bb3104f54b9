"""Stochastic depth: whole branches of residual blocks left out in training. arXiv:1603.09382."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskwright.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RISES", "DropPath", "DropPathScheduler", "rising_rates", "set_drop_path"]

_STAIRS = 4
_STEEPNESS = 5.0

RISES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: done,
    "cosine": lambda done: (1 - math.cos(math.pi * done)) / 2,
    "exponential": lambda done: math.expm1(_STEEPNESS * done) / math.expm1(_STEEPNESS),
    "step": lambda done: math.floor(_STAIRS * done) / _STAIRS,
}
"""From the share of the rise that is done, 0..1, to the share of the full rates, 0..1."""


class DropPath(nn.Module):
    """In training each sample loses its branch with a chance of ``rate``; the branches that stay make up for it.

    Args:
        rate: Chance in 0..1, below 1.
    """

    chance: Tensor | None

    def __init__(self, rate: float) -> None:
        super().__init__()
        _require_rate(rate)
        self.rate = float(rate)
        self.register_buffer("chance", None, persistent=False)

    def scale(self, share: float, device: torch.device | str = "cpu") -> None:
        """From now on the chance is ``rate`` times ``share``, in 0..1.

        It then lies in a tensor, on ``device``, so that a compiled network is not compiled anew whenever it moves.
        """
        if self.chance is None:
            self.chance = torch.zeros((), device=device)
        self.chance.fill_(self.rate * share)

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) to the same shape; zero for the samples that lost it."""
        if not self.training or self.rate == 0:
            return branch
        keeps = branch.new_empty((branch.shape[0],) + (1,) * (branch.ndim - 1))
        if self.chance is None:
            return branch * (keeps.bernoulli_(1 - self.rate) / (1 - self.rate))
        stay = (1 - self.chance).to(branch)
        return branch * (torch.bernoulli(stay.expand(keeps.shape)) / stay)


class DropPathScheduler:
    """Raises the rates of a network's :class:`DropPath` modules from epoch to epoch, up to their full ones.

    Args:
        model: The network.
        epochs: Epochs of the run, 1 or more.
        final: Rate of the last block, see :func:`set_drop_path`; None: the rates are those the network has.
        start: Share of the full rates in the first epoch, 0..1.
        strategy: How they rise: a key of ``RISES``.
        until: Share of the epochs after which they are full, above 0, at most 1.

    Raises:
        ConfigError: If a number is out of range, or the strategy is unknown.
        ModelError: If the network has nothing to drop.
    """

    def __init__(
        self,
        model: nn.Module,
        epochs: int,
        final: float | None = None,
        *,
        start: float = 0.0,
        strategy: str = "linear",
        until: float = 0.8,
    ) -> None:
        if strategy not in RISES:
            raise ConfigError(f"training.drop_path.schedule: {strategy!r} is unknown. Available: {', '.join(RISES)}.")
        if not (0 <= start <= 1 and 0 < until <= 1 and epochs >= 1):
            raise ConfigError(
                f"training.drop_path: start {start:g} must lie in 0..1, until {until:g} above 0 and at most 1, and "
                f"epochs {epochs} must be 1 or more."
            )
        if final is not None:
            set_drop_path(model, final)
        self.modules = [each for each in model.modules() if isinstance(each, DropPath) and each.rate > 0]
        if not self.modules:
            raise ModelError(
                "training.drop_path: the network drops no branches, so there is nothing to raise. Set model.drop_path "
                "above 0, for a network with residual blocks."
            )
        self.device = next((each.device for each in model.parameters()), torch.device("cpu"))
        self.epochs = epochs
        self.start = start
        self.strategy = strategy
        self.until = until
        self.step(0)

    def step(self, epoch: int) -> float:
        """Set the rates for an epoch, from 0, and return their share of the full ones; the epoch alone decides."""
        done = min(epoch / (self.until * self.epochs), 1.0)
        share = self.start + (1 - self.start) * RISES[self.strategy](done)
        for module in self.modules:
            module.scale(share, self.device)
        return share


def rising_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block, from the first to the last, which has ``rate`` itself; deeper ones go more often."""
    return [rate * (block + 1) / blocks for block in range(blocks)]


def set_drop_path(model: nn.Module, rate: float) -> int:
    """Let the residual blocks of a network, ours or of timm and torchvision, lose their branches; names stay.

    Args:
        model: The network, changed in place.
        rate: Chance of the last block, 0..1, below 1; the others rise to it, see :func:`rising_rates`.

    Returns:
        The number of blocks.

    Raises:
        ModelError: If the rate is out of range, or no residual block is known.
    """
    _require_rate(rate)
    slots = [slot for module in list(model.modules()) if (slot := _slot(module)) is not None]
    if not slots:
        raise ModelError(f"{type(model).__name__} has no residual block whose branch could be left out.")
    for slot, each in zip(slots, rising_rates(rate, len(slots)), strict=True):
        slot(each)
    return len(slots)


def _slot(module: nn.Module) -> Callable[[float], None] | None:
    """What sets the rate of a block; None for a module that is none."""
    if isinstance(module, DropPath):
        return partial(_set_rate, module)
    name = type(module).__name__
    if name == "StochasticDepth":  # torchvision
        return partial(setattr, module, "p")
    if name == "DropPath":  # timm
        return partial(setattr, module, "drop_prob")
    if hasattr(module, "drop_path"):  # a block of ours or of timm; where it is on, it is a module of its own
        return partial(_insert, module) if isinstance(module.drop_path, nn.Identity | None) else None
    norm = getattr(module, "bn3", getattr(module, "bn2", None))
    if (
        hasattr(module, "downsample") and hasattr(module, "conv1") and isinstance(norm, nn.Module)
    ):  # torchvision's ResNet
        return partial(_insert_behind, module, norm)
    return None


def _set_rate(module: DropPath, rate: float) -> None:
    module.rate = rate


def _insert(block: nn.Module, rate: float) -> None:
    block.drop_path = DropPath(rate)


def _insert_behind(block: nn.Module, norm: nn.Module, rate: float) -> None:
    """The branch of the block ends with ``norm``, whose output is then dropped; no name of a weight changes."""
    drop = DropPath(rate)
    block.drop_path = drop
    norm.register_forward_hook(_Through(drop))


class _Through:
    """A hook that sends what a module gives through another; copied together with them."""

    def __init__(self, then: nn.Module) -> None:
        self.then = then

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return self.then(output)


def _require_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ModelError(f"model.drop_path: {rate:g} must lie from 0 to below 1.")
