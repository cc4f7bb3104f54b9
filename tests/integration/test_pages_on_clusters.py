"""The pages on searches and on shards: their commands run as printed, on invented pictures and made small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.synthetic_images import write_pictures

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    *("--set", "model.base_channels=4", "--set", "model.depth=2", "--set", "data.tiles.size_px=32"),
    *("--set", "data.loader.batch_size=4", "--set", "data.loader.samples_per_epoch=8", "--set", "training.threads=1"),
    *("--set", "training.epochs=1", "--set", "metrics.bootstrap=100", "--set", "tracking.quiet=true"),
]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    return [line.split()[1:] for block in blocks(page, "bash") for line in block.splitlines()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures of cracks, and an experiment about them."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures", "cracks", 10, size_px=64, difficulty="easy")
    assert main(["init", "pictures", "--out", "cracks.yaml"]) == 0
    return tmp_path


def test_data_is_packed_and_planned_from_its_shards_as_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pack,), (train,) = (
        [words for words in commands("shards.md") if words[0] == name] for name in ("prepare", "train")
    )
    assert main([*pack, "--set", "data.tiles.size_px=32"]) == 0
    assert (place / "shards" / "shards.json").is_file()
    assert main([*train, *SMALL]) == 0
    assert "Nothing was trained" in capsys.readouterr().out


def test_the_spaces_shown_are_spaces(place: Path) -> None:
    first, storage = blocks("tune.md", "yaml")
    (place / "search.yaml").write_text(first, encoding="utf-8")
    (place / "storage.yaml").write_text(storage, encoding="utf-8")
    found = load_experiment([place / "cracks.yaml", place / "search.yaml", place / "storage.yaml"]).tune

    assert [search.setting for search in found.space] == ["optim.optimizer.lr", "optim.schedule.kind", "model.dropout"]
    assert found.storage == "postgresql://user:password@host/studies"


@pytest.mark.slow
def test_a_search_runs_as_printed_and_its_best_experiment_trains(place: Path) -> None:
    pytest.importorskip("optuna")
    (place / "search.yaml").write_text(blocks("tune.md", "yaml")[0], encoding="utf-8")
    (words,) = commands("tune.md")
    assert main([*words, *SMALL]) == 0
    (folder,) = (place / "outputs").glob("*_tune")
    assert {path.name for path in folder.iterdir()} >= {"best.yaml", "tune.html", "trials.csv", "study.db"}
    assert main(["train", str(folder / "best.yaml"), "--dry-run"]) == 0
