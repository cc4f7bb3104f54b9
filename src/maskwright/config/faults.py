"""Faults in words: what was wrong, where, and what to do, one line each.

A validator of a section may begin its message with the name of a setting and a colon (``"shares: they add up to 2"``);
the fault is then shown at that setting, with its file and line. A second sentence is taken for advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from maskwright.config.base import Section, Unfit, item_sections, kind_of, sections_in
from maskwright.config.fields import FieldSpec, field_spec, suggestion
from maskwright.config.yaml_tree import Fault, Mark, Node, to_node

__all__ = ["describe", "did_you_mean", "faults_of", "show"]

_LIMITS = {
    "greater_than_equal": ("ge", "is below the minimum {}"),
    "greater_than": ("gt", "is not above {}"),
    "less_than_equal": ("le", "is above the maximum {}"),
    "less_than": ("lt", "is not below {}"),
}
_NAMED_SETTING = re.compile(r"([a-z_]\w*(?:\.\w+|\[\d+\])*): (.+)", re.DOTALL)
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class _Place:
    """A location of pydantic's, translated: the dotted path, the setting if it is one, and the nearest node."""

    path: str
    spec: FieldSpec | None
    node: Node

    @property
    def mark(self) -> Mark:
        return self.node.mark


def describe(error: pydantic.ValidationError, section: type[Section], values: Mapping[str, Any]) -> str:
    """The faults of a section made from Python, one line each; the class name stands where a file would."""
    tree = to_node(dict(values), Mark(section.__name__))
    return "\n".join(dict.fromkeys(str(fault) for fault in faults_of(error, section, tree)))


def faults_of(
    error: pydantic.ValidationError, section: type[Section], tree: Node, *, complete: bool = True
) -> list[Fault]:
    """Every fault of a validation in our words; several of pydantic's that concern one value become one.

    Args:
        error: What pydantic raised.
        section: The class that was validated.
        tree: What was validated, for the marks.
        complete: False if part of the settings could not be read: then only wrong values are faults, not what is
            missing or does not fit together.
    """
    by_place: dict[str, list[tuple[ErrorDetails, _Place]]] = {}
    for detail in error.errors(include_url=False):
        if not complete and detail["type"] in ("missing", "union_tag_not_found", "value_error"):
            continue
        if isinstance(detail["input"], Unfit):
            detail["input"] = detail["input"].value
        loc = detail["loc"]
        if detail["type"] == "missing" and isinstance(loc[-1], int):  # a list that is too short, not an entry
            loc = loc[:-1]
        place = _place_of(loc, section, tree)
        by_place.setdefault(place.path, []).append((detail, place))
    faults = []
    for group in by_place.values():
        # Of the members of a union, one that read the value and found it out of range knows best.
        detail, place = next((pair for pair in group if pair[0]["type"] in _LIMITS), group[0])
        if len(group) > 1 and detail["type"] not in _LIMITS and place.spec is not None:
            faults.append(_wrong_type(detail["input"], place))
        elif detail["type"] == "value_error":
            texts = str(detail.get("ctx", {})["error"]).splitlines()
            faults += [_told_by_validator(text, place, detail["loc"], section, tree) for text in texts]
        else:
            faults.append(_fault(detail, place, section))
    return faults


def did_you_mean(word: Any, words: list[str]) -> str:
    """A question naming the closest of ``words``, first that of the same parts in another order, or nothing."""
    known = {known.lower(): known for known in words}
    turned = [other for other in known if sorted(other.split("_")) == sorted(str(word).lower().split("_"))]
    close = turned or get_close_matches(str(word).lower(), known, 1, 0.6)
    return f"Did you mean {known[close[0]]}?" if close else ""


def show(value: Any) -> str:
    """A value as one would write it in YAML, shortened if long."""
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, bool):
        text = str(value).lower()
    elif value is None:
        text = "null"
    elif isinstance(value, Mapping):
        return "a group of settings"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(show(entry) for entry in value)}]"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]} ..."


def _fault(detail: ErrorDetails, place: _Place, root: type[Section]) -> Fault:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Fault(place.path, "unknown setting", place.mark, suggestion(place.path, root))
    if kind == "missing" and not isinstance(detail["loc"][-1], int):
        return Fault(place.path, "missing", place.mark, _advice(place.spec))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_kind(str(context.get("tag", "")), place)
    if kind in _LIMITS:
        name, phrase = _LIMITS[kind]
        return Fault(
            place.path, f"{show(value)} {phrase.format(f'{context[name]:.15g}')}", place.mark, _advice(place.spec)
        )
    if kind == "literal_error" and place.spec is not None:
        close = did_you_mean(value, list(place.spec.choices))
        return Fault(place.path, f"{show(value)} is not {place.spec.what}", place.mark, close)
    if kind in ("missing", "too_long", "too_short") and place.spec is not None:
        entries = list(value) if isinstance(value, list | tuple) else []
        count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
        return Fault(place.path, f"{show(entries)} has {count}", place.mark, _advice(place.spec))
    if kind in ("string_pattern_mismatch", "string_too_short"):
        return Fault(place.path, f"{show(value)} is not allowed", place.mark, _advice(place.spec))
    return _wrong_type(value, place)


def _wrong_type(value: Any, place: _Place) -> Fault:
    if place.spec is None:
        return Fault(place.path, f"{show(value)} is not a group of settings", place.mark, "Write name: value pairs.")
    if place.spec.item_type == "str" and isinstance(value, int | float):
        return Fault(place.path, f"{show(value)} is not a text", place.mark, f'Put it in quotes: "{value}".')
    advice = "Write name: value pairs." if place.spec.type == "section" else _advice(place.spec)
    if place.spec.type.startswith("list["):
        single = not isinstance(value, list | tuple | Mapping) and place.spec.item_type != "section"
        advice = f"Write a list, for example [{show(value)}]." if single else "Write the whole list."
    return Fault(place.path, f"{show(value)} is not {place.spec.what}", place.mark, advice)


def _wrong_kind(kind: str, place: _Place) -> Fault:
    choices = list(place.spec.choices) if place.spec is not None else []
    problem = f'"{kind}" is not known' if kind else "missing"
    advice = f"Choose {' or '.join(choices)}." if not kind else did_you_mean(kind, choices)
    return Fault(
        f"{place.path}.kind", problem, _step(place.node, "kind").mark, advice or f"Choose {' or '.join(choices)}."
    )


def _told_by_validator(text: str, place: _Place, loc: tuple[int | str, ...], root: type[Section], tree: Node) -> Fault:
    """A message of one of our own validators; one that begins with a setting's name is shown at that setting."""
    named = _NAMED_SETTING.fullmatch(text)
    path, mark = place.path, place.mark
    if named is not None:
        inner = tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", named[1]))
        found = _place_of((*loc, *inner), root, tree)
        if found.spec is not None:
            path, mark, text = found.path, found.mark, named[2]
    problem, _, advice = text.partition(". ")
    if not advice:
        problem, _, advice = text.partition("; ")
    advice = advice[:1].upper() + advice[1:]
    if advice and not advice.endswith("?"):
        advice = f"{advice.rstrip('.')}."
    return Fault(path, problem.rstrip("."), mark, advice)


def _advice(spec: FieldSpec | None) -> str:
    """What to write instead, with an example and the meaning."""
    if spec is None:
        return ""
    meaning = spec.help.rstrip(".")
    if meaning[1:2].islower() or meaning[1:2] == " ":
        meaning = meaning[:1].lower() + meaning[1:]
    example = "" if spec.default in (None, "", ()) or spec.type == "bool" else f", for example {show(spec.default)}"
    return f"Set {spec.values}{example}: {meaning}."


def _place_of(loc: tuple[int | str, ...], root: type[Section], tree: Node) -> _Place:
    """Follow pydantic's location through classes and tree; labels it adds for members of unions are left out."""
    sections: tuple[type[Section], ...] = (root,)
    items: tuple[type[Section], ...] = ()
    path, spec, node = "", None, tree
    expect_kind = False
    for part in loc:
        if isinstance(part, int):
            path, sections, node = f"{path}[{part}]", items, _step(node, part)
            items, spec = (), _entry_of(spec) if spec is not None and not items else None
            continue
        if expect_kind and part in [kind_of(section) for section in sections]:
            sections, expect_kind = tuple(section for section in sections if kind_of(section) == part), False
            continue
        owner = next((section for section in sections if part in section.model_fields), None)
        if owner is None:
            if sections:  # an unknown name
                path, spec, node = _joined(path, part), None, _step(node, part)
            break
        field = owner.model_fields[part]
        path, node = _joined(path, part), _step(node, part)
        spec, sections, items = (
            field_spec(owner, part, path),
            sections_in(field.annotation),
            item_sections(field.annotation),
        )
        expect_kind = len(sections) > 1
    return _Place(path, spec, node)


def _entry_of(spec: FieldSpec) -> FieldSpec:
    """The description of one entry of a list."""
    return replace(spec, type=spec.item_type, length=(None, None), default=None, optional=False)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _step(node: Node, part: int | str) -> Node:
    """The node under a name or number; the node itself if nobody said that one."""
    under: Node | None = None
    if isinstance(node.value, dict):
        under = node.value.get(part)
    elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        under = node.value[part]
    return node if under is None else under
