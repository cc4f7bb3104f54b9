"""Rank and world size as a launcher sets them."""

from __future__ import annotations

import pytest

from maskwright.distributed import is_main, rank, require_single_process, world_size
from maskwright.errors import TrainingError


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (world_size(), rank(), is_main()) == (1, 0, True)
    require_single_process()


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert (world_size(), rank(), is_main()) == (4, 2, False)
    with pytest.raises(TrainingError, match=r"started 4 processes .* Start the same command without torchrun"):
        require_single_process()
