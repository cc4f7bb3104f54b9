"""``__all__``: sorted, complete, and true, in every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "maskwright"
MODULES = sorted(SOURCE.rglob("*.py"))


def listed(tree: ast.Module) -> list[str] | None:
    """The names in ``__all__``, or None if the module has none."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if (
            any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
            and node.value is not None
        ):
            return list(ast.literal_eval(node.value))
    return None


def defined(tree: ast.Module) -> set[str]:
    """Every name a module binds itself at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def public(tree: ast.Module) -> set[str]:
    """Classes, functions and constants without a leading underscore.

    Names of types (``Counts = npt.NDArray[np.int64]``) and loggers may be listed but need not.
    """
    made = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in made | {name for name in defined(tree) if name.isupper()} if not name.startswith("_")}


def imported(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }


def lazily_found(tree: ast.Module) -> set[str]:
    """Names a package finds on first use: the string keys of its private tables, where it defines ``__getattr__``."""
    if not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body):
        return set()
    return {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES])
def test_all_is_sorted_and_lists_exactly_the_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = listed(tree)
    if names is None:
        assert path.name == "__init__.py", "no __all__"
        assert not public(tree) | imported(tree), "no __all__, though there are public names"
        return
    constants = {name for name in names if name.isupper()}
    classes = {name for name in names if name[:1].isupper()} - constants
    by_custom = sorted(constants) + sorted(classes) + sorted(set(names) - constants - classes)
    assert names in (sorted(names), by_custom), "__all__ is not sorted"
    assert len(names) == len(set(names))
    assert not public(tree) - set(names), "public names missing from __all__"
    assert not set(names) - defined(tree) - imported(tree) - lazily_found(tree), "__all__ lists what does not exist"
