"""The page of a run."""

from __future__ import annotations

from pathlib import Path

from maskwright.workflows.report import _scores_over_time, _title, write_run_report

HISTORY = [{"epoch": n, "train/loss": 1 / n, "val/loss": 1.1 / n, "val/iou": n / 10, "lr/0": 0.001} for n in (1, 2)]


def test_a_page_stands_before_there_are_numbers(tmp_path: Path) -> None:
    write_run_report(
        tmp_path / "report.html",
        title="Gaps in Cauaxi",
        history=HISTORY,
        facts={"tiles": "40"},
        commands=["maskwright predict RUN area_DSM.tif"],
        notes=["One site is small"],
    )
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Gaps in Cauaxi" in page
    assert page.index("Training") < page.index("About this run") < page.index("Noticed")
    assert "maskwright predict RUN area_DSM.tif" in page
    assert "Result" not in page
    assert "http" not in page.replace("http://www.w3.org", "")  # it opens without a network


def test_curves_are_those_of_the_heights_else_of_the_one_score() -> None:
    by_height = {"val/iou@5m": 0.4, "val/iou@2.5m": 0.3, "val/iou": 0.3}
    assert _scores_over_time(by_height) == ({"val/iou@5m": "5 m", "val/iou@2.5m": "2.5 m"}, "IoU")
    assert _scores_over_time({"val/iou": 0.3, "val/f1": 0.4}) == ({"val/iou": "IoU", "val/f1": "F1"}, "IoU and F1")
    assert _scores_over_time({"val/rmse": 3.0})[1] == "metres"
    assert _scores_over_time({"train/loss": 3.0}) == ({}, "")
    assert (_title("10m"), _title("foam")) == ("10 m", "foam")
