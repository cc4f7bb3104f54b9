"""The documentation builds, and the commands of its pages run as printed, on invented data and made small."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio

from maskwright.cli.main import COMMANDS, load_command, main
from maskwright.config import field_specs, load_experiment
from maskwright.config.experiment import Experiment
from maskwright.data.synthetic import write_forest
from maskwright.data.synthetic_images import write_pictures
from maskwright.data.synthetic_trees import make_trees, write_trees
from maskwright.tracking.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
WITH_SETTINGS = ("how-to/shape_a_run.md", "how-to/evaluate.md", "how-to/tune.md", "explanation/checkpoints.md")
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


def scripts(page: str) -> dict[str, str]:
    """The Python of a page by the name of the file it belongs to; blocks of one file are joined."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for name, block in re.findall(r'```python title="(\w+\.py)"\n(.*?)```', text, flags=re.DOTALL):
        found[name] = found.get(name, "") + block
    return found


def newest_run() -> str:
    return str(max(Path("outputs").glob("*_2*"), key=lambda path: path.stat().st_mtime))


def found(word: str) -> list[str]:
    """A word as a shell would hand it over; RUN stands for the newest run."""
    word = word.replace("outputs/RUN", newest_run()) if "outputs/RUN" in word else word
    word = re.sub(r"^(outputs/\w+)_\d{8}_\d{6}$", r"\1_2*", word)  # a run by its full name, as it was called that day
    return sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]


def made_small(words: list[str]) -> list[str]:
    """A command that trains from the beginning, with a small network and few epochs in place of minutes."""
    if words[0] not in ("train", "benchmark", "tune") or "--resume" in words:
        return words
    if words[0] == "train" and "--dry-run" not in words:
        if "--minutes" in words:
            at = words.index("--minutes")
            words = [*words[:at], *words[at + 2 :]]
        words = words if "--epochs" in words else [*words, "--epochs", "1"]
    return [*words, *SMALL]


def follow(
    page: str, chosen: Callable[[list[str]], bool] = lambda words: True, ends: tuple[int, ...] = (0,)
) -> list[list[str]]:
    """Run the commands of a page, or those chosen, as a shell would; each must end with one of the codes."""
    done = []
    for words in filter(chosen, commands(page)):
        words = [part for word in words for part in found(word)]
        assert main(made_small(words)) in ends, words
        done.append(words)
    return done


def settings(page: str) -> dict[str, str]:
    """The files of settings that a page shows, by the name in their first line."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"```yaml\n# (\w+\.yaml)\n(.*?)```", text, flags=re.DOTALL))


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


def test_the_readme_leads_from_photographs_to_masks(place: Path) -> None:
    write_pictures(place / "pictures", "cracks", 12, size_px=96, difficulty="easy")
    write_pictures(place / "new", "cracks", 2, size_px=96, seed=50)
    (place / "new/images").rename(place / "new_pictures")
    done = follow("../README.md", lambda words: "cracks.yaml" in words or "new_pictures" in words)
    assert [words[0] for words in done] == ["init", "check", "train", "train", "predict"]
    assert len(list((place / "masks").glob("*_mask.png"))) == 2


def test_the_readme_leads_from_rasters_to_maps(place: Path) -> None:
    write_forest(place / "rasters", size_px=448, seed=3)
    shutil.copy(place / "rasters/forest_DSM.tif", place / "area_DSM.tif")
    (first, *_) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (place / "my_forest.yaml").write_text(first, encoding="utf-8")
    follow("../README.md", lambda words: "my_forest.yaml" in words or "area_DSM.tif" in words)
    assert (place / "maps/area_DSM_gaps.gpkg").is_file()


def test_the_tutorial_on_photographs_leads_to_masks(place: Path) -> None:
    write_pictures(place / "pictures", "cracks", 12, size_px=96, difficulty="easy")
    write_pictures(place / "later", "cracks", 2, size_px=96, seed=50)
    follow("tutorials/photographs.md")
    assert len(list((place / "found").glob("*_mask.png"))) == 2


def test_the_tutorial_on_vessels_leads_to_a_folder_of_masks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = scripts("tutorials/vessels.md").values()
    exec(compile(script, "vessels.py", "exec"), {})
    assert len(list((place / "found").glob("*.png"))) == 4
    assert "8 epochs, best Dice" in capsys.readouterr().out


def test_the_tutorial_of_the_window_speaks_of_what_stands_in_it(place: Path) -> None:
    write_pictures(place / "parts", "defects", 12, size_px=64, difficulty="easy")
    (words,) = follow("tutorials/desktop.md", lambda words: words[0] == "init")
    assert (place / words[-1]).is_file()
    page = (ROOT / "docs/tutorials/desktop.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/maskwright/desktop").glob("*.py"))
    for label in sorted(set(re.findall(r"\*\*(.+?)\*\*", page))):
        assert f'"{label}"' in source.replace("&", ""), label


@pytest.mark.parametrize("name", sorted(scripts("explanation/coming_from_libraries.md")))
def test_what_is_shown_to_people_from_other_libraries_runs(name: str, place: Path) -> None:
    exec(compile(scripts("explanation/coming_from_libraries.md")[name], name, "exec"), {})


@pytest.mark.slow
def test_the_tutorial_on_trees_leads_to_crowns_and_shade(place: Path) -> None:
    write_trees(place / "farm", 8, size_px=96, difficulty="easy")
    write_trees(place / "unseen", 2, size_px=96, seed=5000, difficulty="easy")
    follow("tutorials/trees.md")
    assert (place / "crowns/trees_0000_crowns.gpkg").is_file()
    assert (place / "crowns/trees_0000_report.html").is_file()


@pytest.mark.slow
def test_trees_are_mapped_and_held_against_an_inventory_as_printed(place: Path) -> None:
    write_trees(place / "farm", 8, size_px=96, difficulty="easy")
    write_trees(place / "later", 1, size_px=128, seed=90, difficulty="easy")
    (place / "new").mkdir()
    shutil.copy(place / "later/images/trees_0000.tif", place / "new/ortho.tif")
    shutil.copy(place / "later/chm/trees_0000.tif", place / "new/chm.tif")
    with rasterio.open(place / "new/ortho.tif") as raster:
        stems = [raster.transform @ (tree.x, tree.y) for tree in make_trees(128, 90, "easy").trees]
    rows = [f"{x},{y},Erythrina" for x, y in stems]
    (place / "new/trees.csv").write_text("\n".join(["x,y,species", *rows]) + "\n", encoding="utf-8")
    follow("how-to/trees.md", lambda words: not words[1].startswith("preset:"))
    page = (ROOT / "docs/how-to/trees.md").read_text(encoding="utf-8")
    for name in re.findall(r"`(ortho_\w+\.\w+)`", page):
        assert (place / "crowns" / name).is_file(), name
    (compared,) = (place / "outputs").glob("trees_*/evaluations/ortho_trees")
    assert (compared / "inventory.html").is_file()
    assert (compared / "inventory_trees.csv").is_file()


@pytest.mark.slow
def test_the_commands_of_the_pipeline_document_run_in_our_words(tmp_path: Path) -> None:
    runs = runpy.run_path(str(ROOT / "examples/pipeline_002_commands.py"))["main"](tmp_path / "work")
    assert len(runs) == 5
    assert set(runs.values()) == {"finished"}


@pytest.mark.slow
def test_the_tutorial_on_stopping_goes_on(place: Path) -> None:
    draft(place)
    follow("tutorials/resume.md")
    assert list((place / "maps_after_crash").glob("*_gaps.tif"))


@pytest.mark.slow
def test_the_tutorial_on_comparing_compares(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft(place)
    follow("tutorials/compare.md")
    assert (place / "compared.html").is_file()
    assert list((place / "maps_of_the_better").glob("*_gaps.gpkg"))
    assert "model.kind" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tutorial_on_several_gpus_trains_the_same_with_two_processes(place: Path) -> None:
    draft(place)
    follow("tutorials/several_gpus.md")
    one, two = (
        json.loads(next(place.glob(f"outputs/{name}_2*/evaluation.json")).read_text()) for name in ("one", "two")
    )
    for row, other in zip(one["model"], two["model"], strict=True):
        assert other["scores"]["iou"] == pytest.approx(row["scores"]["iou"], abs=0.02)
    assert list((place / "maps_of_two").glob("*_gaps.gpkg"))


def test_checking_in_a_pipeline_says_what_it_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft(place)
    capsys.readouterr()
    follow("how-to/check_data.md", ends=(0, 3))
    assert (place / "checked" / "check.json").is_file()
    assert '"findings"' in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data that the how-to pages speak of, and the runs first, second and pictures."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MASKWRIGHT_CACHE", str(folder / "cache"))
        draft(folder)
        write_forest(folder, name="area", size_px=96, seed=7)
        for name in ("areas/north", "new_sites"):
            write_forest(folder / name, name="plot9", size_px=128, seed=9)
        (folder / "areas/north/plot9_CHM.tif").unlink()
        write_pictures(folder / "pictures", "cracks", 12, size_px=96, difficulty="easy")
        write_pictures(folder / "unlabelled", "cracks", 3, size_px=96, seed=50)
        shutil.rmtree(folder / "unlabelled/masks")
        assert main(["init", "pictures", "--out", "cracks.yaml"]) == 0
        for page in WITH_SETTINGS:
            for name, text in settings(page).items():
                (folder / name).write_text(text, encoding="utf-8")
        for name, data in (("pictures", "cracks.yaml"), ("second", "forest.yaml"), ("first", "forest.yaml")):
            told = ["--experiment-name", name, "--set", f"training.seed={len(name)}", "--epochs", "1"]
            assert main(["train", data, *told, *SMALL]) == 0
    return folder


@pytest.fixture
def at_work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it of a test's own."""
    shutil.copytree(trained, tmp_path / "work", ignore=shutil.ignore_patterns("outputs", "cache"))
    monkeypatch.chdir(tmp_path / "work")
    for run in sorted((trained / "outputs").glob("*_2*"), key=lambda path: path.name.startswith("first")):
        copy = tmp_path / "work/outputs" / run.name
        shutil.copytree(run, copy)
        config = copy / "config.yaml"  # says where everything lies
        config.write_text(config.read_text("utf-8").replace(str(trained), str(tmp_path / "work")), encoding="utf-8")
        copy.touch()  # first is the newest
    return tmp_path / "work"


def test_every_block_of_settings_is_valid_and_means_what_its_keys_say(trained: Path) -> None:
    for page in WITH_SETTINGS:
        assert settings(page)
        for name in settings(page):
            base = "cracks.yaml" if name == "pseudo.yaml" else "forest.yaml"
            plain = load_experiment([trained / base])
            assert load_experiment([trained / base, trained / name]) != plain, (page, name)


def test_every_setting_named_in_the_pages_exists() -> None:
    known = {re.sub(r"\[\]", "", spec.path) for spec in field_specs(Experiment)}
    sections = {path.rpartition(".")[0] for path in known} | {path.partition(".")[0] for path in known}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = re.sub(r"^\| .*? \| ", "", page.read_text(encoding="utf-8"), flags=re.M)  # names of others stand there
        for name in re.findall(rf"`((?:{'|'.join(sorted(sections - {''}))})\.[a-z_0-9.]+)", text):
            if not name.endswith((".yaml", ".json", ".safetensors", ".html", ".py")):
                assert name in known | sections, (page.name, name)


def test_predicting_leads_to_maps_and_to_what_changed(at_work: Path) -> None:
    done = follow("how-to/predict.md")
    assert [words[0] for words in done] == ["predict"] * 4 + ["change"]
    assert (at_work / "maps/area_DSM_gaps.qml").is_file()
    assert (at_work / "maps/area_DSM_gap_sizes.csv").is_file()
    assert (at_work / "all_maps/north/plot9_DSM_gaps.tif").is_file()
    assert (at_work / "together/area_DSM_uncertainty.tif").is_file()
    assert {path.suffix for path in (at_work / "changed").iterdir()} >= {".tif", ".gpkg", ".csv", ".qml"}


def test_a_raster_is_mapped_as_the_tutorial_says_and_opens_in_colours(at_work: Path) -> None:
    follow("tutorials/large_raster.md")
    follow("how-to/qgis.md")
    page = (ROOT / "docs/how-to/qgis.md").read_text(encoding="utf-8")
    for name in re.findall(r"^\| `(area_DSM_\w+\.\w+)`", page, flags=re.M):
        assert (at_work / "qgis_maps" / name).is_file(), name
        if not name.endswith(".png"):
            assert (at_work / "qgis_maps" / name).with_suffix(".qml").is_file(), name


def test_evaluating_scores_other_data_and_finds_doubtful_labels(at_work: Path) -> None:
    follow("how-to/evaluate.md", lambda words: "--folds" not in words)
    (run,) = (at_work / "outputs").glob("first_*")
    assert {path.name for path in (run / "evaluations/new_sites").iterdir()} >= {"report.html", "errors"}
    assert (at_work / "new_sites.html").is_file()
    assert {path.name for path in (run / "suspects").iterdir()} >= {
        *("suspects.html", "suspects.gpkg", "files_to_correct.txt", "label_next.csv")
    }


@pytest.mark.slow
def test_labels_are_judged_by_models_that_have_not_seen_them(at_work: Path) -> None:
    follow("how-to/evaluate.md", lambda words: "--folds" in words)
    assert (at_work / "by_folds/suspects.html").is_file()


@pytest.mark.slow
def test_exported_files_answer_as_the_network(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow("how-to/export.md")
    assert capsys.readouterr().out.count("Checked ") == 3
    assert list((at_work / "onnx_maps").glob("*_gaps.tif"))
    (onnx,) = (at_work / "outputs").glob("pictures_*/model/model_qgis.onnx")
    import onnxruntime

    keys = onnxruntime.InferenceSession(str(onnx)).get_modelmeta().custom_metadata_map
    page = (ROOT / "docs/how-to/export.md").read_text(encoding="utf-8")
    table = page.partition("| key | value |")[2]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert named - {"resolution"} <= set(keys)  # the invented pictures have no size on the ground
    assert json.loads(keys["model_type"]) == "Segmentor"


def test_a_run_is_gone_on_with_and_begun_anew_from_its_weights(at_work: Path) -> None:
    done = follow("how-to/resume_and_steer.md", lambda words: words[0] == "train")
    assert len(done) == 2
    newest = RunFolder.open(Path(newest_run()))
    assert newest.record.load()["parent"]["folder"].rpartition("/")[2].startswith("first")
    (run,) = (at_work / "outputs").glob("first_*")
    assert (run / "config_attempt_1.yaml").is_file()


@pytest.mark.slow
def test_a_run_at_work_is_steered(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("outputs")
    words = ["train", "forest.yaml", "--experiment-name", "steered", "--epochs", "5000"]
    train = subprocess.Popen([sys.executable, "-m", "maskwright", *words, *SMALL], stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 300
        while not list(Path("outputs").glob("*/training_history.json")) and time.monotonic() < give_up:
            time.sleep(0.2)
        done = follow("how-to/resume_and_steer.md", lambda words: words[0] == "runs")
        assert [words[1] for words in done] == ["pause", "continue", "checkpoint", "lr", "stop"]
        train.wait(timeout=300)
    finally:
        train.kill()
    run = RunFolder.open(Path(newest_run()))
    assert run.record.status() == "stopped"
    assert (run.checkpoints / "checkpoint_latest.pt").is_file()
    assert "trains with a learning rate of 0.0005" in capsys.readouterr().out


def test_the_shapes_of_a_run_are_planned_as_printed(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = follow("how-to/shape_a_run.md")
    assert all("--dry-run" in words for words in done)
    assert "2 stages" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_are_followed_explained_and_shared(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    follow("how-to/trackers.md")
    assert (at_work / "mlruns").is_dir()
    assert list((at_work / "outputs").glob("*/wandb"))
    assert (at_work / "kinds/benchmark.html").is_file()
    assert (at_work / "activations.png").is_file()
    assert list((at_work / "received").glob("*/report.html"))


def test_every_option_in_a_printed_command_exists() -> None:
    asked = [words for path in sorted((ROOT / "docs").rglob("*.md")) for words in commands(str(path))]
    assert len(asked) > 50
    for words in asked:
        command: Any = load_command(COMMANDS[words[0]][0], words[0])
        if hasattr(command, "commands") and len(words) > 1:
            command = command.commands.get(words[1], command)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= known | {"--help"}, (words, named - known)


def test_data_is_packed_and_planned_from_its_shards(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow("how-to/shards.md")
    assert (at_work / "shards/shards.json").is_file()
    assert "Nothing was trained" in capsys.readouterr().out


@pytest.mark.slow
def test_settings_are_searched_as_printed(at_work: Path) -> None:
    search = at_work / "search.yaml"
    search.write_text(search.read_text(encoding="utf-8") + "training: {epochs: 1}\n", encoding="utf-8")
    follow("how-to/tune.md")
    (folder,) = (at_work / "outputs").glob("*_tune")
    assert {"best.yaml", "tune.html", "trials.csv", "study.db"} <= {path.name for path in folder.iterdir()}
    assert main(["train", str(folder / "best.yaml"), "--dry-run"]) == 0


def test_a_study_shared_by_machines_is_named_by_its_database(at_work: Path) -> None:
    page = (ROOT / "docs/how-to/tune.md").read_text(encoding="utf-8")
    (storage,) = re.findall(r"```yaml\n(tune:\n.*?)```", page, flags=re.DOTALL)
    (at_work / "storage.yaml").write_text(storage, encoding="utf-8")
    found = load_experiment([at_work / name for name in ("cracks.yaml", "search.yaml", "storage.yaml")]).tune
    assert [search.setting for search in found.space] == ["optim.optimizer.lr", "optim.schedule.kind", "model.dropout"]
    assert found.storage == "postgresql://user:password@host/studies"


def test_one_process_needs_no_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/how-to/several_gpus.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block, "several_gpus.md", "exec"), {})
    assert capsys.readouterr().out == "1 process\n"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = set(re.findall(r"- ([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert not pages - listed - {"index.md"}


def test_every_file_named_in_the_walks_of_the_architecture_exists() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    folder = ""
    for name in re.findall(r"`([\w/]+\.py)`", page.partition("## A sample")[2]):
        folder = name.rpartition("/")[0] or folder  # a bare name lies beside the one before
        assert (ROOT / "src/maskwright" / folder / Path(name).name).is_file(), name


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
