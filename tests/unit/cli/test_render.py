from __future__ import annotations

import pytest

from maskwright.cli.render import print_error, print_table


def test_an_error_is_printed_word_for_word_even_if_it_looks_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("data.sites[0]: [bold]x[/bold] " + "y" * 300)
    assert capsys.readouterr().err == "Error: data.sites[0]: [bold]x[/bold] " + "y" * 300 + "\n"


def test_a_table_is_printed_with_headings_and_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "score"), [("a [red]", "0.5"), ("bb", "0.25")])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name     score", "a [red]  0.5", "bb       0.25"]
