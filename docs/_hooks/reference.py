"""Writes the reference while the docs are built: settings, commands, presets and Python names, from the code itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/settings.md": settings,
        "reference/commands.md": commands,
        "reference/presets.md": presets,
        "reference/python.md": python_names,
    }
    for path, write in pages.items():
        files.append(File.generated(config, path, content="\n".join(write()) + "\n"))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Take the roles of docstrings away; the name alone is enough here."""
    return re.sub(r":(?:func|class|meth|mod|attr):(?=<code>)", "", html)


def settings() -> Iterator[str]:
    """Every setting with its unit, range and default, by section."""
    from maskwright.config import Experiment, field_specs

    yield "# Settings\n"
    yield "Everything an experiment file may say. `maskwright config explain NAME` tells the same in the terminal,"
    yield "`maskwright config schema` gives a JSON schema to editors.\n"
    sections: dict[str, list[Any]] = {}
    for spec in field_specs(Experiment):
        sections.setdefault(spec.path.rpartition(".")[0], []).append(spec)
    for section, rows in sections.items():
        yield f"\n## {section or 'experiment'}\n"
        yield "| setting | values | default | what it does |"
        yield "|---|---|---|---|"
        for spec in rows:
            cells = (f"`{spec.name}`", spec.values, _default(spec), _help(spec))
            yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def commands() -> Iterator[str]:
    """The help of every command."""
    import typer
    from typer.cli import get_docs_for_click

    from maskwright.cli.main import COMMANDS, load_command

    yield "# Commands\n"
    yield "`maskwright --help` lists them, `maskwright COMMAND --help` tells the same as here.\n"
    for name, (target, _) in COMMANDS.items():
        command = load_command(target, name)
        context = typer.Context(command, info_name=f"maskwright {name}")
        text = get_docs_for_click(obj=command, ctx=context, name=f"maskwright {name}")
        yield text.replace("\n# ", "\n## ").replace("# `", "## `", 1).replace("<br/>", " ")


def presets() -> Iterator[str]:
    """The presets and their text."""
    from importlib import resources

    from maskwright.config import presets as known

    yield "# Presets\n"
    yield "Put `preset:NAME` before your own file: `maskwright train preset:quick my_forest.yaml`.\n"
    folder = resources.files("maskwright.config") / "presets"
    for name, text in known().items():
        yield f"\n## {name}\n\n{text}\n"
        yield "```yaml\n" + (folder / f"{name}.yaml").read_text(encoding="utf-8").rstrip() + "\n```"


def python_names() -> Iterator[str]:
    """The names of the package by the modules they come from."""
    import maskwright

    yield "# Python\n"
    yield "What `import maskwright` offers. Losses, metrics and models lie in packages of their own below.\n"
    yield "## maskwright\n"
    for _, (module, inner) in sorted(maskwright._HOMES.items()):
        yield f"::: {module}.{inner}\n"
    for package in ("losses", "metrics", "models", "optim", "data", "training", "checkpoints", "prediction"):
        module = __import__(f"maskwright.{package}", fromlist=["__all__"])
        listed = [name for name in module.__all__ if name not in maskwright._HOMES]
        if listed:
            yield f"## maskwright.{package}\n"
            for name in listed:
                yield f"::: maskwright.{package}.{name}\n"


def _help(spec: Any) -> str:
    return f"{spec.help} ({spec.when})" if spec.when else str(spec.help)


def _default(spec: Any) -> str:
    """The default as a file would say it."""
    value = spec.default
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return "" if value is None else f"`{list(value) if isinstance(value, tuple) else value}`"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
