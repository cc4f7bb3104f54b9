"""nnU-Net 2D: its own fingerprint, plan, preprocessing and trainer, on the CPU, as long as the minutes last.

- Plan: ``plan_and_preprocess`` with its defaults, configuration 2d; the split handed over as ``splits_final.json``.
- Trainer: ``nnUNetTrainer`` as it is (SGD 0.01, Nesterov, Dice + cross entropy, deep supervision, its augmentation),
  but its 1000 epochs of 250 steps become the minutes: the learning rate falls by the share of the time that has passed.
  Validation inside training is left out, which would take of the minutes; the last weights are its result, as always.
- Heights: region-based training, its documented way for masks inside one another.
- Answer: its predictor with its defaults (half overlapping windows, mirrored views averaged).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.ground import HEIGHTS_M, Sample
from accuracy.job import Job, Masks, run_contestant

__all__ = ["train"]

DATASET = "Dataset001_Row"


def train(job: Job) -> tuple[Callable[[Sample], Masks], str]:
    out = Path(job.out)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (out / name).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(out / name)
    parts = {part: job.samples(part) for part in ("train", "val")}
    _write_dataset(out / "nnUNet_raw" / DATASET, job, parts["train"] + parts["val"])

    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )

    cores = os.cpu_count() or 1
    extract_fingerprints([1], num_processes=cores)
    plans_name = plan_experiments([1])
    preprocess_dataset(1, plans_name, ("2d",), num_processes=[cores])
    home = out / "nnUNet_preprocessed" / DATASET
    split = {part: [sample.name for sample in samples] for part, samples in parts.items()}
    (home / "splits_final.json").write_text(json.dumps([split]))

    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 - nnU-Net draws from the global generator
    plans = json.loads((home / f"{plans_name}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((home / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "2d", 0, dataset, torch.device("cpu"))
    trainer.on_train_start()
    trainer.network.train()
    steps, step_s = 0, 0.0
    while steps == 0 or job.left_s > step_s:
        trainer.lr_scheduler.step(job.share_done * trainer.num_epochs)
        began_s = time.time()
        trainer.train_step(next(trainer.dataloader_train))
        step_s = time.time() - began_s
        steps += 1
    trainer.on_train_end()
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip

    def answer(sample: Sample) -> Masks:
        image = sample.image.transpose(2, 0, 1)[:, None].astype(np.float32)
        label = predictor.predict_single_npy_array(image, {"spacing": (999, 1, 1)})[0]
        if not job.data.is_heights:
            return (label[None] > 0).astype(np.uint8)
        return np.stack([label >= len(HEIGHTS_M) - place for place in range(len(HEIGHTS_M))]).astype(np.uint8)

    plan = trainer.configuration_manager
    return answer, f"{steps} steps of {plan.batch_size} x {' x '.join(map(str, plan.patch_size))} px"


def _write_dataset(folder: Path, job: Job, samples: list[Sample]) -> None:
    """Pictures and labels as nnU-Net wants them; a label of heights counts the heights that a canopy stays below."""
    from skimage import io

    ending = ".tif" if job.data.is_heights else ".png"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for sample in samples:
        image = sample.image[..., 0] if job.data.is_heights else sample.image
        io.imsave(folder / "imagesTr" / f"{sample.name}_0000{ending}", image, check_contrast=False)
        label = sample.masks.sum(axis=0).astype(np.uint8)
        io.imsave(folder / "labelsTr" / f"{sample.name}{ending}", label, check_contrast=False)
    (folder / "dataset.json").write_text(json.dumps(_description(job, len(samples), ending)))


def _description(job: Job, count: int, ending: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "marked": 1},
        "numTraining": count,
        "file_ending": ending,
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    if job.data.is_heights:
        total = len(HEIGHTS_M)
        inside = {
            f"below {height:g} m": list(range(total - place, total + 1)) for place, height in enumerate(HEIGHTS_M)
        }
        largest_first = dict(reversed(inside.items()))
        described["channel_names"] = {"0": "surface"}
        described["labels"] = {"background": 0, **largest_first}
        described["regions_class_order"] = list(range(1, total + 1))
    return described


if __name__ == "__main__":
    run_contestant(train)
