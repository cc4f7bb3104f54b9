"""YAML that remembers where each value was said: text to a tree of nodes with marks, plain values to text.

Differs from PyYAML's safe loader where that one surprises: numbers are those of YAML 1.2 (``1e-7`` and ``1E5`` are
numbers, ``yes`` and ``12:30`` are texts), a name given twice in one mapping is refused, and so is anything but plain
values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Fault", "Mark", "Node", "TreeError", "dump_yaml", "parse_yaml", "plain", "to_node"]

_PLAIN_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value was said.

    Attributes:
        source: The file as the user named it, or ``--set a.b=c``.
        line: Line in the file, from 1; None where lines mean nothing.
        folder: Folder from which relative paths start; None: the working folder.
    """

    source: str
    line: int | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}, line {self.line}"


@dataclass(slots=True)
class Node:
    """A value with its mark: a plain scalar, a dictionary of nodes or a list of nodes."""

    value: Any
    mark: Mark


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: The setting, for example ``training.epochs``; empty if the fault belongs to no setting.
        problem: What is wrong with it, without a full stop.
        mark: Where it was said; None if nobody said it.
        advice: What to do, as a sentence; may be empty.
    """

    path: str
    problem: str
    mark: Mark | None = None
    advice: str = ""

    def __str__(self) -> str:
        where = "" if self.mark is None else f" ({self.mark})"
        head = f"{self.path}: {self.problem}" if self.path else self.problem
        return f"{head}{where}." + (f" {self.advice}" if self.advice else "")


class TreeError(ValueError):
    """A text is no usable YAML; ``tree`` holds what could be read of it, if anything."""

    def __init__(self, faults: list[Fault], tree: Node | None = None) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults
        self.tree = tree


class _Loader(yaml.SafeLoader):
    """Only composes nodes; values are made here, so that no tag can construct anything."""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would take for something else; lists of scalars on one line."""


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
for _name, _pattern, _first in _PLAIN_SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"^(?:<<)$"), ["<"])


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    scalars = not any(isinstance(value, dict | list) for value in values)
    return dumper.represent_sequence(_TAG + "seq", values, flow_style=scalars)


_Dumper.add_representer(list, _represent_list)


def dump_yaml(values: Any) -> str:
    """Plain values as YAML text that this module, and any YAML 1.1 or 1.2 reader, reads back equal."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000))


def parse_yaml(text: str, source: str, folder: Path | None = None, *, lines: bool = True) -> Node:
    """Read one YAML document.

    Args:
        text: The document.
        source: Its name for marks and messages.
        folder: Folder from which its relative paths start.
        lines: False if the text has no lines worth naming, such as a command-line option.

    Returns:
        The tree; a document without content is a node holding None.

    Raises:
        TreeError: With every fault found: broken syntax (only the first), names given twice, names that are no words,
            tags that stand for more than plain values, anchors that hold themselves.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise TreeError([_syntax_fault(error, text, source, folder, lines)]) from error
    if root is None:
        return Node(None, Mark(source, None, folder))
    builder = _Builder(source, folder, lines)
    tree = builder.node(root, builder.mark(root))
    if builder.faults:
        raise TreeError(builder.faults, tree)
    return tree


def plain(node: Node) -> Any:
    """The value of a tree without its marks."""
    if isinstance(node.value, dict):
        return {name: plain(part) for name, part in node.value.items()}
    if isinstance(node.value, list):
        return [plain(part) for part in node.value]
    return node.value


def to_node(values: Any, mark: Mark) -> Node:
    """A tree of plain values that were all said in one place."""
    if isinstance(values, dict):
        return Node({str(name): to_node(part, mark) for name, part in values.items()}, mark)
    if isinstance(values, list | tuple):
        return Node([to_node(part, mark) for part in values], mark)
    return Node(values, mark)


def _syntax_fault(error: yaml.YAMLError, text: str, source: str, folder: Path | None, lines: bool) -> Fault:
    place = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = place.line + 1 if place is not None else None
    problem = str(getattr(error, "problem", None) or error)
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', '')} {problem}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed"
    mark = Mark(source, line if lines else None, folder)
    if line is not None and re.match(r" *\t", (text.splitlines() + [""] * line)[line - 1]):
        return Fault("", "not valid YAML: a tab indents the line", mark, "Indent with spaces.")
    return Fault("", f"not valid YAML: {problem}", mark)


class _Builder:
    """Turns composed nodes into ours and gathers faults."""

    def __init__(self, source: str, folder: Path | None, lines: bool) -> None:
        self.source, self.folder, self.lines = source, folder, lines
        self.faults: list[Fault] = []
        self._open: list[yaml.Node] = []  # mappings and lists being read, to notice anchors that hold themselves

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.source, node.start_mark.line + 1 if self.lines else None, self.folder)

    def node(self, node: yaml.Node, mark: Mark, path: str = "") -> Node:
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node, path), mark)
        if any(node is other for other in self._open):
            self._fault(node, path, "an anchor holds itself", "Write the values out.")
            return Node(None, mark)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._unknown_tag(node, path)
            return Node(None, mark)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return Node(self._mapping(node, path), mark)
            return Node(
                [self.node(entry, self.mark(entry), f"{path}[{i}]") for i, entry in enumerate(node.value)], mark
            )
        finally:
            self._open.pop()

    def _fault(self, node: yaml.Node, path: str, problem: str, advice: str = "") -> None:
        self.faults.append(Fault(path, problem, self.mark(node), advice))

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Node]:
        said: dict[str, Node] = {}
        inherited: dict[str, Node] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                for part in self._merged(value, path):
                    inherited = {**part, **inherited}
            elif not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                text = str(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self._fault(key, path, f"{text or 'nothing'} stands where the name of a setting is needed")
            else:
                inner = f"{path}.{key.value}" if path else key.value
                if key.value in said:
                    first = said[key.value].mark.line
                    self._fault(key, inner, "given twice", f"It stands in line {first} already; keep one.")
                else:
                    said[key.value] = self.node(value, self.mark(key), inner)
        return {**inherited, **said}

    def _merged(self, value: yaml.Node, path: str) -> Iterator[dict[str, Node]]:
        """The mappings named by a ``<<`` key."""
        for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(part, yaml.MappingNode):
                tree = self.node(part, self.mark(part), path)
                if isinstance(tree.value, dict):
                    yield tree.value
            else:
                self._fault(part, path, "<< takes a mapping or a list of mappings")

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        try:
            if kind == "int":
                return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            if kind in ("bool", "null", "str"):
                return {"bool": text.lower() == "true", "null": None, "str": text}[kind]
        except ValueError:
            self._fault(node, path, f"{text} is not a number")
            return None
        self._unknown_tag(node, path)
        return None

    def _unknown_tag(self, node: yaml.Node, path: str) -> None:
        self._fault(node, path, f"the tag {node.tag} is not known", "Only plain values are read.")
