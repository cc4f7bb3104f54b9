"""One COCO file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.coco_file import CocoImage, read_categories, read_coco, read_images, read_objects
from maskwright.data.sources.findings import Findings
from maskwright.data.sources.meaning import Meaning
from maskwright.errors import DataError

MEANING = Meaning(ClassTable.from_config([("rust", ("rust",))], "background", "binary"))


def content(*annotations: dict[str, Any]) -> dict[str, Any]:
    usual = {"image_id": 1, "category_id": 5}
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 5, "name": "rust"}],
        "annotations": [{"id": n, **usual, **entry} for n, entry in enumerate(annotations, start=1)],
    }


def objects(findings: Findings, *annotations: dict[str, Any], **options: Any) -> list[Any]:
    told = content(*annotations)
    images, categories = read_images(told, findings), read_categories(told, findings)
    return read_objects(
        told, images, categories, MEANING, findings, **({"boxes": "refuse", "crowds": "ignore"} | options)
    ).get(1, [])


def test_images_and_categories_are_known_by_their_ids() -> None:
    findings = Findings("labels.json")
    assert read_images(content(), findings) == {1: CocoImage(1, "a.png", (20, 30))}
    assert read_categories(content(), findings) == {5: "rust"}
    assert findings.faults == ()


def test_an_outline_becomes_an_object_of_its_class() -> None:
    findings = Findings("labels.json")
    (found,) = objects(findings, {"segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]})
    assert findings.faults == ()
    assert (found.label, found.shape.area) == (1, 12.0)


def test_a_box_alone_is_refused_or_filled_as_told() -> None:
    refused = Findings("labels.json")
    objects(refused, {"bbox": [0, 0, 4, 3]})
    assert len(refused.faults) == 1
    filled = Findings("labels.json")
    (found,) = objects(filled, {"bbox": [0, 0, 4, 3]}, boxes="fill")
    assert filled.faults == ()
    assert found.shape.area == 12.0


def test_ids_used_twice_and_unknown_ones_are_told() -> None:
    findings = Findings("labels.json")
    told = content()
    told["images"].append({"id": 1, "file_name": "b.png"})
    read_images(told, findings)
    assert "images with one id: 1 (a.png and b.png)" in findings.faults[0]
    unknown = Findings("labels.json")
    objects(unknown, {"image_id": 9, "segmentation": [[0, 0, 4, 0, 4, 3]]})
    assert len(unknown.faults) == 1


def test_a_file_that_is_none_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"is no json: .* line 1"):
        read_coco(tmp_path / "cut.json")
    (tmp_path / "other.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match="it has no list annotations, categories"):
        read_coco(tmp_path / "other.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path / "nowhere.json")
