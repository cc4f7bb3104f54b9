"""``python -m maskwright.dashboard DIR``: the server; ``maskwright monitor`` starts it."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskwright.devices import keep_memory

__all__ = ["is_loopback", "main", "server_options"]

_LIGHT = {"primaryColor": "#24618c", "backgroundColor": "#fdfcfa", "secondaryBackgroundColor": "#f3f1ec"}
_DARK = {"primaryColor": "#82b8de", "backgroundColor": "#17191c", "secondaryBackgroundColor": "#1f2226"}


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address."""
    return host in ("localhost", "::1") or host.startswith("127.")


def server_options(host: str, port: int, *, browser: bool) -> dict[str, object]:
    """The options of Streamlit: no statistics sent home, no watching of source files, our colours."""
    options: dict[str, object] = {
        "server_address": host,
        "server_port": port,
        "server_headless": not browser,
        "server_fileWatcherType": "none",
        "server_showEmailPrompt": False,
        "browser_gatherUsageStats": False,
        "browser_serverAddress": host,
        "browser_serverPort": port,
        "client_toolbarMode": "minimal",
        "client_showErrorDetails": "type",
        "global_developmentMode": False,
    }
    for name, colors in (("light", _LIGHT), ("dark", _DARK)):
        options |= {f"theme_{name}_{key}": value for key, value in colors.items()}
    return options


def main(words: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m maskwright.dashboard")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--browser", action="store_true")
    given = parser.parse_args(words)

    from streamlit.web import bootstrap

    options = server_options(given.host, given.port, browser=given.browser)
    read_only = given.read_only or not is_loopback(given.host)
    arguments = [str(given.folder.absolute()), *(["--read-only"] if read_only else [])]
    bootstrap.load_config_options(options)
    bootstrap.run(str(Path(__file__).parent / "entry" / "script.py"), False, arguments, options)


if __name__ == "__main__":
    keep_memory()  # long logs are read in blocks, whose memory is then not taken anew for each: a third less time
    main()
