"""FieldSpec: everything the faces say about a setting, read from the section classes themselves.

The command line, the forms and the reference page ask here; a setting that is not in this list does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from maskwright.config.base import Section, item_sections, kind_of, sections_in, union_members
from maskwright.errors import ConfigError

__all__ = ["Explanation", "FieldSpec", "explain", "field_spec", "field_specs", "suggestion"]

_TYPE_WORDS = {int: "int", float: "float", bool: "bool", str: "str", Path: "path"}
_PHRASES = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("true or false", "true or false"),
    "str": ("a text", "texts"),
    "path": ("a path", "paths"),
    "section": ("a group of settings", "groups of settings"),
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One setting.

    Attributes:
        path: Dotted place in the experiment, for example ``training.epochs``; ``data.sites[].name`` inside a list.
        type: int, float, bool, str, path, choice, section, or list[...] of one of these.
        default: Plain default value; None if there is none (``required``) or if unset is the default (``optional``).
        help: One or two sentences.
        unit: For example ``m``, ``px``, ``epochs``; empty for plain numbers and words.
        choices: Words it takes; beside numbers or paths if ``type`` is not choice.
        minimum: Smallest value, None if there is none; ``above_minimum`` tells that it must be larger.
        maximum: Largest value, None if there is none; ``below_maximum`` tells that it must be smaller.
        above_minimum: True if the minimum itself is not allowed.
        below_maximum: True if the maximum itself is not allowed.
        length: Least and largest number of entries of a list.
        optional: True if it may be left empty (null).
        advanced: True if most users never touch it.
        required: True if it must be given.
        when: The kinds that have this setting, for example ``model.kind = film_unet``; empty: always there.
    """

    path: str
    type: str
    default: Any
    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above_minimum: bool = False
    below_maximum: bool = False
    length: tuple[int | None, int | None] = (None, None)
    optional: bool = False
    advanced: bool = False
    required: bool = False
    when: str = ""

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition(".")[2]

    @property
    def item_type(self) -> str:
        """The type of the entries of a list; of the value itself otherwise."""
        return self.type[5:-1] if self.type.startswith("list[") else self.type

    @property
    def range(self) -> str:
        """The allowed range in words with its unit, for example ``from 1 to 1024 batches``; empty without limits."""
        low = "" if self.minimum is None else f"{'above' if self.above_minimum else 'from'} {self.minimum:g}"
        high = "" if self.maximum is None else f"{'to below' if self.below_maximum else 'to'} {self.maximum:.15g}"
        if high and not low:
            high = high.removeprefix("to ") if self.below_maximum else f"up {high}"
        if low and not high and not self.above_minimum:
            low = f"{low[5:]} or more"
        return " ".join(word for word in (low, high, self.unit) if word) if low or high else ""

    @property
    def what(self) -> str:
        """What may be written, in words and without limits: ``a number``, ``one of site, blocks``."""
        return self._words("", "")

    @property
    def values(self) -> str:
        """What may be written, in words and with limits: ``a number above 0 m or null``."""
        unit = f"in {self.unit}" if self.unit and self.item_type in ("int", "float") else ""
        least, most = self.length
        count = f"{least} " if least is not None and least == most else ""
        more = f" (at least {least})" if least and not count else ""
        return self._words(self.range or unit, count) + more + (" or null" if self.optional else "")

    def _words(self, limits: str, count: str) -> str:
        is_list = self.type.startswith("list[")
        words = [f'"{choice}"' if self.item_type != "choice" else choice for choice in self.choices]
        if self.item_type != "choice":
            words.insert(0, " ".join(part for part in (_PHRASES[self.item_type][is_list], limits) if part))
        text = "one of " + ", ".join(words) if self.type == "choice" and len(words) > 1 else " or ".join(words)
        return f"a list of {count}{text}" if is_list else text


@dataclass(frozen=True, slots=True)
class Explanation:
    """A setting and those beside it.

    Attributes:
        specs: The setting; more than one if several kinds have it with different defaults or ranges, or the settings
            inside if a whole section was asked for.
        neighbours: Paths of the settings of the same section, in the order written.
    """

    specs: tuple[FieldSpec, ...]
    neighbours: tuple[str, ...]


def field_spec(section: type[Section], name: str, path: str | None = None, when: str = "") -> FieldSpec:
    """The description of one field of a section, at ``path`` (by default its own name)."""
    field = section.model_fields[name]
    members = [member for member in union_members(field.annotation) if member is not type(None)]
    limits = _limits(field)
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    sections = sections_in(field.annotation)
    return FieldSpec(
        path=path or name,
        type="section" if sections else _type_of(members),
        default=None if sections else _default_of(field),
        help=field.description or "",
        unit=str(extra.get("unit", "")),
        choices=tuple(str(kind_of(part)) for part in sections) if len(sections) > 1 else _choices(members),
        minimum=limits.get("ge", limits.get("gt")),
        maximum=limits.get("le", limits.get("lt")),
        above_minimum="gt" in limits,
        below_maximum="lt" in limits,
        length=_length(field, members),
        optional=type(None) in union_members(field.annotation),
        advanced=bool(extra.get("advanced", False)),
        required=field.is_required(),
        when=when,
    )


def field_specs(section: type[Section], prefix: str = "", when: str = "") -> tuple[FieldSpec, ...]:
    """Every setting of a section and of the sections inside it, in the order written.

    Args:
        section: Any section class, for example ``Experiment``.
        prefix: Put before each path, with its dot: ``"training."``.
        when: Passed on to each spec.
    """
    return tuple(spec for spec in _walk(section, prefix, when) if spec.type != "section")


def explain(name: str, root: type[Section] | None = None) -> Explanation:
    """A setting by its full path, by its last word if that is unique, or a section by its path.

    Raises:
        ConfigError: Unknown name, with a suggestion; or a word that several settings share, with their paths.
    """
    root = root or _experiment()
    everything = _all_of(root)
    wanted = [spec for spec in everything if spec.path == name]
    if not wanted and "." not in name:
        wanted = [spec for spec in everything if spec.name == name]
        wanted = [spec for spec in wanted if "[]" not in spec.path] or wanted  # those inside lists last
        if len({spec.path for spec in wanted}) > 1:
            paths = ", ".join(dict.fromkeys(spec.path for spec in wanted))
            raise ConfigError(f"{name}: several settings have this name: {paths}. Give the whole path.")
    if not wanted:
        raise ConfigError(f"{name}: unknown setting. {suggestion(name, root)}".rstrip())
    path = wanted[0].path
    if wanted[0].type == "section":
        inside = [spec for spec in everything if _parent(spec.path) == path]
        return Explanation((*wanted, *inside), tuple(dict.fromkeys(spec.path for spec in inside)))
    beside = dict.fromkeys(spec.path for spec in everything if _parent(spec.path) == _parent(path))
    return Explanation(tuple(wanted), tuple(other for other in beside if other != path))


@cache
def _all_of(root: type[Section]) -> tuple[FieldSpec, ...]:
    """Every setting and section; the command line asks for dozens of them, one by one, each time it starts."""
    return _merge_kinds(_walk(root, "", ""))


def suggestion(path: str, root: type[Section] | None = None, known: Iterable[str] = ()) -> str:
    """A sentence that points from an unknown path to what was probably meant; empty if nothing comes close.

    Looks for a similar word beside the unknown one, then for the very same word elsewhere, then for similar words.

    Args:
        path: The unknown path, dotted, from the top of ``root``.
        root: The section in which it was given; by default a whole experiment.
        known: Names that may stand in its place, where the kind of its section is known; otherwise those of any kind.
    """
    root = root or _experiment()
    specs = [*_walk(root, "", "")]
    parent, word = _parent(path), path.rpartition(".")[2]
    beside = [*known] or _unique(spec.name for spec in specs if _parent(spec.path) == re.sub(r"\[\d+\]", "[]", parent))
    by_name = {spec.name: spec.path for spec in reversed(specs)}
    candidates = (
        [_join(parent, other) for other in get_close_matches(word, beside, 1, 0.8)],
        _places(word, specs),
        [_join(parent, other) for other in get_close_matches(word, beside, 1, 0.6)],
        [] if beside else get_close_matches(path, [spec.path for spec in specs], 1, 0.8),
        [by_name[other] for other in get_close_matches(word, by_name, 1, 0.8)],
    )
    found = next((paths for paths in candidates if paths), [])
    if found:
        return f"Did you mean {' or '.join(found[:3])}?"
    elsewhere = _places(word, _walk(_experiment(), "", ""))
    if elsewhere:
        return f"In an experiment it is {' or '.join(elsewhere[:3])}."
    return f"Known settings here: {', '.join(beside)}." if beside else ""


def _places(word: str, specs: Iterable[FieldSpec]) -> list[str]:
    """Paths of the settings of this name; those inside lists only where there are no others."""
    paths = _unique(spec.path for spec in specs if spec.name == word)
    return [path for path in paths if "[]" not in path] or paths


def _walk(section: type[Section], prefix: str, when: str) -> Iterator[FieldSpec]:
    for name, field in section.model_fields.items():
        path = prefix + name
        yield field_spec(section, name, path, when)
        sections = sections_in(field.annotation)
        if len(sections) > 1:
            yield _kind_choice(field, section.kinds_unsaid({}).get(name), path, when, sections)
            kinds = {f"{path}.kind = {kind_of(part)}": part for part in sections}
            inside = [spec for kind, part in kinds.items() for spec in _walk(part, f"{path}.", kind)]
            yield from _merge_kinds((spec for spec in inside if spec.path != f"{path}.kind"), set(kinds), when)
        else:
            for part in (*sections, *item_sections(field.annotation)):
                yield from _walk(part, f"{path}." if sections else f"{path}[].", when)


def _kind_choice(
    field: FieldInfo, default: str | None, path: str, when: str, sections: tuple[type[Section], ...]
) -> FieldSpec:
    kinds = tuple(str(kind_of(part)) for part in sections)
    meanings = "; ".join(
        f"{kind}: {(part.model_fields['kind'].description or '').rstrip('.')}"
        for kind, part in zip(kinds, sections, strict=True)
    )
    _, _, rule = (field.description or "").partition("; kind unsaid: ")
    meanings += f". Unsaid: {rule.rstrip('.')}" if rule else ""
    return FieldSpec(f"{path}.kind", "choice", default, meanings, choices=kinds, required=default is None, when=when)


def _merge_kinds(specs: Iterator[FieldSpec], kinds: set[str] | None = None, always: str = "") -> tuple[FieldSpec, ...]:
    """One spec for a setting that several kinds share; ``always`` is its ``when`` if all of ``kinds`` have it."""
    merged: dict[FieldSpec, list[str]] = {}
    for spec in specs:
        merged.setdefault(replace(spec, when="", default=_hashable(spec.default)), []).append(spec.when)
    return tuple(
        replace(spec, when=always if set(whens) == kinds else " or ".join(dict.fromkeys(whens)))
        for spec, whens in merged.items()
    )


def _hashable(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default


def _type_of(members: list[Any]) -> str:
    for member in members:
        if get_origin(member) is tuple:
            entry = get_args(member)[0]
            return "list[section]" if sections_in(entry) else f"list[{_type_of([*union_members(entry)])}]"
        if member in _TYPE_WORDS:
            return _TYPE_WORDS[member]
    return "choice"


def _choices(members: list[Any]) -> tuple[str, ...]:
    return tuple(str(word) for member in members if get_origin(member) is Literal for word in get_args(member))


def _length(field: FieldInfo, members: list[Any]) -> tuple[int | None, int | None]:
    for member in members:
        if get_origin(member) is tuple and Ellipsis not in get_args(member):
            return len(get_args(member)), len(get_args(member))
    if not any(get_origin(member) is tuple for member in members):
        return None, None
    least = [rule.min_length for rule in field.metadata if isinstance(rule, annotated_types.MinLen)]
    most = [rule.max_length for rule in field.metadata if isinstance(rule, annotated_types.MaxLen)]
    return (least[0] if least else None), (most[0] if most else None)


def _limits(field: FieldInfo) -> dict[str, float]:
    rules = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
    names = [(rule, word) for rule in field.metadata if isinstance(rule, rules) for word in ("ge", "gt", "le", "lt")]
    return {word: float(getattr(rule, word)) for rule, word in names if hasattr(rule, word)}


def _default_of(field: FieldInfo) -> Any:
    if field.default is PydanticUndefined or field.is_required():
        return None
    if isinstance(field.default, tuple):
        return tuple(field.default)
    return str(field.default) if isinstance(field.default, Path) else field.default


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _experiment() -> type[Section]:
    from maskwright.config.experiment import Experiment  # the sections import this module's neighbours

    return Experiment
