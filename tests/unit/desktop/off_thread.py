"""Records who touches the disk: calls of open, listing, stat and import with the thread that made them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EVENTS = ("open", "os.scandir", "os.listdir", "os.mkdir", "os.remove", "import", "subprocess.Popen")
_recording: list[tuple[str, str]] | None = None
_has_hook = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _recording is not None and event in _EVENTS and threading.current_thread() is threading.main_thread():
        _recording.append((event, str(args[0])))


@contextmanager
def touched_on_gui_thread() -> Iterator[list[tuple[str, str]]]:
    """What the GUI thread touches while the block runs: (event, its first argument)."""
    global _recording, _has_hook
    if not _has_hook:
        sys.addaudithook(_hook)  # cannot be taken away; it does nothing outside of such a block
        _has_hook = True
    touched: list[tuple[str, str]] = []
    stat = os.stat

    def watched(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if threading.current_thread() is threading.main_thread():
            touched.append(("os.stat", str(path)))
        return stat(path, *args, **kwargs)

    os.stat = watched  # type: ignore[assignment]
    _recording = touched
    try:
        yield touched
    finally:
        _recording = None
        os.stat = stat
