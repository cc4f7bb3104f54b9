from __future__ import annotations

import sys

import pytest
from PySide6.QtCore import QObject, Signal

from maskwright.desktop.immortal import keep_alive

_NEEDED = sys.version_info < (3, 12)


class _Source(QObject):
    said = Signal(int)


@pytest.mark.skipif(not _NEEDED, reason="from Python 3.12 on these three never go")
def test_what_qt_takes_away_never_reaches_zero() -> None:
    keep_alive()
    source = _Source()
    for _ in range(20_000):  # more references than a fresh interpreter holds
        source.blockSignals(False)
        source.said.emit(1)
        source.setObjectName("")
    assert min(sys.getrefcount(one) for one in (None, True, False)) > 1 << 40


@pytest.mark.skipif(not _NEEDED, reason="from Python 3.12 on these three never go")
def test_a_second_time_adds_nothing() -> None:
    keep_alive()
    before = sys.getrefcount(False)
    keep_alive()
    assert abs(sys.getrefcount(False) - before) < 1 << 20
