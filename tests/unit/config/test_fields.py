from __future__ import annotations

import pytest

from maskwright.config import Experiment, TrainingConfig, UNetConfig
from maskwright.config.fields import FieldSpec, explain, field_spec, field_specs, suggestion
from maskwright.errors import ConfigError

SPECS = {spec.path: spec for spec in field_specs(Experiment)}


def test_a_whole_number_with_limits_is_described() -> None:
    assert SPECS["training.epochs"] == FieldSpec(
        path="training.epochs",
        type="int",
        default=50,
        help="Passes over the training tiles.",
        unit="epochs",
        minimum=1,
        maximum=100_000,
    )
    assert SPECS["training.epochs"].range == "from 1 to 100000 epochs"
    assert SPECS["training.epochs"].values == "a whole number from 1 to 100000 epochs"
    assert SPECS["training.epochs"].name == "epochs"


def test_limits_that_are_not_reached_are_told_apart() -> None:
    lr, dropout = SPECS["optim.optimizer.lr"], SPECS["model.dropout"]
    assert (lr.minimum, lr.above_minimum, lr.maximum, lr.below_maximum) == (0, True, 10, False)
    assert lr.range == "above 0 to 10"
    assert (dropout.above_minimum, dropout.below_maximum) == (False, True)
    assert dropout.range == "from 0 to below 1"


def test_an_optional_setting_says_so() -> None:
    spec = SPECS["training.clip_norm"]
    assert (spec.type, spec.optional, spec.default) == ("float", True, 1.0)
    assert spec.values == "a number above 0 or null"


def test_words_are_choices() -> None:
    spec = SPECS["loss.dice_reduction"]
    assert (spec.type, spec.choices, spec.default) == ("choice", ("sample", "batch"), "sample")
    assert spec.values == "one of sample, batch"


def test_words_beside_numbers_or_paths_are_told() -> None:
    assert SPECS["data.chm_nodata"].type == "float"
    assert SPECS["data.chm_nodata"].choices == ("tag", "none")
    assert SPECS["data.chm_nodata"].values == 'a number or "tag" or "none"'
    assert (SPECS["data.split.keep"].type, SPECS["data.split.keep"].default) == ("path", "auto")


def test_lists_know_their_entries_and_length() -> None:
    shares, heights = SPECS["data.split.shares"], SPECS["task.heights_m"]
    assert (shares.type, shares.item_type, shares.length) == ("list[float]", "float", (3, 3))
    assert shares.values == "a list of 3 numbers"
    assert (heights.length, heights.default, heights.unit) == ((1, None), (2.0, 5.0, 10.0), "m")
    assert heights.values == "a list of numbers in m (at least 1)"


def test_a_list_of_sections_describes_its_entries() -> None:
    assert SPECS["data.sites"].type == "list[section]"
    assert SPECS["data.sites[].name"].required
    assert SPECS["data.sites[].dsm"].type == "path"


def test_paths_have_plain_defaults() -> None:
    assert SPECS["tracking.output_dir"].default == "outputs"
    assert SPECS["tracking.output_dir"].type == "path"


def test_a_required_setting_has_no_default() -> None:
    assert SPECS["name"].required
    assert SPECS["name"].default is None


def test_kinds_are_a_choice_and_their_own_settings_say_when_they_exist() -> None:
    assert SPECS["model.kind"].choices[:2] == ("unet", "film_unet")
    assert SPECS["model.kind"].default == "height_cdf"
    assert "film_unet: U-Net conditioned on a height" in SPECS["model.kind"].help
    assert SPECS["model.components"].when == "model.kind = height_cdf"
    assert SPECS["model.film_hidden"].when.startswith("model.kind = film_unet or model.kind = ")
    assert SPECS["model.kind"].when == ""
    assert SPECS["model.decoder"].when == "model.kind = smp or model.kind = smp_film or model.kind = multitask_smp"
    assert SPECS["optim.schedule.pct_start"].when == "optim.schedule.kind = onecycle"


def test_every_setting_is_listed_once() -> None:
    specs = field_specs(Experiment)
    places = [(spec.path, spec.when) for spec in specs]
    assert len(places) == len(set(places))
    assert specs[0].path == "name"
    assert all(spec.type != "section" for spec in specs)


def test_a_setting_that_means_other_things_by_kind_is_told_for_each() -> None:
    folders = [spec for spec in field_specs(Experiment) if spec.path == "data.folder"]
    assert [spec.when for spec in folders] == ["data.kind = height_rasters", "data.kind = images"]


def test_a_single_section_can_be_listed_under_a_prefix() -> None:
    paths = [spec.path for spec in field_specs(TrainingConfig, "training.")]
    assert paths == [path for path in SPECS if path.startswith("training.")]
    assert field_spec(UNetConfig, "depth").path == "depth"


def test_advanced_settings_are_marked() -> None:
    assert SPECS["optim.optimizer.betas"].advanced
    assert not SPECS["optim.optimizer.lr"].advanced


def test_a_setting_is_explained_by_path_or_last_word_with_its_neighbours() -> None:
    assert explain("epochs") == explain("training.epochs")
    explanation = explain("training.epochs")
    assert [spec.path for spec in explanation.specs] == ["training.epochs"]
    assert "training.seed" in explanation.neighbours
    assert "training.epochs" not in explanation.neighbours


def test_a_section_is_explained_by_what_is_in_it() -> None:
    explanation = explain("model")
    assert explanation.specs[0].type == "section"
    assert "model.film_hidden" in [spec.path for spec in explanation.specs]
    assert explain("data.sites").specs[0].type == "list[section]"


def test_an_unknown_or_ambiguous_name_is_refused_with_help() -> None:
    with pytest.raises(ConfigError, match=r"^epoch: unknown setting\. Did you mean training\.epochs\?$"):
        explain("epoch")
    with pytest.raises(ConfigError, match=r"^seed: several settings have this name: .*training\.seed.*whole path\.$"):
        explain("seed")


@pytest.mark.parametrize(
    ("unknown", "sentence"),
    [
        ("training.epoch", "Did you mean training.epochs?"),
        ("training.lr", "Did you mean optim.optimizer.lr?"),
        ("optim.lr", "Did you mean optim.optimizer.lr?"),
        ("epochs", "Did you mean training.epochs?"),
        ("optimizer", "Did you mean optim.optimizer?"),
        ("trainning", "Did you mean training?"),
        ("trainning.epochs", "Did you mean training.epochs?"),
        ("data.tiles.size", "Did you mean data.tiles.size_px?"),
        ("data.batch_size", "Did you mean data.loader.batch_size or prediction.batch_size?"),
        ("data.sites[2].dem", "Did you mean data.sites[2].dtm?"),
        ("model.film_hiden", "Did you mean model.film_hidden?"),
        (
            "zzz",
            "Known settings here: name, task, data, model, loss, optim, training, callbacks, checkpoints, metrics, "
            "tracking, prediction, stages, pseudo_labels, tune.",
        ),
    ],
)
def test_an_unknown_path_is_pointed_to_what_was_meant(unknown: str, sentence: str) -> None:
    assert suggestion(unknown) == sentence


def test_nothing_close_gives_nothing() -> None:
    assert suggestion("zzz.yyy.xxx") == ""
