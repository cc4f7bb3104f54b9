"""Run by Streamlit for every session: ``script.py DIR [--read-only]``."""

from __future__ import annotations

import sys
from pathlib import Path

from maskwright.dashboard.app import show

__all__: list[str] = []

show(Path(sys.argv[1]), read_only="--read-only" in sys.argv[2:])
