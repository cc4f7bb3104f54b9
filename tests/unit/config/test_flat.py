from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.config import (
    AdamConfig,
    CombinedLossConfig,
    Experiment,
    HeightRastersData,
    ImagesData,
    PlateauSchedule,
    StepSchedule,
    explain,
)
from maskwright.config.flat import FLAT_NAMES, flat_settings, from_flat
from maskwright.errors import ConfigError


def convert(**flat: Any) -> Experiment:
    return from_flat(flat, data="rasters")


def faults(**flat: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        convert(**flat)
    return str(caught.value).splitlines()


def test_the_attribute_config_of_the_forest_document_converts() -> None:
    class Config:
        """As printed in the document, with what this version can say."""

    config = Config()
    config.epochs = 100  # type: ignore[attr-defined]
    config.learning_rate = 1e-3  # type: ignore[attr-defined]
    config.optimizer = "adamw"  # type: ignore[attr-defined]
    config.scheduler_type = "onecycle"  # type: ignore[attr-defined]
    config.warmup_epochs = 5  # type: ignore[attr-defined]
    config.use_gradient_clipping = True  # type: ignore[attr-defined]
    config.clip_value = 1.0  # type: ignore[attr-defined]
    config.use_threshold_weights = False  # type: ignore[attr-defined]
    config.use_droppath = False  # type: ignore[attr-defined]
    config.droppath_final_prob = 0.2  # type: ignore[attr-defined]
    config.monitor_metric = "val_iou"  # type: ignore[attr-defined]
    config.thresholds = [20, 5, 10, 15]  # type: ignore[attr-defined]
    experiment = from_flat(config, data="rasters", name="old")
    assert experiment.name == "old"
    assert experiment.training.epochs == 100
    assert experiment.optim.optimizer.lr == 1e-3
    assert experiment.optim.schedule.kind == "onecycle"
    assert (experiment.training.clip_norm, experiment.training.clip_value) == (None, 1.0)
    assert experiment.callbacks.monitor == "val/iou"
    assert experiment.task.heights_m == (5.0, 10.0, 15.0, 20.0)


def test_attributes_of_a_class_count_and_its_methods_do_not() -> None:
    class Config:
        epochs = 7
        _private = 3

        def validate(self) -> None: ...

    assert from_flat(Config, data="rasters").training.epochs == 7
    assert from_flat(Config(), data="rasters").training.epochs == 7


def test_the_dictionary_of_the_training_thread_converts_where_it_can() -> None:
    experiment = convert(
        architecture="unet",
        encoder=None,
        encoder_weights=None,
        num_epochs=50,
        batch_size=8,
        learning_rate=1e-4,
        weight_decay=1e-5,
        optimizer="AdamW",
        scheduler=None,
        scheduler_patience=5,
        early_stopping_patience=10,
        loss="Combined",
        dice_weight=0.6,
        bce_weight=0.7,
        image_width=512,
        image_height=512,
        augmentation_prob=0.5,
        num_workers=4,
        device="cpu",
        checkpoint_dir="/models",
    )
    assert experiment.model.kind == "unet"
    assert experiment.training.epochs == 50
    assert (experiment.data.loader.batch_size, experiment.data.loader.workers) == (8, 4)
    assert (experiment.optim.optimizer.lr, experiment.optim.optimizer.weight_decay) == (1e-4, 1e-5)
    assert experiment.optim.schedule.kind == "constant"
    assert experiment.callbacks.early_stopping.patience == 10
    loss = experiment.loss
    assert (loss.bce, loss.dice, loss.focal, loss.weights) == (0.7, 0.6, 0.0, "raw")
    assert experiment.data.tiles.size_px == 512
    augment = experiment.data.augment
    assert (augment.flip_p, augment.turn_p, augment.rotate_p) == (0.5, 0.5, 0.5)
    assert experiment.training.device == "cpu"
    assert experiment.tracking.output_dir == Path("/models")


def test_the_printed_dictionary_of_photographs_converts() -> None:
    experiment = from_flat(
        {
            "architecture": "unet",
            "encoder": "resnet34",
            "encoder_weights": "imagenet",
            "num_epochs": 50,
            "split_dir": "data/splits",
            "images_dir": "data/images",
            "masks_dir": "data/masks",
            "image_width": 512,
            "image_height": 512,
            "augmentation_prob": 0.25,
        }
    )
    assert (experiment.task.kind, experiment.data.kind) == ("binary", "images")
    assert experiment.data.images == Path("data/images").absolute()
    assert experiment.data.labels.folder == Path("data/masks").absolute()
    assert (experiment.data.split.by, experiment.data.split.files) == ("files", Path("data/splits").absolute())
    assert (experiment.data.resize_px, experiment.data.tiles.size_px) == ((512, 512), 512)
    assert experiment.data.augment.strength == 0.5
    model = experiment.model
    assert (model.kind, model.decoder, model.encoder, model.encoder_weights) == ("smp", "unet", "resnet34", "imagenet")


def test_weights_by_height_are_measured() -> None:
    assert convert(use_threshold_weights=True).loss.height_weights == "rare_gaps"
    assert convert(use_threshold_weights=False).loss.height_weights == "none"


@pytest.mark.parametrize(
    ("name", "value", "off"),
    [
        ("encoder_weights", "imagenet", "None"),
        ("use_tensorboard", True, False),
        ("vis_save_frequency", 5, 0),
        ("threshold_weight_adjustment", {"5": 2}, None),
        ("use_droppath", True, False),
        ("droppath_final_prob", 0.2, 0.0),
        ("droppath_start_prob", 0.1, 0),
        ("scheduler", "zigzag", "None"),
        ("scheduler_type", "cosinus", None),
    ],
)
def test_what_cannot_be_said_is_refused_unless_it_is_off(name: str, value: object, off: object) -> None:
    assert faults(**{name: value})[0].startswith(f"{name}: ")
    assert "has no place in this version's settings" in faults(**{name: value})[0]
    assert isinstance(convert(**{name: off}), Experiment)


def test_values_that_the_chosen_schedule_never_looked_at_pass() -> None:
    assert convert(scheduler_type="onecycle", warmup_epochs=5, scheduler_patience=3).optim.schedule.kind == "onecycle"
    assert convert(scheduler="StepLR", scheduler_patience=3).optim.schedule == StepSchedule()
    assert convert(scheduler_type="cosine", warmup_epochs=5).optim.warmup_epochs == 0


def test_every_documented_schedule_converts_with_its_warm_up_and_patience() -> None:
    warmed = convert(scheduler_type="cosine_warm", warmup_epochs=7).optim
    assert (warmed.schedule.kind, warmed.warmup_epochs) == ("cosine", 7)
    assert convert(scheduler_type="warmup_plateau").optim.warmup_epochs == 5
    plateau = convert(scheduler="ReduceLROnPlateau", scheduler_patience=4).optim.schedule
    assert plateau == PlateauSchedule(patience=4)
    for name, kind in {"CosineAnnealing": "cosine", "StepLR": "step", "cosine_restart": "cyclic_cosine"}.items():
        assert convert(scheduler=name).optim.schedule.kind == kind


@pytest.mark.parametrize(
    ("flat", "norm", "value"),
    [
        ({"use_gradient_clipping": True}, 1.0, None),
        ({"use_gradient_clipping": True, "clip_norm": 0.5}, 0.5, None),
        ({"use_gradient_clipping": True, "clip_value": 0.5, "clip_norm": 2.0}, 2.0, 0.5),
        ({"use_gradient_clipping": False, "clip_value": 0.5, "clip_norm": 2.0}, None, None),
        ({"clip_norm": 3.0}, 3.0, None),
        ({"clip_norm": None}, None, None),
    ],
)
def test_clipping_follows_its_switch(flat: dict[str, Any], norm: float | None, value: float | None) -> None:
    training = convert(**flat).training
    assert (training.clip_norm, training.clip_value) == (norm, value)


@pytest.mark.parametrize(
    ("flat", "weights"),
    [
        ({"loss": "BCE"}, (1, 0, 0)),
        ({"loss": "dice", "dice_weight": 0.3}, (0, 1, 0)),
        ({"loss_type": "FocalLoss"}, (0, 0, 1)),
        ({"loss": "combined"}, (0.5, 0.5, 0)),
        ({"dice_weight": 0.8, "bce_weight": 0.2}, (0.2, 0.8, 0)),
        ({"loss_type": "combo"}, (0.5, 0.3, 0.2)),
        ({"loss_type": "combined_focal_dice"}, (0, 0.5, 0.5)),
    ],
)
def test_every_loss_that_can_be_said_converts(flat: dict[str, Any], weights: tuple[float, float, float]) -> None:
    loss = convert(**flat).loss
    assert (loss.bce, loss.dice, loss.focal) == weights


def test_the_one_alpha_of_the_old_focal_dice_loss_also_weighs_the_classes() -> None:
    assert convert(loss_type="combined_focal_dice").loss.focal_alpha == 0.5


def test_losses_and_networks_that_do_not_exist_are_refused() -> None:
    assert "its terms are bce, dice, focal, iou" in faults(loss="wishful")[0]
    assert "its networks are attention_unet, deeplabv3plus" in faults(architecture="FPN")[0]
    assert convert(model_name="unet_film").model.kind == "film_unet"
    assert convert(model_name="UNet").model.kind == "unet"


def test_every_documented_optimizer_converts_and_others_are_refused() -> None:
    assert convert(optimizer="Adam", weight_decay=1e-5).optim.optimizer == AdamConfig(weight_decay=1e-5)
    assert convert(optimizer="SGD").optim.optimizer.kind == "sgd"
    assert "its optimizers are adam, adamw, rmsprop, sgd" in faults(optimizer="lion")[0]


def test_logs_and_checkpoints_share_the_folder_that_held_both(tmp_path: Path) -> None:
    both = convert(LOGS_DIR=str(tmp_path / "logs"), CHECKPOINTS_DIR=tmp_path / "checkpoints")
    assert both.tracking.output_dir == tmp_path
    assert convert(CHECKPOINTS_DIR=tmp_path / "a").tracking.output_dir == tmp_path / "a"
    assert "lie in one folder" in faults(LOGS_DIR="/logs", CHECKPOINTS_DIR="/checkpoints")[0]


def test_early_stopping_and_best_model_names_convert() -> None:
    experiment = convert(
        use_early_stopping=False,
        early_stopping_min_delta=0.01,
        early_stopping_min_epochs=4,
        early_stopping_monitor="val_loss",
        early_stopping_mode="min",
        save_best_only=True,
        use_progress_bar=False,
        monitor_gradients=True,
    )
    stopping = experiment.callbacks.early_stopping
    assert (stopping.enabled, stopping.min_delta, stopping.min_epochs) == (False, 0.01, 4)
    assert (experiment.callbacks.monitor, experiment.callbacks.mode) == ("val/loss", "min")
    assert experiment.checkpoints.max_checkpoints == 1
    assert experiment.tracking.quiet


def test_no_augmentation_is_no_augmentation() -> None:
    assert not convert(augmentation_prob=0).data.augment.enabled


def test_tiles_are_square() -> None:
    assert "tiles are square" in faults(image_width=512, image_height=256)[0]


def test_photographs_become_whole_tiles_of_any_size() -> None:
    data = convert(images_dir="/pictures", image_width=512, image_height=256).data
    assert isinstance(data, ImagesData)
    assert (data.resize_px, data.tiles.size_px) == ((256, 512), 512)
    assert convert(image_width=512).data.tiles.size_px == 512


def test_the_loss_of_overlap_is_one_of_the_terms() -> None:
    loss = convert(loss="IoU", images_dir="/pictures").loss
    assert isinstance(loss, CombinedLossConfig)
    assert {name: weight for name, weight in loss.terms.items() if weight} == {"jaccard": 1.0}


def test_settings_are_given_without_asking_whether_they_make_an_experiment() -> None:
    assert flat_settings({"num_epochs": 0, "optimizer": "Adam"}) == {
        "training.epochs": 0,
        "optim.optimizer.kind": "adam",
    }
    with pytest.raises(ConfigError, match="Did you mean num_epochs"):
        flat_settings({"num_epoch": 3})


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    assert faults(learning_rat=1e-3) == ["learning_rat: unknown name. Did you mean learning_rate?"]
    assert faults(logs_dir="x") == ["logs_dir: unknown name. Did you mean LOGS_DIR?"]


def test_names_that_contradict_each_other_are_refused() -> None:
    assert faults(epochs=5, num_epochs=6) == ["num_epochs: 6 contradicts epochs = 5."]
    assert convert(epochs=5, num_epochs=5).training.epochs == 5


def test_a_value_out_of_range_names_the_flat_name() -> None:
    assert faults(num_epochs=0)[0].startswith("training.epochs: 0 is below the minimum 1 (num_epochs = 0).")


def test_a_value_of_the_wrong_type_is_refused_not_crashed_on() -> None:
    assert faults(thresholds=5)[0].startswith("task.heights_m: 5 is not a list of numbers (thresholds = 5).")
    assert faults(thresholds=["tall", 5])[0].startswith('task.heights_m[0]: "tall" is not a number')
    assert convert(thresholds=np.array([10.0, 5.0])).task.heights_m == (5.0, 10.0)


def test_all_faults_are_told_at_once() -> None:
    assert len(faults(epochs=0, use_tensorboard=True, foo=1)) == 3


def test_data_may_be_a_folder_a_mapping_or_a_section(tmp_path: Path) -> None:
    assert from_flat({}, data=tmp_path).data.folder == tmp_path
    assert from_flat({}, data={"folder": tmp_path, "nodata": -1}).data.nodata == -1
    section = HeightRastersData(folder=tmp_path, nodata=-9999.0)
    assert from_flat({"batch_size": 3}, data=section).data.loader.batch_size == 3
    assert from_flat({}, data=section).data == section
    with pytest.raises(ConfigError, match=r"^data: no data is named \(flat settings\)\."):
        from_flat({"batch_size": 3})


def test_every_flat_name_leads_to_a_setting_or_section_that_exists() -> None:
    for name, row in FLAT_NAMES.items():
        assert explain(row.path).specs, name
