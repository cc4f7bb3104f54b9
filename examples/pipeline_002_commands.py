"""The command lines and YAML fragments of the agroforestry pipeline document in today's words, on invented scenes.

Run it: ``python examples/pipeline_002_commands.py OUTPUT_FOLDER``. Each fragment is checked, and each command trains
one small epoch; leave the scenes and ``SMALL`` away for your own data. ``preset:cabruca`` and ``preset:cabruca_light``
hold all that the document's two files say.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from maskwright.cli.main import main as maskwright
from maskwright.config import load_experiment
from maskwright.data.synthetic_trees import write_trees
from maskwright.tracking.folder import find_runs

STANDARD = """\
name: standard
task: {kind: agroforestry}
data: {kind: images, folder: farm, labels: {kind: coco}, tiles: {size_px: 512}, loader: {batch_size: 4}}
optim: {optimizer: {kind: adamw, lr: 1e-4, weight_decay: 0.01}, schedule: {kind: cosine, eta_min: 1e-7}}
training: {epochs: 100, accumulate: 2, clip_norm: 1.0}
callbacks: {early_stopping: {patience: 20}}
"""
LIGHT = """\
name: light
task: {kind: agroforestry}
data: {kind: images, folder: farm, labels: {kind: coco}, tiles: {size_px: 256}, loader: {batch_size: 2}}
training: {epochs: 50, accumulate: 4, empty_cache_every: 10}
"""
FRAGMENTS = {  # what the document prints under these headings
    "Different learning rates": "optim: {groups: [{name: encoder, lr: 1e-5}, {name: head, lr: 1e-4}]}",
    "Cosine Annealing": "optim: {schedule: {kind: cosine, eta_min: 1e-7}}",
    "One Cycle": "optim: {schedule: {kind: onecycle, max_lr: 0.001, pct_start: 0.3}}",
    "Reduce on Plateau": "optim: {schedule: {kind: reduce_on_plateau, factor: 0.5, patience: 10}}",
    "Profiling": "training: {profile: true, profile_batches: [10, 20]}",
    "Validation": "training: {validate_every: 2}\ncallbacks: {save_predictions_every: 5}",
}
COMMANDS = (  # "python train.py" there
    "train --config standard.yaml",
    "train --config light.yaml --device cpu",
    "train --config standard.yaml --lr 0.001 --batch-size 8 --experiment-name overrides",
    "train --config standard.yaml --batch-size 2 --grad-accum 4 --experiment-name accumulated",
    "train --config light.yaml --batch-size 1 --grad-accum 8 --device cpu --experiment-name little_memory",
)
SMALL = (
    *("--epochs", "1", "--no-tensorboard", "--quiet", "--set", "data.tiles.size_px=64"),
    *("--set", "model.base_channels=4", "--set", "model.depth=2", "--set", "model.head_channels=4"),
    *("--set", "data.loader.samples_per_epoch=8", "--set", "data.split.by=image"),
    *("--set", "training.threads=1", "--set", "metrics.bootstrap=100"),
)


def main(folder: Path) -> dict[str, str]:
    """Check the fragments and run the commands; name of each run to its status."""
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_trees(Path("farm"), 6, size_px=64, difficulty="easy")
        for name, text in {"standard": STANDARD, "light": LIGHT}.items():
            Path(f"{name}.yaml").write_text(text, encoding="utf-8")
        for heading, text in FRAGMENTS.items():
            Path("fragment.yaml").write_text(text + "\n", encoding="utf-8")
            plain, changed = load_experiment(["light.yaml"]), load_experiment(["light.yaml", "fragment.yaml"])
            assert plain != changed, heading
        for command in COMMANDS:
            assert maskwright([*command.split(), *SMALL]) == 0, command
        newest = find_runs(Path("outputs"))[0]
        checkpoint = str(newest.checkpoints / "checkpoint_latest.pt")
        assert maskwright(["train", "--resume", checkpoint, "--epochs", "2"]) == 0
        return {run.path.name: run.record.status() for run in find_runs(Path("outputs"))}
    finally:
        os.chdir(before)


if __name__ == "__main__":
    for name, status in main(Path(sys.argv[1] if len(sys.argv) > 1 else "pipeline_002")).items():
        print(f"{name}: {status}")
