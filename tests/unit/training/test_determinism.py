"""The same numbers each time, as a state of the process that is put back."""

from __future__ import annotations

import pytest
import torch

from maskwright.errors import TrainingError
from maskwright.training.determinism import deterministic


def test_it_holds_inside_alone() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_such_an_algorithm_is_named_with_what_to_do() -> None:
    with (
        pytest.raises(TrainingError, match=r"training.deterministic: foo does not have a deterministic implementation"),
        deterministic(),
    ):
        raise RuntimeError("foo does not have a deterministic implementation. You can turn off ...")
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="out of luck"), deterministic():
        raise RuntimeError("out of luck")
