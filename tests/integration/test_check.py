"""``maskwright init`` writes what ``check`` accepts; ``check`` tells what is wrong, with a page, a file and a code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.check_commands import check as check_command
from maskwright.cli.check_commands import init as init_command
from maskwright.config import load_experiment
from maskwright.data.synthetic import write_forest
from maskwright.data.synthetic_images import write_pictures
from maskwright.errors import ConfigError, DataError
from maskwright.workflows.check import CheckOutcome, check
from maskwright.workflows.dry_run import dry_run
from maskwright.workflows.init import draft_experiment, init
from maskwright.workflows.init_draft import ASK

REAL = (
    "crack_cfd",
    "defect_magnetic_tile",
    "vessel_retina",
    "forest_chm",
    "forest_chm_large",
    "trees_neon",
    "trees_oam_tcd",
    "trees_urban_naip",
)
COUNT = 14


def codes(outcome: CheckOutcome, level: str = "") -> set[str]:
    return {finding.code for finding in outcome.findings if not level or finding.level == level}


def said(outcome: CheckOutcome) -> str:
    return "\n".join(f"{f.level} {f.code} {f.where}: {f.what}" for f in outcome.findings)


def cracks(folder: Path, count: int = COUNT) -> Path:
    """Pictures of cracks in ``images`` and ``masks``."""
    write_pictures(folder, "cracks", count, size_px=96)
    return folder


def squares(seed: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A picture with two bright squares, and where they are: x, y, width, height."""
    generator = np.random.default_rng(seed)
    picture = generator.normal(90, 12, (96, 96, 3))
    boxes = [(int(x), int(y), 20, 16) for x, y in ((generator.integers(2, 24), 8), (generator.integers(50, 70), 60))]
    for x, y, width, height in boxes:
        picture[y : y + height, x : x + width] += 70
    return picture.clip(0, 255).astype(np.uint8), boxes


def pictures_of_squares(folder: Path, count: int = COUNT) -> dict[str, list[tuple[int, int, int, int]]]:
    (folder / "images").mkdir(parents=True)
    found = {}
    for seed in range(count):
        picture, boxes = squares(seed)
        Image.fromarray(picture).save(folder / "images" / f"p{seed:02d}.png")
        found[f"p{seed:02d}"] = boxes
    return found


def multiclass_masks(folder: Path) -> Path:
    (folder / "masks").mkdir(parents=True)
    for name, boxes in pictures_of_squares(folder).items():
        mask = np.zeros((96, 96), np.uint8)
        for value, (x, y, width, height) in zip((3, 7), boxes, strict=True):
            mask[y : y + height, x : x + width] = value
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def coco(folder: Path) -> Path:
    images, annotations = [], []
    for index, (name, boxes) in enumerate(pictures_of_squares(folder).items()):
        images.append({"id": index, "file_name": f"{name}.png", "width": 96, "height": 96})
        for category, (x, y, w, h) in enumerate(boxes, 1):
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": category,
                    "segmentation": [ring],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 1, "name": "left"}, {"id": 2, "name": "right"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "all.json").write_text(json.dumps(content))
    return folder


def yolo(folder: Path) -> Path:
    (folder / "labels").mkdir(parents=True)
    for name, boxes in pictures_of_squares(folder).items():
        lines = []
        for kind, (x, y, w, h) in enumerate(boxes):
            corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
            lines.append(f"{kind} " + " ".join(f"{a / 96:.4f} {b / 96:.4f}" for a, b in corners))
        (folder / "labels" / f"{name}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("names: [left, right]\n")
    return folder


def points(folder: Path) -> Path:
    (folder / "points").mkdir(parents=True)
    for name, boxes in pictures_of_squares(folder).items():
        rows = [f"{x + w // 2},{y + h // 2}" for x, y, w, h in boxes]
        (folder / "points" / f"{name}.csv").write_text("\n".join(["x,y", *rows]))
    return folder


def forest(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed in range(2):
        write_forest(folder, name=f"site{seed}", size_px=512, seed=seed)
    return folder


MADE: dict[str, Callable[[Path], Path]] = {
    "cracks": cracks,
    "multiclass_masks": multiclass_masks,
    "coco": coco,
    "yolo": yolo,
    "points": points,
    "forest": forest,
}


# --- init and check agree ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(MADE))
def test_what_init_writes_for_invented_data_is_accepted_by_check(kind: str, tmp_path: Path) -> None:
    data = MADE[kind](tmp_path / "data")
    written = init(data, tmp_path / "experiment.yaml")
    experiment = load_experiment([written.path])
    assert experiment == load_experiment((), draft_experiment(data).settings())
    outcome = check(written.path, tmp_path / "out")
    assert outcome.exit_code() == 0, said(outcome)
    assert outcome.facts["forecast"]["minutes"] > 0


@pytest.mark.parametrize("name", REAL)
def test_what_init_writes_for_real_data_is_accepted_by_check(name: str, tmp_path: Path, real_data: Path) -> None:
    written = init(real_data / name, tmp_path / "experiment.yaml")
    outcome = check(written.path, tmp_path / "out")
    assert outcome.exit_code() == 0, said(outcome)
    assert "mask_shifted" not in codes(outcome)


def test_multiclass_values_are_listed_and_marked_as_a_guess(tmp_path: Path) -> None:
    text = init(multiclass_masks(tmp_path / "data"), tmp_path / "a.yaml").text
    experiment = load_experiment([tmp_path / "a.yaml"])
    assert experiment.task.kind == "multiclass"
    assert [tuple(entry.values) for entry in experiment.data.labels.classes] == [(3,), (7,)]
    assert f"{ASK}: give them names" in text


def test_coco_categories_become_classes_without_a_guess(tmp_path: Path) -> None:
    draft = draft_experiment(coco(tmp_path / "data"))
    entry = next(entry for entry in draft.entries if entry.path == "data.labels.classes")
    assert [item["name"] for item in entry.value] == ["left", "right"]
    assert not entry.unsure


def test_height_pairs_are_found_and_take_the_surface_as_input(tmp_path: Path) -> None:
    experiment = load_experiment((), draft_experiment(forest(tmp_path / "data")).settings())
    assert experiment.task.kind == "height_gaps"
    assert experiment.data.input == "dsm"
    assert experiment.data.folder == tmp_path / "data"


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "experiment.yaml"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"is there already and is left as it is\. Name another file with --out"):
        init(cracks(tmp_path / "data"), out)
    assert out.read_text() == "mine"
    init(tmp_path / "data", out, force=True)
    assert out.read_text() != "mine"


def test_a_folder_without_labels_says_what_was_looked_for(tmp_path: Path) -> None:
    pictures_of_squares(tmp_path / "data")
    with pytest.raises(DataError, match=r"no labels that suit them\. Looked for: folders of masks"):
        init(tmp_path / "data", tmp_path / "a.yaml")


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--task cracks: there is no such task\. Choose binary"):
        init(cracks(tmp_path / "data"), tmp_path / "a.yaml", task="cracks")


# --- what check finds -------------------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_the_file_tells_the_same(tmp_path: Path) -> None:
    outcome = check(cracks(tmp_path / "data"), tmp_path / "out")
    page = outcome.page.read_text()
    assert "The oddest samples" in page
    assert "http://" not in page
    assert "https://" not in page
    facts = json.loads(outcome.file.read_text())
    assert len(facts["findings"]) == len(outcome.findings)
    assert len(facts["odd"]) == 12
    assert facts["data"]["scenes"] == COUNT


def test_masks_moved_by_a_known_amount_are_told_with_direction(tmp_path: Path) -> None:
    data = cracks(tmp_path / "data", 24)
    assert "mask_shifted" not in codes(check(data, tmp_path / "before"))
    for path in (data / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.roll(mask, (7, -5), (0, 1))).save(path)
    outcome = check(data, tmp_path / "after")
    (finding,) = [finding for finding in outcome.findings if finding.code == "mask_shifted"]
    assert "7 px up and 5 px to the right" in finding.what
    assert outcome.exit_code() == 0
    assert outcome.exit_code(strict=True) == 3


def test_a_copy_in_another_part_is_an_error_that_names_both(tmp_path: Path) -> None:
    data = cracks(tmp_path / "data")
    names = sorted(path.stem for path in (data / "images").iterdir())
    for folder in ("images", "masks"):
        source = next(path for path in (data / folder).iterdir() if path.stem == names[0])
        shutil.copy(source, source.with_stem("zz_copy"))
    every = [*names, "zz_copy"]
    split = {"by": "lists", "train": every[:9], "val": every[9:12], "test": every[12:]}
    settings = draft_experiment(data).settings()
    settings["data"]["split"] = split
    path = tmp_path / "e.yaml"
    path.write_text(json.dumps(settings))
    outcome = check(path, tmp_path / "out")
    (finding,) = [finding for finding in outcome.findings if finding.code == "exact_copies_across_parts"]
    assert finding.where == f"{names[0]}, zz_copy"
    assert outcome.exit_code() == 2


def test_data_that_cannot_be_read_still_gives_a_page(tmp_path: Path) -> None:
    data = cracks(tmp_path / "data")
    path = tmp_path / "e.yaml"
    init(data, path)
    first, second, *_ = sorted((data / "images").iterdir())
    first.write_bytes(first.read_bytes()[:200])
    second.write_text("no image")
    outcome = check(path, tmp_path / "out")
    errors = [finding for finding in outcome.findings if finding.level == "error"]
    assert len(errors) == 2, said(outcome)
    assert any(first.name in finding.where + finding.what for finding in errors)
    assert any(second.name in finding.where + finding.what for finding in errors)
    assert all(finding.do for finding in errors)
    assert outcome.exit_code() == 2
    assert "What to mend" in outcome.page.read_text()


def test_wrong_settings_are_findings_too(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("name: a\ntask: {kind: binary}\ndata: {folder: nowhere}\nmodle: {}\n")
    outcome = check(path, tmp_path / "out")
    assert codes(outcome) == {"settings"}
    assert outcome.exit_code() == 2


def test_a_mask_value_without_a_class_is_an_error(tmp_path: Path) -> None:
    data = multiclass_masks(tmp_path / "data")
    path = tmp_path / "e.yaml"
    init(data, path)
    mask = next(iter(sorted((data / "masks").iterdir())))
    values = np.asarray(Image.open(mask)).copy()
    values[0, 0] = 9
    Image.fromarray(values).save(mask)
    outcome = check(path, tmp_path / "out")
    (error,) = [finding for finding in outcome.findings if finding.level == "error"]
    assert mask.name in error.where + error.what
    assert "9" in error.what


def test_undeclared_nodata_of_heights_is_told(tmp_path: Path) -> None:
    import rasterio

    data = forest(tmp_path / "data")
    path = tmp_path / "e.yaml"
    init(data, path)
    with rasterio.open(data / "site0_DSM.tif", "r+") as dataset:
        dataset.nodata = None
    outcome = check(path, tmp_path / "out")
    assert any("site0" in f.where and "-9999" in f.what for f in outcome.findings), said(outcome)


def test_a_shifted_canopy_raster_is_told(tmp_path: Path) -> None:
    import rasterio

    data = forest(tmp_path / "data")
    path = tmp_path / "e.yaml"
    init(data, path)
    assert "mask_shifted" not in codes(check(path, tmp_path / "before"))
    for raster in data.glob("*_CHM.tif"):
        with rasterio.open(raster, "r+") as dataset:
            dataset.write(np.roll(dataset.read(1), (6, 0), (0, 1)), 1)
    (finding,) = [f for f in check(path, tmp_path / "after").findings if f.code == "mask_shifted"]
    assert finding.numbers["down_px"] == -6


# --- the plan and the commands ----------------------------------------------------------------------------------------


def test_a_dry_run_tells_the_plan_draws_a_batch_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment((), draft_experiment(cracks(tmp_path / "data")).settings())
    plan = dry_run(experiment, tmp_path / "plan")
    assert plan.picture is not None
    assert plan.picture.is_file()
    assert sum(plan.scenes.values()) == COUNT
    assert plan.columns == ("foreground",)
    assert plan.total_steps == plan.steps_per_epoch * experiment.training.epochs
    tiles, size = plan.tiles["train"], experiment.data.loader.batch_size
    assert plan.steps_per_epoch == -(-tiles // size)
    assert plan.forecast.receptive_field_px is not None
    assert plan.forecast.memory_mb > 16 * plan.forecast.parameters / 1e6
    assert any(line.startswith("Time: about") for line in plan.lines)
    assert plan.lines[-1] == "Nothing was trained."
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_of_heights_names_the_heights(tmp_path: Path) -> None:
    experiment = load_experiment((), draft_experiment(forest(tmp_path / "data")).settings())
    plan = dry_run(experiment)
    assert plan.columns == tuple(f"{height:g} m" for height in experiment.task.heights_m)
    assert plan.picture is None


def test_augmented_samples_are_drawn_with_what_was_done_to_them(tmp_path: Path) -> None:
    outcome = check(forest(tmp_path / "data"), tmp_path / "out", show_augmented=4)
    page = outcome.page.read_text()
    assert "Augmented samples" in page
    assert len(outcome.augmented) == 4
    for text in outcome.augmented:
        assert "_DSM.tif" in text
        assert "window" in text
        assert "normalised by kind metres" in text


def test_the_commands_print_a_table_json_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = cracks(tmp_path / "data")
    assert init_command(data, out=tmp_path / "e.yaml") == 0
    assert "Next: maskwright check" in capsys.readouterr().out
    assert check_command(tmp_path / "e.yaml", out=tmp_path / "out") == 0
    assert "Page:" in capsys.readouterr().out
    assert check_command(tmp_path / "e.yaml", out=tmp_path / "out", json=True) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["error"] == 0
