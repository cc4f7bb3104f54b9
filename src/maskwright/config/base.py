"""Section: the frozen base of every settings model, and Field: a setting said once with help, unit and range."""

from __future__ import annotations

from typing import Any

import pydantic

__all__ = ["Field", "Section"]


def Field(default: Any = ..., *, help: str, unit: str = "", advanced: bool = False, **limits: Any) -> Any:
    """Declare a setting.

    Args:
        default: Its default; leave out for a setting that must be given.
        help: One or two sentences for a person; becomes the help text of every face.
        unit: The unit of the value, for example ``m``, ``px``, ``epochs``; empty for a plain number or word.
        advanced: True if most users never touch it; forms fold these away.
        limits: ``ge``, ``gt``, ``le``, ``lt``, ``min_length`` ... as pydantic takes them.
    """
    extra = {"unit": unit, "advanced": advanced}
    return pydantic.Field(default, description=help, json_schema_extra=extra, **limits)


class Section(pydantic.BaseModel):
    """A part of an experiment: frozen, unknown names refused, no values that are not numbers."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )
