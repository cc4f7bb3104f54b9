"""The only place that sees a whole experiment: build the parts, run them, return a small result."""

from __future__ import annotations

__all__: list[str] = []
