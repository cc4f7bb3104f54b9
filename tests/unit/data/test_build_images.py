"""From the settings of images to their parts, on made-up and on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.config.images import ImagesData, ImageSplitConfig
from maskwright.data.build import build_loaders, build_source, build_split_of, fit_normaliser
from maskwright.data.sources.images import ImageScenes
from maskwright.data.splits import assert_apart
from maskwright.errors import ConfigError, DataError
from maskwright.types import Place


def make(root: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(5)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        pixels = rng.integers(0, 200, (40, 48, 3)).astype(np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        if index % 3:
            mask[5:9, 10:30] = 255
        Image.fromarray(pixels).save(root / "images" / f"{index:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index:02}.png")
    return root


def opened(form: Any = "binary", **settings: Any) -> tuple[ImagesData, ImageScenes]:
    config = ImagesData(**{"tiles": {"size_px": 32}, **settings})
    source = build_source(config, form)
    assert isinstance(source, ImageScenes)
    return config, source


def test_a_folder_alone_is_enough(tmp_path: Path) -> None:
    config, source = opened(folder=make(tmp_path))
    split = build_split_of(config, source)
    assert_apart(split, source.scenes)
    fit_normaliser(config, source, split)
    train, evals = build_loaders(config, source, split, seed=3)
    batch = next(train.batches(0))
    assert batch.condition is None
    assert batch.image.shape == (8, 3, 32, 32)
    assert set(batch.target.unique().tolist()) <= {0, 1}
    assert [len(loader.places) for loader in evals.values()] == [split.counts()["val"], split.counts()["test"]]


def test_statistics_are_of_training_pixels_that_count(tmp_path: Path) -> None:
    root = make(tmp_path)
    labels = {"kind": "masks", "classes": [{"name": "crack", "values": [255]}], "ignore_values": [7]}
    for index in range(12):
        mask = np.asarray(Image.open(root / f"masks/{index:02}.png")).copy()
        mask[30:] = 7
        Image.fromarray(mask).save(root / f"masks/{index:02}.png")
    config, source = opened(folder=root, labels=labels, normalise={"kind": "standard"})
    split = build_split_of(config, source)
    fit_normaliser(config, source, split)
    names = [region.scene for region in split.regions if region.part == "train"]
    pixels = np.stack([np.asarray(Image.open(root / f"images/{name}.png"))[:30] for name in names]).astype(float)
    np.testing.assert_allclose(source.normaliser.shift, pixels.mean(axis=(0, 1, 2)), rtol=1e-6)  # type: ignore[union-attr]
    np.testing.assert_allclose(source.normaliser.scale, pixels.std(axis=(0, 1, 2)), rtol=1e-6)  # type: ignore[union-attr]


def test_other_pixels_change_no_statistics(tmp_path: Path) -> None:
    root = make(tmp_path)
    config, source = opened(folder=root, normalise={"kind": "standard"})
    split = build_split_of(config, source)
    fit_normaliser(config, source, split)
    before = source.normaliser
    held = next(region.scene for region in split.regions if region.part == "test")
    Image.fromarray(np.full((40, 48, 3), 255, np.uint8)).save(root / f"images/{held}.png")
    config, source = opened(folder=root, normalise={"kind": "standard"})
    fit_normaliser(config, source, split)
    assert source.normaliser == before


def test_tiles_with_foreground_come_as_often_as_asked(tmp_path: Path) -> None:
    config, source = opened(
        folder=make(tmp_path, 30),
        balance={"by": "foreground", "target_share": 0.5, "cap": 50},
        augment={"enabled": False},
        loader={"samples_per_epoch": 400},
    )
    split = build_split_of(config, source)
    fit_normaliser(config, source, split)
    train, _ = build_loaders(config, source, split, seed=3)
    held = [source.class_counts(train.plan.draw(0, position).place)[1] > 0 for position in range(400)]
    assert np.mean(held) == pytest.approx(0.5, abs=0.05)


def test_balance_that_does_not_suit_images_is_refused(tmp_path: Path) -> None:
    config, source = opened(folder=make(tmp_path), balance={"by": "height"})
    split = build_split_of(config, source)
    with pytest.raises(
        DataError, match=r"data\.balance\.by: height does not suit these data\. Set class or foreground"
    ):
        build_loaders(config, source, split, seed=3)


def test_groups_come_from_a_pattern(tmp_path: Path) -> None:
    root = make(tmp_path)
    for path in sorted(root.glob("*/*.png")):
        path.rename(path.with_name(f"tile{int(path.stem) // 3}_{path.stem}.png"))
    config, source = opened(folder=root, split={"group_pattern": r"(tile\d+)_"})
    split = build_split_of(config, source)
    parts = {region.scene: region.part for region in split.regions}
    assert split.by == "group"
    assert all(
        len({part for name, part in parts.items() if name.startswith(f"tile{group}")}) == 1 for group in range(4)
    )


def test_a_pattern_must_name_a_group() -> None:
    with pytest.raises(ConfigError, match="has no bracket around what names the group"):
        ImageSplitConfig(group_pattern="tile")
    with pytest.raises(ConfigError, match="is no regular expression"):
        ImageSplitConfig(group_pattern="(tile")


def test_split_files_decide_where_they_lie_in_the_folder(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "train.txt").write_text("00\n01\n02\n")
    (root / "val.txt").write_text("03.png\n")
    (root / "masks/11.png").unlink()  # an image nobody names needs no mask
    config, source = opened(folder=root)
    split = build_split_of(config, source)
    assert split.by == "files"
    assert {region.scene: region.part for region in split.regions} == {
        "00": "train",
        "01": "train",
        "02": "train",
        "03": "val",
    }


def test_folders_named_train_and_val_decide(tmp_path: Path) -> None:
    make(tmp_path / "train", 5)
    make(tmp_path / "val", 3)
    config, source = opened(folder=tmp_path)
    split = build_split_of(config, source)
    assert split.by == "folders"
    assert {region.scene.partition("/")[0] == region.part for region in split.regions} == {True}


def test_lists_decide_alone(tmp_path: Path) -> None:
    lists = {"by": "lists", "train": ["00", "01"], "val": ["02"]}
    config, source = opened(folder=make(tmp_path), split=lists)
    assert build_split_of(config, source).counts() == {"train": 8, "val": 4, "test": 0}


def test_an_earlier_split_is_kept_as_images_come(tmp_path: Path) -> None:
    root = make(tmp_path)
    config, source = opened(folder=root)
    first = build_split_of(config, source)
    for folder in ("images", "masks"):
        (root / folder / "a new one.png").write_bytes((root / folder / "00.png").read_bytes())
    config, source = opened(folder=root)
    second = build_split_of(config, source, previous=first)
    assert set(first.regions) < set(second.regions)


def test_images_need_a_task_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.kind: images goes with tasks of classes"):
        build_source(ImagesData(folder=make(tmp_path)), None)


def foreground_percent(source: ImageScenes) -> dict[str, float]:
    shares = {}
    for scene in source.scenes:
        counts = source.class_counts(Place(scene.name, scene.grid.window))
        shares[scene.name] = 100 * float(counts[1:].sum() / counts.sum())
    return shares


@pytest.mark.real
def test_cracks_have_the_balance_their_readme_states(real_data: Path) -> None:
    _, source = opened(folder=real_data / "crack_cfd")
    shares = foreground_percent(source)
    assert len(shares) == 76
    assert np.mean(list(shares.values())) == pytest.approx(1.63, abs=0.01)
    assert min(shares.values()) == pytest.approx(0.35, abs=0.01)
    assert max(shares.values()) == pytest.approx(6.2, abs=0.05)


@pytest.mark.real
def test_magnetic_tiles_have_the_balance_their_readme_states(real_data: Path) -> None:
    folder = real_data / "defect_magnetic_tile"
    _, binary = opened(folder=folder)
    shares = foreground_percent(binary)
    assert len(shares) == 232
    assert np.mean(list(shares.values())) == pytest.approx(7.6, abs=0.05)
    table = {"kind": "masks", "image_classes": folder / "manifest.csv", "class_column": "defect"}
    config, source = opened("multiclass", folder=folder, labels=table)
    assert source.classes.names == ("background", "blowhole", "break", "crack", "fray", "uneven")
    expected = {
        "blowhole": (58, 0.21),
        "break": (43, 4.2),
        "crack": (29, 0.25),
        "fray": (16, 21.9),
        "uneven": (52, 23.5),
    }
    by_class = foreground_percent(source)
    for class_id, (name, (images, percent)) in enumerate(expected.items(), start=1):
        of_class = {scene: share for scene, share in by_class.items() if scene.startswith(f"{name}_")}
        assert len(of_class) == images
        assert np.mean(list(of_class.values())) == pytest.approx(percent, abs=0.06)
        for scene in of_class:
            counts = source.class_counts(Place(scene, source.scene(scene).grid.window))
            assert counts[1:].sum() == counts[class_id]
    parts = {region.scene: region.part for region in build_split_of(config, source).regions}
    for name in expected:
        assert {parts[scene] for scene in parts if scene.startswith(f"{name}_")} == {"train", "val", "test"}


@pytest.mark.real
def test_vessels_have_the_balance_their_readme_states(real_data: Path) -> None:
    _, source = opened(folder=real_data / "vessel_retina")
    shares = foreground_percent(source)
    assert np.mean([share for name, share in shares.items() if name.startswith("hrf")]) == pytest.approx(7.8, abs=0.05)
    assert np.mean([share for name, share in shares.items() if name.startswith("chase")]) == pytest.approx(
        6.2, abs=0.05
    )
    assert len(shares) == 22
    assert "fullsize/hrf_01_h.jpg" in source.notes[0]


@pytest.mark.real
def test_canopy_masks_have_the_cover_their_readme_states(real_data: Path) -> None:
    labels = {"kind": "masks", "folder": real_data / "trees_neon" / "canopy_masks", "missing": "skip"}
    _, source = opened(folder=real_data / "trees_neon", labels=labels)
    shares = foreground_percent(source)
    assert len(shares) == 11
    assert np.mean(list(shares.values())) == pytest.approx(60, abs=0.5)
    assert (min(shares.values()), max(shares.values())) == pytest.approx((29, 85), abs=0.6)
    assert source.pixel_size_m(source.scenes[0].name) == pytest.approx(0.1)


@pytest.mark.real
def test_masks_of_crowns_have_the_balance_their_readme_states(real_data: Path) -> None:
    config, source = opened(folder=real_data / "trees_oam_tcd", tiles={"size_px": 256})
    assert sorted(foreground_percent(source).values()) == pytest.approx([0.8, 4.4], abs=0.05)
    assert build_split_of(config, source).by == "blocks"  # two rasters are cut inside


@pytest.mark.real
def test_the_fourth_band_of_naip_is_never_taken_for_opacity(real_data: Path) -> None:
    settings: dict[str, Any] = {"folder": real_data / "trees_urban_naip", "labels": {"kind": "points"}}
    with pytest.raises(DataError, match=r"declares its band 4 as opacity.*set data\.alpha: band"):
        opened(**settings)
    _, source = opened(**settings, alpha="band")
    assert (len(source.scenes), source.in_channels) == (24, 4)
    _, source = opened(**settings, bands=(4, "red"))
    assert (source.in_channels, source.band_names) == (2, ("band 4", "red"))
    assert all(share == 1.0 for share in source.valid_share(source.scenes[0].name, 64).ravel())
