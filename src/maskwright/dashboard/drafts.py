"""A new experiment from the form: which settings it shows, what was changed, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from maskwright.config import Experiment, FieldSpec, dump_experiment, field_specs, load_experiment, presets
from maskwright.config.load import PRESET_PREFIX
from maskwright.errors import ConfigError, MaskwrightError
from maskwright.files import check_writable, write_text
from maskwright.tracking import RunFolder

__all__ = [
    "Draft",
    "Group",
    "check_draft",
    "form_groups",
    "form_values",
    "read_base",
    "sources",
    "value_from_text",
    "write_draft",
]

_CONDITION = re.compile(r"(\S+) = (\S+)")


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


def sources(run: Path | None, folder: Path) -> dict[str, str]:
    """What a new experiment may begin with: label to file or preset.

    Args:
        run: The run on show.
        folder: Where experiment files may lie beside the runs: it and the folders above and here are looked at.
    """
    found: dict[str, str] = {}
    if run is not None and RunFolder(run).config.is_file():
        found[f"settings of {run.name}"] = str(RunFolder(run).config)
    for place in dict.fromkeys((Path.cwd(), folder.absolute(), folder.absolute().parent)):
        for file in sorted([*place.glob("*.yaml"), *place.glob("*.yml")])[:50]:
            if _looks_like_experiment(file):
                found[f"file {file}"] = str(file)
    found |= {f"preset {name}: {says}": f"{PRESET_PREFIX}{name}" for name, says in presets().items()}
    return found


def read_base(source: str) -> dict[str, Any]:
    """The settings a file or preset says, flat, with the defaults of all others.

    What must be given and is not, such as the data of a preset, stays out.

    Raises:
        ConfigError: If the file cannot be read at all.
    """
    try:
        return dict(_flat(load_experiment([source]).to_dict(), ""))
    except ConfigError:
        return _with_defaults(dict(_flat(_tree_of(source), "")))


def form_values(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows: changes over the base; where a kind was changed, the defaults of the new kind."""
    turned = [
        path.removesuffix("kind") for path in changes if path.endswith(".kind") and changes[path] != base.get(path)
    ]
    kept = {path: value for path, value in base.items() if not path.startswith(tuple(turned) or ("\0",))}
    return _with_defaults(kept | dict(changes))


def form_groups(values: Mapping[str, Any]) -> list[Group]:
    """The settings that exist with these values, by section; those of kinds that are not chosen are left out."""
    groups: dict[str, list[FieldSpec]] = {}
    for spec in _shown_specs():
        if _applies(spec, values):
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
        return None
    if spec.type in ("str", "path"):
        return text
    if spec.type.startswith("list[") and not text.strip().startswith("["):
        text = f"[{text}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as cause:
        raise ConfigError(f"{spec.path}: {text!r} cannot be read. Write {spec.what}.") from cause


def check_draft(source: str, changes: Mapping[str, Any]) -> Draft:
    """Put changes on a base and look for faults.

    Args:
        source: A file or ``preset:NAME``.
        changes: Flat settings: ``training.epochs`` to its value.
    """
    try:
        return Draft(dump_experiment(load_experiment([source], _nested(changes))), ())
    except MaskwrightError as error:
        return Draft("", tuple(str(error).splitlines()))


def write_draft(draft: Draft, file: Path) -> Path:
    """Write an experiment file; what is there is never replaced.

    Raises:
        ConfigError: If the draft has faults, the name is unfit or taken, or the disk refuses.
    """
    if draft.faults or not draft.text:
        raise ConfigError("The experiment has faults. Mend them first.")
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: an experiment file ends in .yaml. Give a name such as {file.with_suffix('.yaml')}.")
    if file.exists():
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
        if _applies(spec, values) and values.get(spec.path) is None and not spec.required:
            values[spec.path] = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return values


def _shown_specs() -> list[FieldSpec]:
    """All settings but lists of sections, which a form of single fields cannot hold."""
    return [spec for spec in field_specs(Experiment) if "[]" not in spec.path and spec.type != "list[section]"]


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


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
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


def _looks_like_experiment(file: Path) -> bool:
    """Whether a YAML file names two sections of an experiment at least; others may lie there too."""
    try:
        if file.stat().st_size > 1 << 20:
            return False
        tree = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and len(Experiment.model_fields.keys() & tree.keys()) >= 2
