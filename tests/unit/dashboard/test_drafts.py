from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import presets
from maskwright.dashboard.drafts import sources

from ..conftest import make_run


def test_a_new_experiment_begins_with_the_run_a_file_or_a_preset(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(outputs)
    (tmp_path / "mine.yaml").write_text("name: mine\ntraining: {epochs: 3}\n")
    (tmp_path / "other.yaml").write_text("services: [a]\n")
    (tmp_path / "torn.yaml").write_text("a: [")
    found = sources(run.path, outputs)
    assert list(found.values())[:2] == [str(run.config), str(tmp_path / "mine.yaml")]
    assert list(found.values())[2:] == [f"preset:{name}" for name in presets()]
