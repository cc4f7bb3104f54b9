from __future__ import annotations

import pytest
import typer.testing

from maskwright.cli.model_commands import app
from maskwright.errors import ModelError
from maskwright.models import MODELS


def run(*words: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, list(words))


def test_every_kind_is_listed_with_its_costs() -> None:
    outcome = run("--size", "64")
    assert outcome.exit_code == 0
    heading, *rows = outcome.output.splitlines()
    assert heading.split() == ["kind", "heights", "weights", "multiply-adds", "at", "64", "px", "reach"]
    assert [row.split()[0] for row in rows[:-1]] == list(MODELS)
    assert next(row for row in rows if row.startswith("film_unet")).split()[1] == "any"
    assert next(row for row in rows if row.startswith("unet ")).split()[1:4] == ["listed", "7.24", "M"]


def test_one_network_is_shown_by_another_of_its_names() -> None:
    outcome = run("show", "UNet-FiLM", "--size", "64")
    assert outcome.exit_code == 0
    assert outcome.output.startswith("film_unet: U-Net whose decoder is modulated by a height")
    assert "Answers any height." in outcome.output
    assert "decoder" in outcome.output
    assert "model.film_hidden" in outcome.output


def test_an_unknown_network_is_refused_with_a_suggestion() -> None:
    error = run("show", "fim_unet").exception
    assert isinstance(error, ModelError)
    assert "Did you mean film_unet?" in str(error)


@pytest.mark.parametrize("size", ["8", "x"])
def test_an_impossible_size_is_refused(size: str) -> None:
    assert run("--size", size).exit_code == 2
