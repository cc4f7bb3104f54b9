"""What a pass moves beside gradients, taken and put back: random generators, statistics of norms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Statistics", "random_state", "set_random_state"]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of torch's random generators that training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """The inverse of :func:`random_state`; a state without GPU leaves the GPU's generator alone."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


class Statistics:
    """All buffers of a network, such as the statistics of norms, and their copies; looked up once, copied together."""

    def __init__(self, model: nn.Module) -> None:
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer.detach())
        self._pairs = [(live, [buffer.clone() for buffer in live]) for live in by_type.values()]

    def keep(self) -> None:
        """Copy them as they are now, as the constructor does."""
        for live, kept in self._pairs:
            torch._foreach_copy_(kept, live)

    def restore(self) -> None:
        """Make them what they were when they were copied."""
        for live, kept in self._pairs:
            torch._foreach_copy_(live, kept)
