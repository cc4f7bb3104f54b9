"""A training in the background of a Qt program, heard through signals: lists of files, folders and a flat dictionary.

Run it: ``python examples/desktop_thread.py OUTPUT_FOLDER``. It needs the extra ``desktop`` and no screen. The thread
starts the training as a process of its own; the program stays free. ``thread.stop()`` ends it after the batch at work.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from maskwright.data.synthetic_images import write_pictures
from maskwright.desktop import TrainingThread  # before Qt itself: it mends a fault of PySide6

from PySide6.QtCore import QCoreApplication, QEventLoop  # isort: skip


def data_of(folder: Path, count: int, size_px: int) -> dict[str, Any]:
    """Invented photographs with 0/255 masks, and train.txt and val.txt that name them."""
    write_pictures(folder, "cracks", count, size_px=size_px, seed=5, difficulty="easy")
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    for part, some in (("train", names[:-3]), ("val", names[-3:])):
        (folder / f"{part}.txt").write_text("\n".join(some) + "\n")
    paths = {"split_dir": folder, "images_dir": folder / "images", "masks_dir": folder / "masks"}
    return {name: str(path) for name, path in {**paths, "checkpoint_dir": folder / "outputs"}.items()}


def main(folder: Path, *, epochs: int = 5, count: int = 11, size_px: int = 64) -> dict[str, Any]:
    """Train, tell what is heard, and return what ``training_completed`` brought."""
    config = {
        **data_of(folder, count, size_px),
        "architecture": "U-Net",
        "encoder": "resnet18",
        "encoder_weights": None,
        "num_epochs": epochs,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "optimizer": "AdamW",
        "scheduler": "ReduceLROnPlateau",
        "image_width": size_px,
        "image_height": size_px,
    }
    application = QCoreApplication.instance() or QCoreApplication(sys.argv[:1])
    ended = QEventLoop(application)
    outcome: dict[str, Any] = {}
    thread = TrainingThread(config)
    thread.epoch_started.connect(lambda epoch: print(f"epoch {epoch} begins"))
    thread.batch_progress.connect(lambda done, total, phase, loss, facts: print(f"  {phase} {done}/{total}"))
    thread.epoch_completed.connect(
        lambda epoch, train, val, scores: print(
            f"epoch {epoch}: loss {train:.3f} and {val:.3f}, {scores['val/iou']:.3f}"
        )
    )
    thread.training_completed.connect(outcome.update)
    thread.training_failed.connect(lambda why: outcome.update(status="failed", why=why))
    thread.finished.connect(ended.quit)
    thread.start()
    ended.exec()
    return outcome


if __name__ == "__main__":
    found = main(Path(sys.argv[1] if len(sys.argv) > 1 else "desktop_thread"))
    print(found.get("why") or f"{found['status']}: best IoU {found['best_val_metric']:.3f}, model in {found['model']}")
    sys.exit(found["status"] == "failed")
