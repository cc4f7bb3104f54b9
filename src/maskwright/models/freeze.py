"""Parts of a network that do not learn, or not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["freeze", "freeze_encoder", "learning_parts", "parts_of", "thaw", "unfreeze", "unfreeze_encoder"]


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


def freeze_encoder(model: nn.Module) -> int:
    """Stop the encoder from learning, as :func:`freeze` does; the number of weights that no longer learn."""
    return freeze(model, "encoder")


def unfreeze_encoder(model: nn.Module) -> int:
    """Let the encoder learn again, as :func:`unfreeze` does; the number of weights that learn again."""
    return unfreeze(model, "encoder")


def learning_parts(
    parts: Sequence[str], epoch: int, *, start_epoch: int = 1, every: int = 1, fall: float = 0.5
) -> dict[str, float]:
    """Which parts of a pretrained network learn in an epoch, and how fast: it thaws from its head to its first layers.

    Args:
        parts: Paths in the order in which they begin to learn, for example ``("head", "decoder", "encoder")``. The
            first learns from the beginning.
        epoch: From 0.
        start_epoch: The epoch in which the second part begins, 1 or more.
        every: Epochs from one part to the next, 1 or more.
        fall: Rate of a part in shares of that of the part before, above 0, at most 1.

    Returns:
        Part to factor of the learning rate: 1 for the first, ``fall`` for the second, and so on; parts that do not
        learn yet are left out. A part's factor is the same in all epochs.

    Raises:
        ModelError: If there are no parts, one comes twice, or a number is out of range.

    Source: arXiv:1801.06146 (gradual unfreezing, smaller rates for earlier layers).
    """
    if not parts or len(set(parts)) != len(parts):
        raise ModelError(f"parts: {list(parts)} must be different parts of the network, at least one.")
    if epoch < 0 or start_epoch < 1 or every < 1 or not 0 < fall <= 1:
        raise ModelError(
            f"epoch {epoch}, start_epoch {start_epoch}, every {every}, fall {fall:g}: the first must be 0 or more, the "
            "next two 1 or more, the last above 0 and at most 1."
        )
    thawed = 1 if epoch < start_epoch else 2 + (epoch - start_epoch) // every
    return {part: fall**place for place, part in enumerate(parts[:thawed])}


def thaw(model: nn.Module, parts: Sequence[str], learning: Iterable[str]) -> None:
    """Freeze those of the parts that do not learn and unfreeze those that do; whatever lies in no part stays.

    A weight that lies in several parts goes with the innermost, as in groups of an optimizer by name.

    A function of its arguments alone: a resumed training calls it with the epoch at hand and goes on as before.

    Args:
        model: The network.
        parts: All parts that thaw one after another.
        learning: Those that learn now, for example the keys of :func:`learning_parts`.

    Raises:
        ModelError: If there is no such part, or one that learns is not among ``parts``.
    """
    now = set(learning)
    if not now <= set(parts):
        raise ModelError(f"{sorted(now - set(parts))[0]!r} shall learn, but is none of the parts {', '.join(parts)}.")
    for part in sorted(parts, key=lambda path: path.count(".")):  # of nested parts the inner one has the last word
        if part in now:
            unfreeze(model, part)
        else:
            freeze(model, part)


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
