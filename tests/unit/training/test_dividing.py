"""What a network that is divided among processes rules out, and copies of it without weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.training import TrainingConfig, UnfreezeConfig
from maskwright.errors import ConfigError
from maskwright.training import together as module
from maskwright.training.dividing import blank_copy, filled_copy, require_divisible


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"compile": "default"},
            r"^training\.compile: not with training\.strategy: fsdp.* Set it to off; or use strat",
        ),
        ({"sync_batch_norm": True}, r"^training\.sync_batch_norm: .* group norm"),
        ({"unfreeze": UnfreezeConfig(parts=("head",))}, r"^training\.unfreeze\.parts: .* Leave it out"),
        ({"clip_adaptive": 0.1}, r"^training\.clip_adaptive: .* Use training\.clip_norm"),
        ({"precision": "fp16"}, r"^training\.precision: .* Use bf16 or fp32"),
        ({"out_of_memory": "smaller"}, r"^training\.out_of_memory: .* Set it to advise"),
        ({"on_nonfinite": "restore"}, r"^training\.on_nonfinite: .* Set it to stop or skip"),
    ],
)
def test_settings_that_need_the_whole_network_are_refused(toy: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require_divisible(TrainingConfig(strategy="fsdp", **settings), CallbacksConfig(), None, toy.loader(1))


def test_so_are_predictions_inside_a_run_an_own_optimizer_and_a_last_batch_that_is_too_small(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, loader = TrainingConfig(strategy="fsdp"), toy.loader(2)
    require_divisible(settings, CallbacksConfig(), None, loader)
    with pytest.raises(ConfigError, match=r"^callbacks\.save_predictions_every: .* use maskwright predict"):
        require_divisible(settings, CallbacksConfig(save_predictions_every=1), None, loader)
    with pytest.raises(ConfigError, match=r"Leave optimizer out and describe it in optim"):
        require_divisible(settings, CallbacksConfig(), torch.optim.SGD(toy.net().parameters(), lr=0.1), loader)
    monkeypatch.setattr(module, "world_size", lambda: 2)
    loader.plan, loader.batch_size = range(5), 4
    with pytest.raises(ConfigError, match=r"fsdp: the last batch of an epoch has 1 samples for 2 processes"):
        require_divisible(settings, CallbacksConfig(), None, loader)


def test_a_blank_copy_takes_no_memory_and_can_be_filled(toy: Any) -> None:
    model = toy.net(norm=True)
    model.norm.weight.requires_grad_(False)
    blank = blank_copy(model)
    assert {parameter.device.type for parameter in blank.parameters()} == {"meta"}
    assert model.scale.weight.device.type == "cpu"
    filled = filled_copy(blank)
    filled.load_state_dict(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(filled.state_dict()[name], value)
    assert not filled.norm.weight.requires_grad
    assert filled.scale.weight.requires_grad
