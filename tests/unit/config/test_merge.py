from __future__ import annotations

from maskwright.config.experiment import Experiment
from maskwright.config.merge import kinds_said, merge, put, tidy
from maskwright.config.yaml_tree import Mark, Node, parse_yaml, plain

FIRST, SECOND = Mark("first"), Mark("second")


def test_a_value_laid_over_another_keeps_its_own_mark() -> None:
    merged = merge(parse_yaml("a: 1\nb: 2\n", "first"), parse_yaml("\n\nb: 3\n", "second"))
    assert plain(merged) == {"a": 1, "b": 3}
    assert str(merged.value["a"].mark) == "first, line 1"
    assert str(merged.value["b"].mark) == "second, line 3"


def test_lists_are_replaced_not_joined() -> None:
    assert plain(merge(parse_yaml("a: [1, 2]", "first"), parse_yaml("a: [3]", "second"))) == {"a": [3]}


def test_merging_changes_neither_tree() -> None:
    base, over = parse_yaml("a: {b: 1}", "first"), parse_yaml("a: {c: 2}", "second")
    merge(base, over)
    assert (plain(base), plain(over)) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_without_a_class_kinds_are_compared_where_both_are_said() -> None:
    base = parse_yaml("model: {kind: a, x: 1}", "first")
    assert plain(merge(base, parse_yaml("model: {kind: b}", "second"))) == {"model": {"kind": "b"}}
    assert plain(merge(base, parse_yaml("model: {y: 2}", "second"))) == {"model": {"kind": "a", "x": 1, "y": 2}}


def test_values_are_hung_into_a_tree_at_dotted_paths() -> None:
    root = Node({}, FIRST)
    put(root, "a.b", Node(1, SECOND))
    put(root, "a.c", Node(2, SECOND))
    put(root, "a.b", Node(3, SECOND))
    assert plain(root) == {"a": {"b": 3, "c": 2}}
    assert root.value["a"].mark == SECOND


def test_a_dotted_path_through_a_single_value_replaces_it() -> None:
    root = Node({"a": Node(5, FIRST)}, FIRST)
    put(root, "a.b", Node(1, SECOND))
    assert plain(root) == {"a": {"b": 1}}


def test_unknown_names_leave_the_tree_and_required_sections_enter_it() -> None:
    tree, faults = tidy(parse_yaml("name: x\ncolour: red\ntraining:\n", "demo.yaml"), Experiment)
    assert plain(tree) == {"name": "x", "training": {}, "data": {}}
    assert [str(fault).partition(" Known")[0] for fault in faults] == ["colour: unknown setting (demo.yaml, line 2)."]


def test_the_last_said_kind_of_several_trees_counts() -> None:
    trees = [
        parse_yaml(text, "x") for text in ("task: {kind: binary}\nname: a", "task: {kind: height}", "data: {a: 1}")
    ]
    assert kinds_said(trees) == {"task": "height"}
    assert kinds_said([Node(None, FIRST)]) == {}


def test_an_unsaid_kind_of_the_first_tree_is_what_all_trees_together_imply() -> None:
    photos = parse_yaml("data: {folder: x}", "first")
    over = parse_yaml("task: {kind: binary}\ndata: {kind: images}", "second")
    assert plain(merge(photos, over, Experiment))["data"] == {"folder": "x", "kind": "images"}
    rasters = parse_yaml("task: {kind: height}\ndata: {kind: images}", "second")
    assert plain(merge(photos, rasters, Experiment))["data"] == {"kind": "images"}
