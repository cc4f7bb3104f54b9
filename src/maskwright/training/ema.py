"""WeightAverage: a running average of a network's weights, which validates and predicts in their place.

A hand-written loop can use it alone::

    average = WeightAverage(model, decay=0.999)
    ...
    optimizer.step()
    average.update()
    ...
    with average.applied():                       # inside, the model has the averaged weights
        scores = validate(model, ...)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.checkpoints import bare_model
from maskwright.errors import CheckpointError, ConfigError

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of all that a network predicts with. arXiv:2403.18704, section 2.

    Weights and the running statistics of norms are averaged alike, so that they fit one another; what is no floating
    point number, such as a count of batches, is taken as it is.

    Args:
        model: The network, on its device; a compiled one is looked into.
        decay: Share of the average that an update keeps, in 0..1.
        warmup_steps: In the first updates the share is no more than ``(1 + n) / (1 + n + warmup_steps)`` after ``n``
            updates, so that the first weights are soon forgotten; 0: ``decay`` at once.

    Attributes:
        updates: Updates of the weights taken in so far.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup_steps: int = 10) -> None:
        if not (math.isfinite(decay) and 0 < decay < 1):
            raise ConfigError(f"training.ema.decay is {decay!r}, but must lie between 0 and 1, for example 0.999.")
        if warmup_steps < 0:
            raise ConfigError(f"training.ema.warmup_steps is {warmup_steps!r}, but must be 0 or more.")
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.updates = 0
        entries = bare_model(model).state_dict(keep_vars=True)
        self._live = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        self._mean: dict[str, Tensor] = {}
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew with the weights as they are now."""
        self.updates = 0
        self._mean = {name: value.detach().clone() for name, value in self._live.items()}
        floats = [name for name, value in self._live.items() if value.is_floating_point()]
        self._averaged = [_own(self._mean[name]) for name in floats], [_own(self._live[name]) for name in floats]
        self._copied = [(self._mean[name], value) for name, value in self._live.items() if name not in floats]

    @property
    def share(self) -> float:
        """Share of the average that the next update keeps."""
        return min(self.decay, (1 + self.updates) / (1 + self.updates + self.warmup_steps))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an update of the optimizer."""
        torch._foreach_lerp_(*self._averaged, 1.0 - self.share)
        for mean, value in self._copied:
            mean.copy_(value)
        self.updates += 1

    def weights(self) -> dict[str, Tensor]:
        """The averages by the names of the weights; not to be written to."""
        return dict(self._mean)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged weights; afterwards its own, bit for bit, whatever happens."""
        kept = {name: value.detach().clone() for name, value in self._live.items()}
        try:
            self._write(self._mean)
            yield
        finally:
            self._write(kept)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"updates": self.updates, "weights": self.weights()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            CheckpointError: If it is the average of another network.
        """
        weights = state["weights"]
        wrong = [name for name, value in self._mean.items() if getattr(weights.get(name), "shape", None) != value.shape]
        if wrong or len(weights) != len(self._mean):
            name = wrong[0] if wrong else next(iter(set(weights) - set(self._mean)))
            raise CheckpointError(
                f"The average of the weights in the checkpoint is of another network: {name} differs."
            )
        for name, value in self._mean.items():
            value.copy_(weights[name])
        self.updates = int(state["updates"])

    @torch.no_grad()
    def _write(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in self._live.items():
            value.copy_(weights[name])


def _own(tensor: Tensor) -> Tensor:
    """What this process has of a weight; all of it unless the network is divided among processes."""
    if not hasattr(tensor, "to_local"):
        return tensor
    from maskwright.distributed.shards import own_share

    return own_share(tensor)
