"""Parts of the page of a run that come from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from maskwright.config import Experiment
from maskwright.pictures import page
from maskwright.tracking import EventLog, RunFolder
from maskwright.types import Place, Window
from maskwright.workflows.report_parts import asked_blocks, doctor_blocks, reproduce_blocks, resource_blocks, split_map


def grid(height: int, width: int) -> Any:
    return SimpleNamespace(window=Window(0, 0, height, width))


def parts_of(tiles: dict[str, list[Place]], scenes: dict[str, Any]) -> Any:
    source = SimpleNamespace(scenes=[SimpleNamespace(name=name, grid=size) for name, size in scenes.items()])
    return SimpleNamespace(source=source, split=SimpleNamespace(tiles=tiles, seed=7))


def experiment(**sections: Any) -> Experiment:
    data = {"sites": [{"name": "north", "dsm": "a.tif", "chm": "b.tif"}]}
    return Experiment.model_validate({"name": "gaps", "data": data, **sections})


def text_of(blocks: list[Any]) -> str:
    return page("x", [("part", blocks)])


def test_what_was_asked_is_the_kinds_and_the_unusual_settings() -> None:
    parts: Any = SimpleNamespace(experiment=experiment(training={"epochs": 7}, tracking={"mlflow": True}))
    rows = dict(asked_blocks(parts)[1].rows)
    assert rows["training.epochs"] == "7"
    assert rows["data.sites"] == "north"
    assert rows["model.kind"] == "height_cdf"
    assert rows["optim.schedule.kind"] == "onecycle"
    assert not {"training.accumulate", "tracking.mlflow"} & set(rows)


def test_the_map_shows_where_the_tiles_of_each_part_lie_and_leaves_the_buffer_grey() -> None:
    tiles = {"train": [Place("a", Window(0, 0, 100, 100))], "test": [Place("a", Window(0, 180, 100, 100))], "val": []}
    sheet = split_map(parts_of(tiles, {"a": grid(100, 280)}))
    assert sheet is not None
    left, top, right, bottom = sheet.info["panels"][0]
    row = np.asarray(sheet)[top + 50, left:right]
    assert (right - left, bottom - top) == (280, 100)
    assert tuple(row[50]) == (0, 114, 178)
    assert tuple(row[140]) == (232, 230, 224)
    assert tuple(row[230]) == (213, 94, 0)


def test_a_folder_of_photographs_has_no_map() -> None:
    assert split_map(parts_of({"train": []}, {f"p{n}": grid(8, 8) for n in range(13)})) is None


def test_what_a_run_took_is_the_usual_and_the_most_of_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for n, wait in enumerate((0.5, 0.1, 0.2)):
        log.write("step", global_step=10 * n, loss=1.0)
        log.write("resources", images_per_s=100.0 + n, data_wait_share=wait, gpu_percent=None)
    with open(path, "ab") as file:
        file.write(b'{"kind": "resources", "global_step"')
    rows = {row[0]: row[1:] for row in resource_blocks(path)[1].rows}
    assert rows == {"images a second": ("101", "102", ""), "waiting for data": ("20.0", "50.0", "%")}
    assert resource_blocks(tmp_path / "none.jsonl") == []


def test_how_to_reproduce_names_the_command_the_seed_and_the_packages(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "gaps")
    folder.record.update(
        data="0123abcd", device="cpu", precision="fp32", environment={"cpu": "made up", "versions": {"torch": "2.14.1"}}
    )
    parts = parts_of({"train": []}, {})
    parts.experiment = experiment(training={"seed": 5})
    page_text = text_of(reproduce_blocks(folder, parts))
    for said in (
        f"maskwright train {folder.config}",
        "data.split.keep",
        "0123abcd",
        "torch 2.14.1",
        "cpu, fp32, made up",
    ):
        assert said in page_text


def test_how_to_reproduce_names_the_weights_a_run_began_with(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "gaps")
    parts = parts_of({"train": []}, {})
    parts.experiment = experiment()
    assert "weights at the start" not in text_of(reproduce_blocks(folder, parts))
    folder.record.update(parent={"folder": "runs/first", "checkpoint": "checkpoints/best.pt", "sha256": "ab" * 32})
    assert "checkpoints/best.pt of runs/first, sha256 abababababab" in text_of(reproduce_blocks(folder, parts))


def test_the_page_repeats_what_the_doctor_found(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "gaps")
    folder.config.write_text("data: {loader: {batch_size: 2}}\nmodel: {kind: unet, norm: batch}\n")
    assert "Batch normalisation sees too few images" in text_of(doctor_blocks(folder))
    folder.config.write_text(json.dumps({"model": {"kind": "unet", "norm": "group"}}))
    assert "Nothing wrong was found in the log." in text_of(doctor_blocks(folder))
