"""compile_model: the model compiled in place, falling back to the plain one, with weights under their own names."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import nn

from maskwright.errors import ConfigError

__all__ = ["COMPILE_MODES", "compile_model"]

log = logging.getLogger("maskwright.training")

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def compile_model(
    model: nn.Module,
    mode: Literal["default", "reduce-overhead", "max-autotune"] = "default",
    *,
    backend: str = "inductor",
) -> nn.Module:
    """From the next call on run the model compiled; where the compiler fails, plain, with one warning.

    The model stays the object it is: names of weights, checkpoints and copies do not change, and a copy is plain.

    Args:
        model: The network, changed in place.
        mode: ``default``, ``reduce-overhead`` (small batches on a GPU) or ``max-autotune`` (compiles for long).
        backend: The compiler, as of ``torch.compile``.

    Returns:
        The same model.

    Raises:
        ConfigError: If the mode is unknown.
    """
    if mode not in COMPILE_MODES:
        raise ConfigError(f"compile mode {mode!r} is unknown. Available: {', '.join(COMPILE_MODES)}.")
    try:
        model.compile(mode=mode if backend == "inductor" else None, backend=backend)
    except RuntimeError as cause:  # torch says so where this system or Python has no compiler
        log.warning("The model is not compiled: %s", _first_lines(cause))
        return model
    model._compiled_call_impl = _Falling(model, model._compiled_call_impl)
    return model


class _Falling:
    """Calls the compiled model until the compiler fails."""

    def __init__(self, model: nn.Module, compiled: Any) -> None:
        self.model = model
        self.compiled = compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.compiled(*args, **kwargs)
        except TorchDynamoException as cause:
            log.warning("The compiler failed, and the model runs as it is: %s", _first_lines(cause))
        self.model._compiled_call_impl = None
        torch._dynamo.reset()
        return self.model(*args, **kwargs)


def _first_lines(cause: BaseException) -> str:
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return " ".join(line.strip() for line in lines[:2])
