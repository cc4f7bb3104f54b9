"""The comparison of accuracy: its split, its scorer, its table, and that a stopped one goes on; nobody is trained."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("accuracy.ground", "accuracy.scoring", "accuracy.tiles_in_memory", "time_to_accuracy")
    return {name.rpartition(".")[2]: importlib.import_module(name) for name in names}


def a_result(iou: float, minutes: float = 1.0) -> dict[str, Any]:
    return {"iou": iou, "each": [iou], "minutes": minutes, "about": "3 steps", "pictures": 2}


def test_iou_counts_the_pixels_of_all_pictures_together(modules: dict[str, ModuleType]) -> None:
    first = (np.array([[[1, 1, 0, 0]]]), np.array([[[1, 0, 0, 0]]]))  # 1 shared of 2
    second = (np.array([[[1, 1], [1, 1]]]), np.array([[[1, 1], [1, 1]]]))  # 4 of 4
    assert modules["scoring"].score([first, second]) == {"iou": 5 / 6, "each": [5 / 6]}


def test_iou_of_several_outputs_is_their_mean(modules: dict[str, ModuleType]) -> None:
    found, true = np.array([[[1, 1]], [[1, 0]]]), np.array([[[1, 1]], [[1, 1]]])
    assert modules["scoring"].score([(found, true)]) == {"iou": 0.75, "each": [1.0, 0.5]}


def test_masks_of_another_size_are_refused(modules: dict[str, ModuleType]) -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 2\) were found where the truth is \(1, 2, 3\)"):
        modules["scoring"].score([(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))])


def test_what_belongs_together_stays_in_one_part_and_every_kind_is_in_every_part(
    modules: dict[str, ModuleType],
) -> None:
    stems = [f"chase_Image_{child:02d}{eye}" for child in range(1, 5) for eye in "LR"] + [
        f"hrf_{number:02d}_h" for number in range(1, 15)
    ]
    parts = modules["ground"].parts_of(stems, modules["ground"].ROWS["vessels"])
    assert set(parts) == set(stems)
    assert all(parts[f"chase_Image_{child:02d}L"] == parts[f"chase_Image_{child:02d}R"] for child in range(1, 5))
    for kind in ("chase", "hrf"):
        assert {part for stem, part in parts.items() if stem.startswith(kind)} == {"train", "val", "test"}
    assert parts == modules["ground"].parts_of(stems[::-1], modules["ground"].ROWS["vessels"])


def test_hills_are_the_same_each_time_and_as_high_as_said(modules: dict[str, ModuleType]) -> None:
    hills = modules["ground"].terrain((200, 300), 1.0, 3)
    assert hills.std() == pytest.approx(modules["ground"].TERRAIN_M, rel=1e-4)
    assert np.array_equal(hills, modules["ground"].terrain((200, 300), 1.0, 3))
    assert np.abs(np.diff(hills, axis=1)).max() < 2.0


def test_a_picture_is_drawn_from_as_often_as_tiles_cover_it(modules: dict[str, ModuleType]) -> None:
    sample = modules["ground"].Sample
    nothing = np.zeros((1, 1, 1), np.uint8)
    pictures = [
        sample("a", Path(), np.zeros((300, 500, 3), np.uint8), nothing),
        sample("b", Path(), np.zeros((100, 256, 3), np.uint8), nothing),
    ]
    assert modules["tiles_in_memory"].draws(pictures, 256) == [0, 0, 0, 0, 1]


def test_the_table_has_the_best_in_bold_and_a_dash_where_nobody_ran(modules: dict[str, ModuleType]) -> None:
    script = modules["time_to_accuracy"]
    done = {
        script.key_of("cracks", "Maskwright", 1, 4): a_result(0.4, 3.9),
        script.key_of("cracks", "Maskwright", 2, 4): a_result(0.6, 4.1),
        script.key_of("cracks", "MONAI", 1, 4): a_result(0.45, 4.0),
        script.key_of("cracks", "MONAI", 1, 9): a_result(0.9, 9.0),  # of another run
    }
    text = script.table(done, ["cracks", "vessels"], 4, 2)
    assert "| cracks | 2 | **0.500** (4.0 min) | - | 0.450 (4.0 min) | - |" in text
    assert "vessels" not in text


def test_a_stopped_comparison_runs_only_what_is_not_finished(
    modules: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, ran = modules["time_to_accuracy"], []
    out = tmp_path / "scores.json"
    out.write_text(json.dumps({script.key_of("cracks", "Maskwright", 1, 2.0): a_result(0.5)}))

    def contest(name: str, row: str, *rest: object) -> dict[str, Any] | None:
        ran.append((row, name))
        return None if name == "nnU-Net 2D" else a_result(0.25)

    monkeypatch.setattr(script, "contest", contest)
    monkeypatch.setattr(script, "prepare", lambda *words: None)
    monkeypatch.setattr(sys, "argv", ["x", "--rows", "cracks", "--minutes", "2", "--out", str(out)])
    script.main()
    assert ran == [("cracks", "SMP + Lightning"), ("cracks", "MONAI"), ("cracks", "nnU-Net 2D")]
    assert len(json.loads(out.read_text())) == 3
    assert out.with_suffix(".md").read_text() in capsys.readouterr().out
    ran.clear()
    script.main()
    assert ran == [("cracks", "nnU-Net 2D")]


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(
    modules: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = modules["time_to_accuracy"]
    monkeypatch.setitem(script.CONTESTANTS, "Nobody", ("nobody", ("a_package_that_nobody_has",)))
    assert script.contest("Nobody", "cracks", 1, 1.0, tmp_path) is None
    told = "Nobody is left out: a_package_that_nobody_has is not installed (make bench-setup).\n"
    assert capsys.readouterr().out == told
