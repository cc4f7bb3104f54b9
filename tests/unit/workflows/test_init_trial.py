"""A tile size and a seed that show every class to every part."""

from __future__ import annotations

from pathlib import Path

from maskwright.data.synthetic_images import write_pictures
from maskwright.workflows.init_draft import Draft
from maskwright.workflows.init_trial import try_splits


def draft(folder: Path) -> Draft:
    made = Draft()
    made.put("name", "trial", "")
    made.put("task.kind", "binary", "")
    made.put("data.kind", "images", "")
    made.put("data.folder", folder, "")
    return made


def test_the_largest_size_that_shows_the_class_everywhere_is_taken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", "cracks", 6, size_px=64, difficulty="easy")
    size_px, seed = try_splits(draft(tmp_path / "data"), 64)
    assert (size_px, seed) == (64, 42)


def test_where_nothing_can_be_opened_what_was_asked_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert try_splits(draft(tmp_path / "data"), 128) == (128, 42)
