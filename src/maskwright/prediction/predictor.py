"""Predictor: a model folder applied to arrays and rasters, with nothing left to ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from maskwright.config.prediction import PredictionConfig
from maskwright.distributed import from_main, world_size
from maskwright.errors import PredictionError
from maskwright.models.grouping import group
from maskwright.models.heads import head_slices
from maskwright.objects import FoundObjects
from maskwright.prediction.blending import WindowAxis, plan_axis, undivided
from maskwright.prediction.crew import Crew, answer_for_main, process_crew, rank_crew, same_thread, thread_crew
from maskwright.prediction.ensemble import JoinedRows, common_heights, joined_card
from maskwright.prediction.image_input import ImageInput, ImageRows, Watch
from maskwright.prediction.instances_map import map_objects
from maskwright.prediction.map_image import map_image
from maskwright.prediction.map_metres import map_metres
from maskwright.prediction.map_raster import map_raster
from maskwright.prediction.member import Member, WindowAnswer, load_member
from maskwright.prediction.model_card import ModelCard
from maskwright.prediction.outputs import RasterResult
from maskwright.prediction.raster_stream import SceneRows
from maskwright.prediction.scene_input import SceneInput
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.object_task import ObjectTask
from maskwright.types import Window

__all__ = ["Predictor"]

_Work = tuple[tuple[float, ...], PredictionConfig]
"""The heights that are asked, and how windows are computed."""

FloatArray = npt.NDArray[np.float32]
_Read = TypeVar("_Read")


class Predictor:
    """A trained model, or several that are averaged, ready for arrays and rasters.

    Args:
        model: The network; put in evaluation mode and moved to the device.
        card: What it was trained on and how.
        device: Where it runs.
        others: Further networks whose probabilities are averaged with its own.

    Attributes:
        members: All networks.
        card: Of all together.
    """

    def __init__(
        self, model: nn.Module, card: ModelCard, device: torch.device | str = "cpu", others: Sequence[Member] = ()
    ) -> None:
        self.members = (Member(model, card, device), *others)
        self.card = joined_card([member.card for member in self.members])

    @classmethod
    def load(
        cls, path: str | Path, *, others: Sequence[str | Path] = (), device: str = "auto", backend: str = "torch"
    ) -> Predictor:
        """Load a trained model, or several.

        Args:
            path: A run folder, a model folder, or a checkpoint in its run folder (the model folder of the run then
                tells the rest: its operating point is that of the run's best epoch); with the backend ``onnx`` also an
                exported file.
            others: Further ones, whose probabilities are averaged with those of the first; each has the normalisation
                of its own training.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            backend: What computes: ``torch``, or ``onnx`` for a file exported before.

        Raises:
            PredictionError: If there is no model at ``path``, or models differ in what they see or answer.
            CheckpointError: If the model folder is damaged or of another version.
        """
        first, *rest = (load_member(each, device, backend) for each in (path, *others))
        return cls(first.model, first.card, first.device, rest)

    @property
    def model(self) -> nn.Module:
        """The first network."""
        return self.members[0].model

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.members[0].device

    def predict(
        self,
        heights: FloatArray,
        heights_m: Sequence[float] | None = None,
        *,
        pixel_size_m: float,
        chm: FloatArray | None = None,
    ) -> FloatArray:
        """Probabilities that pixels are gaps, each array in one pass of the network.

        Args:
            heights: (H, W) or (B, H, W) metres, NaN where not measured: surfaces for a model trained on a DSM or on
                both, heights above ground for one trained on a CHM. The reference of a surface is taken from the array.
            heights_m: K heights in metres; unset: those the model was scored at.
            pixel_size_m: Side of a pixel in metres.
            chm: The same shape, for a model that sees both.

        Returns:
            (B, K, H, W) float32, heights rising, never falling from one height to the next; NaN where not valid. Of a
            model of the task ``height``: (B, 1, H, W) metres.

        Raises:
            PredictionError: If the arrays or heights do not suit the model.
        """
        if self.card.image is not None:
            raise PredictionError("This model was trained on images. Use predict_image for arrays of pixels.")
        asked = self.heights(heights_m)
        bands = [_scenes(array, name) for array, name in self._bands(heights, chm)]
        if any(band.shape != bands[0].shape for band in bands):
            raise PredictionError(
                f"heights are {bands[0].shape} and chm is {bands[1].shape}; give arrays of one shape."
            )
        count, height, width = bands[0].shape
        probs = np.empty((count, self.channels(asked), height, width), np.float32)
        for index in range(count):
            scene = self.scene([_reader(band[index]) for band in bands], height, width, pixel_size_m)
            values, valid = scene.rows(0, height)
            answer = self.raw_probs(torch.from_numpy(scene.window(values, valid)[None]), asked)[0].cpu().numpy()
            probs[index] = np.maximum.accumulate(answer, axis=0) if asked else answer
            np.copyto(probs[index], np.nan, where=~valid)
        return probs

    def predict_raster(
        self,
        path: str | Path,
        out_dir: str | Path,
        heights_m: Sequence[float] | None = None,
        *,
        settings: PredictionConfig | None = None,
        nodata: float | str | None = None,
        chm: str | Path | None = None,
        chm_nodata: float | str | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> RasterResult:
        """Map gaps on a raster of any size; memory grows with its width, not its height.

        Args:
            path: A raster of heights of the kind the model was trained on.
            out_dir: Folder for maps, polygons, picture and summary; made if missing. Files of an earlier prediction of
                this raster are replaced, all at the end, and none if something fails.
            heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
            settings: Windows, blending, outputs; unset: as the model's experiment says.
            nodata: Value meaning "not measured", ``"tag"`` for the file's own or ``"none"``; unset: the file's tag,
                else the value of the training.
            chm: Canopy height model on the same grid, for a model that sees both.
            chm_nodata: The same as ``nodata`` for that one.
            progress: Called with (done, total, what is being done).

        Raises:
            PredictionError: If the model cannot be applied to the raster, or the results cannot be written.
            DataError: If the raster cannot be read.
        """
        settings = settings or self.card.prediction
        if settings.tta > 1 and any("aspect" in member.card.context for member in self.members):
            raise PredictionError(
                f"prediction.tta: {settings.tta} turns and mirrors windows, and this model sees the aspect "
                "(data.context), a compass direction, which would be wrong in them. Set prediction.tta: 1."
            )
        paths = self.inputs(path, chm)
        asked = self.heights(settings.heights_m if heights_m is None else heights_m)
        map_one = map_raster if isinstance(self.card.task, HeightGaps) else map_metres
        return map_one(self, paths, Path(out_dir), asked, settings, (nodata, chm_nodata), progress)

    def predict_image(self, values: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Probabilities of the classes of one image in one pass of the network.

        Args:
            values: (C, H, W) pixels as the files of the training hold them: of the same type and scale, bands chosen,
                resized if the training resized.
            valid: (H, W) bool; unset: every pixel counts.

        Returns:
            (K, H, W) float32, NaN where not valid.

        Raises:
            PredictionError: If the model sees no images, or the array has another number of bands.
        """
        maps, counts = self._maps(values, valid)
        probs = maps[: self.card.task.num_classes]  # of tasks of objects the classes stand first
        np.copyto(probs, np.nan, where=~counts)
        return probs

    def find_objects(self, values: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None = None) -> FoundObjects:
        """The objects of one image in one pass of the network. Arguments and errors as of :meth:`predict_image`.

        Raises:
            PredictionError: If the model finds no objects.
        """
        task = self.card.task
        if not isinstance(task, ObjectTask):
            raise PredictionError(
                f"This model was trained for the task {task.kind}, which finds no objects one by one."
            )
        joint, counts = self._maps(values, valid)
        maps = {name: joint[channels] for name, channels in head_slices(task.heads).items()}
        return group(maps, task.grouping, counts)

    def _maps(
        self, values: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """What the networks say of one image (K, H, W), and which of its pixels count (H, W)."""
        if self.card.image is None:
            raise PredictionError("This model was trained on heights. Use predict for arrays of heights.")
        if values.ndim != 3 or len(values) != self.card.in_channels or 0 in values.shape:
            raise PredictionError(
                f"The image has shape {values.shape}; give ({self.card.in_channels}, H, W) with at least one pixel."
            )
        counts = np.ones(values.shape[1:], np.bool_) if valid is None else valid
        normalisers: list[Any] = [member.card.normaliser for member in self.members]
        image = np.concatenate([normaliser.normalise(values, counts) for normaliser in normalisers])
        answer: FloatArray = self.raw_probs(torch.from_numpy(np.asarray(image, np.float32)[None]), ())[0].cpu().numpy()
        return answer, counts

    def predict_photograph(
        self,
        path: str | Path,
        out_dir: str | Path,
        *,
        settings: PredictionConfig | None = None,
        chm: str | Path | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> RasterResult:
        """Map the classes of one image file: PNGs for a photograph, GeoTIFFs for a raster with a place on the ground.

        A model that finds objects writes them one by one: outlines, a table, heat maps and a page about them.

        Args:
            path: An image of the kind the model was trained on; any size.
            out_dir: Folder for masks and pictures; files of an earlier prediction of this image are replaced.
            settings: Windows, blending, outputs; unset: as the model's experiment says.
            chm: Canopy height model, for the height of each object that is found.
            progress: Called with (done, total, what is being done).

        Raises:
            PredictionError: If the model cannot be applied to the image, or the results cannot be written.
            DataError: If the image cannot be read.
        """
        if self.card.image is None:
            raise PredictionError(f"This model was trained on height rasters, and {path} is to be read as an image.")
        told = settings or self.card.prediction
        if isinstance(self.card.task, ObjectTask):
            return map_objects(self, Path(path), Path(out_dir), told, progress, None if chm is None else Path(chm))
        if chm is not None:
            raise PredictionError(
                f"This model was trained on images and finds no objects one by one, so {chm} has no use. Leave chm out."
            )
        return map_image(self, Path(path), Path(out_dir), told, progress)

    def inputs(self, path: str | Path, chm: str | Path | None = None) -> list[Path]:
        """The files of one input, in the order of the model's bands.

        Raises:
            PredictionError: If the model sees other rasters, or none.
        """
        if self.card.image is not None:
            raise PredictionError(f"This model was trained on images; {path} cannot be read as heights.")
        if chm is not None and "chm" not in self.card.bands[1:]:
            raise PredictionError(
                f"This model sees a {self.card.bands[0].upper()} only; leave the canopy height model {chm} out."
            )
        if chm is None and len(self.card.bands) > 1:
            raise PredictionError(
                f"This model sees a DSM and a CHM; {path} is taken as the DSM, so give the CHM as well "
                "(--chm, in Python chm=)."
            )
        return [Path(path)] if chm is None else [Path(path), Path(chm)]

    def channels(self, heights_m: Sequence[float]) -> int:
        """K, the channels of what is blended: a height or a class each; of tasks of objects those of all maps."""
        task = self.card.task
        if isinstance(task, ObjectTask):
            return sum(task.heads.values())
        return len(heights_m) or task.num_classes

    def heights(self, heights_m: Sequence[float] | None) -> tuple[float, ...]:
        """The heights to answer: those asked for, rising, or the models' own; none for other tasks.

        Raises:
            PredictionError: As :meth:`ModelCard.heights`; or if several models have different ones.
        """
        return common_heights([member.card for member in self.members], heights_m)

    def logits(self, image: Tensor, heights_m: Sequence[float]) -> Tensor:
        """Raw output (B, K, H, W) of the first network, on the device, for input normalised as in training."""
        return self.members[0].logits(image, heights_m)

    def raw_probs(self, image: Tensor, heights_m: Sequence[float], *, views: int = 1) -> Tensor:
        """Probabilities (B, K, H, W) before any order over heights: each height is decoded as if it stood alone.

        Args:
            image: (B, C, H, W), normalised as in training; of several models the channels one behind the other.
            heights_m: K heights in metres; none for tasks of classes, and for ``height``, whose answer is metres.
            views: Views averaged, see ``tta``.
        """
        return WindowAnswer(self.members, tuple(heights_m), views)(image)

    # --- parts of a map -----------------------------------------------------------------------------------------------

    def scene(
        self, reads: Sequence[Callable[[Window], FloatArray]], height: int, width: int, pixel_size_m: float
    ) -> SceneRows:
        """The input of all networks from one scene of heights; arguments as of :class:`SceneInput`."""
        shared = [_remembering(read) for read in reads] if len(self.members) > 1 else list(reads)
        cards = [member.card for member in self.members]
        scenes = [
            SceneInput(card.bands, shared, height, width, card.normaliser, pixel_size_m, card.context) for card in cards
        ]
        return scenes[0] if len(scenes) == 1 else JoinedRows(scenes)

    def image_scene(self, reader: ImageRows, watch: Watch | None = None) -> SceneRows:
        """The input of all networks from one image; arguments as of :class:`ImageInput`."""
        normalisers = [member.card.normaliser for member in self.members]
        if len(normalisers) == 1:
            return ImageInput(reader, normalisers[0], watch)
        shared = _SharedReader(reader)
        first, *rest = normalisers
        return JoinedRows([ImageInput(shared, first, watch), *(ImageInput(shared, other) for other in rest)])

    def window_axes(self, size: tuple[int, int], settings: PredictionConfig) -> tuple[WindowAxis, WindowAxis]:
        """Windows down and across a scene of so many rows and columns, as the networks and the settings want them."""
        reaches = [member.receptive_field_px for member in self.members]
        rows, cols = (
            plan_axis(
                length,
                settings.tile_px or self.card.tile_px,
                settings.overlap,
                settings.blend,
                multiple_px=math.lcm(*(member.multiple for member in self.members)),
                receptive_field_px=None if None in reaches else max(reach for reach in reaches if reach is not None),
            )
            for length in size
        )
        if any(member.draws for member in self.members):
            return undivided(rows), undivided(cols)
        return rows, cols

    def windows_per_pass(self, settings: PredictionConfig) -> int:
        """On the CPU one window at a time is fastest, and then no setting of the batch can change a bit of the map."""
        return 1 if self.device.type == "cpu" else settings.batch_size

    @contextmanager
    def crew(self, heights_m: tuple[float, ...], settings: PredictionConfig) -> Iterator[Crew]:
        """Who computes the windows: what :meth:`_own_crew` says, in each of the processes a launcher started."""
        with self._own_crew(heights_m, settings) as own:
            if world_size() == 1:
                yield own
                return
            self._next_work((heights_m, settings))
            with rank_crew(own) as crew:
                yield crew

    def serve(self) -> None:
        """In the other processes of a launch: compute windows for process 0 as long as it is :meth:`served`."""
        while (asked := self._next_work(None)) is not None:
            with self._own_crew(*asked) as own:
                answer_for_main(own)

    @contextmanager
    def served(self) -> Iterator[None]:
        """In process 0: inside, the others compute with it; afterwards they are free."""
        try:
            yield
        finally:
            self._next_work(None)

    def _next_work(self, work: _Work | None) -> _Work | None:
        """What process 0 says comes next; the others are told."""
        return from_main(lambda: work)

    @contextmanager
    def _own_crew(self, heights_m: tuple[float, ...], settings: PredictionConfig) -> Iterator[Crew]:
        """Threads of this process, or as many processes as the settings say.

        Raises:
            PredictionError: If there are several, and the networks run where they are of no use.
        """
        answer = WindowAnswer(self.members, heights_m, settings.tta, settings.uncertainty == "spread")
        alone = self.device.type != "cpu" or any(member.is_exported for member in self.members)
        if alone and settings.workers > 1:
            where = "on a device of its own" if self.device.type != "cpu" else "by onnxruntime, with threads of its own"
            raise PredictionError(
                f"prediction.workers: {settings.workers} processes share the cores of the CPU, and this model is "
                f"computed {where}. Leave --workers out."
            )
        if alone:
            yield same_thread(answer)
        elif settings.workers > 1:
            with process_crew(answer, settings.workers) as crew:
                yield crew
        else:
            with thread_crew(answer) as crew:
                yield crew

    def _bands(self, heights: FloatArray, chm: FloatArray | None) -> list[tuple[FloatArray, str]]:
        if len(self.card.bands) == 1:
            if chm is not None:
                raise PredictionError(f"This model sees a {self.card.bands[0].upper()} only; leave chm out.")
            return [(heights, "heights")]
        if chm is None:
            raise PredictionError("This model sees a DSM and a CHM; give the canopy heights as chm.")
        return [(heights, "heights"), (chm, "chm")]


def _scenes(array: FloatArray, name: str) -> FloatArray:
    scenes = np.asarray(array, np.float32)
    if scenes.ndim == 2:
        scenes = scenes[None]
    if scenes.ndim != 3 or 0 in scenes.shape:
        raise PredictionError(f"{name} has shape {scenes.shape}; give (H, W) or (B, H, W) with at least one pixel.")
    return scenes


class _SharedReader:
    """An image that several networks read: a window asked for several times in a row is read once."""

    def __init__(self, reader: ImageRows) -> None:
        self.grid, self.band_names = reader.grid, reader.band_names
        self._read = _remembering(reader.read)

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        return self._read(window)


def _remembering(read: Callable[[Window], _Read]) -> Callable[[Window], _Read]:
    """The same reader; a window asked for several times in a row is read once."""
    last: list[tuple[Window, _Read]] = []

    def reading(window: Window) -> _Read:
        if not last or last[0][0] != window:
            last[:] = [(window, read(window))]
        return last[0][1]

    return reading


def _reader(scene: FloatArray) -> Callable[[Window], FloatArray]:
    """A reader of windows; outside of the scene is NaN."""
    whole = Window(0, 0, *scene.shape)

    def read(window: Window) -> FloatArray:
        inside = window.intersection(whole)
        if inside == window:
            return scene[window.row : window.row_stop, window.col : window.col_stop]
        out = np.full((window.height, window.width), np.nan, np.float32)
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            part = scene[inside.row : inside.row_stop, inside.col : inside.col_stop]
            out[row : row + inside.height, col : col + inside.width] = part
        return out

    return read
