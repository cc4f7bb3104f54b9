from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.tracking.step_rows import read_step_rows

NAMES = ("loss", "grad_norm", "lr")


def row(step: int, loss: object = 0.5, **fields: Any) -> dict[str, Any]:
    head = {"time": "2026-11-21T05:58:19.701155+00:00", "kind": "step", "attempt": 1, "global_step": step}
    return head | {"epoch": 1, "loss": loss, "grad_norm": 1.25, "lr": 3e-05, "images": 8, "stepped": True} | fields


def block(*rows: object) -> bytes:
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows)


def test_numbers_are_those_that_the_rows_hold() -> None:
    columns, others = read_step_rows(block(row(10, 0.75), row(20, 0.5, attempt=2), row(12345678, -12.5)), NAMES)
    assert others == []
    assert columns.global_step.tolist() == [10, 20, 12345678]
    assert columns.attempt.tolist() == [1, 2, 1]
    assert columns.values["loss"].tolist() == [0.75, 0.5, -12.5]
    assert columns.values["grad_norm"].tolist() == [1.25] * 3
    np.testing.assert_allclose(columns.values["lr"], 3e-05, rtol=1e-15)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_number_is_read_as_json_reads_it(values: list[float]) -> None:
    columns, others = read_step_rows(block(*(row(step, value) for step, value in enumerate(values))), NAMES)
    assert others == []
    np.testing.assert_allclose(columns.values["loss"], values, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize(
    "value", [0, 7, 123456789012, 1e16, 1.5e-05, 2.5e-123, 0.0001234567890123456, 99999999.5, 5e22]
)
def test_numbers_of_every_form_are_read(value: float) -> None:
    columns, others = read_step_rows(block(row(1, value)), NAMES)
    assert others == []
    assert columns.values["loss"][0] == pytest.approx(value, rel=1e-11)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", None, "words"])
def test_what_is_not_finite_becomes_nan(value: object) -> None:
    columns, others = read_step_rows(block(row(1), row(2, value), row(3)), NAMES)
    assert others == []
    assert columns.values["loss"].tolist()[::2] == [0.5, 0.5]
    assert math.isnan(columns.values["loss"][1])


def test_other_lines_are_handed_back_in_their_order() -> None:
    foreign = [b"", b"no json", b'{"kind": "step", "attempt": 1}', b'{"kind": "epoch", "global_step": 3, "scores": {}}']
    reordered = json.dumps(dict(reversed(row(9).items()))).encode()
    renamed = json.dumps(row(9)).replace('"loss"', '"lost"').encode()
    columns, others = read_step_rows(
        block(foreign[0], row(1), foreign[1], reordered, row(2), foreign[2], renamed, foreign[3], row(3)), NAMES
    )
    assert columns.global_step.tolist() == [1, 2, 3]
    assert others == [foreign[0], foreign[1], reordered, foreign[2], renamed, foreign[3]]


def test_a_row_whose_step_is_no_whole_number_is_handed_back() -> None:
    odd = json.dumps(row(1) | {"global_step": 2.5}).encode()
    columns, others = read_step_rows(block(row(1), odd, row(1234567890)), NAMES)
    assert columns.global_step.tolist() == [1]
    assert others == [odd, json.dumps(row(1234567890)).encode()]


def test_a_block_without_steps_gives_all_its_lines() -> None:
    columns, others = read_step_rows(b'{"kind": "epoch"}\n[1, 2]\n"kind": "step"\n', NAMES)
    assert len(columns) == 0
    assert others == [b'{"kind": "epoch"}', b"[1, 2]", b'"kind": "step"']


def test_a_value_that_no_row_has_is_nan() -> None:
    lines = block(*({k: v for k, v in row(step).items() if k != "grad_norm"} for step in (1, 2)))
    columns, _ = read_step_rows(lines, NAMES)
    assert np.isnan(columns.values["grad_norm"]).all()
    assert columns.values["loss"].tolist() == [0.5, 0.5]
