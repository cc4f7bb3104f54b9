"""compile_model: the same numbers, the same names, and a fall back to the plain model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.errors import ConfigError
from maskwright.training import compile_model

torch.set_num_threads(1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def test_a_compiled_model_gives_the_same_numbers_and_keeps_the_names_of_its_weights() -> None:
    plain, compiled = net(), net()
    assert compile_model(compiled, backend="eager") is compiled
    x = torch.randn(2, 3)
    assert torch.equal(plain(x), compiled(x))
    compiled(x).sum().backward()
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert torch.equal(copy.deepcopy(compiled)(x), plain(x))


def test_a_compiler_that_fails_is_said_once_and_the_model_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    model, x = net(), torch.randn(2, 3)
    compile_model(model, backend=broken)  # type: ignore[arg-type]
    assert torch.equal(model(x), net()(x))
    assert torch.equal(model(x), net()(x))
    assert caplog.text.count("The compiler failed, and the model runs as it is") == 1
    assert "no C++ compiler was found" in caplog.text


def test_errors_of_the_model_are_not_hidden() -> None:
    model = compile_model(net(), backend="eager")
    with pytest.raises(Exception, match=r"(shapes|size|mat1)"):
        model(torch.randn(2, 7))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compile mode 'fast' is unknown. Available: default, reduce-overhead, max-"):
        compile_model(net(), "fast")  # type: ignore[arg-type]
