"""A tile as it is, as it is labelled, as the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.config import Experiment
from maskwright.data.loaders import EvalLoader
from maskwright.data.synthetic_images import write_pictures
from maskwright.workflows.assemble import assemble
from maskwright.workflows.sample_pictures import _height_picture, sample_sheet


class Everything(nn.Module):
    """Calls every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.full_like(image[:, :1], 9.0)


def test_three_pictures_stand_beside_each_other_and_what_is_called_is_painted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", "cracks", 6, size_px=64, difficulty="easy")
    data = {"kind": "images", "folder": tmp_path / "data", "tiles": {"size_px": 64}}
    settings = {"name": "a", "task": {"kind": "binary"}, "data": data, "model": {"kind": "unet", "depth": 2}}
    parts = assemble(Experiment.model_validate(settings))
    model = Everything().train()
    sheet = sample_sheet(model, parts, EvalLoader(parts.source, parts.split.tiles["val"][:1], (), 1))
    assert model.training  # its mode is put back
    boxes = sheet.info["panels"]
    assert len(boxes) == 3
    plain, _, called = (np.asarray(sheet.crop(box)).astype(int) for box in boxes)
    assert (np.abs(called - plain).sum(axis=2) > 0).mean() > 0.95


def test_heights_go_from_white_to_green_and_grey_is_not_measured() -> None:
    values, valid = np.array([[0.0, 10.0, 20.0]]), np.array([[True, True, False]])
    picture = _height_picture(values, valid, 10.0)
    assert picture[0, 0].tolist() == [250, 250, 245]
    assert picture[0, 1].tolist() == [13, 84, 52]
    assert picture[0, 2].tolist() == [190, 190, 190]
