from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.data.sources.findings import Findings
from maskwright.data.sources.side_files import find_side_files


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("photos_of_2020/a.jpg", "labels/a.txt"),
        ("one/a.jpg", "one/a.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("images/bäum 1.v2.jpg", "labels/bäum 1.v2.TXT"),
    ],
)
def test_files_are_found_beside_the_images(tmp_path: Path, image: str, label: str) -> None:
    expected = touch(tmp_path / label)
    findings = Findings("labels")
    found = find_side_files({"name": tmp_path / image}, None, "labels", (".txt",), findings)
    assert found == {"name": expected}
    assert (findings.faults, findings.notes) == ((), ())


def test_a_name_two_images_share_is_not_looked_for_in_the_folder_itself(tmp_path: Path) -> None:
    touch(tmp_path / "labels" / "a.txt")
    images = {"x/a": tmp_path / "x" / "a.jpg", "y/a": tmp_path / "y" / "a.jpg"}
    findings = Findings("labels")
    assert find_side_files(images, tmp_path / "labels", "labels", (".txt",), findings) == {}
    assert "images without a .txt file: a.jpg, a.jpg" in findings.faults[0]


def test_files_that_belong_to_no_image_are_noted(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "classes.txt"):
        touch(tmp_path / "labels" / name)
    findings = Findings("labels")
    find_side_files({"a": tmp_path / "images" / "a.jpg"}, None, "labels", (".txt",), findings)
    (note,) = findings.notes
    assert note.endswith("labels/b.txt")
