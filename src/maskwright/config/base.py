"""Section: the frozen base of every settings model, and Field: a setting said once with help, unit and range.

Sections are told apart by ``kind``: a field whose type is a union of sections with different kinds takes any of them,
and where none is said the kind of its default, or the one that follows from the kinds beside it. Paths are whole from
the start: ``~``, ``${NAME}`` and relative ones are resolved when a section is made, so that a saved experiment means
the same anywhere on the machine.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from maskwright.errors import ConfigError

__all__ = [
    "Field",
    "Section",
    "Unfit",
    "default_kind",
    "item_sections",
    "kind_of",
    "refuse",
    "sections_in",
    "union_members",
    "whole_path",
]

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def Field(
    default: Any = ..., *, help: str, unit: str = "", advanced: bool = False, beside_file: bool = True, **limits: Any
) -> Any:
    """Declare a setting.

    Args:
        default: Its default; leave out for a setting that must be given.
        help: One or two sentences for a person; becomes the help text of every face.
        unit: The unit of the value, for example ``m``, ``px``, ``epochs``; empty for a plain number or word.
        advanced: True if most users never touch it; forms fold these away.
        beside_file: For paths: a relative one in a file of settings starts from that file's folder; False: from the
            working folder.
        limits: ``ge``, ``gt``, ``le``, ``lt``, ``min_length`` ... as pydantic takes them.
    """
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced}
    if not beside_file:
        extra["beside_file"] = False
    return pydantic.Field(default, description=help, json_schema_extra=extra, **limits)


def refuse(faults: Iterable[str]) -> None:
    """For validators that look at a whole section: report all that is wrong with it at once.

    Args:
        faults: One text each, without a full stop; may begin with the name of a setting and a colon, and may go on with
            a second sentence that says what to do. Nothing happens if there are none.

    Raises:
        ValueError: With all of them, one a line.
    """
    text = "\n".join(faults)
    if text:
        raise ValueError(text)


def whole_path(path: Path, folder: Path | None = None) -> Path:
    """``path`` from the root of the file system: ``~`` and ``${NAME}`` filled in, a relative one put behind ``folder``.

    Args:
        path: Any path; need not exist.
        folder: Where a relative path starts; None: the working folder.

    Raises:
        ValueError: If ``~name`` names nobody on this machine, or ``${NAME}`` no variable of the environment.
    """
    try:
        path = Path(_VARIABLE.sub(_variable, str(path))).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such home folder") from error
    path = (folder or Path()).absolute() / path
    return path.resolve() if ".." in path.parts else path


def _variable(found: re.Match[str]) -> str:
    name = found[1]
    if name not in os.environ:
        raise ValueError(f"{found.string}: the environment has no variable {name}. Set it, for example {name}=/data")
    return os.environ[name]


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The types a value may have: members of a union, without ``Annotated``; a plain type is its only member."""
    if get_origin(annotation) is Annotated:
        return union_members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for part in get_args(annotation) for member in union_members(part))
    return (annotation,)


def sections_in(annotation: Any) -> tuple[type[Section], ...]:
    """The section classes a field takes, in the order written; empty for a plain setting."""
    return tuple(
        member for member in union_members(annotation) if isinstance(member, type) and issubclass(member, Section)
    )


def item_sections(annotation: Any) -> tuple[type[Section], ...]:
    """The section classes of the entries of a list of sections; empty for anything else."""
    return tuple(
        section
        for member in union_members(annotation)
        if get_origin(member) is tuple
        for part in get_args(member)
        for section in sections_in(part)
    )


def kind_of(section: type[Section]) -> str | None:
    """The word that tells this class from its siblings, or None if it has no ``kind``."""
    field = section.model_fields.get("kind")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    return str(get_args(field.annotation)[0])


def default_kind(field: FieldInfo) -> str | None:
    """The kind of a field's default; None if it has no default."""
    factory = field.default_factory
    return kind_of(factory) if isinstance(factory, type) and issubclass(factory, Section) else None


@dataclass(frozen=True, slots=True)
class Unfit:
    """A value no type accepts: stands in for one that would be accepted in another meaning."""

    value: Any


def _would_be_bent(value: Any, members: tuple[Any, ...]) -> bool:
    """True for yes or no where a number is needed (it would become 1 or 0) and for an empty text as a path (a dot)."""
    entries = value if isinstance(value, list | tuple) else (value,)
    yes_or_no = bool not in members and any(isinstance(entry, bool) for entry in entries)
    return yes_or_no or (value == "" and Path in members)


def _kind_said(value: Any) -> str | None:
    """The kind of a section, or of the values for one; None if they do not say it."""
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return None if kind is None else str(kind)


class Section(pydantic.BaseModel):
    """A part of an experiment: frozen, unknown names refused, no values that are not numbers.

    Raises:
        ConfigError: When made from Python with unknown names or wrong values; all faults at once, one a line.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            from maskwright.config.faults import describe  # needed only when something is wrong

            raise ConfigError(describe(error, type(self), values)) from error

    # Marks the method above as harmless, so that pydantic checks nested sections in one go and gathers their faults.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """Fill in kinds left unsaid, and guard what pydantic would bend into shape."""
        if not isinstance(values, Mapping):
            return values
        prepared = dict(values)
        kinds = cls.kinds_unsaid({name: _kind_said(value) for name, value in prepared.items()})
        for name, field in cls.model_fields.items():
            kind = kinds.get(name)
            if name not in prepared:
                if name in kinds and kind != default_kind(field) and not field.is_required():
                    prepared[name] = {} if kind is None else {"kind": kind}
                continue
            value = prepared[name]
            if field.discriminator == "kind" and isinstance(value, Mapping) and "kind" not in value and kind:
                prepared[name] = {"kind": kind, **value}
            elif _would_be_bent(value, union_members(field.annotation)):
                prepared[name] = Unfit(value)
        return prepared

    @classmethod
    def kinds_unsaid(cls, said: Mapping[str, str | None]) -> dict[str, str | None]:
        """The kind of each setting of several kinds where none is said: that of its default.

        Args:
            said: Names of settings to the kinds that were said for them; None or left out: nothing was said.

        Returns:
            None where the kind must be said.
        """
        return {name: default_kind(field) for name, field in cls.model_fields.items() if field.discriminator == "kind"}

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _whole_path(cls, value: Any) -> Any:
        return whole_path(value) if isinstance(value, Path) else value

    def to_dict(self) -> dict[str, Any]:
        """Plain values only: numbers, texts, lists and dictionaries, as YAML and JSON know them."""
        return self.model_dump(mode="json")
