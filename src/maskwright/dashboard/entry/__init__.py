"""The file that Streamlit runs, alone in its folder: Streamlit puts that folder in front of all imports."""

from __future__ import annotations
