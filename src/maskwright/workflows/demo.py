"""The demo: a forest is invented, a model trained on part of it, scored on the rest, and all of it mapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskwright.config import Experiment
from maskwright.errors import TrainingError
from maskwright.tracking.history import History
from maskwright.workflows.evaluate import Evaluation, Progress
from maskwright.workflows.predict import predict
from maskwright.workflows.report import write_run_report
from maskwright.workflows.train import train

__all__ = ["DemoResult", "demo_experiment", "run_demo"]

_HEIGHTS_M = (5.0, 10.0, 15.0)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        evaluation: Numbers on the held-out ground.
        report: The page.
        maps: Files of the map, by what they are.
        lines: The last lines for the screen.
    """

    evaluation: Evaluation
    report: Path
    maps: dict[str, Path]
    lines: tuple[str, ...]


def demo_experiment(out: Path, dsm: Path, chm: Path, *, seed: int) -> Experiment:
    """The experiment of the demo: small enough for a few minutes on two cores."""
    return Experiment.model_validate(
        {
            "name": "demo",
            "task": {"heights_m": _HEIGHTS_M, "train_range_m": (2.0, 20.0), "heights_per_sample": 2},
            "data": {
                "sites": [{"name": "forest", "dsm": dsm, "chm": chm}],
                "tiles": {"size_px": 128},
                "split": {"seed": seed},
                "loader": {"batch_size": 8, "samples_per_epoch": 512},
                "cache": {"folder": out / "cache"},
            },
            "model": {"kind": "film_unet", "base_channels": 16, "depth": 4},
            "optim": {"optimizer": {"lr": 3e-3}},
            "training": {"epochs": 8, "seed": seed},
            "tracking": {"output_dir": out / "outputs"},
        }
    )


def run_demo(
    out: Path,
    *,
    seed: int = 1,
    say: Callable[[str], None],
    progress: Progress | None = None,
    own_process: bool = False,
) -> DemoResult:
    """Run it.

    Args:
        out: Folder for everything it makes.
        seed: Of the forest and of the training.
        say: Called with lines for a person.
        progress: Called with (done, total, what).
        own_process: As for ``train``.

    Raises:
        TrainingError: If it was stopped before its end.
    """
    import PIL.Image

    from maskwright.data.synthetic import write_forest

    say("Inventing a forest of 2048 x 2048 m: terrain, crowns, gaps, an edge that was not measured.")
    dsm, chm = write_forest(out / "data", seed=seed)
    experiment = demo_experiment(out, dsm, chm, seed=seed)
    outcome = train(experiment, say=say, progress=progress, own_process=own_process)
    if outcome.evaluation is None:
        raise TrainingError(f"The demo was stopped. {' '.join(outcome.lines)}")
    say("Mapping the whole forest.")
    (result,) = predict(outcome.folder.path, dsm, out / "maps", heights_m=_HEIGHTS_M, progress=progress, overwrite=True)
    report = out / "report.html"
    write_run_report(
        report,
        title="Gaps in an invented forest",
        history=History(outcome.folder.history).entries,
        facts={
            "ground": "2048 x 2048 m, pixels of 1 m, some 3 % not measured at the edge",
            "seen by the model": "the surface (DSM) alone; heights above ground (CHM) on the training ground only",
            "raw order": f"{sum(result.violations)} pixels were likelier a gap at the lower height and were mended",
        },
        evaluation=outcome.evaluation,
        pictures=[("The whole forest: mapped gaps at 5, 10 and 15 m.", PIL.Image.open(result.files["quicklook"]))],
        commands=[outcome.lines[-1].partition("Next: ")[2]],
        notes=outcome.lines[:2],
    )
    lines = (*outcome.lines[:2], f"Look at {report}. Maps and polygons: {out / 'maps'}", outcome.lines[2])
    return DemoResult(outcome.evaluation, report, result.files, lines)
