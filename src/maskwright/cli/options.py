"""Options that commands share, and flags made from settings, so that their help is said once.

::

    def train(
        files: Files,
        overrides: Set = None,
        epochs: Annotated[int | None, setting("training.epochs", "--epochs")] = None,
    ) -> None:
        flags = given({"training.epochs": ("--epochs", epochs)})
        experiment = load_experiment(files, [*(overrides or []), *flags])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from maskwright.config import Override, explain

__all__ = ["Files", "Set", "given", "setting"]

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        show_default=False,
        help="Files of settings, merged in order; preset:NAME is one that comes with Maskwright.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Set one setting, after the files; may be given again.",
        show_default=False,
    ),
]


def setting(path: str, *flags: str) -> Any:
    """An option of the command line that stands for a setting; its help, unit and range are the setting's own.

    Args:
        path: Dotted path of the setting, for example ``training.epochs``.
        flags: The option's names, for example ``--epochs``.

    Raises:
        ConfigError: If there is no such setting.
    """
    spec = explain(path).specs[0]
    limits = f" ({spec.values})" if spec.type != "bool" else ""
    return typer.Option(*flags, help=f"{spec.help.rstrip('.')}{limits}. Same as --set {path}=...", show_default=False)


def given(flags: Mapping[str, tuple[str, Any]]) -> list[Override]:
    """Overrides for the options that were given.

    Args:
        flags: Dotted path to (the option's name, its value); None: not given.
    """
    return [
        Override(path, value, flag if value is True else f"{flag} {value}")
        for path, (flag, value) in flags.items()
        if value is not None
    ]
