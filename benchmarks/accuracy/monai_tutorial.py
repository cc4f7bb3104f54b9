"""MONAI as its tutorial ``2d_segmentation/torch/unet_training_dict.py`` has it, with a cached dataset.

- ``UNet(channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)``, Adam 1e-3, two pictures a batch
  with four crops of each by ``RandCropByPosNegLabel(pos=1, neg=1)``, quarter turns at 0.5, validation by sliding window
  every second epoch, the best Dice kept: the tutorial's numbers. Crops are of the row's tile size (there: 96 px).
- ``CacheDataset`` as in the tutorial ``acceleration/dataset_type_performance``.
- Loss: ``DiceCELoss(sigmoid=True)``. For heights, whose masks lie inside one another as those of the BraTS tutorial do,
  that one's ``DiceLoss(sigmoid=True, squared_pred=True)``.
- The minutes end it after the batch in which they pass; a last validation is taken into account.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss, DiceLoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureTyped, RandCropByPosNegLabeld, RandRotate90d, SpatialPadd
from monai.utils import set_determinism
from torch.utils.data import Subset

from accuracy.ground import Sample
from accuracy.job import Job, Masks, run_contestant
from accuracy.tiles_in_memory import draws, scaled

__all__ = ["train"]

PICTURES, CROPS, LR, WORKERS = 2, 4, 1e-3, 2
VALIDATE_EVERY = 2
WINDOWS = 4  # at once, of a sliding window


def train(job: Job) -> tuple[Callable[[Sample], Masks], str]:
    set_determinism(job.seed)
    row, learned, steering = job.data, job.samples("train"), job.samples("val")
    tile = (row.tile_px, row.tile_px)
    keys = ["image", "mask"]
    transform = Compose([
        SpatialPadd(keys, tile),
        EnsureTyped(keys),
        RandCropByPosNegLabeld(keys, "mask", tile, pos=1, neg=1, num_samples=CROPS),
        RandRotate90d(keys, prob=0.5, spatial_axes=(0, 1)),
    ])  # fmt: skip
    cached = CacheDataset([_entry(sample) for sample in learned], transform, cache_rate=1.0, progress=False)
    chosen = draws(learned, row.tile_px)
    order = random.Random(job.seed)
    network = UNet(
        2,
        learned[0].image.shape[2],
        row.outputs,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )
    loss = (
        DiceLoss(smooth_nr=0, smooth_dr=1e-5, squared_pred=True, to_onehot_y=False, sigmoid=True)
        if row.outputs > 1
        else DiceCELoss(sigmoid=True)
    )
    optimizer = torch.optim.Adam(network.parameters(), LR)

    def answer(sample: Sample) -> Masks:
        network.eval()
        image = torch.from_numpy(_entry(sample)["image"])[None]
        with torch.inference_mode():
            logits = sliding_window_inference(image, tile, WINDOWS, network)
        return (logits[0] > 0).numpy().astype(np.uint8)  # type: ignore[union-attr]

    def batches() -> Iterator[tuple[int, bool, Any]]:
        for epoch in range(10**6):
            order.shuffle(chosen)
            subset = Subset(cached, chosen[: max(PICTURES, len(chosen) // CROPS)])  # with CROPS each: all tiles, once
            loader = DataLoader(subset, batch_size=PICTURES, num_workers=WORKERS, collate_fn=list_data_collate)
            for place, batch in enumerate(loader):
                yield epoch, place + 1 == len(loader), batch

    best, kept, kept_epoch, steps, validation_s = -1.0, copy.deepcopy(network.state_dict()), 0, 0, 0.0
    for epoch, is_last, batch in batches():
        network.train()
        optimizer.zero_grad()
        loss(network(batch["image"]), batch["mask"]).backward()
        optimizer.step()
        steps += 1
        ends = job.left_s < validation_s
        if ends or (is_last and (epoch + 1) % VALIDATE_EVERY == 0):
            began_s = time.time()
            dice = _dice(steering, answer)
            validation_s = time.time() - began_s
            if dice > best:
                best, kept, kept_epoch = dice, copy.deepcopy(network.state_dict()), epoch
        if ends:
            break
    network.load_state_dict(kept)
    return answer, f"{epoch + 1} epochs, {steps} steps, that of epoch {kept_epoch + 1} kept"


def _entry(sample: Sample) -> dict[str, Any]:
    return {"image": scaled(sample.image).transpose(2, 0, 1).copy(), "mask": sample.masks.astype(np.float32)}


def _dice(samples: list[Sample], answer: Callable[[Sample], Masks]) -> float:
    metric = DiceMetric(include_background=True, reduction="mean")
    for sample in samples:
        metric(torch.from_numpy(answer(sample))[None], torch.from_numpy(sample.masks)[None])
    value = float(metric.aggregate())  # type: ignore[arg-type]
    return -1.0 if math.isnan(value) else value


if __name__ == "__main__":
    run_contestant(train)
