"""Every command by name, and what happens when one fails.

A command is a function in a module of its own (``train_commands.py`` ...), named in ``COMMANDS`` with its one line of
help. The module is imported when the command is called, and a command imports its workflow when it runs, so ``--help``
is quick. To add one: write the function, add a line here. A group of commands is a ``typer.Typer`` in place of the
function.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from maskwright import __version__
from maskwright.devices import prepare_environment
from maskwright.errors import MaskwrightError

__all__ = ["COMMANDS", "EXIT_DEFECT", "EXIT_INTERRUPTED", "EXIT_USER", "build_app", "load_command", "main"]

EXIT_DEFECT = 1  # a fault of Maskwright itself
EXIT_USER = 2  # something the user can mend: settings, data, options
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it
_EXIT_BROKEN_PIPE = 141  # the reader went away, as with "| head"

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module:function, or module:Typer for a group; its help in one line, as in its docstring)
    "train": ("maskwright.cli.train_commands:train", "Train a model and score it on held-out data."),
    "lr-find": (
        "maskwright.cli.lr_find_commands:lr_find",
        "Try rising learning rates on a fresh network and suggest one.",
    ),
    "tune": (
        "maskwright.cli.tune_commands:tune",
        "Search over settings with Optuna; the same command continues a search, also beside others.",
    ),
    "evaluate": (
        "maskwright.cli.evaluate_commands:evaluate",
        "Score the model of a run beside naive baselines, on its own or other data; find doubtful labels.",
    ),
    "predict": (
        "maskwright.cli.predict_commands:predict",
        "Apply a trained model to photographs and rasters of any size: masks, maps, polygons.",
    ),
    "change": (
        "maskwright.cli.change_commands:change",
        "Compare two maps of the same ground: what opened, what closed, what stayed.",
    ),
    "check": (
        "maskwright.cli.check_commands:check",
        "Look for what is wrong with data before training: a page with pictures, and an exit code.",
    ),
    "init": ("maskwright.cli.check_commands:init", "Look at data and write a commented experiment file."),
    "cache": ("maskwright.cli.cache_commands:app", "Show and clean what was decoded and kept."),
    "prepare": (
        "maskwright.cli.prepare_commands:app",
        "Aligned rasters, tiles, masks, statistics and shards without training.",
    ),
    "export": (
        "maskwright.cli.export_commands:export",
        "Write a trained model as ONNX, TorchScript, torch.export or a folder, checked against the network.",
    ),
    "compare": (
        "maskwright.cli.compare_commands:compare",
        "Put runs beside each other: scores, paired tests, settings that differ, curves.",
    ),
    "benchmark": (
        "maskwright.cli.benchmark_commands:app",
        "Hold architectures against each other over several seeds; measure what this machine can do.",
    ),
    "doctor": (
        "maskwright.cli.doctor_commands:doctor",
        "Explain a run from its log: what is wrong, by which numbers, and which setting to change.",
    ),
    "runs": ("maskwright.cli.run_commands:runs", "List runs, newest first: status, epochs, best score."),
    "monitor": (
        "maskwright.cli.monitor_commands:monitor",
        "Watch runs in the browser: curves, comparison, checkpoints, system, settings, logs; steer them.",
    ),
    "desktop": (
        "maskwright.cli.desktop_commands:desktop",
        "Train and predict in a window, without writing a line.",
    ),
    "models": (
        "maskwright.cli.model_commands:app",
        "List networks: weights, multiply-adds, reach; show one.",
    ),
    "config": ("maskwright.cli.config_commands:app", "Look at settings: resolved, checked, explained."),
    "demo": (
        "maskwright.cli.run_commands:demo",
        "Invent a forest, train on it, score, map it all: a few minutes on two cores.",
    ),
}

_LISTS = ("--heights", "--seeds")  # options that take several numbers, as in --heights 5 10 15
_LISTS_OF_WORDS = ("--kinds",)  # the same for words: --kinds unet resunet
_USUAL_NUMBERS = {"--show-augmented": "6"}  # options whose number may be left out


class _LazyCommand(TyperCommand):
    """Stands for a command until it is called: knows its name and one line of help."""

    def __init__(self, name: str, target: str, help: str) -> None:
        super().__init__(name, help=help, params=[])
        self._target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return load_command(self._target, str(self.name)).make_context(info_name, args, parent, **extra)


def build_app() -> TyperGroup:
    """The command line as an object; ``main`` runs it."""
    app = typer.Typer(name="maskwright", add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.callback(no_args_is_help=True)(_maskwright)
    group = cast(TyperGroup, typer.main.get_command(app))
    for name, (target, help) in COMMANDS.items():
        group.add_command(_LazyCommand(name, target, help))
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: Words after the program's name; by default those the process was started with.

    Returns:
        The exit code: 0, one of the constants above, or the whole number a command returned.
    """
    prepare_environment()
    words, debug = _take_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        complete = _spread_lists(_with_usual_numbers(words))
        outcome = build_app().main(complete, prog_name="maskwright", standalone_mode=False, obj=words)
        sys.stdout.flush()
        if outcome == EXIT_INTERRUPTED:  # typer's word for Ctrl-C
            return _stopped()
        return outcome if isinstance(outcome, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except TyperException as error:
        return _wrong_usage(error)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that Python's own flush at exit stays silent
        return _EXIT_BROKEN_PIPE
    except MaskwrightError as error:
        return _mendable(error, debug)
    except Exception as error:
        return _defect(error, debug)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maskwright {__version__}")
        raise typer.Exit()


def _maskwright(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may also stand after a command.")
    ] = False,
) -> None:
    """Train image-segmentation models people can trust, and put them to work."""


def load_command(target: str, name: str) -> Any:
    """The command or group that a ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(cast(Callable[..., Any], found))
        found = single
    return typer.main.get_command(found)


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """``--debug`` is taken out wherever it stands, except after ``--``."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _spread_lists(words: Sequence[str]) -> list[str]:
    """``--heights 5 10`` as ``--heights 5 --heights 10``, the form in which typer takes lists."""
    spread: list[str] = []
    option: str | None = None
    for word in words:
        if word in _LISTS or word in _LISTS_OF_WORDS:
            option = word
        elif option is None or (word.startswith("-") if option in _LISTS_OF_WORDS else not _is_number(word)):
            option = None
        elif spread[-1] != option:
            spread.append(option)
        spread.append(word)
    return spread


def _with_usual_numbers(words: Sequence[str]) -> list[str]:
    """``--show-augmented`` as ``--show-augmented 6``."""
    complete: list[str] = []
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        complete.append(word)
        if word in _USUAL_NUMBERS and not _is_number(after):
            complete.append(_USUAL_NUMBERS[word])
    return complete


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _stopped() -> int:
    typer.echo("Stopped.", err=True)
    return EXIT_INTERRUPTED


def _wrong_usage(error: TyperException) -> int:
    from typer.rich_utils import rich_format_error

    rich_format_error(cast(Any, error))
    return error.exit_code


def _mendable(error: MaskwrightError, debug: bool) -> int:
    from maskwright.cli.render import print_error

    if debug:
        traceback.print_exception(error)
    print_error(str(error))
    return EXIT_USER


def _defect(error: Exception, debug: bool) -> int:
    from maskwright.cli.render import print_error

    if debug:
        traceback.print_exception(error)
    advice = "" if debug else " Run the command again with --debug to see the traceback, and report it."
    print_error(f"{type(error).__name__}: {error}\nThis is a defect in Maskwright, not in your input.{advice}")
    return EXIT_DEFECT
