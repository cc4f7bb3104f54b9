"""Options of commands that can work in several processes, and what they do: start the same command several times."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from maskwright.distributed import launched_size
from maskwright.distributed.launch import launch
from maskwright.errors import ConfigError

__all__ = ["Devices", "MaxRestarts", "launch_this", "must_launch"]

Devices = Annotated[
    int,
    typer.Option(
        "--devices",
        min=1,
        metavar="N",
        help="Work in N processes of this computer, each with a GPU of its own where there are GPUs; as torchrun "
        "--nproc-per-node N -m maskwright does.",
    ),
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        "--max-restarts",
        min=0,
        metavar="N",
        help="With --devices: start all processes again so often when one was killed, and go on from what was saved.",
    ),
]


def must_launch(devices: int) -> bool:
    """Whether this process is to start the others; False in those, and where one is enough.

    Raises:
        ConfigError: If another launcher started another number of processes.
    """
    started = launched_size()
    if devices == 1 or started == devices:
        return False
    if started > 1:
        raise ConfigError(
            f"--devices {devices}: a launcher such as torchrun has started {started} processes. Leave --devices out."
        )
    return True


def launch_this(context: typer.Context, devices: int, max_restarts: int) -> int:
    """Start the command line of ``context`` in several processes and wait for them; returns the exit code."""
    command = [sys.executable, "-m", "maskwright", *context.obj]
    return launch(command, devices, restarts=max_restarts, say=lambda line: typer.echo(line, err=True))
