"""Trees of settings: one laid over another, and made ready for validation. Reads no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from maskwright.config.base import Section, item_sections, kind_of, sections_in, union_members, whole_path
from maskwright.config.fields import suggestion
from maskwright.config.yaml_tree import Fault, Node

__all__ = ["kinds_said", "merge", "put", "tidy"]

_Kinds = Mapping[str, str | None]


def kinds_said(layers: Iterable[Node]) -> dict[str, str | None]:
    """The kinds that trees say for the sections at their top; of several trees the last that says one counts."""
    trees = [layer.value for layer in layers if isinstance(layer.value, dict)]
    return {name: kind for tree in trees for name, node in tree.items() if (kind := _said_kind(node)) is not None}


def merge(base: Node, over: Node, section: type[Section] | None = None, kinds: _Kinds | None = None) -> Node:
    """``over`` on top of ``base``: mappings recursively, anything else replaced.

    A section that changes its kind is replaced whole: the options of one kind mean nothing to another. A section
    written without content says nothing and wipes nothing out.

    Args:
        base: What was said before.
        over: What is said now.
        section: The class of both, which tells the kind where none is said; None if unknown.
        kinds: What is said for the kinds of the sections inside, where more trees than these two have a say in it.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return base if over.value is None and isinstance(base.value, dict) else over
    merged = dict(base.value)
    unsaid = section.kinds_unsaid(kinds_said((base, over)) if kinds is None else kinds) if section is not None else {}
    for name, node in over.value.items():
        field = section.model_fields.get(name) if section is not None else None
        old = merged.get(name)
        if old is None or _kind_changes(old, node, unsaid.get(name)):
            merged[name] = node
        else:
            kind = _said_kind(node) or _said_kind(old) or unsaid.get(name)
            merged[name] = merge(old, node, _section_of(field, kind))
    return Node(merged, over.mark if over.mark.line is not None else base.mark)


def put(root: Node, path: str, node: Node) -> None:
    """Hang ``node`` into the tree of mappings at a dotted path, merged with what stands there already."""
    *parents, last = path.split(".")
    for name in parents:
        inner = root.value.get(name)
        if inner is None or not isinstance(inner.value, dict):
            inner = root.value[name] = Node({}, node.mark)
        root = inner
    old = root.value.get(last)
    root.value[last] = node if old is None else merge(old, node)


def tidy(tree: Node, section: type[Section]) -> tuple[Node, list[Fault]]:
    """The tree of a section made ready: unknown names taken out, paths whole, empty and missing sections filled in.

    Unknown names leave the tree so that validators that look at a whole section still run and all faults show at once.

    Returns:
        The new tree and a fault for each unknown name.
    """
    tidier = _Tidier(section)
    return tidier.section(tree, (section,), section, ""), tidier.faults


class _Tidier:
    """Walks a tree along its section classes and gathers faults; suggestions are looked for in all of ``root``."""

    def __init__(self, root: type[Section]) -> None:
        self.root = root
        self.faults: list[Fault] = []

    def section(self, node: Node, kinds: tuple[type[Section], ...], section: type[Section], path: str) -> Node:
        """The node of a ``section``, which is one of the ``kinds`` that may stand here."""
        ready: dict[str, Node] = {}
        unsaid = section.kinds_unsaid(kinds_said((node,)))
        for name, part in node.value.items():
            field = section.model_fields.get(name)
            if field is None:
                self.faults.append(self._unknown(name, part, kinds, section, path))
            else:
                ready[name] = self._field(part, field, unsaid.get(name), _join(path, name))
        for name, field in section.model_fields.items():
            known = len(sections_in(field.annotation)) == 1 or unsaid.get(name) is not None
            if name not in ready and field.is_required() and known:
                ready[name] = self._field(Node({}, node.mark), field, unsaid.get(name), _join(path, name))
        return Node(ready, node.mark)

    def _field(self, node: Node, field: FieldInfo, unsaid: str | None, path: str) -> Node:
        kinds, members = sections_in(field.annotation), union_members(field.annotation)
        if kinds and node.value is None and type(None) not in members:
            node = Node({}, node.mark)
        if kinds and isinstance(node.value, dict):
            section = _section_of(field, _said_kind(node) or unsaid)
            return self.section(node, kinds, section, path) if section is not None else node
        items = item_sections(field.annotation)
        if len(items) == 1 and isinstance(node.value, list):
            return Node([self._entry(entry, items, f"{path}[{i}]") for i, entry in enumerate(node.value)], node.mark)
        return _whole(node, field) if Path in members else node

    def _entry(self, node: Node, kinds: tuple[type[Section], ...], path: str) -> Node:
        return self.section(node, kinds, kinds[0], path) if isinstance(node.value, dict) else node

    def _unknown(
        self, name: str, node: Node, kinds: tuple[type[Section], ...], section: type[Section], path: str
    ) -> Fault:
        """The fault of an unknown name: it belongs to another kind, or something like it exists."""
        others = [str(kind_of(kind)) for kind in kinds if name in kind.model_fields]
        if others:
            problem = f"unknown setting for {_join(path, 'kind')} {kind_of(section)}"
            return Fault(_join(path, name), problem, node.mark, f"It belongs to {' or '.join(others)}.")
        advice = suggestion(_join(path, name), self.root, section.model_fields)
        return Fault(_join(path, name), "unknown setting", node.mark, advice)


def _whole(node: Node, field: FieldInfo) -> Node:
    """A path that starts where it should: beside its file, or in the working folder where the setting says so."""
    words = {word for member in union_members(field.annotation) for word in get_args(member)}
    if not isinstance(node.value, str) or not node.value or node.value in words or node.value.startswith(("~", "${")):
        return node  # for the section's own validators; variables were typed in the working folder
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    folder = node.mark.folder if extra.get("beside_file", True) else None
    return Node(str(whole_path(Path(node.value), folder)), node.mark)


def _said_kind(node: Node) -> str | None:
    kind = node.value.get("kind") if isinstance(node.value, dict) else None
    return None if kind is None else str(kind.value)


def _kind_changes(base: Node, over: Node, unsaid: str | None) -> bool:
    new = _said_kind(over)
    old = _said_kind(base) or unsaid
    return new is not None and old is not None and new != old


def _section_of(field: FieldInfo | None, kind: str | None) -> type[Section] | None:
    """The class of a field's value: the only one, or the one of this kind."""
    if field is None:
        return None
    sections = sections_in(field.annotation)
    if len(sections) == 1:
        return sections[0]
    return next((section for section in sections if kind_of(section) == kind), None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
