"""keep_alive: None, True and False outlive what PySide6 does to them on Python older than 3.12.

From 3.12 on these three are never deleted, whatever their reference counts say, and PySide6 6.12 relies on it: each
call of a method that returns nothing takes a reference to None away, and each ``emit`` one to True. On 3.11 a window
would end after some thousand calls with "Fatal Python error: deallocating None". A count that starts high enough never
gets there: at a million calls a second this one lasts for thirty thousand years.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_alive"]

_PLENTY = 1 << 60


def keep_alive() -> None:
    """Give the three as many references as they will ever lose; does nothing where it was done or is not needed."""
    if sys.version_info >= (3, 12) or sys.implementation.name != "cpython":
        return
    for one in (None, True, False):
        if sys.getrefcount(one) < _PLENTY // 2:
            ctypes.c_ssize_t.from_address(id(one)).value += _PLENTY  # where CPython 3.11 keeps the count
