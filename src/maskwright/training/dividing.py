"""How the network of a run comes to several processes: whole to each, or a share of it; and what a share rules out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from maskwright.checkpoints import bare_model
from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.training import TrainingConfig
from maskwright.distributed.replicas import Replicas
from maskwright.errors import ConfigError
from maskwright.models import stages_of
from maskwright.training.together import Together, require_a_sample_each

if TYPE_CHECKING:
    from maskwright.distributed.shards import Shards
    from maskwright.training.loop import TrainBatches

__all__ = ["blank_copy", "build_together", "divided_state", "filled_copy", "require_divisible"]

_WHERE = "training.strategy: fsdp"


def build_together(
    model: nn.Module, loss_module: nn.Module | None, settings: TrainingConfig, device: torch.device
) -> Together:
    """What the processes of a run do together; after it all have the same weights, or a share of them each.

    Args:
        model: The network: on the device, or on the CPU where it is to be divided.
        loss_module: The part of the loss that is trained, on the device; None if nothing of it is.
        settings: The loop.
        device: Where to compute.
    """
    others = [] if loss_module is None else list(loss_module.parameters())
    if settings.strategy == "fsdp":
        from maskwright.distributed.shards import Shards

        return Together(Shards(model, others, device, stages_of(bare_model(model))), seed=settings.seed)
    overlap = settings.out_of_memory == "advise"  # a pass that may be tried again must exchange nothing
    return Together(Replicas(model, others, overlap=overlap), seed=settings.seed)


def require_divisible(
    settings: TrainingConfig, monitoring: CallbacksConfig, optimizer: Optimizer | None, loader: TrainBatches
) -> None:
    """Refuse what cannot be done with a network of which each process holds a share.

    Raises:
        ConfigError: Naming the setting and what to set instead.
    """
    refused = {
        "training.compile": (settings.compile != "off", "it compiles whole networks. Set it to off"),
        "training.sync_batch_norm": (
            settings.sync_batch_norm,
            "set it to false and use group norm (model.norm: group)",
        ),
        "training.unfreeze.parts": (bool(settings.unfreeze.parts), "what learns is settled at the start. Leave it out"),
        "training.clip_adaptive": (
            settings.clip_adaptive is not None,
            "it needs whole units. Use training.clip_norm, which counts all shares",
        ),
        "training.precision": (settings.precision == "fp16", "fp16 needs a loss scaler. Use bf16 or fp32"),
        "training.out_of_memory": (settings.out_of_memory == "smaller", "no pass can be tried again. Set it to advise"),
        "training.on_nonfinite": (
            settings.on_nonfinite == "restore",
            "no second state is kept. Set it to stop or skip",
        ),
        "callbacks.save_predictions_every": (
            monitoring.save_predictions_every is not None,
            "one process cannot predict alone. Leave it out and use maskwright predict",
        ),
    }
    for name, (is_asked, why) in refused.items():
        if is_asked:
            raise ConfigError(f"{name}: not with {_WHERE}, which divides the network: {why}; or use strategy: ddp.")
    if optimizer is not None:
        raise ConfigError(
            f"{_WHERE}: an optimizer of your own holds the weights as they were before they were divided. Leave "
            "optimizer out and describe it in optim, or use strategy: ddp."
        )
    require_a_sample_each(_WHERE, loader)


def blank_copy(model: nn.Module) -> nn.Module:
    """A copy of the network whose weights take no memory; see :func:`filled_copy`."""
    return _copied(bare_model(model), "meta")


def filled_copy(blank: nn.Module) -> nn.Module:
    """A copy of a blank network with memory for weights on the CPU, to be loaded."""
    return _copied(blank, "cpu")


def divided_state(state: Mapping[str, Any], shards: Shards, optimizer: Optimizer) -> dict[str, Any]:
    """The state of a run, which one process may have saved whole, with this one's share of what is divided.

    Args:
        state: That of :meth:`~maskwright.training.state.TrainState.state_dict`.
        shards: The network.
        optimizer: Its optimizer.
    """
    from maskwright.distributed.shards import is_divided

    trained = {name for name, _ in bare_model(shards.model).named_parameters()}

    def of_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: shards.divide(value) if name in trained else value for name, value in weights.items()}

    saved = state["optimizer"]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    remembered = dict(saved["state"])
    for number, weight in zip(numbers, weights, strict=False):  # another number is refused by the optimizer
        if number in remembered and is_divided(weight):
            remembered[number] = {
                name: shards.divide(value) if getattr(value, "shape", None) == weight.shape else value
                for name, value in remembered[number].items()
            }
    own = {**state, "model": of_weights(state["model"]), "optimizer": {**saved, "state": remembered}}
    if "ema" in state:
        own["ema"] = {**state["ema"], "weights": of_weights(state["ema"]["weights"])}
    return own


def _copied(model: nn.Module, device: str) -> nn.Module:
    weights: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, weights)
