"""segmentation_models_pytorch and Lightning in their usual form.

- Network: ``smp.Unet("resnet34")``, the one of the first lines of SMP's README, without pretrained weights: nobody here
  has any.
- Loss: ``DiceLoss(from_logits=True)``, as in SMP's example ``binary_segmentation_intro``; ``multilabel`` for heights.
- Adam 1e-3: the rate of Lightning's and torch's own examples; no schedule, as the number of epochs is not known before.
- Batches of 8, as our own defaults; SMP's example takes 32 on a GPU. Tiles of the row's size, cut at random.
- albumentations: pad, random crop, flips, quarter turns, brightness and contrast; ImageNet's normalisation for
  photographs, as its documentation shows.
- Two workers: ``os.cpu_count()``, as in SMP's example. The epoch of the best validation IoU is kept.
- ``Trainer(max_time=...)`` ends it; the last validation comes after that and is not held against it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import albumentations as A
import lightning as L
import numpy as np
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from accuracy.ground import Sample
from accuracy.job import Job, Masks, run_contestant
from accuracy.tiles_in_memory import draws, whole_picture

__all__ = ["train"]

BATCH, LR, WORKERS = 8, 1e-3, os.cpu_count() or 1
Pair = tuple[torch.Tensor, torch.Tensor]


class Pictures(Dataset[Pair]):
    def __init__(self, samples: list[Sample], indices: list[int], transform: A.Compose) -> None:
        self.samples, self.indices, self.transform = samples, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Pair:
        sample = self.samples[self.indices[place]]
        out = self.transform(image=sample.image, mask=sample.masks.transpose(1, 2, 0))
        image = torch.from_numpy(np.ascontiguousarray(out["image"].transpose(2, 0, 1)))
        return image.float(), torch.from_numpy(np.ascontiguousarray(out["mask"].transpose(2, 0, 1))).float()


class Segmentation(L.LightningModule):
    def __init__(self, bands: int, outputs: int) -> None:
        super().__init__()
        self.model = smp.Unet("resnet34", encoder_weights=None, in_channels=bands, classes=outputs)
        self.loss = smp.losses.DiceLoss("multilabel" if outputs > 1 else "binary", from_logits=True)
        self.counts = torch.zeros(2, outputs)

    def training_step(self, batch: Pair, _: int) -> torch.Tensor:
        loss: torch.Tensor = self.loss(self.model(batch[0]), batch[1])
        return loss

    def on_validation_epoch_start(self) -> None:
        self.counts.zero_()

    def validation_step(self, batch: Pair, _: int) -> None:
        for image, mask in zip(*batch, strict=True):
            found, true = whole_picture(self.model, image) > 0, mask > 0.5
            self.counts += torch.stack([(found & true).sum((1, 2)), (found | true).sum((1, 2))])

    def on_validation_epoch_end(self) -> None:
        self.log("val_iou", (self.counts[0] / self.counts[1].clamp_min(1)).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LR)


def train(job: Job) -> tuple[Callable[[Sample], Masks], str]:
    L.seed_everything(job.seed, workers=True, verbose=False)
    row, learned, steering = job.data, job.samples("train"), job.samples("val")
    normalise = A.Normalize(normalization="image") if row.is_heights else A.Normalize()
    tile = row.tile_px
    light = [] if row.is_heights else [A.RandomBrightnessContrast(p=0.3)]
    cutting = A.Compose([
        A.PadIfNeeded(tile, tile), A.RandomCrop(tile, tile), A.HorizontalFlip(), A.VerticalFlip(), A.RandomRotate90(),
        *light, normalise,
    ])  # fmt: skip
    whole = A.Compose([normalise])
    loader = DataLoader(
        Pictures(learned, draws(learned, tile), cutting), BATCH, shuffle=True, drop_last=True, num_workers=WORKERS,
        persistent_workers=True,
    )  # fmt: skip
    validation = DataLoader(Pictures(steering, list(range(len(steering))), whole), 1)
    module = Segmentation(learned[0].image.shape[2], row.outputs)
    best = ModelCheckpoint(job.out, monitor="val_iou", mode="max")
    trainer = L.Trainer(
        max_time=timedelta(seconds=max(1.0, job.left_s)), max_epochs=-1, accelerator="cpu", logger=False,
        callbacks=[best], enable_progress_bar=False, enable_model_summary=False, default_root_dir=job.out,
    )  # fmt: skip
    trainer.fit(module, loader, validation)
    if best.best_model_path:  # else the minutes ended before the first validation, and the last weights stay
        state: dict[str, Any] = torch.load(best.best_model_path, weights_only=False)
        module.load_state_dict(state["state_dict"])

    def answer(sample: Sample) -> Masks:
        image = torch.from_numpy(whole(image=sample.image)["image"].transpose(2, 0, 1)).float()
        return (whole_picture(module.model, image) > 0).numpy().astype(np.uint8)

    return answer, f"{trainer.current_epoch} epochs, {trainer.global_step} steps"


if __name__ == "__main__":
    run_contestant(train)
