"""Values under pixels that do not count change no bit of any batch, from the files to the augmented tiles."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.config import load_experiment
from maskwright.data.build import build_loaders, build_source, build_split_of, fit_normaliser
from maskwright.types import Batch

SIZE = 48
COUNT = 8


def write(folder: Path, garbage_seed: int) -> None:
    """Pictures with clear pixels and masks with pixels to ignore, under which anything may stand."""
    garbage = np.random.default_rng(garbage_seed)
    for seed in range(COUNT):
        rng = np.random.default_rng(seed)
        picture = rng.integers(40, 200, (SIZE, SIZE, 4)).astype(np.uint8)
        mask = (rng.random((SIZE, SIZE)) < 0.3).astype(np.uint8) * 255
        clear, ignored = rng.random((2, SIZE, SIZE)) < 0.15
        picture[..., 3] = np.where(clear, 0, 255)
        mask[ignored] = 7
        hidden = clear | ignored
        picture[hidden, :3] = garbage.integers(0, 256, (int(hidden.sum()), 3))
        mask[clear & ~ignored] = garbage.choice([0, 255], int((clear & ~ignored).sum()))
        for kind, values in (("images", picture), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / kind / f"p{seed}.png")


def batches(normalise: str, garbage_seed: int) -> list[Batch]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "data", garbage_seed)
        config = load_experiment(
            (),
            {
                "name": "hidden",
                "task": {"kind": "binary"},
                "data": {
                    "kind": "images",
                    "folder": str(folder / "data"),
                    "labels": {
                        "kind": "masks",
                        "classes": [{"name": "thing", "values": [255]}],
                        "ignore_values": [7],
                    },
                    "tiles": {"size_px": 32},
                    "augment": {"preset": "heavy"},
                    "normalise": {"kind": normalise},
                    "loader": {"batch_size": 4, "workers": 0},
                    "cache": {"folder": str(folder / "cache")},
                },
                "model": {"depth": 1},
            },
        ).data
        source = build_source(config, "binary")
        split = build_split_of(config, source)
        fit_normaliser(config, source, split)
        train, evals = build_loaders(config, source, split, seed=3, device="cpu")
        return [*train.batches(0), *train.batches(1), *evals["val"]]


@pytest.mark.parametrize("normalise", ["standard", "robust", "per_tile", "unit"])
@settings(max_examples=3, deadline=None)
@given(garbage_seed=st.integers(1, 2**31))
def test_garbage_under_pixels_that_do_not_count_changes_no_bit(normalise: str, garbage_seed: int) -> None:
    one, other = batches(normalise, 0), batches(normalise, garbage_seed)
    assert len(one) == len(other) > 4
    for left, right in zip(one, other, strict=True):
        assert left.valid.any()
        assert not left.valid.all()
        for part in ("image", "target", "valid"):
            assert torch.equal(getattr(left, part), getattr(right, part))
        assert (left.image[~left.valid[:, None].expand_as(left.image)] == 0).all()
        assert (left.mix is None) == (right.mix is None)
        if left.mix is not None and right.mix is not None:
            assert torch.equal(left.mix.target, right.mix.target)
            assert torch.equal(left.mix.valid, right.mix.valid)
