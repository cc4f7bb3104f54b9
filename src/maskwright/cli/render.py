"""What commands print: errors, tables, settings. Long lines are never broken when the output goes to a file or pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # errors are printed where settings were never needed
    from maskwright.config import Explanation, FieldSpec

__all__ = ["print_error", "print_explanation", "print_table"]

_WIDTH_WITHOUT_SCREEN = 200


def print_error(text: str) -> None:
    """A message for a person on standard error, word for word; several lines stand below the heading."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]Error:[/bold red]{chr(10) if chr(10) in text else ' '}{escape(text)}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under headings on standard output; cells are printed word for word."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    _console().print(table)


def print_explanation(explanation: Explanation) -> None:
    """A setting with its meaning, values, unit, default and neighbours; of a section, the settings inside."""
    console = _console()
    first = explanation.specs[0]
    if first.type == "section":
        console.print(f"[bold]{escape(first.path)}[/bold]  {escape(first.help)}")
        rows = [(spec.path, spec.values, _default(spec), _meaning(spec)) for spec in explanation.specs[1:]]
        print_table(("setting", "values", "default", "meaning"), rows)
        return
    for spec in explanation.specs:
        console.print(f"[bold]{escape(spec.path)}[/bold]" + (f"  (with {escape(spec.when)})" if spec.when else ""))
        facts = {"meaning": spec.help, "values": spec.values, "unit": spec.unit, "default": _default(spec)}
        for name, text in facts.items():
            if text:
                console.print(f"  {name:<9}{escape(text)}")
    if explanation.neighbours:
        console.print("Neighbours: " + escape(", ".join(explanation.neighbours)))


def _meaning(spec: FieldSpec) -> str:
    return f"{spec.help} (with {spec.when})" if spec.when else spec.help


def _default(spec: FieldSpec) -> str:
    from maskwright.config.faults import show

    if spec.type == "section":
        return ""
    if spec.required:
        return "none, must be given"
    if spec.type == "choice" and spec.default is not None:
        return str(spec.default)
    return "null (unset)" if spec.default is None else show(spec.default)


def _console() -> Console:
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=_WIDTH_WITHOUT_SCREEN)
