"""Parts of a network that do not learn, and parameters by the part they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REST", "freeze", "parameter_groups", "parts_of", "unfreeze"]

REST = "rest"  # the group of what no option names


def freeze(model: nn.Module, *names: str) -> int:
    """Stop parts of a network from learning; their norms keep the statistics they have, and nothing in them drops out.

    Args:
        model: The network.
        names: Parts by their path, for example ``"encoder"`` or ``"encoder.levels.0"``; none for the whole network.

    Returns:
        Number of weights that no longer learn.

    Raises:
        ModelError: If there is no such part.
    """
    count = 0
    for part in _parts(model, names):
        for parameter in part.parameters():
            count += parameter.numel() if parameter.requires_grad else 0
            parameter.requires_grad_(False)
        for module in part.modules():
            if not _is_still(module):
                module.register_forward_pre_hook(_stay_in_evaluation)
    return count


def unfreeze(model: nn.Module, *names: str) -> int:
    """Let parts of a network learn again; arguments and errors as of :func:`freeze`.

    Called with one part after another, the last first, it thaws a network in stages.

    Returns:
        Number of weights that learn again.
    """
    count = 0
    for part in _parts(model, names):
        for parameter in part.parameters():
            count += 0 if parameter.requires_grad else parameter.numel()
            parameter.requires_grad_(True)
        for module in part.modules():
            for key, hook in list(module._forward_pre_hooks.items()):
                if hook is _stay_in_evaluation:
                    del module._forward_pre_hooks[key]
            module.train(model.training)
    return count


def parameter_groups(model: nn.Module, options: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups for an optimizer, each trainable parameter in exactly one.

    Args:
        model: The network.
        options: For each part by its path what is special about it, for example ``{"encoder": {"lr": 1e-4}}``. A
            parameter belongs to the longest path that it lies under; those under none come last, as ``rest``.

    Returns:
        Dictionaries with ``name``, ``params`` and the options; groups without trainable parameters are left out.

    Raises:
        ModelError: If there is no such part.
    """
    for name in options:
        _parts(model, (name,))
    groups: dict[str, dict[str, Any]] = {
        name: {"name": name, "params": [], **special} for name, special in options.items()
    }
    groups[REST] = {"name": REST, "params": []}
    for path, parameter in model.named_parameters():  # a shared parameter comes once
        if parameter.requires_grad:
            owners = [name for name in options if path == name or path.startswith(f"{name}.")]
            groups[max(owners, key=len, default=REST)]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def parts_of(model: nn.Module) -> tuple[str, ...]:
    """The largest parts of a network that hold weights, such as ``encoder``, ``decoder`` and ``head``."""
    return tuple(name for name, part in model.named_children() if any(True for _ in part.parameters()))


def _stay_in_evaluation(module: nn.Module, inputs: Any) -> None:
    """Before every pass of a frozen module: ``model.train()`` may have reached it."""
    module.training = False


def _is_still(module: nn.Module) -> bool:
    return _stay_in_evaluation in module._forward_pre_hooks.values()


def _parts(model: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    modules = dict(model.named_modules())
    unknown = [name for name in names if name not in modules or not name]
    if unknown:
        raise ModelError(
            f"The network has no part {', '.join(map(repr, unknown))}. Its largest parts: {', '.join(parts_of(model))}."
        )
    return [modules[name] for name in names] if names else [model]
