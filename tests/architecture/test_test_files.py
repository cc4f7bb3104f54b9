"""Every module has a test that knows it.

A module is known to the tests if one of these holds, and there is no list of exceptions:

- a file mirrors it: ``losses/overlap.py`` has ``tests/unit/losses/test_overlap.py``;
- a test takes something from it, by its own path or through the package that lists it;
- it is a face that nobody imports but people call by name, and a test calls it so: a command of the command line by its
  word, a page of the dashboard by its name, a script by its path, the package by ``python -m``.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "maskwright"
TESTS = ROOT / "tests"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def taken(nodes: ast.Module) -> set[tuple[str, str]]:
    """(module, name) of everything a file imports, and of dotted names of ours that it writes as text."""
    found = set()
    for node in ast.walk(nodes):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "maskwright":
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "maskwright":
            found.add(("maskwright", node.attr))
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("maskwright."):
            module, _, name = node.value.partition(":")
            found |= {(module, name), tuple(module.rpartition(".")[::2])}
    return found


@cache
def listed() -> dict[tuple[str, str], str]:
    """(package, name) to the module the package has the name from, of all packages; also of those that load lazily."""
    homes = {}
    for path in SOURCE.rglob("__init__.py"):
        package = dotted(path)
        homes |= {(package, name): module for module, name in taken(tree(path)) if name}
        for node in ast.walk(tree(path)):
            pairs = zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ()
            for key, value in pairs:
                first = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
                if isinstance(key, ast.Constant) and isinstance(first, ast.Constant):
                    homes[package, str(key.value)] = str(first.value)
    return homes


def home(module: str, name: str) -> set[str]:
    """The modules a test means that takes ``name`` from ``module``."""
    found = {module, f"{module}.{name}"}
    while (module, name) in listed() and listed()[module, name] != module:
        module = listed()[module, name]
        found.add(module)
    return found


@cache
def known() -> set[str]:
    """Modules that some test takes something from."""
    return {found for path in TESTS.rglob("*.py") for pair in taken(tree(path)) for found in home(*pair)}


@cache
def called() -> set[str]:
    """Modules that some test calls by the name people use."""
    from maskwright.cli.main import COMMANDS

    words, paths = set(), set()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                words |= {str(entry.value) for entry in node.elts if isinstance(entry, ast.Constant)}
            elif isinstance(node, ast.Call):
                words |= {str(entry.value) for entry in node.args if isinstance(entry, ast.Constant)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
                paths.add(node.value)
    commands = {target.partition(":")[0] for name, (target, _) in COMMANDS.items() if name in words}
    pages = {
        dotted(path) for path in SOURCE.glob("dashboard/pages/*.py") if {path.stem, path.stem.capitalize()} & words
    }
    scripts = {dotted(path) for path in MODULES if any(path.as_posix().endswith(f"/{end}") for end in paths)}
    return commands | pages | scripts | ({"maskwright.__main__"} if {"-m", "maskwright"} <= words else set())


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES])
def test_a_module_is_known_to_the_tests(path: Path) -> None:
    mirror = TESTS / "unit" / path.relative_to(SOURCE).parent / f"test_{path.name}"
    module = dotted(path)
    assert mirror.is_file() or module in known() | called(), (
        f"No test knows {module}. Write {mirror.relative_to(ROOT)}, or take something from it in another test."
    )


def test_a_name_is_followed_through_the_packages_that_list_it() -> None:
    assert "maskwright.losses.composite" in home("maskwright.losses", "CombinedLoss")
    assert "maskwright.training.trainer" in home("maskwright", "Trainer")
    assert home("maskwright.losses", "Nothing") == {"maskwright.losses", "maskwright.losses.Nothing"}


def test_a_module_that_no_test_names_is_found_out() -> None:
    assert ".".join(("maskwright", "losses", "imagined")) not in known() | called()
    assert not {module for module in called() if module.startswith("maskwright.losses")}
