"""Optimizers with parameter groups: parts with rates of their own, and no decay of biases and norms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from maskwright.errors import ConfigError, ModelError

__all__ = ["REST", "Groups", "adam", "adamw", "decay_groups", "named_groups", "rmsprop", "sgd"]

Groups = Mapping[str, Mapping[str, float]]
"""Parts of a network by path, with an ``lr`` or ``weight_decay`` of their own."""

REST = "rest"  # the group of what no option names
_OPTIONS = ("lr", "weight_decay")


def adamw(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    groups: Groups | None = None,
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
        amsgrad: Divide by the largest running mean so far. arXiv:1904.09237.
        groups: Parts of the network with an ``lr`` or ``weight_decay`` of their own, see :func:`named_groups`.

    Raises:
        ModelError: If nothing in the model is trainable, or it has no such part.
        ConfigError: If an option of a part makes no sense.
    """
    return torch.optim.AdamW(_grouped(model, weight_decay, groups), lr=lr, betas=betas, eps=eps, amsgrad=amsgrad)


def adam(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    groups: Groups | None = None,
) -> torch.optim.Adam:
    """Adam, whose weight decay is part of the gradient. arXiv:1412.6980; arguments and errors as of :func:`adamw`."""
    return torch.optim.Adam(_grouped(model, weight_decay, groups), lr=lr, betas=betas, eps=eps, amsgrad=amsgrad)


def sgd(
    model: nn.Module,
    *,
    lr: float = 0.01,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    groups: Groups | None = None,
) -> torch.optim.SGD:
    """Descent along the gradient with momentum.

    Args:
        model: The network.
        lr: Learning rate, larger than 0.
        weight_decay: Pull towards 0, 0 or more.
        momentum: Share of the former update that is kept, 0 or more, below 1.
        dampening: Share of the gradient left out of the momentum, in 0..1.
        nesterov: Look ahead along the momentum; needs momentum and no dampening.
        groups: As of :func:`adamw`, like the errors.
    """
    return torch.optim.SGD(
        _grouped(model, weight_decay, groups), lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov
    )


def rmsprop(
    model: nn.Module,
    *,
    lr: float = 0.01,
    weight_decay: float = 0.0,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    groups: Groups | None = None,
) -> torch.optim.RMSprop:
    """Gradient divided by a running mean of its size.

    Args:
        model: The network.
        lr: Learning rate, larger than 0.
        weight_decay: Pull towards 0, 0 or more.
        alpha: Memory of the running mean, in 0..1.
        eps: Added to the denominator.
        momentum: Share of the former update that is kept, 0 or more, below 1.
        centered: Divide by the spread of the gradient instead of its size.
        groups: As of :func:`adamw`, like the errors.
    """
    return torch.optim.RMSprop(
        _grouped(model, weight_decay, groups), lr=lr, alpha=alpha, eps=eps, momentum=momentum, centered=centered
    )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Every trainable parameter in exactly one of two groups: with decay, and without.

    Without decay are biases and all that has one dimension or none, such as the weights of norms.

    Returns:
        Groups as torch optimizers take them, the one with decay first; a group without parameters is left out.

    Raises:
        ModelError: If nothing in the model is trainable.
    """
    return _split(_trainable(model), weight_decay)


def named_groups(model: nn.Module, options: Groups, weight_decay: float) -> list[dict[str, object]]:
    """Every trainable parameter in exactly one group: by the part it belongs to, each with decay and without.

    Args:
        model: The network; it may also be a ``ModuleList`` whose first module is the network, beside parts of the loss
            that are trained: paths are those inside the network.
        options: For each part by its path an ``lr``, a ``weight_decay`` or both, for example
            ``{"encoder": {"lr": 1e-4}}``. A parameter belongs to the longest path that it lies under; what lies under
            none comes last, as ``rest``. Biases and norms are never decayed.
        weight_decay: Pull towards 0 of parts that do not say their own.

    Returns:
        Groups as torch optimizers take them, each with the ``name`` of its part; without parameters they are left out.
        Where a part says no ``lr``, neither does its group: it then is the optimizer's.

    Raises:
        ModelError: If nothing in the model is trainable, or it has no such part.
        ConfigError: If an option is unknown or out of range.
    """
    network, prefix = (model[0], "0.") if isinstance(model, nn.ModuleList) and len(model) else (model, "")
    _check_options(network, options)
    parts: dict[str, dict[str, nn.Parameter]] = {name: {} for name in (*options, REST)}
    for path, parameter in _trainable(model).items():
        inside = path.removeprefix(prefix) if path.startswith(prefix) else ""
        owners = [name for name in options if inside == name or inside.startswith(f"{name}.")]
        parts[max(owners, key=len, default=REST)][path] = parameter
    groups: list[dict[str, object]] = []
    for name, parameters in parts.items():
        own = options.get(name, {})
        rate = {"lr": float(own["lr"])} if "lr" in own else {}
        groups += [
            {"name": name, **group, **rate} for group in _split(parameters, own.get("weight_decay", weight_decay))
        ]
    return groups


def _grouped(model: nn.Module, weight_decay: float, groups: Groups | None) -> list[dict[str, object]]:
    return named_groups(model, groups, weight_decay) if groups else decay_groups(model, weight_decay)


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ModelError("The model has no trainable parameters. Unfreeze a part of it before building an optimizer.")
    return found


def _split(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Parameters by name, as a group with decay and one without; a group without parameters is left out."""
    decayed = {name for name, parameter in parameters.items() if parameter.ndim > 1 and not name.endswith("bias")}
    groups: list[dict[str, object]] = [
        {"params": [each for name, each in parameters.items() if name in decayed], "weight_decay": weight_decay},
        {"params": [each for name, each in parameters.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_options(network: nn.Module, options: Groups) -> None:
    parts = dict(network.named_modules()) | dict(network.named_parameters())
    for name, special in options.items():
        if not name or name not in parts:
            largest = ", ".join(part for part, _ in network.named_children())
            raise ModelError(f"optim.groups: the network has no part {name!r}. Its largest parts: {largest}.")
        unknown = sorted(set(special) - set(_OPTIONS))
        if unknown or not special:
            what = f"unknown option {unknown[0]!r}" if unknown else "nothing is said"
            raise ConfigError(f"optim.groups.{name}: {what}. Available: {', '.join(_OPTIONS)}.")
        for option, value in special.items():
            if not math.isfinite(value) or value < 0 or (option == "lr" and value == 0):
                least = "above 0; to keep a part as it is, freeze it" if option == "lr" else "0 or more"
                raise ConfigError(f"optim.groups.{name}.{option}: {value:g} must be {least}.")
