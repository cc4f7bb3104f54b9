"""Learning-rate schedules, stepped once after each optimizer step. Their state is plain numbers, words and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import ConstantLR, OneCycleLR

from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["constant", "one_cycle"]


def constant(optimizer: Optimizer) -> ConstantLR:
    """The learning rate of each group, unchanged."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    max_lr: float | None = None,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> OneCycleLR:
    """Up to a peak and down again over a run. arXiv:1708.07120.

    The momentum stays as the optimizer has it: cycling it would overrule the betas that were set.

    Args:
        optimizer: Its groups are changed.
        total_steps: Optimizer steps of the whole run, 1 or more.
        max_lr: Peak of groups with the optimizer's own learning rate, in proportion that of the others; None: each
            group's own learning rate.
        pct_start: Share of the steps spent rising, in 0..1.
        div_factor: The start is the peak divided by this.
        final_div_factor: The end is the start divided by this.

    Raises:
        ConfigError: If there are no steps.
    """
    if total_steps < 1:
        raise ConfigError(
            f"optim.schedule: onecycle needs the optimizer steps of the run, 1 or more, not {total_steps}."
        )
    usual = float(optimizer.defaults["lr"])
    # Groups with a rate of their own keep their share of the usual one.
    peaks = [
        float(group["lr"]) if max_lr is None else max_lr * (float(group["lr"]) / usual)
        for group in optimizer.param_groups
    ]
    return OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=total_steps,
        pct_start=pct_start,
        cycle_momentum=False,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )
