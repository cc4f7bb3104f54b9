"""Where runs are written and what they say while they work."""

from __future__ import annotations

from pathlib import Path

from maskwright.config.base import Field, Section

__all__ = ["TrackingConfig"]


class TrackingConfig(Section):
    """The run folder."""

    output_dir: Path = Field(
        Path("outputs"),
        beside_file=False,
        help="Folder that holds the run folders; a relative one starts from the working folder.",
    )
    log_every_steps: int = Field(10, ge=1, unit="steps", help="Updates from one row of the event log to the next.")
    quiet: bool = Field(False, help="No progress on the screen.")
