"""Search over settings: which of them, between which values, how many trials, who proposes and who gives up early."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

if TYPE_CHECKING:
    from maskwright.config.experiment import Experiment
    from maskwright.config.fields import FieldSpec

__all__ = [
    "GpSampler",
    "HalvingPruner",
    "HyperbandPruner",
    "MedianPruner",
    "NoPruner",
    "PrunerConfig",
    "RandomSampler",
    "SamplerConfig",
    "SearchConfig",
    "TpeSampler",
    "TuneConfig",
    "tune_faults",
]

# What decides which trial is better, or says where it lies: the same for all trials, or their scores mean nothing
# beside each other.
_THE_SAME_FOR_ALL = (
    "callbacks.mode",
    "callbacks.monitor",
    "data.split",
    "metrics",
    "name",
    "stages",
    "task",
    "tracking",
    "tune",
)


class SearchConfig(Section):
    """One setting that is searched: between low and high, or among choices."""

    setting: str = Field(min_length=1, help="Dotted name of the setting, for example optim.optimizer.lr.")
    low: float | None = Field(None, help="Smallest value of a range.")
    high: float | None = Field(None, help="Largest value of a range.")
    log: bool = Field(False, help="Search magnitudes: 0.0001 to 0.001 as thoroughly as 0.001 to 0.01.")
    step: float | None = Field(
        None, gt=0, help="Distance of the values of a range; unset: any value, 1 for whole numbers."
    )
    choices: tuple[str, ...] = Field(
        (), help="Values to choose from in place of a range, each as --set takes it, for example [unet, resunet]."
    )

    @model_validator(mode="before")
    @classmethod
    def _choices_as_written(cls, values: Any) -> Any:
        """Numbers, yes and no, and lists among the choices become the text that means them."""
        choices = values.get("choices") if isinstance(values, Mapping) else None
        if not isinstance(choices, list | tuple):
            return values
        return {**values, "choices": [one if isinstance(one, str) else _as_text(one) for one in choices]}

    @model_validator(mode="after")
    def _a_range_or_choices(self) -> SearchConfig:
        refuse(self._faults())
        return self

    @property
    def is_range(self) -> bool:
        """Whether values lie between two ends."""
        return not self.choices

    def _faults(self) -> Iterator[str]:
        if self.choices:
            if self.low is not None or self.high is not None or self.step is not None or self.log:
                yield "choices: a setting has choices or a range, not both. Leave out low, high, log and step"
            twice = sorted({one for one in self.choices if self.choices.count(one) > 1})
            yield from (f"choices: {one} comes twice. Name each value once" for one in twice)
            return
        if self.low is None or self.high is None:
            yield "nothing to search. Give low and high, or choices"
            return
        if self.low >= self.high:
            yield f"low: {self.low:g} is not below high: {self.high:g}"
        if self.log and self.low <= 0:
            yield f"low: {self.low:g} has no magnitude. With log, give a value above 0"
        if self.log and self.step is not None:
            yield "step: with log, values have no equal distances. Leave out one of the two"
        elif self.step is not None and abs((self.high - self.low) / self.step % 1 - 0.5) < 0.5 - 1e-9:
            yield (
                f"step: steps of {self.step:g} from {self.low:g} do not reach {self.high:g}. "
                f"Set high: {self.low + (self.high - self.low) // self.step * self.step:g}"
            )


class TpeSampler(Section):
    """Tree-structured Parzen estimators: looks where good trials lie more often than others. NeurIPS 2011, Bergstra."""

    kind: Literal["tpe"] = Field("tpe", help="Parzen estimators of good and of other trials.")
    startup_trials: int = Field(10, ge=1, help="Trials drawn at random before it begins.")


class GpSampler(Section):
    """A Gaussian process with expected improvement, for few and expensive trials."""

    kind: Literal["gp"] = Field("gp", help="A Gaussian process, for few and expensive trials.")
    startup_trials: int = Field(10, ge=1, help="Trials drawn at random before it begins.")


class RandomSampler(Section):
    """Values drawn at random, each trial for itself."""

    kind: Literal["random"] = Field("random", help="At random: the honest baseline.")


SamplerConfig = Annotated[TpeSampler | GpSampler | RandomSampler, pydantic.Field(discriminator="kind")]


class MedianPruner(Section):
    """Give a trial up whose best score so far is below the median of the others at the same epoch."""

    kind: Literal["median"] = Field("median", help="Worse than the median of the others at the same epoch.")
    startup_trials: int = Field(5, ge=1, help="Trials that are trained to their end before any is given up.")
    warmup_epochs: int = Field(5, ge=0, unit="epochs", help="Epochs in which no trial is given up.")


class HalvingPruner(Section):
    """Successive halving: of the trials that reach a rung, the best share goes on to the next. arXiv:1810.05934."""

    kind: Literal["halving"] = Field("halving", help="Only the best share of the trials goes on from rung to rung.")
    min_epochs: int = Field(5, ge=1, unit="epochs", help="Epochs of the first rung.")
    factor: int = Field(3, ge=2, help="One of so many goes on, for so many times the epochs.")


class HyperbandPruner(Section):
    """Successive halving with several first rungs side by side. arXiv:1603.06560."""

    kind: Literal["hyperband"] = Field("hyperband", help="Successive halving from several first rungs side by side.")
    min_epochs: int = Field(5, ge=1, unit="epochs", help="Epochs of the first rung of the first bracket.")
    factor: int = Field(3, ge=2, help="One of so many goes on, for so many times the epochs.")


class NoPruner(Section):
    """Train every trial to its end."""

    kind: Literal["none"] = Field("none", help="Train every trial to its end.")


PrunerConfig = Annotated[
    MedianPruner | HalvingPruner | HyperbandPruner | NoPruner, pydantic.Field(discriminator="kind")
]


class TuneConfig(Section):
    """A search over settings with Optuna; it begins with maskwright tune, and a plain training takes no notice."""

    space: tuple[SearchConfig, ...] = Field((), help="What is searched.")
    trials: int = Field(
        30, ge=1, le=100_000, help="Trials in all, those given up early included; earlier calls of the search count."
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        unit="min",
        help="Minutes of one call; the trial at work is then saved, and the next call continues it. Unset: no limit.",
    )
    sampler: SamplerConfig = Field(default_factory=TpeSampler, help="What proposes the next trial.")
    pruner: PrunerConfig = Field(default_factory=MedianPruner, help="What gives up trials that fall behind.")
    seed: int = Field(42, ge=0, help="Seed of the proposals; training.seed is that of each training.")
    storage: str | None = Field(
        None,
        min_length=1,
        help="Where trials are kept: an address as Optuna takes it, for example postgresql://host/db, or a file that "
        "ends in .journal, for network disks. Unset: study.db in the folder of the search.",
    )
    jobs: int = Field(
        1, ge=1, le=1024, help="Processes on this machine, each at a trial of its own; they share its cores and GPUs."
    )

    @model_validator(mode="after")
    def _each_setting_once(self) -> TuneConfig:
        names = [one.setting for one in self.space]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        refuse(f"space: {name} comes twice. Name each setting once" for name in twice)
        return self


def tune_faults(experiment: Experiment) -> Iterator[str]:
    """What is wrong with the space of an experiment's search, a text each: names and limits, not yet combinations."""
    for index, search in enumerate(experiment.tune.space):
        yield from _faults_of(search, _specs_of(search.setting), f"tune.space[{index}]")


@cache
def _specs_of(setting: str) -> list[FieldSpec]:
    """What is known of a setting, a description for each group of kinds that have it; every trial asks again."""
    from maskwright.config.experiment import Experiment
    from maskwright.config.fields import field_specs

    return [spec for spec in field_specs(Experiment) if spec.path == setting]


def _faults_of(search: SearchConfig, specs: list[FieldSpec], place: str) -> Iterator[str]:
    from maskwright.config.fields import suggestion

    fixed = next((name for name in _THE_SAME_FOR_ALL if f"{search.setting}.".startswith(f"{name}.")), None)
    if fixed is not None:
        yield (
            f"{place}.setting: {fixed} is one for all trials, or their scores could not be compared. "
            "Take it out of the space"
        )
        return
    if not specs:
        yield f"{place}.setting: {search.setting} is no setting. {suggestion(search.setting)}".rstrip()
    elif search.is_range:
        yield from _range_faults(search, specs, place)


def _range_faults(search: SearchConfig, specs: list[FieldSpec], place: str) -> Iterator[str]:
    """A range where none can be, or one that no kind of the setting takes."""
    assert search.low is not None
    assert search.high is not None
    numbers = [spec for spec in specs if spec.type in ("int", "float")]
    if not numbers:
        yield f"{place}.low: {search.setting} takes {specs[0].values}, no range. Give choices"
        return
    if not any(_holds(spec, search.low) and _holds(spec, search.high) for spec in numbers):
        yield (
            f"{place}: {search.low:g} to {search.high:g} leaves what {search.setting} allows: {numbers[0].values}. "
            "Narrow low and high"
        )
    if all(spec.type == "int" for spec in numbers):
        for name in ("low", "high", "step"):
            value = getattr(search, name)
            if value is not None and value != int(value):
                yield f"{place}.{name}: {search.setting} takes whole numbers, not {value:g}"


def _holds(spec: FieldSpec, value: float) -> bool:
    low, high = spec.minimum, spec.maximum
    above = low is None or value > low or (value == low and not spec.above_minimum)
    return above and (high is None or value < high or (value == high and not spec.below_maximum))


def _as_text(value: Any) -> str:
    """A plain value in one line of YAML, of which JSON is a part."""
    return json.dumps(value, ensure_ascii=False)
