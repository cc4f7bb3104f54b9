from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import pydantic
import pytest

from maskwright.config import (
    ConstantSchedule,
    Experiment,
    FilmUNetConfig,
    HeightRastersData,
    OneCycleSchedule,
    OptimConfig,
    TrackingConfig,
    TrainingConfig,
    UNetConfig,
)
from maskwright.config.base import Field, Section, default_kind, item_sections, kind_of, refuse, sections_in, whole_path
from maskwright.errors import ConfigError


class Inner(Section):
    size_px: int = Field(3, ge=1, unit="px", help="Size.")
    file: Path | None = Field(None, help="A file.")
    mode: Literal["auto"] | Path = Field("auto", help="A word or a path.")


class Outer(Section):
    inner: Inner = Field(default_factory=Inner, help="Inside.")
    flag: bool = Field(False, help="A switch.")
    numbers: tuple[float, ...] = Field((), help="Numbers.")


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError):
        Inner().size_px = 5  # type: ignore[misc]


def test_an_unknown_name_from_python_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(epoch=5)  # type: ignore[call-arg]
    assert str(caught.value) == "epoch: unknown setting (TrainingConfig). Did you mean epochs?"
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)


def test_a_name_that_lives_elsewhere_in_an_experiment_is_pointed_to() -> None:
    with pytest.raises(ConfigError, match=r"In an experiment it is optim\.optimizer\.lr\."):
        TrainingConfig(lr=1e-3)  # type: ignore[call-arg]


def test_all_faults_of_a_section_made_from_python_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer(inner={"size_px": 0, "sise_px": 1}, flag="perhaps")  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "inner.size_px: 0 is below the minimum 1 (Outer). Set a whole number 1 or more px, for example 3: size.",
        "inner.sise_px: unknown setting (Outer). Did you mean inner.size_px?",
        'flag: "perhaps" is not true or false (Outer). Set true or false: a switch.',
    ]


def test_yes_or_no_never_becomes_a_number() -> None:
    with pytest.raises(ConfigError, match=r"epochs: true is not a whole number"):
        TrainingConfig(epochs=True)
    with pytest.raises(ConfigError, match=r"numbers: \[1, true\] is not a list of numbers"):
        Outer(numbers=(1, True))
    assert Outer(flag=True).flag


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"numbers\[0\]: nan is not a number"):
        Outer(numbers=(float("nan"),))


def test_an_empty_text_is_no_path() -> None:
    with pytest.raises(ConfigError, match=r'file: "" is not a path'):
        Inner(file="")  # type: ignore[arg-type]


def test_paths_are_whole_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Inner(file=Path("a/b.tif")).file == tmp_path / "a/b.tif"
    assert Inner(file=Path("~/b.tif")).file == tmp_path / "home/b.tif"
    assert Inner(mode=Path("x")).mode == tmp_path / "x"
    assert Inner(mode="auto").mode == "auto"
    assert TrackingConfig().output_dir == tmp_path / "outputs"
    assert whole_path(Path("../c"), tmp_path / "a") == tmp_path / "c"
    assert whole_path(Path("/d"), tmp_path) == Path("/d")


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"file: ~nobody-lives-here/x: there is no such home folder \(Inner\)"):
        Inner(file=Path("~nobody-lives-here/x"))


def test_a_section_of_several_kinds_without_a_kind_has_that_of_its_default() -> None:
    optim = OptimConfig(schedule={"max_lr": 0.1})  # type: ignore[arg-type]
    assert optim.schedule == OneCycleSchedule(max_lr=0.1)
    assert OptimConfig(schedule={"kind": "constant"}).schedule == ConstantSchedule()  # type: ignore[arg-type]


def test_classes_and_kinds_are_found_in_annotations() -> None:
    model = Experiment.model_fields["model"]
    assert sections_in(model.annotation)[:2] == (UNetConfig, FilmUNetConfig)
    assert default_kind(model) == "height_cdf"
    assert default_kind(Experiment.model_fields["data"]) is None
    assert kind_of(UNetConfig) == "unet"
    assert kind_of(TrainingConfig) is None
    assert [section.__name__ for section in item_sections(HeightRastersData.model_fields["sites"].annotation)] == [
        "SiteConfig"
    ]
    assert item_sections(float | None) == ()


def test_plain_values_hold_only_what_yaml_and_json_know(tmp_path: Path) -> None:
    values = HeightRastersData(folder=tmp_path).to_dict()
    assert values["folder"] == str(tmp_path)
    assert values["split"]["shares"] == [0.7, 0.15, 0.15]
    assert HeightRastersData(**values) == HeightRastersData(folder=tmp_path)


def test_a_section_survives_pickling_and_hashing() -> None:
    section = TrainingConfig(epochs=3)
    assert pickle.loads(pickle.dumps(section)) == section
    assert hash(section) == hash(TrainingConfig(epochs=3))


def test_several_faults_of_one_validator_are_refused_together() -> None:
    refuse([])
    with pytest.raises(ValueError, match="a: wrong\nb: wrong"):
        refuse(["a: wrong", "b: wrong"])


def test_variables_of_the_environment_are_filled_into_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("FOREST_DATA", str(tmp_path))
    assert whole_path(Path("${FOREST_DATA}/a.tif")) == tmp_path / "a.tif"


def test_an_unknown_variable_in_a_path_is_refused_by_name(monkeypatch):
    monkeypatch.delenv("FOREST_DATA", raising=False)
    with pytest.raises(ValueError, match="no variable FOREST_DATA"):
        whole_path(Path("${FOREST_DATA}/a.tif"))
