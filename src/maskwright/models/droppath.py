"""Stochastic depth: whole branches of residual blocks left out in training. arXiv:1603.09382."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DropPath", "rising_rates"]


class DropPath(nn.Module):
    """In training each sample loses its branch with a chance of ``rate``; the branches that stay make up for it.

    Args:
        rate: Chance in 0..1, below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ModelError(f"model.drop_path: {rate:g} must lie from 0 to below 1.")
        self.rate = float(rate)

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) to the same shape; zero for the samples that lost it."""
        if not self.training or self.rate == 0:
            return branch
        keeps = branch.new_empty((branch.shape[0],) + (1,) * (branch.ndim - 1)).bernoulli_(1 - self.rate)
        return branch * (keeps / (1 - self.rate))


def rising_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block, from the first to the last, which has ``rate`` itself; deeper ones go more often."""
    return [rate * (block + 1) / blocks for block in range(blocks)]
