"""Files of settings and overrides to an experiment, and back.

Files are merged in order: mappings recursively, lists and single values replaced, a section whose ``kind`` changes
replaced whole; a kind left unsaid follows from the others (``Section.kinds_unsaid``). Then come the overrides. Every
fault of every file is reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, overload

import pydantic

from maskwright.config.base import Section, kind_of, sections_in
from maskwright.config.experiment import Experiment
from maskwright.config.faults import did_you_mean, faults_of
from maskwright.config.merge import kinds_said, merge, put, tidy
from maskwright.config.yaml_tree import Fault, Mark, Node, TreeError, dump_yaml, parse_yaml, plain, to_node
from maskwright.errors import ConfigError
from maskwright.files import write_text

__all__ = [
    "PRESET_PREFIX",
    "Override",
    "dump_experiment",
    "dump_section",
    "load_experiment",
    "load_section",
    "overrides_tree",
    "presets",
    "save_experiment",
    "save_section",
    "section_from",
]

PRESET_PREFIX = "preset:"

_S = TypeVar("_S", bound=Section)
_Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_PRESETS = files("maskwright.config") / "presets"


@dataclass(frozen=True, slots=True)
class Override:
    """A setting given outside the files.

    Attributes:
        path: Dotted place, for example ``training.epochs``.
        value: Plain value.
        said: How the user said it, for messages: ``--epochs 0``.
    """

    path: str
    value: Any
    said: str


_Overrides = Iterable[str | Override] | Mapping[str, Any]


def load_experiment(paths: _Paths = (), overrides: _Overrides = ()) -> Experiment:
    """Read an experiment.

    Args:
        paths: A file or several, merged in order; ``preset:NAME`` names a preset that comes with Maskwright. Relative
            paths inside a file start from its folder, except ``tracking.output_dir``, which starts from the working
            folder.
        overrides: ``a.b=c`` texts whose value is YAML, ``Override`` objects, or one nested mapping; applied last, all
            together. Relative paths in them start from the working folder.

    Raises:
        ConfigError: Every fault of every file and override, one a line.
    """
    return load_section(Experiment, paths, overrides)


@overload
def load_section(section: type[_S], paths: _Paths = (), overrides: _Overrides = ()) -> _S: ...
@overload
def load_section(section: object, paths: _Paths = (), overrides: _Overrides = ()) -> Section: ...
def load_section(section: Any, paths: _Paths = (), overrides: _Overrides = ()) -> Section:
    """Read one section, whose settings stand at the top level of the files. Otherwise as ``load_experiment``.

    Args:
        section: Its class, or a choice of classes such as ``ModelConfig``, of which the files' ``kind`` picks one.
        paths: As in ``load_experiment``.
        overrides: As in ``load_experiment``; paths of settings start inside the section.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    layers: list[Node] = []
    faults: list[Fault] = []
    readable = True
    for path in named:
        try:
            layers.append(_read_file(os.fspath(path)))
        except TreeError as error:
            faults += error.faults
            readable = readable and error.tree is not None
            layers.append(error.tree or Node(None, Mark(os.fspath(path))))
    try:
        layers += [overrides_tree(overrides)] if overrides else []
    except TreeError as error:
        faults += error.faults
        layers += [error.tree] if error.tree is not None else []
    return section_from(_class_for(section, layers, faults), layers, faults, complete=readable)


def section_from(
    section: type[_S], layers: Iterable[Node], faults: Iterable[Fault] = (), *, complete: bool = True
) -> _S:
    """Merge trees of settings in order and make a section of them.

    Args:
        section: The class to make.
        layers: Trees whose top level is a mapping (or holds nothing).
        faults: Found before, reported with those found here.
        complete: False if a layer could not be read, so that nothing can be said of what is missing.

    Raises:
        ConfigError: Every fault, in the order of the layers and lines.
    """
    layers = list(layers)
    gathered = list(faults)
    tree = Node({}, Mark(", ".join(dict.fromkeys(layer.mark.source for layer in layers)) or section.__name__))
    kinds = kinds_said(layers)
    for layer in layers:
        if layer.value is not None and not isinstance(layer.value, dict):
            gathered.append(
                Fault("", "no mapping of settings", layer.mark, "Write name: value pairs at the top level.")
            )
        elif layer.value is not None:
            tree = Node(merge(tree, layer, section, kinds).value, tree.mark)
    tree, unknown = tidy(tree, section)
    gathered += unknown
    made: _S | None = None
    try:
        made = section.model_validate(plain(tree))
    except pydantic.ValidationError as error:
        gathered += faults_of(error, section, tree, complete=complete)
    if gathered or made is None:
        order = {layer.mark.source: i for i, layer in enumerate(layers)}
        gathered.sort(key=lambda fault: _place_in(order, fault.mark))
        raise ConfigError("\n".join(dict.fromkeys(str(fault) for fault in gathered)))
    return made


def _class_for(section: Any, layers: list[Node], faults: list[Fault]) -> type[Section]:
    """The class itself, or the one of several that the last layer with a kind asks for."""
    kinds = {str(kind_of(part)): part for part in sections_in(section)}
    if len(kinds) == 1:
        return next(iter(kinds.values()))
    said = [
        str(layer.value["kind"].value) for layer in layers if isinstance(layer.value, dict) and "kind" in layer.value
    ]
    if not said or said[-1] not in kinds:
        problem = f'"{said[-1]}" is not known' if said else "missing"
        unknown = Fault("kind", problem, None, f"Choose {' or '.join(kinds)}.")
        raise ConfigError("\n".join(str(fault) for fault in [*faults, unknown]))
    return kinds[said[-1]]


def dump_section(section: Section) -> str:
    """Complete YAML of a section: every setting said, whole paths; loads back equal."""
    return dump_yaml(section.to_dict())


def dump_experiment(experiment: Experiment) -> str:
    """Complete YAML of an experiment: every setting said, whole paths; loads back equal."""
    return dump_section(experiment)


def save_section(section: Section, path: str | os.PathLike[str]) -> None:
    """Write a section durably; ``load_section`` of its class reads it back equal."""
    write_text(Path(path), dump_section(section))


def save_experiment(experiment: Experiment, path: str | os.PathLike[str]) -> None:
    """Write an experiment durably; ``load_experiment`` reads it back equal."""
    save_section(experiment, path)


def presets() -> dict[str, str]:
    """The presets that come with Maskwright: name to the sentence in their first line."""
    named = {entry.name.removesuffix(".yaml"): entry for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml")}
    return {name: named[name].read_text("utf-8").partition("\n")[0].lstrip("# ") for name in sorted(named)}


def _read_file(name: str) -> Node:
    """One file or preset as a tree.

    Raises:
        TreeError: It cannot be opened, is no text, or is no usable YAML.
    """
    if name.startswith(PRESET_PREFIX):
        known = presets()
        wanted = name.removeprefix(PRESET_PREFIX)
        if wanted not in known:
            advice = did_you_mean(wanted, list(known)) or f"Known: {', '.join(known)}."
            raise TreeError([Fault("", f'no preset is called "{wanted}"', None, advice)])
        return parse_yaml((_PRESETS / f"{wanted}.yaml").read_text("utf-8"), name)
    path = Path(name).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise TreeError([Fault("", "not a text in UTF-8", Mark(name, line), "Save the file as UTF-8.")]) from error
    except OSError as error:
        raise TreeError([_unreadable(name, path, error)]) from error
    return parse_yaml(text, name, path.absolute().parent)


def _unreadable(name: str, path: Path, error: OSError) -> Fault:
    if path.is_dir():
        return Fault(
            name, "a folder, not a file of settings", None, f"Name the file, for example {path / 'config.yaml'}."
        )
    if isinstance(error, FileNotFoundError):
        advice = f"Write {PRESET_PREFIX}{name} for the preset." if name in presets() else "Check the path."
        return Fault(name, "no such file", None, advice)
    return Fault(name, f"cannot be read: {error.strerror or error}")


def overrides_tree(overrides: _Overrides, said: str = "--set") -> Node:
    """All overrides as one tree, so that their order does not matter where a kind changes.

    Args:
        overrides: As in ``load_experiment``.
        said: How the user said the texts among them, for messages.

    Raises:
        TreeError: With every fault and the tree of the others.
    """
    if isinstance(overrides, Mapping):
        return to_node(dict(overrides), Mark("overrides"))
    root = Node({}, Mark(said))
    faults: list[Fault] = []
    for override in overrides:
        try:
            path, node = _parse_override(override, said)
        except TreeError as error:
            faults += error.faults
        else:
            put(root, path, node)
    if faults:
        raise TreeError(faults, root)
    return root


def _parse_override(override: str | Override, flag: str) -> tuple[str, Node]:
    if isinstance(override, Override):
        return override.path, to_node(override.value, Mark(override.said))
    said = f"{flag} {override}"
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        advice = f"Write for example {flag} training.epochs=20."
        raise TreeError([Fault("", "no section.key=value", Mark(said), advice)])
    return path, parse_yaml(text, said, lines=False)


def _place_in(order: dict[str, int], mark: Mark | None) -> tuple[int, int]:
    if mark is None:
        return (-1, 0)
    return (order.get(mark.source, len(order)), mark.line or 0)
