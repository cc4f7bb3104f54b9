from __future__ import annotations

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.meaning import BACKGROUND, Meaning, named, only_class, tells_too_little
from maskwright.data.sources.paint import UNCOUNTED

CLASSES = [("oak", ("Quercus", 3)), ("elm", ())]


def test_values_names_and_numbers_find_their_class() -> None:
    meaning = Meaning(ClassTable.from_config(CLASSES, "background", "multiclass"), ("soil",), (9,))
    assert meaning.of("Quercus") == 1
    assert meaning.of("elm") == 2
    assert meaning.of("unheard of", 3) == 1
    assert meaning.of("3") == 1
    assert meaning.of("soil") == BACKGROUND
    assert meaning.of("elm", 9) == UNCOUNTED
    assert meaning.of("9") == UNCOUNTED
    assert meaning.of("background") == BACKGROUND
    assert meaning.of("palm", 4) is None


def test_the_first_of_labels_that_overlap_is_no_background() -> None:
    assert Meaning(ClassTable.from_config(CLASSES, None, "multilabel")).of("oak") == 0
    assert Meaning(ClassTable.from_config(CLASSES, None, "multiclass")).of("oak") == 0
    assert Meaning(ClassTable.from_config(CLASSES, "background", "binary")).of("elm") == 1


def test_what_is_left_out_becomes_no_class() -> None:
    things = [("oak", 1), ("soil", 2), ("elm", 3), ("oak", 4)]
    assert named(things, ["soil"], ["3"]) == ["oak"]
    assert named(things) == ["oak", "soil", "elm"]


def test_labels_that_tell_no_classes_apart_have_one() -> None:
    one, two = [("oak", ())], [("oak", ()), ("elm", ())]
    assert only_class(ClassTable.from_config(one, "background", "binary")) == 1
    assert only_class(ClassTable.from_config(one, "background", "multiclass")) == 1
    assert only_class(ClassTable.from_config(one, "background", "multilabel")) == 0
    assert not tells_too_little(ClassTable.from_config(two, "background", "binary"))
    assert not tells_too_little(ClassTable.from_config(one, "background", "multiclass"))
    assert tells_too_little(ClassTable.from_config(two, "background", "multiclass"))
    assert tells_too_little(ClassTable.from_config(two, None, "multilabel"))
