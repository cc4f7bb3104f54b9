from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest
import typer

from maskwright import __version__
from maskwright.cli import main as module
from maskwright.cli.main import COMMANDS, EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_USER, main
from maskwright.errors import ConfigError, DataError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], None]:
    """Registers a function as the command ``try``."""

    def register(function: Callable[..., object]) -> None:
        holder = types.ModuleType("try_commands")
        holder.run = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "try_commands", holder)
        monkeypatch.setitem(COMMANDS, "try", ("try_commands:run", "Try something."))

    return register


def test_an_error_a_person_can_mend_is_shown_without_traceback(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise DataError("a.tif has 4 bands [red], 1 is needed. Name the band.")

    command(run)
    assert main(["try"]) == EXIT_USER == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Error: a.tif has 4 bands [red], 1 is needed. Name the band.\n"


def test_several_faults_stand_each_on_a_line_of_its_own(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise ConfigError("a: wrong " + "x" * 200 + ".\nb: wrong.")

    command(run)
    assert main(["try"]) == EXIT_USER
    assert capsys.readouterr().err.splitlines() == ["Error:", "a: wrong " + "x" * 200 + ".", "b: wrong."]


@pytest.mark.parametrize("words", [["--debug", "try"], ["try", "--debug"]])
def test_debug_before_or_after_the_command_shows_the_traceback(
    words: list[str], command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise ConfigError("no good") from ValueError("the cause")

    command(run)
    assert main(words) == EXIT_USER
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ValueError: the cause" in shown
    assert shown.endswith("Error: no good\n")


def test_debug_after_a_double_dash_belongs_to_the_command(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str]) -> None:
        typer.echo(words)

    command(run)
    assert main(["try", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "['--debug']\n"


def test_an_unexpected_error_is_called_a_defect_of_maskwright(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise KeyError("surprise")

    command(run)
    assert main(["try"]) == EXIT_DEFECT == 1
    assert capsys.readouterr().err.splitlines() == [
        "Error:",
        "KeyError: 'surprise'",
        "This is a defect in Maskwright, not in your input. "
        "Run the command again with --debug to see the traceback, and report it.",
    ]
    assert main(["try", "--debug"]) == EXIT_DEFECT
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_the_code_shells_expect(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise KeyboardInterrupt

    command(run)
    assert main(["try"]) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_command_may_return_its_exit_code(command: Callable[..., None]) -> None:
    command(lambda: 3)
    assert main(["try"]) == 3
    command(lambda: "text")
    assert main(["try"]) == 0


def test_a_wrong_command_or_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["confg"]) == 2
    assert "No such command 'confg'. Did you mean 'config'?" in capsys.readouterr().err
    assert main(["config", "show", "--st", "x"]) == 2
    assert "No such option: --st" in capsys.readouterr().err
    assert main(["config", "show"]) == 2
    assert "Missing argument" in capsys.readouterr().err


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"maskwright {__version__}\n"


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, (_, help) in COMMANDS.items():
        assert name in shown
        assert help.split()[0] in shown


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_its_line_of_help_is_that_of_its_docstring(name: str) -> None:
    target, help = COMMANDS[name]
    assert module.load_command(target, name).help.splitlines()[0] == help


def test_the_words_of_the_process_are_used_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["maskwright", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complete"),
    [
        (["check", "data", "--show-augmented"], ["check", "data", "--show-augmented", "6"]),
        (["check", "--show-augmented", "data"], ["check", "--show-augmented", "6", "data"]),
        (["check", "--show-augmented", "3", "data"], ["check", "--show-augmented", "3", "data"]),
    ],
)
def test_the_number_of_an_option_may_be_left_out(words: list[str], complete: list[str]) -> None:
    assert module._with_usual_numbers(words) == complete


def test_an_option_that_takes_several_words_or_numbers_takes_them_with_spaces() -> None:
    words = ["benchmark", "models", "a.yaml", "--kinds", "unet", "resunet", "--seeds", "1", "2", "--quiet"]
    assert module._spread_lists(words) == [
        *("benchmark", "models", "a.yaml", "--kinds", "unet", "--kinds", "resunet"),
        *("--seeds", "1", "--seeds", "2", "--quiet"),
    ]
