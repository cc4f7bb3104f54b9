"""Runs beside each other: paired where the test data is the same, and said where it is not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.cli.main import main
from maskwright.errors import ConfigError, RunError
from maskwright.files import write_json
from maskwright.metrics import SCORES
from maskwright.metrics.confidence import compare_models
from maskwright.tracking import History, RunFolder
from maskwright.workflows.compare import compare_runs, settings_that_differ

TRUE, PIXELS = 40, 100


def blocks(hits: list[int], false: int = 5) -> dict[str, Any]:
    """Images with 40 true pixels of 100, so many of them found, and as many false ones everywhere."""
    return {f"p{n}": [[hit, false, TRUE - hit, PIXELS - TRUE - false]] for n, hit in enumerate(hits)}


def make_run(folder: Path, name: str, counts: dict[str, Any], *, lr: float = 0.01, **more: Any) -> Path:
    run = RunFolder.create(folder, name)
    run.config.write_text(f"name: {name}\noptim: {{optimizer: {{lr: {lr}}}}}\ntracking: {{output_dir: /{name}}}\n")
    history = History(run.history)
    for epoch in (1, 2):
        history.append({"epoch": epoch, "train/loss": 1 / epoch, "val/iou": 0.1 * epoch})
    total = np.array(list(counts.values())).sum(axis=0)
    row = {"column": "crack", "scores": {"iou": float(SCORES["iou"][0](total)[0])}, "intervals": {"iou": [0.1, None]}}
    write_json(run.path / "evaluation.json", {"part": "test", "score": "iou", "mean": None, "model": [row]} | more)
    write_json(run.path / "evaluation_blocks.json", counts)
    run.record.update(status="finished")
    return run.path


def test_runs_on_the_same_images_get_a_paired_test(tmp_path: Path) -> None:
    weak, strong = blocks([10, 12, 14, 16, 18, 20]), blocks([20, 22, 24, 26, 28, 30])
    paths = [make_run(tmp_path, "a", weak), make_run(tmp_path, "b", strong, lr=0.001)]
    comparison = compare_runs(paths)
    (one,) = comparison.differences
    iou_a, iou_b = 90 / (240 + 30), 150 / (240 + 30)
    assert one.value == pytest.approx(iou_b - iou_a)
    assert one.p_value == pytest.approx(2 / 2**6)  # all six images agree: only two of the 64 exchanges are as extreme
    expected = compare_models(*(np.array(list(c.values())) for c in (strong, weak)), SCORES["iou"][0])
    assert (one.low, one.high) == pytest.approx((float(expected.low[0]), float(expected.high[0])))
    assert comparison.notes == ()


@pytest.mark.parametrize(
    ("images", "said"), [(1, "Only one image or block"), (2, "p cannot fall below 0.5"), (6, None)]
)
def test_so_few_images_that_nothing_could_be_shown_are_named(tmp_path: Path, images: int, said: str | None) -> None:
    runs = [make_run(tmp_path, name, blocks([hits] * images)) for name, hits in (("a", 10), ("b", 30))]
    comparison = compare_runs(runs)
    assert all(one.p_value >= 2.0 ** (1 - images) for one in comparison.differences)
    assert comparison.notes == () if said is None else said in comparison.notes[0]


def test_the_order_in_which_images_were_counted_makes_no_difference(tmp_path: Path) -> None:
    weak, strong = blocks([10, 12, 14, 16]), blocks([20, 22, 30, 31])
    mixed = dict(reversed(strong.items()))
    first = compare_runs([make_run(tmp_path, "a", weak), make_run(tmp_path, "b", strong)]).differences
    second = compare_runs([make_run(tmp_path, "c", weak), make_run(tmp_path, "d", mixed)]).differences
    assert [one.p_value for one in first] == [one.p_value for one in second]


def test_two_columns_are_compared_each_and_in_their_mean(tmp_path: Path) -> None:
    def two(hits: list[int]) -> dict[str, Any]:
        return {name: [rows[0], [5, 0, 5, 90]] for name, rows in blocks(hits).items()}

    rows = [{"column": name, "scores": {"iou": 0.5}, "intervals": {"iou": [0.4, 0.6]}} for name in ("crack", "stain")]
    more = {"model": rows, "mean": 0.5, "mean_interval": [0.45, 0.55]}
    paths = [make_run(tmp_path, "a", two([10, 12]), **more), make_run(tmp_path, "b", two([20, 22]), **more)]
    crack, stain, mean = compare_runs(paths).differences
    assert [one.column for one in (crack, stain, mean)] == ["crack", "stain", "mean"]
    assert stain.value == 0
    assert stain.p_value == 1
    assert mean.value == pytest.approx(crack.value / 2)


@pytest.mark.parametrize(
    ("counts", "more", "reason"),
    [
        (dict(list(blocks([10, 12, 14]).items())[:2]), {}, "test data differs (2 images or blocks in common, of 3"),
        ({n: [[1, 1, 1, 97]] for n in ("p0", "p1", "p2")}, {}, "the truth, or what counts, is not the same"),
        (blocks([10, 12, 14]), {"part": "val"}, "one was scored on test, the other on val"),
        ({}, {"score": "rmse", "model": [{"column": "m", "scores": {"rmse": 2.0}, "intervals": {"rmse": [1, 3]}}]},
         "has no counts by image or block"),
    ],
)  # fmt: skip
def test_other_test_data_gets_no_paired_test_and_the_reason_is_said(
    tmp_path: Path, counts: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    first = make_run(tmp_path, "a", blocks([10, 12, 14]))
    second = make_run(tmp_path, "b", counts or blocks([1, 1, 1]), **more)
    if not counts:
        (second / "evaluation_blocks.json").unlink()
    comparison = compare_runs([first, second])
    assert comparison.differences == ()
    assert f"{second.name} and {first.name} have no paired test" in comparison.notes[0]
    assert reason in comparison.notes[0]


def test_a_run_that_was_never_scored_stands_beside_one_that_was(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "a", blocks([10, 12])), make_run(tmp_path, "b", blocks([10, 12]))
    (second / "evaluation.json").unlink()
    comparison = compare_runs([first, second])
    assert comparison.score_table()[1][1] == [second.name, "finished", "2", "-"]
    assert comparison.notes == (
        f"{second.name} and {first.name} have no paired test: {second.name} was not scored on a test part.",
    )


def test_settings_that_differ_are_listed_without_the_name_and_the_folder() -> None:
    settings = {
        "a": {"name": "a", "tracking.output_dir": "/a", "lr": 0.1, "epochs": 3, "norm": None},
        "b": {"name": "b", "tracking.output_dir": "/b", "lr": 0.2, "epochs": 3, "norm": None, "clip": 1},
    }
    assert settings_that_differ(settings) == (["setting", "a", "b"], [["lr", "0.1", "0.2"], ["clip", "-", "1"]])


def test_page_table_and_json_are_written(tmp_path: Path) -> None:
    paths = [make_run(tmp_path, "a", blocks([10, 12])), make_run(tmp_path, "b", blocks([20, 22]), lr=0.001)]
    compare_runs(paths, out=tmp_path / "page" / "compared.html")
    page = (tmp_path / "page" / "compared.html").read_text()
    assert "optim.optimizer.lr" in page
    assert "train/loss, by epoch." in page
    first, second = csv.DictReader((tmp_path / "page" / "compared.csv").open())
    assert (first["column"], first["reference"], first["low"], first["high"]) == ("crack", "", "0.1", "")
    assert second["reference"] == paths[0].name
    content = json.loads((tmp_path / "page" / "compared.json").read_text())
    assert content["settings"] == {"optim.optimizer.lr": {paths[0].name: "0.01", paths[1].name: "0.001"}}
    assert content["runs"][0]["columns"]["crack"]["high"] is None
    assert content["differences"][0]["p_value"] == float(second["p_value"]) == 0.5


def test_one_run_is_not_enough_and_a_foreign_folder_no_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", blocks([10]))
    with pytest.raises(ConfigError, match="two different runs"):
        compare_runs([run])
    with pytest.raises(ConfigError, match="two different runs"):
        compare_runs([run, run])
    with pytest.raises(RunError, match="not a run folder"):
        compare_runs([run, tmp_path])
    (run / "evaluation_blocks.json").write_text('{"p0": [[1, 2], 3]}')
    with pytest.raises(RunError, match=r"evaluation_blocks.json is damaged"):
        compare_runs([run, make_run(tmp_path, "b", blocks([10]))])


def test_the_command_prints_scores_and_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from maskwright.cli.compare_commands import compare

    paths = [make_run(tmp_path, "a", blocks([10, 12])), make_run(tmp_path, "b", blocks([20, 22]))]
    assert compare(paths, out=tmp_path / "c.html") == 0
    printed = capsys.readouterr().out
    assert "IoU crack" in printed
    assert "0.5000" in printed
    assert "All settings are the same." in printed
    with pytest.raises(ConfigError, match=r"c\.html"):
        compare(paths, out=tmp_path / "c.txt")


def test_the_doctor_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from maskwright.cli.doctor_commands import doctor

    assert doctor(make_run(tmp_path, "a", blocks([10]))) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing wrong was found.\nLooked at 2 epochs")
    assert main(["runs", str(tmp_path)]) == 0


@pytest.mark.parametrize("content", [[1, 2], "x", None, {"a": 1}, {"model": [{"column": 1}], "part": "test"}])
def test_scores_of_something_else_are_called_damaged(tmp_path: Path, content: Any) -> None:
    paths = [make_run(tmp_path, name, blocks([10, 12])) for name in ("a", "b")]
    write_json(paths[1] / "evaluation.json", content)
    with pytest.raises(RunError, match=r"evaluation\.json is damaged"):
        compare_runs(paths)
