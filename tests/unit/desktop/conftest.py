"""Windows without a screen, and patience on a busy machine."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest

from maskwright.desktop.immortal import keep_alive

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
keep_alive()

_PATIENCE_MS = 300_000


@pytest.fixture
def qtbot(qtbot: Any) -> Any:
    """pytest-qt's, which waits longer; what arrives is not slower for it."""
    qtbot.waitUntil = partial(qtbot.waitUntil, timeout=_PATIENCE_MS)
    qtbot.waitSignal = partial(qtbot.waitSignal, timeout=_PATIENCE_MS)
    return qtbot
