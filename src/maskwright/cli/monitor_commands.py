"""``maskwright monitor``: the dashboard."""

from __future__ import annotations

import importlib
import importlib.util
import socket
from pathlib import Path
from typing import Annotated

import typer

from maskwright.errors import ConfigError

__all__ = ["monitor"]

_NEEDED = ("streamlit", "plotly")


def monitor(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder that holds run folders, or one run folder.")
    ] = Path("outputs"),
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on. Beyond this computer the dashboard is read-only, and anybody who reaches the "
            "address sees all runs. Better: leave it, and come by SSH: ssh -L 8501:localhost:8501 USER@SERVER, then "
            "open http://localhost:8501 at home.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show only: no commands, no starting of runs, no writing of files.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> int:
    """Watch runs in the browser: curves, comparison, checkpoints, system, settings, logs; steer them."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"The dashboard needs {' and '.join(missing)}. Install: pip install 'maskwright[dashboard]'")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Name the folder that holds the runs, for example outputs.")
    _require_free(host, port)
    switches = [*(["--read-only"] if read_only else []), *([] if no_browser else ["--browser"])]
    server = importlib.import_module("maskwright.dashboard.__main__")  # by name: faces do not know each other
    server.main([str(folder), "--host", host, "--port", str(port), *switches])
    return 0


def _require_free(host: str, port: int) -> None:
    """Say before anything starts that the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as cause:
        raise ConfigError(
            f"The dashboard cannot listen on {host}, port {port}: {cause.strerror or cause}. "
            f"Choose another port, for example --port {port % 65535 + 1}, or close what listens there."
        ) from cause
