from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import dump_experiment, load_experiment, presets
from maskwright.errors import ConfigError


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_complete_once_the_data_is_named(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(f"preset:{name}", [f"data.folder={tmp_path}"])
    assert experiment.name == name
    (tmp_path / "config.yaml").write_text(dump_experiment(experiment), "utf-8")
    assert load_experiment(tmp_path / "config.yaml") == experiment


@pytest.mark.parametrize("name", presets())
def test_every_preset_leaves_the_place_of_the_data_open(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data: no data is named \(preset:{name}, line \d+\)\."):
        load_experiment(f"preset:{name}")


def test_the_tiers_and_recipes_are_there_and_described() -> None:
    known = presets()
    assert list(known) == [
        "cabruca",
        "cabruca_light",
        "coronary_document",
        "defects",
        "defects_document",
        "forestgaps_default",
        "forestgaps_method",
        "light",
        "minimal",
        "naip_points",
        "neon_boxes",
        "production",
        "quick",
        "vessels_cracks",
    ]
    assert all(text.endswith(".") and len(text) > 20 for text in known.values())


def test_the_tiers_have_the_documented_lengths(tmp_path: Path) -> None:
    lengths = {
        name: load_experiment(f"preset:{name}", [f"data.folder={tmp_path}"]).training.epochs for name in presets()
    }
    assert lengths == {
        "minimal": 2,
        "quick": 5,
        "production": 50,
        "forestgaps_default": 50,
        "forestgaps_method": 30,
        "light": 50,
        "coronary_document": 50,
        "defects": 60,
        "defects_document": 50,
        "vessels_cracks": 60,
        "cabruca": 100,
        "cabruca_light": 50,
        "naip_points": 120,
        "neon_boxes": 150,
    }


def test_the_recipes_of_the_cabruca_document_are_said(tmp_path: Path) -> None:
    standard, light = (
        load_experiment(f"preset:{name}", [f"data.folder={tmp_path}"]) for name in ("cabruca", "cabruca_light")
    )
    for experiment, size_px, batch_size, weights in ((standard, 512, 4, 0.5), (light, 256, 2, 0.3)):
        assert (experiment.task.kind, experiment.data.tiles.size_px) == ("agroforestry", size_px)
        assert experiment.data.loader.batch_size == batch_size
        assert experiment.loss.terms == {"instance": 1, "semantic": 1, "crown": weights, "density": weights}
    assert (standard.optim.schedule.eta_min, light.optim.schedule.patience) == (1e-7, 5)
    assert (standard.training.accumulate, light.training.accumulate) == (2, 4)


def test_the_default_recipe_of_the_forest_document_is_said(tmp_path: Path) -> None:
    experiment = load_experiment("preset:forestgaps_default", [f"data.folder={tmp_path}"])
    assert experiment.task.heights_m == (2.0, 5.0, 10.0)
    assert (experiment.model.kind, experiment.model.base_channels) == ("film_unet", 64)
    assert (experiment.loss.bce, experiment.loss.dice, experiment.loss.focal) == (0.5, 0.3, 0.2)
    schedule = experiment.optim.schedule
    assert schedule.kind == "onecycle"
    assert schedule.max_lr == 0.01
    assert (experiment.data.loader.batch_size, experiment.data.tiles.size_px) == (16, 256)
    assert experiment.training.clip_norm == 1.0


def test_the_method_is_said_as_far_as_settings_can(tmp_path: Path) -> None:
    experiment = load_experiment("preset:forestgaps_method", [f"data.folder={tmp_path}"])
    assert experiment.task.heights_m == (10.0, 15.0, 20.0, 25.0, 30.0)
    assert (experiment.loss.bce, experiment.loss.dice, experiment.loss.focal) == (1.0, 0.0, 0.0)
    assert experiment.optim.optimizer.lr == 1e-3
    assert experiment.data.loader.batch_size == 16
    assert experiment.callbacks.early_stopping.patience == 10


def test_the_defaults_of_the_documents_on_photographs_are_said(tmp_path: Path) -> None:
    defects = load_experiment("preset:defects_document", [f"data.folder={tmp_path}"])
    assert (defects.model.kind, defects.model.decoder, defects.model.encoder) == ("smp", "unet", "resnet34")
    assert (defects.loss.dice, defects.loss.bce, defects.loss.focal) == (0.5, 0.3, 0.2)
    assert (defects.data.resize_px, defects.data.loader.batch_size) == ((512, 512), 8)
    assert (defects.optim.optimizer.lr, defects.optim.optimizer.weight_decay) == (1e-4, 1e-5)
    coronary = load_experiment("preset:coronary_document", [f"data.folder={tmp_path}"])
    assert (coronary.loss.dice, coronary.loss.bce, coronary.loss.focal) == (0.7, 0.3, 0.0)
    assert (coronary.model.base_channels, coronary.data.tiles.size_px) == (64, 128)
    assert coronary.callbacks.monitor == "val/dice"


def test_thin_things_are_kept_connected_and_rare_ones_are_shown(tmp_path: Path) -> None:
    thin = load_experiment("preset:vessels_cracks", [f"data.folder={tmp_path}"])
    assert min(thin.loss.cldice, thin.loss.dice, thin.loss.bce) > 0
    rare = load_experiment("preset:defects", [f"data.folder={tmp_path}"])
    for experiment in (thin, rare):
        assert experiment.data.balance.by == "foreground"
        assert experiment.data.augment.centre_p == 0.5
    assert rare.loss.tversky_beta > rare.loss.tversky_alpha


def test_the_light_preset_makes_updates_of_eight_images_from_two_at_a_time(tmp_path: Path) -> None:
    experiment = load_experiment("preset:light", [f"data.folder={tmp_path}"])
    assert (experiment.data.loader.batch_size, experiment.training.accumulate) == (2, 4)
    assert experiment.data.tiles.size_px == 256
    assert experiment.training.out_of_memory == "smaller"
    assert experiment.training.gradient_checkpointing
