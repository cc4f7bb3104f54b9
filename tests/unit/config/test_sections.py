"""Checks that a section makes of itself, and those that span sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import (
    AdamWConfig,
    AugmentConfig,
    CallbacksConfig,
    CombinedLossConfig,
    Experiment,
    FilmUNetConfig,
    HeightGapsTask,
    HeightRastersData,
    PredictionConfig,
    SiteConfig,
    SplitConfig,
    TileConfig,
    TrainingConfig,
    UNetConfig,
)
from maskwright.errors import ConfigError

DATA = HeightRastersData(folder=Path("/rasters"))


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.1), (0.7, 0.15, 0.15), (1 / 3, 1 / 3, 1 / 3), (1.0, 0.0, 0.0)])
def test_shares_that_add_up_to_one_are_accepted(shares: tuple[float, float, float]) -> None:
    assert SplitConfig(shares=shares).shares == shares


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.9), (0.9, 0.9, 0.9), (1.2, -0.1, -0.1), (0.7, 0.15, 0.1)])
def test_shares_that_do_not_add_up_to_one_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match=r"^shares: \[.*\] add up to .*\. Give three shares from 0 to 1"):
        SplitConfig(shares=shares)


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (1, 0, 0)])
def test_loss_weights_that_add_up_to_one_are_accepted(weights: tuple[float, float, float]) -> None:
    bce, dice, focal = weights
    assert CombinedLossConfig(bce=bce, dice=dice, focal=focal).bce == bce


@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.9), (0.9, 0.9, 0.9)])
def test_loss_weights_that_do_not_add_up_are_refused_unless_told_otherwise(weights: tuple[float, float, float]) -> None:
    bce, dice, focal = weights
    with pytest.raises(ConfigError, match="but must be 1"):
        CombinedLossConfig(bce=bce, dice=dice, focal=focal)
    assert CombinedLossConfig(bce=bce, dice=dice, focal=focal, weights="normalize").focal == focal
    assert CombinedLossConfig(bce=bce, dice=dice, focal=focal, weights="raw").focal == focal


def test_a_loss_without_any_term_is_refused() -> None:
    with pytest.raises(ConfigError, match="At least one term needs a weight"):
        CombinedLossConfig(bce=0, dice=0, focal=0, weights="raw")


def test_sites_of_a_split_need_lists_and_belong_to_one_part() -> None:
    assert SplitConfig(by="lists", train=("a",), test=("b",)).val == ()
    with pytest.raises(ConfigError, match=r"^by: auto takes no names of sites"):
        SplitConfig(train=("a",))
    with pytest.raises(ConfigError, match=r"^by: lists needs the names of sites in train and in test"):
        SplitConfig(by="lists", train=("a",))
    with pytest.raises(ConfigError, match=r'^the site "a" is listed more than once'):
        SplitConfig(by="lists", train=("a",), test=("a", "b"))


def test_a_site_needs_heights_above_ground() -> None:
    dsm, dtm, chm = Path("/dsm.tif"), Path("/dtm.tif"), Path("/chm.tif")
    assert SiteConfig(name="a", chm=chm).dsm is None
    assert SiteConfig(name="a", dsm=dsm, dtm=dtm).chm is None
    for files in ({}, {"dsm": dsm}, {"dtm": dtm}):
        with pytest.raises(ConfigError, match=r"the site a has no heights above ground .*Give its chm, or both"):
            SiteConfig(name="a", **files)


def test_sites_must_have_what_the_network_is_to_see() -> None:
    bare = SiteConfig(name="a", chm=Path("/chm.tif"))
    with pytest.raises(ConfigError, match=r'^sites\[0\]: the site "a" has no dsm, which input: dsm needs'):
        HeightRastersData(sites=(bare,))
    assert HeightRastersData(sites=(bare,), input="chm").sites == (bare,)
    assert HeightRastersData(sites=(bare,), terrain={"simulate": True}).sites == (bare,)


def test_names_of_sites_are_unique_and_known_to_the_split() -> None:
    one = SiteConfig(name="a", chm=Path("/a.tif"))
    with pytest.raises(ConfigError, match=r'^sites: the name "a" appears more than once'):
        HeightRastersData(sites=(one, one), input="chm")
    with pytest.raises(ConfigError, match=r'^split\.test: no site is called "b" .*Sites: a\.$'):
        HeightRastersData(sites=(one,), input="chm", split={"by": "lists", "train": ["a"], "test": ["b"]})


def test_data_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"^no data is named \(HeightRastersData\)\. Set data\.folder"):
        HeightRastersData()


@pytest.mark.parametrize(("overlap", "pixels"), [(0, 0), (0.3, 77), (0.5, 128), (1, 1), (64, 64)])
def test_overlap_is_a_share_below_one_and_pixels_from_one_on(overlap: float, pixels: int) -> None:
    assert TileConfig(overlap=overlap).overlap_px == pixels


def test_an_overlap_of_broken_pixels_or_whole_tiles_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^overlap: 1\.5 is neither a share below 1 nor a whole number of pixels"):
        TileConfig(overlap=1.5)
    with pytest.raises(ConfigError, match="not smaller than the tile of 256 px"):
        TileConfig(overlap=256)
    with pytest.raises(ConfigError, match="256 px is not smaller than the tile of 256 px"):
        TileConfig(overlap=0.999)


def test_heights_rise_and_lie_above_the_ground() -> None:
    with pytest.raises(ConfigError, match=r"^heights_m: 0 m is not above the ground"):
        HeightGapsTask(heights_m=(0, 5))
    with pytest.raises(ConfigError, match=r"^train_range_m: heights must rise and differ"):
        HeightGapsTask(train_range_m=(5, 5))
    with pytest.raises(ConfigError, match=r"^train_range_m: train_heights_m is set as well"):
        HeightGapsTask(train_heights_m=(5,), train_range_m=(1, 9))
    with pytest.raises(ConfigError, match=r"^heights_m: \[5\.0, 2\.0\] must be larger than 0 m, rise and differ"):
        PredictionConfig(heights_m=(5, 2))


def test_no_more_heights_are_drawn_than_are_listed() -> None:
    with pytest.raises(ConfigError, match=r"^heights_per_sample: 4 heights cannot be drawn from the 3 listed"):
        HeightGapsTask(heights_per_sample=4)
    assert HeightGapsTask(heights_per_sample=4, train_range_m=(1, 30)).heights_per_sample == 4


def test_a_network_without_condition_takes_no_heights_to_draw() -> None:
    for task in ({"train_heights_m": [3]}, {"train_range_m": [1, 9]}, {"heights_per_sample": 2}):
        with pytest.raises(ConfigError, match=r"^task\.\w+: model\.kind unet answers .*set model\.kind: height_cdf\.$"):
            Experiment(name="x", data=DATA, model=UNetConfig(), task=task)
        assert Experiment(name="x", data=DATA, model=FilmUNetConfig(), task=task).model.kind == "film_unet"


def test_a_tile_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^data\.tiles\.size_px: 16 px cannot be halved 5 times .*Lower model\.depth"
    ):
        Experiment(name="x", data={"folder": "x", "tiles": {"size_px": 16}}, model=UNetConfig(depth=5))


def test_odds_and_ends_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"^betas: \[0\.9, 1\.0\] must both lie"):
        AdamWConfig(betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match=r"^zoom: \[1\.2, 0\.8\] must be two positive numbers"):
        AugmentConfig(zoom=(1.2, 0.8))
    with pytest.raises(ConfigError, match=r'^device: "gpu" is not allowed'):
        TrainingConfig(device="gpu")
    with pytest.raises(ConfigError, match=r'^name: "my run" is not allowed .* letters, digits'):
        Experiment(name="my run", data=DATA)


def test_the_monitor_is_kept_under_its_one_name() -> None:
    assert CallbacksConfig(monitor=" val.iou@5m ").monitor == "val/iou@5m"


def test_no_monitor_means_that_of_the_task() -> None:
    assert CallbacksConfig().monitor is None
