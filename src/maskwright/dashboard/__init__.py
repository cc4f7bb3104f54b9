"""FACE: the dashboard in the browser. It reads run folders, and writes nothing into them but command files."""

from __future__ import annotations
