"""Which samples are looked at, and by which names."""

from __future__ import annotations

from pathlib import Path

from maskwright.config import ImagesData
from maskwright.data.build_images import open_images
from maskwright.data.cache import Cache
from maskwright.data.synthetic_images import write_pictures
from maskwright.workflows.check_eyes import Eyes


def eyes(folder: Path, kind: str, count: int) -> Eyes:
    write_pictures(folder / "data", kind, count, size_px=64)
    form = "binary" if kind == "cracks" else "multiclass"
    classes = [{"name": name, "values": [k]} for k, name in enumerate(("scratch", "pit", "stain"), start=1)]
    labels = {"kind": "masks", "classes": classes if form == "multiclass" else []}
    source = open_images(ImagesData(folder=folder / "data", labels=labels), form, Cache(folder / "cache"))
    return Eyes(source)


def test_many_small_images_are_looked_at_whole(tmp_path: Path) -> None:
    look = eyes(tmp_path, "cracks", 13)
    assert (look.what, look.class_names) == ("classes", ("foreground",))
    samples = look.samples(None, 100)
    assert len(samples) == 13
    assert {sample.place.window.height for sample in samples} == {64}
    assert len(look.samples(None, 5)) == 5
    assert look.file(samples[0].place.scene) == tmp_path / "data/images/cracks_0000.png"


def test_the_background_is_no_class_to_look_for(tmp_path: Path) -> None:
    look = eyes(tmp_path, "defects", 2)
    assert look.class_names == ("scratch", "pit", "stain")
    assert len(look.colors) == 3
    assert look.parts(None) == {}
