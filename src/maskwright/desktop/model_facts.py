"""What a model says of itself before it is used, read without torch; for other threads than that of the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright.errors import CheckpointError, PredictionError
from maskwright.tracking.description import DESCRIPTION, load_description

__all__ = ["ModelFacts", "model_facts"]


@dataclass(frozen=True)
class ModelFacts:
    """A trained model in a few words.

    Attributes:
        task: ``binary``, ``multiclass``, ``multilabel``, ``height_gaps``, ``height``.
        classes: Names of its classes; none for heights.
        heights_m: The heights it was scored at, metres; none for classes.
        threshold: Where it cuts probabilities, 0 to 1; of several classes the first.
        sees_images: Photographs or rasters of bands; else rasters of heights.
        has_background: Class 0 is the background, which is not painted.
        prediction: The settings of its experiment.
    """

    task: str
    classes: tuple[str, ...] = ()
    heights_m: tuple[float, ...] = ()
    threshold: float = 0.5
    sees_images: bool = True
    has_background: bool = False
    prediction: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What it does, for the line below its path."""
        seen = "photographs and rasters of their bands" if self.sees_images else "rasters of heights"
        if self.heights_m:
            found = f"gaps below {', '.join(f'{height:g}' for height in self.heights_m)} m"
        else:
            found = ", ".join(self.classes[self.has_background :]) or "heights in metres"
        return f"Finds {found} in {seen}; cuts at {self.threshold:g}."


def model_facts(path: Path) -> ModelFacts:
    """Read what stands in the model folder of a run, in a model folder itself, or beside a checkpoint of a run.

    Raises:
        PredictionError: If there is no model.
        CheckpointError: If it is damaged, or was written by a newer Maskwright.
    """
    folder = _model_folder(Path(path))
    described = load_description(folder)
    try:
        return _facts(described)
    except (KeyError, TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{folder / DESCRIPTION} cannot be understood ({type(cause).__name__}: {cause}). "
            "Save the model again with this version."
        ) from cause


def _model_folder(path: Path) -> Path:
    beside: tuple[Path, ...] = (path.parent, path.parent.parent / "model") if path.is_file() else ()
    for folder in (path, path / "model", *beside):
        if (folder / DESCRIPTION).is_file():
            return folder
    if not path.exists():
        raise PredictionError(f"{path} does not exist. Choose the folder of a run, or its model folder.")
    if (path / "run.json").is_file():
        raise PredictionError(f"The run {path.name} has no model yet: none of its epochs was completed.")
    raise PredictionError(f"{path} is no run, no model folder and no checkpoint of a run. Choose the folder of a run.")


def _facts(described: Mapping[str, Any]) -> ModelFacts:
    told, task = described["task"], str(described["task"]["kind"])
    classes = told.get("class_names") or described.get("classes") or ()
    heights = told.get("heights_m") or described.get("heights_m") or ()
    background = described.get("class_table", {}).get("background", "") is not None
    return ModelFacts(
        task=task,
        classes=tuple(str(name) for name in classes),
        heights_m=tuple(float(height) for height in heights) if task == "height_gaps" else (),
        threshold=_first(described.get("probability_thresholds", described.get("probability_threshold", 0.5))),
        sees_images=described["input"] == "image",
        has_background=task == "multiclass" and background,
        prediction=dict(described["prediction"]),
    )


def _first(threshold: object) -> float:
    """One number of one, of a list, or of a table by class."""
    if isinstance(threshold, Mapping):
        threshold = list(threshold.values())
    if isinstance(threshold, Sequence) and not isinstance(threshold, str):
        threshold = threshold[0] if threshold else 0.5
    return float(threshold)  # type: ignore[arg-type]  # what cannot be a number is said by the caller
