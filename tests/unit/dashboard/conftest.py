"""What tests of the pages must leave as they found it."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _our_own_main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's harness puts its script in the place of ``__main__``, which processes would run when they start."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
