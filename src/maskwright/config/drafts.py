"""A new experiment from a form: which settings it shows, what was changed, and what is wrong with it.

Every face with a form works on a base (a file, a preset or nothing) and flat changes, ``training.epochs`` to its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from maskwright.config.experiment import Experiment
from maskwright.config.fields import FieldSpec, field_specs
from maskwright.config.load import PRESET_PREFIX, dump_experiment, load_experiment
from maskwright.config.yaml_tree import TreeError, parse_yaml, plain
from maskwright.errors import ConfigError, MaskwrightError
from maskwright.files import check_writable, write_text

__all__ = [
    "Draft",
    "Group",
    "all_settings",
    "check_draft",
    "faults_by_setting",
    "flattened",
    "form_groups",
    "form_values",
    "nested",
    "read_base",
    "shown_settings",
    "value_from_text",
    "write_draft",
]

_CONDITION = re.compile(r"(\S+) = (\S+)")
_STAND_INS = {"name": "new", "data.folder": "."}  # for what must be given, while defaults are looked up


@dataclass(frozen=True)
class Group:
    """Settings that stand together in the form.

    Attributes:
        title: First words of their paths: ``training``, ``model``.
        plain: Those everybody sees.
        advanced: Those that are folded away.
    """

    title: str
    plain: tuple[FieldSpec, ...]
    advanced: tuple[FieldSpec, ...]


@dataclass(frozen=True)
class Draft:
    """What came of a base and its changes.

    Attributes:
        text: The complete experiment as YAML; empty if it has faults.
        faults: What is wrong, a line each.
    """

    text: str
    faults: tuple[str, ...]


def read_base(source: str | None, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings a file or preset says, flat, with those of all others that follow from them.

    What must be given and is not, such as the data of a preset, stays out.

    Args:
        source: A file or ``preset:NAME``; None: nothing is said but ``said``.
        said: Flat settings that are put over it.

    Raises:
        ConfigError: If the file cannot be read at all.
    """
    said = dict(said or {})
    for missing in ((), ("name",), ("data.folder",), ("name", "data.folder")):
        try:
            stand_ins = {path: _STAND_INS[path] for path in missing}
            whole = load_experiment([] if source is None else [source], nested(stand_ins | said))
        except ConfigError:
            continue
        return {path: value for path, value in flattened(whole).items() if path not in missing}
    return _with_defaults(({} if source is None else dict(_flat(_tree_of(source), ""))) | said)


def flattened(experiment: Experiment) -> dict[str, Any]:
    """All settings of an experiment by their paths; lists of sections stay lists."""
    return dict(_flat(experiment.to_dict(), ""))


def form_values(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows: changes over the base; where a kind was changed, the defaults of the new kind."""
    turned = [
        path.removesuffix("kind") for path in changes if path.endswith(".kind") and changes[path] != base.get(path)
    ]
    kept = {path: value for path, value in base.items() if not path.startswith(tuple(turned) or ("\0",))}
    return _with_defaults(kept | dict(changes))


def all_settings() -> dict[str, FieldSpec]:
    """Every setting a form can show, by path; of several kinds that share one with different limits, the first."""
    return {spec.path: spec for spec in reversed(_shown_specs())}


def shown_settings(values: Mapping[str, Any]) -> dict[str, FieldSpec]:
    """The settings that exist with these values, by path, in the order written."""
    return {spec.path: spec for spec in _shown_specs() if _applies(spec, values)}


def form_groups(values: Mapping[str, Any]) -> list[Group]:
    """The settings that exist with these values, by section; those of kinds that are not chosen are left out."""
    groups: dict[str, list[FieldSpec]] = {}
    for spec in shown_settings(values).values():
        groups.setdefault(spec.path.partition(".")[0], []).append(spec)
    first = groups.pop("name", [])
    return [
        Group(
            title,
            tuple(spec for spec in specs if not spec.advanced),
            tuple(spec for spec in specs if spec.advanced),
        )
        for title, specs in ({"name": first} | groups).items()
    ]


def value_from_text(spec: FieldSpec, text: str) -> Any:
    """What a text in a field of the form means: YAML, except where any text is meant.

    Raises:
        ConfigError: If it is no YAML.
    """
    if text.strip() == "" and (spec.optional or spec.type not in ("str", "path")):
        return [] if spec.type.startswith("list[") and not spec.optional else None
    if spec.type in ("str", "path"):
        return text
    if spec.type.startswith("list[") and not text.strip().startswith("["):
        text = f"[{text}]"
    try:
        return plain(parse_yaml(text, spec.path, lines=False))
    except TreeError as cause:
        raise ConfigError(f"{spec.path}: {text!r} cannot be read. Write {spec.what}.") from cause


def check_draft(source: str | None, changes: Mapping[str, Any]) -> Draft:
    """Put changes on a base and look for faults.

    Args:
        source: A file or ``preset:NAME``; None: the defaults.
        changes: Flat settings: ``training.epochs`` to its value.
    """
    try:
        return Draft(dump_experiment(load_experiment([] if source is None else [source], nested(changes))), ())
    except MaskwrightError as error:
        return Draft("", tuple(str(error).splitlines()))


def faults_by_setting(faults: Iterable[str], paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Faults at the settings they name, without the name; those that name none of ``paths`` stand under ``""``.

    Args:
        faults: Lines as in :attr:`Draft.faults`: ``training.epochs: 0 is below the minimum 1 (...). Set ...``.
        paths: The settings a form shows.
    """
    shown, found = set(paths), dict[str, tuple[str, ...]]()
    for fault in faults:
        path, colon, words = fault.partition(": ")
        at = path if colon and path in shown else ""
        found[at] = (*found.get(at, ()), (words[:1].upper() + words[1:]) if at else fault)
    return found


def write_draft(draft: Draft, file: Path, *, replace: bool = False) -> Path:
    """Write an experiment file; what is there is not replaced unless a person said so with ``replace``.

    Raises:
        ConfigError: If the draft has faults, the name is unfit or taken, or the disk refuses.
    """
    if draft.faults or not draft.text:
        raise ConfigError("The experiment has faults. Mend them first.")
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: an experiment file ends in .yaml. Give a name such as {file.with_suffix('.yaml')}.")
    if file.exists() and not replace:
        raise ConfigError(f"{file} is there already. Choose another name; files are not replaced.")
    if (file.parent / "run.json").exists():
        raise ConfigError(f"{file.parent} is a run folder, which belongs to its training. Choose another folder.")
    check_writable(file.parent)
    write_text(file, draft.text, error=ConfigError)
    return file


def _applies(spec: FieldSpec, values: Mapping[str, Any]) -> bool:
    """Whether a setting exists with the chosen kinds: ``model.kind = unet or model.kind = film_unet``."""
    return not spec.when or any(str(values.get(path)) == kind for path, kind in _CONDITION.findall(spec.when))


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """A kind stands before the settings that depend on it, so one pass is enough."""
    for spec in _shown_specs():
        if _applies(spec, values) and spec.path not in values and not spec.required:
            values[spec.path] = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return values


@cache
def _shown_specs() -> tuple[FieldSpec, ...]:
    """All settings but lists of sections, which a form of single fields cannot hold."""
    return tuple(spec for spec in field_specs(Experiment) if "[]" not in spec.path and spec.type != "list[section]")


def _tree_of(source: str) -> dict[str, Any]:
    try:
        if source.startswith(PRESET_PREFIX):
            name = source.removeprefix(PRESET_PREFIX)
            text = (files("maskwright.config") / "presets" / f"{name}.yaml").read_text("utf-8")
        else:
            text = Path(source).read_text("utf-8")
        tree = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as cause:
        raise ConfigError(f"{source} cannot be read: {cause}") from cause
    return tree if isinstance(tree, dict) else {}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as a tree: ``{"training.epochs": 3}`` as ``{"training": {"epochs": 3}}``."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return tree


def _flat(tree: Mapping[str, Any], before: str) -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
