"""What a model is sure of on images without labels, written as masks that can be trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskwright.config.pseudo_labels import PseudoLabelsConfig
from maskwright.data.extra import EXTRA_FILE, ExtraImage, write_extra
from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.errors import DataError
from maskwright.files import read_json, write_json

if TYPE_CHECKING:
    from maskwright.prediction import Predictor

__all__ = ["BINS", "Added", "ImageLabels", "find_unlabelled", "label_images", "sure_labels"]

BINS = 20
"""Bins of the confidence histogram, from 0.5 to 1."""

_ADDED = "added.json"
_ROWS = 1024  # looked at together
_PROBABILITIES_ALONE: dict[str, Any] = {
    "probabilities": True,
    "probability_format": "tif",
    "polygons": "none",
    "quicklook": False,
    "crf": False,
}


@dataclass(frozen=True)
class ImageLabels:
    """What was found in one image.

    Attributes:
        name: Its path below the folder of images, without the ending.
        file: Its file.
        sure_share: Share 0..1 of its valid pixels of which the model is sure.
        class_shares: Share 0..1 of the sure pixels that belong to each column.
        used: True if the image is trained on.
    """

    name: str
    file: str
    sure_share: float
    class_shares: tuple[float, ...]
    used: bool


@dataclass(frozen=True)
class Added:
    """What a round adds.

    Attributes:
        folder: Where masks and their list lie.
        columns: Names of the columns.
        images: All images that were looked at.
        histogram: Share 0..1 of all valid pixels by confidence, in ``BINS`` bins from 0.5 to 1.
        class_shares: Share 0..1 of the pixels that are trained on, by column.
    """

    folder: Path
    columns: tuple[str, ...]
    images: tuple[ImageLabels, ...]
    histogram: tuple[float, ...]
    class_shares: tuple[float, ...]

    @property
    def used(self) -> tuple[ImageLabels, ...]:
        """The images that are trained on."""
        return tuple(image for image in self.images if image.used)

    def mask_of(self, image: ImageLabels) -> Path:
        """The file of its mask."""
        return _mask_file(self.folder, image.name)


def find_unlabelled(folder: Path) -> dict[str, Path]:
    """The images of a folder and all below it, by name.

    Raises:
        DataError: If there are none, or two have one name.
    """
    from maskwright.data.sources.folders import list_files
    from maskwright.data.sources.image_header import IMAGE_ENDINGS

    files, _ = list_files(folder, IMAGE_ENDINGS)
    if not files:
        raise DataError(
            f"pseudo_labels.folder: {folder} holds no image ({', '.join(IMAGE_ENDINGS)}), and no folder below it does. "
            "Name a folder of images without labels."
        )
    found: dict[str, Path] = {}
    for way, path in files:
        other = found.setdefault("/".join((*way, path.stem)), path)
        if other != path:
            raise DataError(f"pseudo_labels.folder: {other} and {path} have one name. Rename or remove one of them.")
    return dict(sorted(found.items()))


def label_images(
    predictor: Predictor,
    images: dict[str, Path],
    folder: Path,
    settings: PseudoLabelsConfig,
    classes: ClassTable,
    progress: Callable[[int, int, str], None] | None = None,
) -> Added:
    """Write a mask for each image of which the model is sure enough; done once, read again afterwards.

    Args:
        predictor: The trained model, with its temperature.
        images: Name to file.
        folder: Where masks and their list go.
        settings: How sure is sure.
        classes: Of the data set.
        progress: Called with (done, total, what).

    Raises:
        DataError: If an image cannot be read.
        PredictionError: If an image is of another kind than those trained on.
    """
    if (folder / EXTRA_FILE).is_file():  # written last
        return _read_added(folder)
    found, pixels = [], np.zeros(BINS, np.int64)
    trained, trained_px = np.zeros(classes.num_ids, np.int64), 0
    for done, (name, path) in enumerate(images.items(), 1):
        ids, histogram, valid_px = _labels_of(predictor, path, settings.confidence, classes.form)
        counts = _counts(ids, classes)
        sure_px = int((ids != not_counted(classes.form)).sum())
        share = sure_px / max(valid_px, 1)
        used = share >= settings.min_share and sure_px > 0
        if used:
            _write_mask(_mask_file(folder, name), ids)
            trained, trained_px = trained + counts, trained_px + sure_px
        pixels += histogram
        shares = tuple(float(value) for value in counts / max(sure_px, 1))
        found.append(ImageLabels(name, str(path), share, shares[-len(classes.names) :], used))
        if progress is not None:
            progress(done, len(images), "images without labels")
    added = Added(
        folder,
        classes.names,
        tuple(found),
        tuple(float(value) for value in pixels / max(int(pixels.sum()), 1)),
        tuple(float(value) for value in (trained / max(trained_px, 1))[-len(classes.names) :]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _ADDED, {**asdict(added), "folder": None})
    files = [ExtraImage(image.name, Path(image.file), _mask_file(folder, image.name)) for image in added.used]
    write_extra(folder, files, classes)
    return added


def sure_labels(
    probs: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], confidence: float, form: Form
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Ids where a model is sure, and how sure it is everywhere.

    A class is sure above ``confidence``; of classes that may overlap, and of one class alone, its absence is sure below
    one minus it, and all of them must be sure.

    Args:
        probs: (K, H, W) in 0..1.
        valid: (H, W).
        confidence: Above 0.5 and below 1.
        form: What the classes are to each other.

    Returns:
        (H, W) ids or sets of bits with the mark of what does not count where it is not sure or not valid, and (H, W)
        confidence.
    """
    if form == "multiclass":
        certainty, ids = probs.max(axis=0), probs.argmax(axis=0)
    else:
        certainty = np.maximum(probs, 1 - probs).min(axis=0)
        ids = sum(((probs[k] > 0.5).astype(np.int64) << k for k in range(len(probs))), np.zeros(valid.shape, np.int64))
    labels = ids.astype(label_dtype(form))
    labels[~valid | (certainty <= confidence)] = not_counted(form)
    return labels, certainty.astype(np.float32)


# --- one image --------------------------------------------------------------------------------------------------------


def _labels_of(
    predictor: Predictor, path: Path, confidence: float, form: Form
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], int]:
    """Ids of the image's own size, pixels by confidence, and valid pixels."""
    rows, histogram, valid_px = [], np.zeros(BINS, np.int64), 0
    with tempfile.TemporaryDirectory() as folder:
        for probs in _probabilities(predictor, path, Path(folder)):
            valid = np.asarray(np.isfinite(probs).all(axis=0))
            ids, certainty = sure_labels(np.where(valid, probs, 0.5), valid, confidence, form)
            rows.append(ids)
            valid_px += int(valid.sum())
            places = ((certainty[valid] - 0.5) * 2 * BINS).astype(np.int64)
            histogram += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)
    return np.concatenate(rows), histogram, valid_px


def _probabilities(predictor: Predictor, path: Path, folder: Path) -> Iterator[npt.NDArray[np.float32]]:
    """(K, rows, W) of an image as a prediction writes them into ``folder``, from top to bottom; NaN where not valid."""
    from maskwright.prediction.geotiff import open_raster

    settings = predictor.card.prediction.model_copy(update=_PROBABILITIES_ALONE)
    files = predictor.predict_photograph(path, folder, settings=settings).files
    with ExitStack() as stack:
        found = [file for what, file in files.items() if what.startswith("probability") and file.suffix == ".tif"]
        rasters = [stack.enter_context(open_raster(file)) for file in found]
        height, width = rasters[0].height, rasters[0].width
        for row in range(0, height, _ROWS):
            window = ((row, min(row + _ROWS, height)), (0, width))
            yield np.concatenate([raster.read(window=window) for raster in rasters])


def _counts(ids: npt.NDArray[Any], classes: ClassTable) -> npt.NDArray[np.int64]:
    """Sure pixels of each id; of classes that may overlap of each class."""
    known = ids[ids != not_counted(classes.form)]
    if classes.form == "multilabel":
        return np.array([int((known >> k & 1).sum()) for k in range(len(classes.names))], np.int64)
    return np.bincount(known, minlength=classes.num_ids).astype(np.int64)


def _mask_file(folder: Path, name: str) -> Path:
    return folder / "masks" / f"{name}.png"


def _write_mask(path: Path, ids: npt.NDArray[Any]) -> None:
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(ids).save(path)


def _read_added(folder: Path) -> Added:
    content = read_json(folder / _ADDED)
    images = tuple(
        ImageLabels(**{**image, "class_shares": tuple(image["class_shares"])}) for image in content["images"]
    )
    return Added(
        folder,
        tuple(content["columns"]),
        images,
        tuple(content["histogram"]),
        tuple(content["class_shares"]),
    )
