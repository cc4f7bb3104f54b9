"""ModelCard: what a model folder says beside the weights, checked; prediction repeats what training did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from maskwright.checkpoints import load_description
from maskwright.config.model import ModelConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.normalise import Normaliser, normaliser_from_dict
from maskwright.data.sources.image_file import ImageFormat
from maskwright.errors import CheckpointError, MaskwrightError, PredictionError
from maskwright.tasks.build import AnyTask, task_from_dict
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.object_task import ObjectTask

__all__ = ["PIXEL_TOLERANCE", "ModelCard", "find_model_folder"]

Kind = Literal["dsm", "chm"]

_BANDS: dict[str, tuple[Kind, ...]] = {"dsm": ("dsm",), "chm": ("chm",), "both": ("dsm", "chm")}
PIXEL_TOLERANCE = 0.1
_PIXEL_MOST_APART = 2.0  # times the size of the training's pixels; beyond that nothing is predicted
_IMAGENET_RED = 0.485  # mean of red, of values from 0 to 1


@dataclass(frozen=True)
class ModelCard:
    """A trained model in words and numbers.

    Attributes:
        task: What its outputs mean: heights, probability threshold, decoding.
        architecture: Its section of the experiment.
        batch_size: Of the training; settles the normalisation where the architecture says ``auto``.
        bands: The height rasters it sees, in the order of its input channels; none for images.
        normaliser: Heights, or values of pixels, to input.
        trained_range_m: Of models of gaps: lowest and highest height it was trained at, metres.
        pixel_size_m: Smallest and largest pixel of the training, metres; None if unknown.
        tile_px: Side of the training tiles.
        sha256: Hash of its weights.
        prediction: How its experiment wants it applied.
        nodata: By kind of raster the value that means "not measured" where a file declares none; ``"none"``: no value
            does, whatever the file declares.
        in_channels: Bands of the network's input.
        context: Bands derived from the surface (slope, aspect, altitude).
        image: How image files are read; None for a model of heights.
        dtype: Type of the pixels trained on, where the model says it: ``uint8`` ...
        thresholds: For each class the probability above which it is called; empty for heights.
        temperature: Logits are divided by this, once.
        has_background: Of classes that exclude each other: whether the first is the background.
    """

    task: AnyTask
    architecture: ModelConfig
    batch_size: int
    bands: tuple[Kind, ...]
    normaliser: Normaliser
    trained_range_m: tuple[float, float]
    pixel_size_m: tuple[float, float] | None
    tile_px: int
    sha256: str
    prediction: PredictionConfig
    nodata: Mapping[str, float | str | None]
    in_channels: int = 1
    context: tuple[str, ...] = ()
    image: ImageFormat | None = None
    dtype: str | None = None
    thresholds: tuple[float, ...] = ()
    temperature: float = 1.0
    has_background: bool = True

    @classmethod
    def load(cls, folder: Path) -> ModelCard:
        """Read ``model.json`` of a model folder.

        Raises:
            CheckpointError: If there is none, or something needed is missing in it or unknown.
        """
        return cls.from_description(load_description(folder), folder / "model.json")

    @classmethod
    def from_description(cls, description: Mapping[str, Any], path: Path) -> ModelCard:
        """The card of what ``model.json`` at ``path`` holds. Raises as :meth:`load`."""
        try:
            adapter: pydantic.TypeAdapter[ModelConfig] = pydantic.TypeAdapter(ModelConfig)
            task = task_from_dict(description["task"])
            if isinstance(task, ObjectTask):
                task = task.cut_at((description.get("operating_point") or {}).get("objects"))
            is_image = description["input"] == "image"
            bands = () if is_image else _BANDS[description["input"]]
            return cls(
                task=task,
                architecture=adapter.validate_python(description["model"]).bare(),
                batch_size=int(description["batch_size"]),
                bands=bands,
                normaliser=normaliser_from_dict(description["normaliser"]),
                trained_range_m=_pair(description["trained_range_m"]) if isinstance(task, HeightGaps) else (0.0, 0.0),
                pixel_size_m=None if description["pixel_size_m"] is None else _pair(description["pixel_size_m"]),
                tile_px=int(description["tile_px"]),
                sha256=str(description["weights"]["sha256"]),
                prediction=PredictionConfig.model_validate(description["prediction"]),
                nodata={} if is_image else {str(kind): rule for kind, rule in description["nodata"].items()},
                in_channels=int(description.get("in_channels", len(bands))),
                context=tuple(description.get("context", ())),
                image=ImageFormat.from_dict(description["image"]) if is_image else None,
                dtype=description.get("dtype") or _dtype_of(description["normaliser"]),
                thresholds=_thresholds(description, task) if task.class_names else (),
                temperature=float(description.get("temperature", 1.0)),
                has_background=description.get("class_table", {}).get("background", "") is not None,
            )
        except KeyError as cause:
            raise CheckpointError(
                f"{path} lacks or does not know {cause}. Save the model again with this version."
            ) from cause
        except (MaskwrightError, TypeError, ValueError) as cause:
            raise CheckpointError(
                f"{path} cannot be understood: {cause}. Save the model again with this version."
            ) from cause

    def nodata_of(self, kind: str, tag: float | None) -> float | str | None:
        """What means "not measured" in a raster of a kind: its own tag, else the rule of the training."""
        rule = self.nodata.get(kind)
        return rule if rule == "none" or tag is None else None

    def heights(self, heights_m: Sequence[float] | None) -> tuple[float, ...]:
        """The heights to answer: those asked for, rising, or the model's own.

        Raises:
            PredictionError: If a height is not above 0, comes twice, or cannot be answered by this model.
        """
        own = self.task.heights_m
        if not isinstance(self.task, HeightGaps):
            if heights_m is not None:
                raise PredictionError(
                    f"This model was trained for the task {self.task.kind}, which answers no heights. Leave heights "
                    "(--heights) out."
                )
            return own
        if heights_m is None:
            return own
        asked = tuple(sorted(float(height) for height in heights_m))
        if not asked or not asked[0] > 0 or len(set(asked)) < len(asked):
            raise PredictionError(
                f"Heights {_listed(heights_m)} must be larger than 0 m and differ, for example 5 10 15."
            )
        unknown = [height for height in asked if height not in own]
        if self.task.fixed and unknown:
            raise PredictionError(
                f"This model answers {_listed(own)} m only and was asked for {_listed(unknown)} m. "
                "Ask for its own heights, or train with model.kind: film_unet, which answers any height."
            )
        return asked

    def require_pixel_size(self, path: Path, pixel_size_m: float | None) -> None:
        """Make sure that pixels are not of quite another size than in the training; small differences are noted.

        Raises:
            PredictionError: If they are more than twice as large, or less than half as large.
        """
        if self.pixel_size_m is None or pixel_size_m is None:
            return
        smallest, largest = self.pixel_size_m
        if smallest / _PIXEL_MOST_APART <= pixel_size_m <= largest * _PIXEL_MOST_APART:
            return
        trained = f"{smallest:g} m" if smallest == largest else f"{smallest:g} to {largest:g} m"
        target = smallest if pixel_size_m < smallest else largest
        raise PredictionError(
            f"{path} has pixels of {pixel_size_m:g} m and the model was trained on {trained}: what it knows looks more "
            f"than {_PIXEL_MOST_APART:g} times too {'large' if pixel_size_m < smallest else 'small'} there. Add "
            f"--resample (prediction.resample), and it is seen at {target:g} m and the map brought back to its pixels."
        )

    def resampled_m(self, pixel_size_m: float) -> float | None:
        """The pixel size of the training that pixels of another size are brought to; None if they are like enough."""
        if self.pixel_size_m is None:
            return None
        smallest, largest = self.pixel_size_m
        if smallest * (1 - PIXEL_TOLERANCE) <= pixel_size_m <= largest * (1 + PIXEL_TOLERANCE):
            return None
        return smallest if pixel_size_m < smallest else largest

    def notes(self, heights_m: Sequence[float], pixel_size_m: float | None) -> tuple[str, ...]:
        """What a person should know before trusting an answer: heights and pixels unlike those of the training."""
        notes = []
        low, high = self.trained_range_m
        beyond = [height for height in heights_m if not low <= height <= high]
        if beyond:
            notes.append(
                f"{_listed(beyond)} m lies outside the heights the model was trained at ({low:g} to {high:g} m): "
                "an extrapolation, not to be trusted without a check"
            )
        if self.pixel_size_m is None:
            return tuple(notes)
        smallest, largest = self.pixel_size_m
        if pixel_size_m is not None and not (
            smallest * (1 - PIXEL_TOLERANCE) <= pixel_size_m <= largest * (1 + PIXEL_TOLERANCE)
        ):
            trained = f"{smallest:g} m" if smallest == largest else f"{smallest:g} to {largest:g} m"
            notes.append(
                f"pixels of {pixel_size_m:g} m, the model was trained on {trained}: crowns and gaps look larger or "
                "smaller to it than it learned; add --resample for numbers to trust"
            )
        return tuple(notes)


def find_model_folder(path: str | Path) -> Path:
    """The model folder of a run folder, of a model folder, or of one of its two files.

    Raises:
        PredictionError: If there is none.
    """
    path = Path(path)
    for folder in (path, path / "model", path.parent if path.is_file() else path):
        if (folder / "model.json").is_file():
            return folder
    if not path.exists():
        raise PredictionError(f"{path} does not exist. Give a run folder or its model folder.")
    if (path / "config.yaml").is_file():
        raise PredictionError(
            f"The run {path} has no model yet: none of its epochs was completed. Continue it with "
            f"maskwright train --resume {path}"
        )
    raise PredictionError(
        f"{path} is no run folder and no model folder: there is no model.json in it or in its model/."
    )


def _dtype_of(normaliser: Mapping[str, Any]) -> str | None:
    """The type of whole numbers a normalisation by type was made for; None if it was measured."""
    kind = normaliser.get("kind")
    if kind == "unit":
        largest = round(float(normaliser["scale"][0]))
    elif kind == "imagenet":
        largest = round(float(normaliser["shift"][0]) / _IMAGENET_RED)
    else:
        return None
    return {255: "uint8", 65535: "uint16"}.get(largest)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _thresholds(description: Mapping[str, Any], task: AnyTask) -> tuple[float, ...]:
    """A threshold for each class: a list, a number by class, or one for all."""
    names = task.class_names
    own = description.get("probability_thresholds", description.get("probability_threshold"))
    if own is None:
        own = getattr(task, "probability_threshold", 0.5)
    if isinstance(own, Mapping):
        return tuple(float(own[name]) for name in names)
    if isinstance(own, Sequence):
        if len(own) != len(names):
            raise PredictionError(f"probability_thresholds: {len(own)} numbers for {len(names)} classes")
        return tuple(float(value) for value in own)
    return (float(own),) * len(names)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
