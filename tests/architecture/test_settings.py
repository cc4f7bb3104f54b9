"""Every setting explains itself, and says its default once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maskwright.config import Experiment, FieldSpec, Section, field_specs
from maskwright.config.base import item_sections, kind_of, sections_in

SPECS = field_specs(Experiment)
PATHS = [spec.path for spec in SPECS]
UNITS = {"%", "GB", "batches", "degrees", "epochs", "m", "m2", "min", "px", "s", "steps", "threads"}
UNIT_OF_ENDING = {
    "_m": "m",
    "_m2": "m2",
    "_px": "px",
    "_deg": "degrees",
    "_gb": "GB",
    "_s": "s",
    "_minutes": "min",
    "_steps": "steps",
    "_epochs": "epochs",
    "_percentile": "%",
}
UNIT_OF_NAME = {
    "epochs": "epochs",
    "patience": "epochs",
    "validate_every": "epochs",
    "accumulate": "batches",
    "threads": "threads",
    "dsm": "m",
    "chm": "m",
    "dtm": "m",
}


def sections(root: type[Section]) -> Iterator[type[Section]]:
    yield root
    for field in root.model_fields.values():
        for inner in (*sections_in(field.annotation), *item_sections(field.annotation)):
            yield from sections(inner)


SECTIONS = list(dict.fromkeys(sections(Experiment)))


@pytest.mark.parametrize("section", SECTIONS, ids=[section.__name__ for section in SECTIONS])
def test_every_field_has_a_sentence_of_help(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        help = field.description or ""
        assert help[:1].isupper() or help[:1].isdigit() or help.split(":")[0].split()[0].islower(), f"{name}: {help!r}"
        assert help.endswith("."), f"{section.__name__}.{name}: help is no sentence: {help!r}"


@pytest.mark.parametrize("spec", SPECS, ids=PATHS)
def test_a_number_with_a_physical_meaning_has_its_unit(spec: FieldSpec) -> None:
    assert spec.unit in UNITS | {""}, f"unit {spec.unit!r} is not among the known ones"
    expected = UNIT_OF_NAME.get(spec.name)
    for ending, unit in UNIT_OF_ENDING.items():
        if spec.name.endswith(ending) and spec.item_type in ("int", "float"):
            expected = unit
    if expected is not None:
        assert spec.unit == expected


@pytest.mark.parametrize("section", SECTIONS, ids=[section.__name__ for section in SECTIONS])
def test_defaults_of_sections_are_said_once_in_their_own_class(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        if sections_in(field.annotation) and not field.is_required():
            assert field.default_factory in sections_in(field.annotation), f"{section.__name__}.{name}"


@pytest.mark.parametrize("section", SECTIONS, ids=[section.__name__ for section in SECTIONS])
def test_choices_of_sections_have_different_kinds(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        kinds = [kind_of(part) for part in sections_in(field.annotation)]
        if len(kinds) > 1:
            assert field.discriminator == "kind", name
            assert None not in kinds
            assert len(set(kinds)) == len(kinds)


def test_every_word_of_choice_is_explained_or_explains_itself() -> None:
    for spec in SPECS:
        assert len(set(spec.choices)) == len(spec.choices), spec.path
