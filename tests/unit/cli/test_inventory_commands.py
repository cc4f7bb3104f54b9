"""What a person sees of a comparison with a list of trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.cli.inventory_commands import show_inventory
from maskwright.errors import ConfigError
from maskwright.metrics.inventory import compare_inventory
from maskwright.workflows import inventory
from maskwright.workflows.inventory import InventoryComparison


def _shown(monkeypatch: pytest.MonkeyPatch, found: np.ndarray, species: list[str]) -> dict[str, Any]:
    """Show a comparison without a model, and give what was asked of the workflow."""
    asked: dict[str, Any] = {}

    def compared(run: Path, raster: Path, file: Path, **options: Any) -> InventoryComparison:
        asked.update(options, run=run, raster=raster, file=file)
        scores = compare_inventory(found, np.array([(0.0, 0.0), (10.0, 0.0)]))
        return InventoryComparison(scores, Path("out"), {"page": Path("out/inventory.html")}, ("a note",))

    monkeypatch.setattr(inventory, "evaluate_inventory", compared)
    options: dict[str, Any] = {"within_m": 3.0, "crs": "EPSG:32724", "out": None, "overwrite": True}
    assert show_inventory(Path("run"), Path("a.tif"), Path("trees.csv"), species=species, **options) == 0
    return asked


def test_figures_notes_and_files_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = _shown(monkeypatch, np.array([(0.0, 0.5)]), ["Theobroma cacao=cacao", " Inga = shade"])
    assert asked["species"] == {"Theobroma cacao": "cacao", "Inga": "shade"}
    assert (asked["within_m"], asked["crs"], asked["overwrite"]) == (3.0, "EPSG:32724", True)
    told = capsys.readouterr()
    assert "50.0%" in told.out
    assert "0.50 m" in told.out
    assert "That is poor." in told.out
    assert "out/inventory.html" in told.out
    assert "Note: a note" in told.err


def test_nothing_found_is_shown_with_dashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _shown(monkeypatch, np.zeros((0, 2)), [])
    told = capsys.readouterr().out
    assert "0.0%" in told
    assert "nan" not in told


@pytest.mark.parametrize("text", ["cacao", "=cacao", "Inga="])
def test_half_a_meaning_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="write NAME=CLASS"):
        _shown(monkeypatch, np.zeros((0, 2)), [text])
