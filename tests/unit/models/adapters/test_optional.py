"""Packages that may be missing."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from maskwright.errors import ModelError
from maskwright.models.adapters.optional import check_picture, import_or_say


def test_what_is_there_is_imported() -> None:
    assert import_or_say("math", "the test", "Read on.") is math


def test_what_is_missing_is_named_with_how_to_get_it() -> None:
    with pytest.raises(ModelError) as caught:
        import_or_say("no_such_package.inner", "The adapter", "Install it: pip install no_such_package")
    assert str(caught.value) == (
        "The adapter needs the package no_such_package, which is not installed. Install it: pip install no_such_package"
    )


def test_what_a_package_lacks_itself_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_there", raising=False)
    with pytest.raises(ModelError, match="the package half_there is installed, but lacks no_such_package"):
        import_or_say("half_there", "The adapter", "")


def test_a_picture_is_three_bands_of_eight_bits() -> None:
    check_picture(np.zeros((4, 5, 3), np.uint8))
    for shape, dtype in (((4, 5), np.uint8), ((4, 5, 4), np.uint8), ((4, 5, 3), np.float32)):
        with pytest.raises(ModelError, match=r"must be \(height, width, 3\) uint8"):
            check_picture(np.zeros(shape, dtype))
