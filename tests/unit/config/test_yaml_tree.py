from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from maskwright.config.yaml_tree import Mark, Node, TreeError, dump_yaml, parse_yaml, plain, to_node


def read(text: str) -> object:
    return plain(parse_yaml(text, "demo.yaml"))


def faults(text: str) -> list[str]:
    with pytest.raises(TreeError) as caught:
        parse_yaml(text, "demo.yaml")
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-7),
        ("1E5", 1e5),
        ("-2e+3", -2000.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("1.5e3", 1500.0),
        ("0.001", 0.001),
        ("-.inf", -math.inf),
    ],
)
def test_every_way_to_write_a_decimal_number_is_a_number(text: str, value: float) -> None:
    found = read(text)
    assert isinstance(found, float)
    assert found == value


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("-3", -3), ("+4", 4), ("0x1F", 31), ("0o17", 15), ("007", 7)])
def test_whole_numbers_stay_whole(text: str, value: int) -> None:
    found = read(text)
    assert type(found) is int
    assert found == value


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "12:30", "1_000", "2024-05-01", "1.2.3", "e5", "nan", "inf"]
)
def test_words_that_only_old_yaml_takes_for_values_are_texts(text: str) -> None:
    assert read(text) == text


def test_true_false_null_and_nothing_are_what_they_say() -> None:
    assert read("a: true\nb: False\nc: null\nd: ~\ne:\nf: 'true'\n") == {
        "a": True,
        "b": False,
        "c": None,
        "d": None,
        "e": None,
        "f": "true",
    }


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(read(".nan"))  # type: ignore[arg-type]


def test_every_key_and_entry_knows_its_line() -> None:
    tree = parse_yaml("# heading\na: 1\nb:\n  c: 2\n  d:\n    - 5\n    - 6\n", "demo.yaml", Path("/here"))
    assert str(tree.value["a"].mark) == "demo.yaml, line 2"
    assert tree.value["b"].mark.line == 3
    assert tree.value["b"].value["c"].mark.line == 4
    assert tree.value["b"].value["d"].value[1].mark.line == 7
    assert tree.value["b"].value["c"].mark.folder == Path("/here")


def test_a_text_without_lines_worth_naming_is_marked_by_its_source_alone() -> None:
    assert str(parse_yaml("5", "--set a=5", lines=False).mark) == "--set a=5"


def test_a_document_without_content_holds_nothing() -> None:
    assert read("") is None
    assert read("# only a comment\n") is None


def test_a_name_given_twice_is_refused_with_both_lines_and_its_path() -> None:
    assert faults("training:\n  epochs: 1\n  lr: 2\n  epochs: 3\n") == [
        "training.epochs: given twice (demo.yaml, line 4). It stands in line 2 already; keep one."
    ]


def test_several_faults_are_gathered_and_the_rest_is_still_read() -> None:
    with pytest.raises(TreeError) as caught:
        parse_yaml("a: 1\na: 2\n3: x\nb: !x x\n", "demo.yaml")
    assert [str(fault) for fault in caught.value.faults] == [
        "a: given twice (demo.yaml, line 2). It stands in line 1 already; keep one.",
        "3 stands where the name of a setting is needed (demo.yaml, line 3).",
        "b: the tag !x is not known (demo.yaml, line 4). Only plain values are read.",
    ]
    assert caught.value.tree is not None
    assert plain(caught.value.tree) == {"a": 1, "b": None}


def test_no_tag_ever_runs_code() -> None:
    (fault,) = faults("a: !!python/object/apply:os.getcwd []\n")
    assert fault.startswith("a: the tag tag:yaml.org,2002:python/object/apply:os.getcwd is not known")


def test_a_tab_is_named_with_its_line() -> None:
    assert faults("a:\n  b: 1\n\tc: 2\n") == [
        "not valid YAML: a tab indents the line (demo.yaml, line 3). Indent with spaces."
    ]


def test_broken_yaml_is_named_with_its_line() -> None:
    (fault,) = faults("a: [1, 2\nb: 3\n")
    assert fault.startswith("not valid YAML: ")
    assert fault.endswith("(demo.yaml, line 2).")


def test_a_character_that_yaml_forbids_is_named_with_its_line() -> None:
    assert faults("a: 1\nb: \x07\n") == ["not valid YAML: the character U+0007 is not allowed (demo.yaml, line 2)."]


def test_two_documents_in_one_file_are_refused() -> None:
    (fault,) = faults("a: 1\n---\nb: 2\n")
    assert fault.startswith("not valid YAML: expected a single document")
    assert fault.endswith("(demo.yaml, line 2).")


def test_an_anchor_that_holds_itself_is_refused() -> None:
    assert faults("a: &x\n  b: *x\n") == ["a.b: an anchor holds itself (demo.yaml, line 1). Write the values out."]


def test_anchors_and_merge_keys_give_their_values_and_own_ones_win() -> None:
    text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n"
    assert read(text) == {"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}}


def test_a_merge_key_of_something_else_is_refused() -> None:
    assert faults("a:\n  <<: 5\n") == ["a: << takes a mapping or a list of mappings (demo.yaml, line 2)."]


def test_a_tag_that_does_not_fit_its_text_is_refused() -> None:
    assert faults("a: !!int many\n") == ["a: many is not a number (demo.yaml, line 1)."]


def test_lists_of_single_values_are_written_on_one_line() -> None:
    assert (
        dump_yaml({"heights_m": [2.0, 5.0], "sites": [{"name": "a"}]}) == "heights_m: [2.0, 5.0]\nsites:\n- name: a\n"
    )


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    texts,
    st.sampled_from(
        ["1e5", "1e-7", ".5", "0o17", "yes", "no", "null", "~", "12:30", "<<", "=", "1_000", "true", "", " a", "#"]
    ),
)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@given(st.dictionaries(texts, trees, max_size=5))
def test_what_is_written_is_read_back_equal(values: dict[str, object]) -> None:
    found = read(dump_yaml(values))
    assert (found or {}) == values
    assert dump_yaml(found or {}) == dump_yaml(values)  # 1 and 1.0 and True are equal in Python, not on paper


@given(st.dictionaries(texts.filter(lambda text: text != "="), trees, max_size=5))
def test_an_ordinary_reader_reads_it_back_equal_too(values: dict[str, object]) -> None:
    assert yaml.safe_load(dump_yaml(values)) == values


def test_plain_values_said_in_one_place_share_its_mark() -> None:
    mark = Mark("overrides")
    tree = to_node({"a": {"b": (1, 2)}}, mark)
    assert tree.value["a"].value["b"].value == [Node(1, mark), Node(2, mark)]
    assert plain(tree) == {"a": {"b": [1, 2]}}
