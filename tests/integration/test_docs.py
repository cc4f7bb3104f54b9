"""The documentation builds, and the commands of its tutorials run as printed, on invented data and made small."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path

import pytest

from maskwright.cli.main import COMMANDS, main
from maskwright.data.synthetic import write_forest
from maskwright.data.synthetic_images import write_pictures

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    *("--set", "model.base_channels=4", "--set", "model.depth=2", "--set", "data.tiles.size_px=32"),
    *("--set", "data.loader.batch_size=4", "--set", "data.loader.samples_per_epoch=16", "--set", "training.threads=1"),
    *("--set", "metrics.bootstrap=100", "--set", "tracking.quiet=true"),
]


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines() if line.startswith("maskwright ")]


def newest_run() -> str:
    return str(max(Path("outputs").glob("*_2*"), key=lambda path: path.stat().st_mtime))


def found(word: str) -> list[str]:
    """A word as a shell would hand it over; RUN stands for the newest run."""
    word = word.replace("outputs/RUN", newest_run()) if "outputs/RUN" in word else word
    return sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]


def follow(page: str) -> list[list[str]]:
    done = []
    for words in commands(page):
        words = [part for word in words for part in found(word)]
        fresh = words[0] == "train" and "--resume" not in words
        assert main([*words, *(SMALL if fresh else ())]) == 0, words
        done.append(words)
    return done


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draft(place: Path) -> None:
    """What the tutorial on gaps has made before the others begin."""
    for seed, name in enumerate(("plot1", "plot2")):
        write_forest(place / "rasters", name=name, size_px=256, seed=seed)
    assert main(["init", "rasters", "--out", "forest.yaml"]) == 0


def test_the_tutorial_on_gaps_leads_to_a_map(place: Path) -> None:
    for seed, name in enumerate(("plot1", "plot2")):
        write_forest(place / "rasters", name=name, size_px=256, seed=seed)
    done = follow("tutorials/gaps.md")
    assert [words[0] for words in done] == ["init", "check", "train", "train", "predict"]
    assert (place / "check_forest" / "check.html").is_file()
    assert list((place / "maps").glob("*.tif"))


def test_the_tutorial_on_photographs_leads_to_masks(place: Path) -> None:
    write_pictures(place / "pictures", "cracks", 12, size_px=96, difficulty="easy")
    write_pictures(place / "later", "cracks", 2, size_px=96, seed=50)
    follow("tutorials/photographs.md")
    assert len(list((place / "found").glob("*_mask.png"))) == 2


@pytest.mark.slow
def test_the_tutorial_on_stopping_goes_on(place: Path) -> None:
    draft(place)
    follow("tutorials/resume.md")


@pytest.mark.slow
def test_the_tutorial_on_comparing_compares(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft(place)
    follow("tutorials/compare.md")
    assert "model.kind" in capsys.readouterr().out


def test_checking_in_a_pipeline_says_what_it_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft(place)
    (words,) = commands("how-to/check_data.md")
    capsys.readouterr()
    assert main(words) in (0, 3)
    assert (place / "checked" / "check.json").is_file()
    assert '"findings"' in capsys.readouterr().out


def test_every_name_that_earlier_systems_are_sent_to_exists() -> None:
    page = (ROOT / "docs/explanation/coming_from.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(maskwright(?:\.\w+)+)`", page))
    assert len(names) > 50
    for name in sorted(names):
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(name), name


def test_every_command_named_in_the_pages_exists() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`maskwright ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert name in COMMANDS, (page.name, name)


def test_the_pages_build_without_a_broken_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.chdir(ROOT)
    settings = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
    assert settings.strict
    try:
        build(settings)
        assert "train_range_m" in (tmp_path / "site/reference/settings/index.html").read_text(encoding="utf-8")
        assert "--resume" in (tmp_path / "site/reference/commands/index.html").read_text(encoding="utf-8")
    finally:
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
