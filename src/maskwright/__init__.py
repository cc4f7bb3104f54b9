"""Maskwright trains image-segmentation models people can trust, and puts them to work.

The everyday calls are loaded when first used, so ``import maskwright`` is quick::

    import maskwright

    experiment = maskwright.load_experiment(["experiment.yaml"])
    outcome = maskwright.train(experiment)
    maskwright.predict(outcome.folder.path, "area.tif", "maps", heights_m=(5, 10, 15))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskwright.config import load_experiment
    from maskwright.tracking.reader import open_run
    from maskwright.workflows.evaluate_run import evaluate_run as evaluate
    from maskwright.workflows.predict import predict
    from maskwright.workflows.train import resume, train

__all__ = ["__version__", "evaluate", "load_experiment", "open_run", "predict", "resume", "train"]

__version__ = "0.1.0"

_HOMES = {
    # name: (module, its name there)
    "evaluate": ("maskwright.workflows.evaluate_run", "evaluate_run"),
    "load_experiment": ("maskwright.config", "load_experiment"),
    "open_run": ("maskwright.tracking.reader", "open_run"),
    "predict": ("maskwright.workflows.predict", "predict"),
    "resume": ("maskwright.workflows.train", "resume"),
    "train": ("maskwright.workflows.train", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
