"""The page about a stand says what was measured, in the unit it was measured in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import shapely

from maskwright.metrics.stand import ALL, describe_stand
from maskwright.prediction.instances_report import stand_sections, write_stand_page

NAMES = {1: "cacao", 2: "shade"}
POINTS = np.array([(10.0, 10.0), (30.0, 10.0), (10.0, 40.0), (60.0, 60.0)])


def _page(path: Path, unit: str, points: np.ndarray = POINTS) -> str:
    labels = np.array([1, 1, 1, 2])[: len(points)]
    stand = describe_stand(
        points, labels, NAMES, shapely.box(0, 0, 100, 100), unit=unit, cover={ALL: 0.5, "cacao": 0.3, "shade": 0.2}
    )
    picture = PIL.Image.new("RGB", (20, 20))
    facts = {"pixel": "0.5 m"}
    write_stand_page(path, "farm <1>", stand, pictures={"Crowns.": picture}, facts=facts, notes=["A note."])
    return path.read_text("utf-8")


def test_metres_and_hectares_are_told_with_verdicts(tmp_path: Path) -> None:
    text = _page(tmp_path / "a.html", "m")
    assert "4 trees on 1.00 ha" in text
    assert "farm &lt;1&gt;" in text
    assert "per hectare" in text
    assert "nearest neighbour, mean (m)" in text
    assert "50.0%" in text
    assert ">good<" in text
    assert "A note." in text


def test_pixels_are_told_as_pixels(tmp_path: Path) -> None:
    text = _page(tmp_path / "a.html", "px")
    assert "4 trees on 10,000 pixels" in text
    assert "per million px" in text
    assert "not known, so all distances and areas are in pixels" in text


def test_no_tree_is_a_page_too(tmp_path: Path) -> None:
    assert "no tree was found" in _page(tmp_path / "a.html", "m", POINTS[:0])


def test_lines_of_ripley_are_drawn_where_there_are_neighbours() -> None:
    rng = np.random.default_rng(0)
    ground = shapely.box(0, 0, 100, 100)
    many = describe_stand(rng.uniform(0, 100, (50, 2)), np.ones(50), {1: "palm"}, ground, unit="m")
    kinds = {heading: [block.kind for block in blocks] for heading, blocks in stand_sections(many, {})}
    assert kinds["Spacing"] == ["table", "paragraph", "figure"]
    assert "Shade" not in kinds
    assert "Maps" not in kinds
    one = describe_stand(np.zeros((1, 2)), np.ones(1), {1: "palm"}, ground, unit="m")
    assert [block.kind for block in dict(stand_sections(one, {}))["Spacing"]] == ["table", "paragraph"]
