"""What differs, as a table in an error."""

from __future__ import annotations

from maskwright.workflows.difference_table import difference_table


def test_columns_stand_below_their_heads() -> None:
    rows = [("optim.optimizer.lr", "0.001", "0.5"), ("task", "binary", "multiclass")]
    assert difference_table(("setting", "the run's", "yours"), rows).splitlines() == [
        "  setting             the run's  yours",
        "  optim.optimizer.lr  0.001      0.5",
        "  task                binary     multiclass",
    ]


def test_many_rows_and_long_texts_are_cut() -> None:
    rows = [(f"name{number}", "x" * 100, "y") for number in range(15)]
    lines = difference_table(("", "a", "b"), rows).splitlines()
    assert len(lines) == 14
    assert lines[-1] == "  and 3 more"
    assert lines[1] == f"  name0   {'x' * 57}...  y"
