from __future__ import annotations

from dataclasses import fields

import pytest

from maskwright.config.data_parts import LoaderConfig
from maskwright.config.image_augment import AUGMENT_PRESETS, ImageAugmentConfig
from maskwright.data.sampling import ImageAugment
from maskwright.errors import ConfigError


@pytest.mark.parametrize("preset", sorted(AUGMENT_PRESETS))
def test_a_preset_fills_in_what_is_left_unsaid_and_is_saved_in_numbers(preset: str) -> None:
    config = ImageAugmentConfig(preset=preset, noise_p=0.9)
    saved = config.to_dict()
    assert saved["noise_p"] == 0.9
    for name, value in AUGMENT_PRESETS[preset].items():
        assert name == "noise_p" or getattr(config, name) == value
    assert ImageAugmentConfig(**saved) == config


def test_settings_are_those_of_the_augmentation() -> None:
    names = {field.name for field in fields(ImageAugment)}
    assert set(ImageAugmentConfig.model_fields) - {"enabled", "preset"} == names
    ImageAugment(**ImageAugmentConfig(preset="aerial_heavy").model_dump(exclude={"enabled", "preset"}))


def test_half_the_samples_lie_around_a_class_unless_a_document_or_none_is_followed() -> None:
    assert ImageAugmentConfig().centre_p == 0.5
    for preset in AUGMENT_PRESETS:
        plain = preset == "none" or preset.startswith("document")
        assert ImageAugmentConfig(preset=preset).centre_p == (0.0 if plain else 0.5)


def test_without_a_preset_nothing_is_changed() -> None:
    config = ImageAugmentConfig(preset="none")
    assert all(getattr(config, name) == 0 for name in ImageAugmentConfig.model_fields if name.endswith("_p"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": (0.0, 1.0)}, r"gamma: \[0\.0, 1\.0\] must be two numbers above 0, the smaller first"),
        ({"noise": (0.2, 0.1)}, r"noise: \[0\.2, 0\.1\] must be two numbers of at least 0"),
        ({"fog": (0.2, 1.5)}, r"fog: \[0\.2, 1\.5\] reaches above 1"),
        ({"preset": "hefty"}, "preset"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageAugmentConfig(**values)


def test_workers_are_a_number_or_chosen() -> None:
    assert LoaderConfig().workers == "auto"
    assert LoaderConfig(workers=4).workers == 4
    with pytest.raises(ConfigError):
        LoaderConfig(workers=-1)
    with pytest.raises(ConfigError):
        LoaderConfig(workers="many")
