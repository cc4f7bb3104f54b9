"""Ready-made checkpoint settings of a loop of one's own."""

from __future__ import annotations

import pytest

from maskwright.errors import ConfigError
from maskwright.training.manager_presets import CHECKPOINT_PRESETS, checkpoint_settings, get_preset_checkpoint_config


def test_a_preset_is_a_copy_of_ones_own() -> None:
    mine = get_preset_checkpoint_config("standard")
    mine["max_checkpoints"] = 99
    assert CHECKPOINT_PRESETS["standard"]["max_checkpoints"] == 5
    assert get_preset_checkpoint_config("standard")["max_checkpoints"] == 5


def test_what_is_not_said_is_filled_in() -> None:
    assert checkpoint_settings("frequent") == {
        **{"save_strategy": "epoch", "max_checkpoints": 10, "monitor_metric": "val_dice", "mode": "max"},
        **{"save_interval": 5, "save_optimizer": True, "save_scheduler": True},
    }


def test_an_automatic_manager_takes_its_strategy() -> None:
    assert checkpoint_settings({"manager_type": "auto"})["save_strategy"] == "adaptive"
    assert checkpoint_settings({"auto_strategy": "time_based"})["save_strategy"] == "time_based"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("standart", "checkpoint preset 'standart' is unknown. Available: standard"),
        ({"save_stratgy": "best"}, "unknown setting 'save_stratgy'. Did you mean save_strategy?"),
        ({"manager_type": "clever"}, "manager_type 'clever' is unknown. Available: standard, auto"),
        ({"auto_strategy": "adaptive", "save_strategy": "best"}, "say the same thing; give one of them"),
        ({"manager_type": "auto", "auto_strategy": "best"}, "auto_strategy 'best' is unknown"),
        ({"manager_type": "standard", "auto_strategy": "adaptive"}, "auto_strategy needs manager_type auto"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checkpoint_settings(config)  # type: ignore[arg-type]
    assert text in str(caught.value)
