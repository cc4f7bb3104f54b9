"""What the README prints works as printed; its commands are run by test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maskwright.cli.main import COMMANDS
from maskwright.config import load_experiment
from maskwright.data.synthetic import write_forest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, which: int = 0) -> str:
    """A code block of a language, by its place among them."""
    return str(re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)[which])


@pytest.mark.parametrize(("which", "name"), [(0, "my_forest"), (1, "cracks")])
def test_the_experiments_in_the_readme_are_valid(which: int, name: str, tmp_path: Path):
    (tmp_path / "experiment.yaml").write_text(block("yaml", which), encoding="utf-8")
    assert load_experiment([tmp_path / "experiment.yaml"]).name == name


def test_every_command_in_the_readme_exists():
    named = set(re.findall(r"`maskwright ([a-z-]+)", README)) | set(re.findall(r"^maskwright ([a-z]+)", README, re.M))
    assert named
    assert named <= set(COMMANDS)


def test_the_python_lines_run_on_an_experiment_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_forest(tmp_path / "rasters", size_px=448, seed=3)
    small = block("yaml") + (
        "  tiles: {size_px: 32}\n  loader: {samples_per_epoch: 16}\n"
        "model: {base_channels: 4, depth: 2}\ntraining: {epochs: 1, threads: 1}\nmetrics: {bootstrap: 100}\n"
        "tracking: {quiet: true}\n"
    )
    (tmp_path / "my_forest.yaml").write_text(small, encoding="utf-8")
    (tmp_path / "area_DSM.tif").write_bytes((tmp_path / "rasters" / "forest_DSM.tif").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "README.md", "exec"), {})
    assert (tmp_path / "maps" / "area_DSM_gaps.gpkg").is_file()
