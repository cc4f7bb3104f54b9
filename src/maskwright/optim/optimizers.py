"""Optimizers with parameter groups: weight decay pulls on weights, not on biases and norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["adamw", "decay_groups"]


def adamw(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay over the trainable parameters of a model. arXiv:1711.05101.

    Not the fused kind on the CPU: it gains less than a percent of a step, and silently mixes up weights whose gradient
    or restored state lies in another memory layout.

    Args:
        model: The network.
        lr: Learning rate, larger than 0.
        weight_decay: Pull towards 0, 0 or more.
        betas: Memory of the running means, each in 0..1.
        eps: Added to the denominator.

    Raises:
        ModelError: If nothing in the model is trainable.
    """
    return torch.optim.AdamW(decay_groups(model, weight_decay), lr=lr, betas=betas, eps=eps)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Every trainable parameter in exactly one of two groups: with decay, and without.

    Without decay are biases and all that has one dimension or none, such as the weights of norms.

    Returns:
        Groups as torch optimizers take them, the one with decay first; a group without parameters is left out.

    Raises:
        ModelError: If nothing in the model is trainable.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            has_decay = parameter.ndim > 1 and not name.endswith("bias")
            (decayed if has_decay else free).append(parameter)
    if not decayed and not free:
        raise ModelError("The model has no trainable parameters. Unfreeze a part of it before building an optimizer.")
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
