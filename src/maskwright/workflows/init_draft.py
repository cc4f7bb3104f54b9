"""A commented experiment file in the making: settings, each with its reason and whether a person must look at it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ASK", "Draft", "Entry"]

ASK = "PLEASE CHECK"
"""How lines begin that could not be known from the data."""

_WIDE = 78


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting.

    Attributes:
        path: Dotted place.
        value: Plain value, or a path.
        why: The comment behind it.
        unsure: True if it is a guess that a person must confirm.
    """

    path: str
    value: Any
    why: str = ""
    unsure: bool = False


@dataclass
class Draft:
    """An experiment file in the making.

    Attributes:
        about: What was found in the data, a sentence each, for the head of the file.
        entries: The settings, in order.
        unknown: What could not be known, a sentence each.
    """

    about: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def put(self, path: str, value: Any, why: str = "", *, unsure: bool = False) -> None:
        """Add a setting, or replace the one at the same place."""
        entry = Entry(path, value, why, unsure)
        for index, other in enumerate(self.entries):
            if other.path == path:
                self.entries[index] = entry
                return
        self.entries.append(entry)

    def settings(self) -> dict[str, Any]:
        """The settings as a nested mapping, paths whole."""
        tree: dict[str, Any] = {}
        for entry in self.entries:
            *way, last = entry.path.split(".")
            node = tree
            for step in way:
                node = node.setdefault(step, {})
            node[last] = _plain(entry.value, None)
        return tree

    def text(self, beside: Path) -> str:
        """The file as text.

        Args:
            beside: Folder the file will lie in; paths are told from there where that is short.
        """
        lines = [f"# {line}" for line in self.about]
        if self.unknown:
            lines += ["#", f"# Not known from the data; see the lines marked {ASK}:"]
            lines += [f"#   - {line}" for line in self.unknown]
        tree: dict[str, Any] = {}
        for entry in self.entries:
            *way, last = entry.path.split(".")
            node = tree
            for step in way:
                node = node.setdefault(step, {})
            node[last] = entry
        return "\n".join([*lines, *_lines(tree, 0, beside)]) + "\n"


def _lines(tree: Mapping[str, Any], depth: int, beside: Path) -> Iterator[str]:
    space = "  " * depth
    for name, node in tree.items():
        if isinstance(node, Entry):
            why = f"{ASK}: {node.why}" if node.unsure else node.why
            yield from _setting(space, name, _plain(node.value, beside), why)
        else:
            yield f"{space}{name}:"
            yield from _lines(node, depth + 1, beside)


def _setting(space: str, name: str, value: Any, why: str) -> Iterator[str]:
    """One line, or a comment above the setting where the line would be long."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if why:
            yield f"{space}# {why}"
        yield f"{space}{name}:"
        for item in value:
            yield f"{space}  - {_flow(item)}"
        return
    line = f"{space}{name}: {_flow(value)}"
    if why and len(line) + len(why) > _WIDE:
        yield f"{space}# {why}"
        yield line
    else:
        yield line + (f"  # {why}" if why else "")


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(value: Any, beside: Path | None) -> Any:
    """Paths as texts, from ``beside`` where given, whole elsewhere; tuples as lists."""
    if isinstance(value, Path):
        if beside is None:
            return str(value.absolute())
        near = os.path.relpath(value.absolute(), beside.absolute())
        return near if near.count("..") <= 4 else str(value.absolute())
    if isinstance(value, list | tuple):
        return [_plain(item, beside) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, beside) for name, item in value.items()}
    return value
