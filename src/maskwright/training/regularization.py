"""CompositeRegularization: what keeps a network from learning its training images by heart, in one call."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from maskwright.errors import ConfigError, ModelError
from maskwright.models.droppath import set_drop_path
from maskwright.optim import decay_groups
from maskwright.pixels import IGNORE_INDEX

__all__ = ["CompositeRegularization", "SmoothedLoss"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_WITH_WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


class CompositeRegularization:
    """Dropout, dropped branches, smoothed labels, decay and spectral norm for a network, which is changed in place.

    For a loop of one's own::

        regularization = CompositeRegularization(model, dropout_rate=0.1, drop_path_rate=0.1, label_smoothing=0.05)
        optimizer = torch.optim.AdamW(regularization.parameter_groups(), lr=1e-3)
        criterion = regularization.loss(DiceLoss())

    Names of weights stay as they are, except with ``spectral_norm``, under which torch keeps a weight as
    ``parametrizations.weight.original``.

    Args:
        model: The network.
        dropout_rate: Chance of every dropout it has; one that has none gets one in front of its last layer, which drops
            whole channels. None: they stay as they are.
        weight_decay: Pull of weights towards 0, see :meth:`parameter_groups`.
        drop_path_rate: Chance of the deepest residual block to lose its branch, less for those before it; 0: they stay
            as they are.
        label_smoothing: Share of the truth that is spread over all classes, see :meth:`loss`.
        spectral_norm: Divide the weights of all layers by their largest singular value. arXiv:1802.05957.

    Attributes:
        dropouts: Dropouts that were set, or inserted.
        branches: Residual blocks that may lose their branch.

    Raises:
        ConfigError: If a number is out of range.
        ModelError: If the network has no layer, or no residual block where branches are to be dropped.
    """

    def __init__(
        self,
        model: nn.Module,
        dropout_rate: float | None = 0.1,
        weight_decay: float = 1e-4,
        drop_path_rate: float = 0.0,
        *,
        label_smoothing: float = 0.0,
        spectral_norm: bool = False,
    ) -> None:
        for name, share in (
            ("dropout_rate", dropout_rate or 0.0),
            ("drop_path_rate", drop_path_rate),
            ("label_smoothing", label_smoothing),
        ):
            if not 0 <= share < 1:
                raise ConfigError(f"{name} is {share!r}, but must lie from 0 to below 1.")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ConfigError(f"weight_decay is {weight_decay!r}, but must be 0 or more.")
        self.model = model
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.dropouts = 0 if dropout_rate is None else _set_dropout(model, dropout_rate)
        self.branches = set_drop_path(model, drop_path_rate) if drop_path_rate > 0 else 0
        if spectral_norm:
            _divide_by_spectrum(model)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups for an optimizer: weights with decay; biases and norms without.

        Raises:
            ModelError: If nothing in the network is trainable.
        """
        return decay_groups(self.model, self.weight_decay)

    def loss(self, loss: nn.Module) -> nn.Module:
        """The loss with smoothed labels; the same one where nothing is to be smoothed."""
        return SmoothedLoss(loss, self.label_smoothing) if self.label_smoothing else loss


class SmoothedLoss(nn.Module):
    """``1 - smoothing`` of a loss and ``smoothing`` of the cross entropy to a guess that finds all classes equal.

    With cross entropy that is label smoothing (arXiv:1512.00567, section 7); it works for overlap losses as well.

    Args:
        loss: From (logits, targets) to a scalar.
        smoothing: Share in 0..1.
    """

    def __init__(self, loss: nn.Module, smoothing: float) -> None:
        super().__init__()
        self.inner = loss
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, K, H, W); targets (B, H, W) or (B, K, H, W), 255 where a pixel does not count."""
        counts = target != IGNORE_INDEX
        exclusive = logits.shape[1] > 1 and target.ndim == logits.ndim - 1
        if exclusive:
            guess = -F.log_softmax(logits.float(), dim=1).mean(dim=1)
        else:
            guess = -(F.logsigmoid(logits.float()) + F.logsigmoid(-logits.float())) / 2
            counts = counts.view(counts.shape[0], -1, *counts.shape[-2:]).expand_as(guess)
        even = (guess * counts).sum() / counts.sum().clamp(min=1)
        inner: Tensor = self.inner(logits, target)
        return (1 - self.smoothing) * inner + self.smoothing * even


def _set_dropout(model: nn.Module, rate: float) -> int:
    found = [module for module in model.modules() if isinstance(module, _DROPOUTS)]
    for module in found:
        module.p = rate
    if found or rate == 0:
        return len(found)
    layers = [module for module in model.modules() if isinstance(module, _WITH_WEIGHTS)]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no layer to put a dropout in front of.")
    last = layers[-1]
    last.dropout = nn.Dropout(rate) if isinstance(last, nn.Linear) else nn.Dropout2d(rate)
    last.register_forward_pre_hook(_drop_input)
    return 1


def _drop_input(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (layer.dropout(inputs[0]), *inputs[1:])  # type: ignore[operator]


def _divide_by_spectrum(model: nn.Module) -> None:
    for module in list(model.modules()):
        if isinstance(module, _WITH_WEIGHTS) and not parametrize.is_parametrized(module, "weight"):
            parametrizations.spectral_norm(module)
