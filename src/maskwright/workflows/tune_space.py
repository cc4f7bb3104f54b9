"""The space of a search: what a trial may be, checked before the first one, and the experiment of each.

Kinds are proposed first. A setting that the kinds of a trial do not have plays no part in it, so one space may hold
the options of several kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from maskwright.config import Experiment, Override, Section, field_specs, load_experiment, save_experiment
from maskwright.config.tune import SearchConfig, TuneConfig
from maskwright.config.yaml_tree import TreeError, parse_yaml, plain
from maskwright.errors import ConfigError

__all__ = ["Space", "Suggests"]

Value = float | int | str
Overrides = Sequence[str | Override]


class Suggests(Protocol):
    """What proposes values: a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


class Space:
    """Everything a trial may be.

    Args:
        files: Files of settings, as for ``train``.
        overrides: Settings set after the files.

    Attributes:
        base: The experiment as the files say it, with the space in ``tune``.

    Raises:
        ConfigError: If the files are wrong, there is nothing to search, or an end of a range or a choice makes no
            experiment: every fault at once, with its place in the space.
    """

    def __init__(self, files: Sequence[str], overrides: Overrides = ()) -> None:
        self._files, self._overrides = list(files), list(overrides)
        self.base = load_experiment(self._files, self._overrides)
        self._searches = self.base.tune.space
        if not self._searches:
            raise ConfigError(
                "tune.space: there is nothing to search. Name settings in the experiment, for example\n"
                "tune: {space: [{setting: optim.optimizer.lr, low: 0.0001, high: 0.01, log: true}]}"
            )
        whole = {spec.path: True for spec in field_specs(Experiment)}
        whole |= {spec.path: False for spec in field_specs(Experiment) if spec.type != "int"}
        self._whole_numbers = {search.setting for search in self._searches if whole[search.setting]}
        faults = [fault for index in range(len(self._searches)) for fault in self._faults_of(index)]
        if faults:
            raise ConfigError("\n".join(dict.fromkeys(faults)))

    def suggest(self, trial: Suggests) -> dict[str, Value]:
        """The values of a trial by setting; kinds first, then what these kinds have.

        Raises:
            ConfigError: If kinds that are fine alone do not go together.
        """
        values: dict[str, Value] = {}
        made = self.base
        kinds = [search for search in self._searches if _is_kind(search)]
        for search in sorted(kinds, key=lambda one: one.setting.count(".")):
            if _has(made, search.setting):
                values[search.setting] = self._value(trial, search)
                made = self.experiment(values)
        for search in self._searches:
            if not _is_kind(search) and _has(made, search.setting):
                values[search.setting] = self._value(trial, search)
        return values

    def experiment(self, values: Mapping[str, Value], own: Mapping[str, Any] | None = None) -> Experiment:
        """The experiment of a trial, without the search.

        Args:
            values: By setting: numbers of ranges, and choices as they are written in the space.
            own: Further settings of the trial, plain values by dotted name.

        Raises:
            ConfigError: If the values make no experiment; the places are those of the space.
        """
        place = {search.setting: f"tune.space[{index}]" for index, search in enumerate(self._searches)}
        said = [Override(name, _plain(value, place[name]), place[name]) for name, value in values.items()]
        said += [Override(name, value, "the search") for name, value in (own or {}).items()]
        made = load_experiment(self._files, [*self._overrides, *said])
        return made.model_copy(update={"tune": TuneConfig()})

    def write_best(self, values: Mapping[str, Value], path: Path) -> None:
        """Write the experiment of these values as a file that ``train`` takes: literal, and without the search."""
        save_experiment(self.experiment(values, {"name": f"{self.base.name}_best"}), path)

    def _value(self, trial: Suggests, search: SearchConfig) -> Value:
        if search.choices:
            return str(trial.suggest_categorical(search.setting, search.choices))
        assert search.low is not None
        assert search.high is not None
        if search.setting in self._whole_numbers:
            step = 1 if search.step is None else int(search.step)
            return trial.suggest_int(search.setting, int(search.low), int(search.high), step=step, log=search.log)
        return trial.suggest_float(search.setting, search.low, search.high, step=search.step, log=search.log)

    def _faults_of(self, index: int) -> Iterator[str]:
        """What is wrong with the ends or the choices of an entry, on the first kinds that have the setting."""
        search = self._searches[index]
        kinds = next((kinds for kinds in self._kinds() if _has(self.experiment(kinds), search.setting)), None)
        if kinds is None:
            yield f"tune.space[{index}].setting: {search.setting} belongs to kinds that no trial has. Leave it out."
            return
        for value in search.choices or self._ends(search):
            try:
                self.experiment({**kinds, search.setting: value})
            except ConfigError as error:
                yield from str(error).splitlines()

    def _kinds(self) -> Iterator[dict[str, Value]]:
        """The kinds of the experiment itself, then each that the space names, where it makes an experiment alone."""
        yield {}
        for search in self._searches:
            for choice in search.choices if _is_kind(search) else ():
                try:
                    self.experiment({search.setting: choice})
                except ConfigError:
                    continue  # told where its own entry is looked at
                yield {search.setting: choice}

    def _ends(self, search: SearchConfig) -> tuple[Value, Value]:
        assert search.low is not None
        assert search.high is not None
        if search.setting in self._whole_numbers:
            return int(search.low), int(search.high)
        return search.low, search.high


def _is_kind(search: SearchConfig) -> bool:
    return search.setting.endswith(".kind")


def _has(experiment: Experiment, setting: str) -> bool:
    """Whether the kinds of an experiment have a setting."""
    node: Any = experiment
    for name in setting.split("."):
        if not isinstance(node, Section) or name not in type(node).model_fields:
            return False
        node = getattr(node, name)
    return True


def _plain(value: Value, place: str) -> Any:
    """A choice as the plain value it is written for; numbers as they are.

    Raises:
        ConfigError: If it is no YAML.
    """
    if not isinstance(value, str):
        return value
    try:
        return plain(parse_yaml(value, place, lines=False))
    except TreeError as error:
        raise ConfigError("\n".join(str(fault) for fault in error.faults)) from error
