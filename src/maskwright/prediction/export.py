"""A trained model as ONNX, TorchScript, torch.export or a folder to hand on; kept only if it answers as the network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskwright.checkpoints import load_description
from maskwright.checkpoints.portable import DESCRIPTION, WEIGHTS
from maskwright.errors import PredictionError
from maskwright.files import durable_file, explain_os_error, temporary_path
from maskwright.prediction.backends import ONNX_NAME
from maskwright.prediction.export_formats import GRAPH_FORMATS, Answer, Graph, GraphFormat
from maskwright.prediction.export_metadata import check_for_qgis, describe_export, metadata_of, qgis_keys, qgis_notes
from maskwright.prediction.export_network import Activation, ExportedNetwork, InputRule, asks_heights, input_rule
from maskwright.prediction.export_parity import LEAST_AGREEMENT, Parity, Tiles, compare, make_cases
from maskwright.prediction.model_card import ModelCard, find_model_folder
from maskwright.prediction.predictor import Predictor
from maskwright.tasks.classes import ClassTask
from maskwright.tasks.height_gaps import HeightGaps

__all__ = ["FORMATS", "TOLERANCE", "Exported", "default_out", "export_model", "settle_target"]

FORMATS = ("folder", *GRAPH_FORMATS)
TOLERANCE = 1e-4
"""Difference of a logit that passes; of logits larger than 1 as many times more."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file or folder.
        format: One of :data:`FORMATS`.
        parity: How it was checked.
        notes: What a person should know, a sentence each.
    """

    path: Path
    format: str
    parity: Parity
    notes: tuple[str, ...]


def default_out(folder: Path, format: str, *, qgis: bool = False) -> Path:
    """Where a file goes that nobody gave a name: beside the model.

    Raises:
        PredictionError: For a folder, which must be named.
    """
    if format == "folder":
        raise PredictionError("Name the folder to write to: --out FOLDER (in Python out=).")
    return folder / ("model_qgis.onnx" if qgis else Path(ONNX_NAME).stem + GRAPH_FORMATS[format].ending)


def settle_target(
    path: str | Path, out: str | Path | None, *, format: str, qgis: bool = False, overwrite: bool = False
) -> tuple[Path, Path]:
    """The model folder and the file or folder to write; arguments as of :func:`export_model`.

    Raises:
        PredictionError: If there is no model, the format is unknown, or something is in the way.
    """
    _check_format(format, qgis=qgis)
    folder = find_model_folder(path)
    target = default_out(folder, format, qgis=qgis) if out is None else Path(out)
    _check_target(target, is_folder=format == "folder", overwrite=overwrite)
    return folder, target


def export_model(
    path: str | Path,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    heights_m: Sequence[float] | None = None,
    with_normalisation: bool = False,
    qgis: bool = False,
    tolerance: float = TOLERANCE,
    tiles: Tiles | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model in another format, ask both the same, and keep the file only if they agree.

    Args:
        path: A run folder or a model folder.
        out: The file, or for ``folder`` a folder that is not there yet; unset: beside the model.
        format: ``onnx``, ``torchscript``, ``torch-export`` or ``folder``.
        heights_m: Heights in metres the file answers by default; unset: those of the model.
        with_normalisation: Put the normalisation into the file, which is then given raw values.
        qgis: Make an ONNX file that the QGIS plugin Deepness opens as it is: tiles of one size, probabilities.
        tolerance: See :data:`TOLERANCE`; larger than 0.
        tiles: Of the data, to ask with; unset: invented ones.
        overwrite: Replace a file that exists.

    Raises:
        PredictionError: If the model cannot be written this way, or what was written answers differently; nothing is
            left behind then.
        CheckpointError: If the model folder is damaged.
    """
    _check_options(format, heights_m, with_normalisation=with_normalisation, qgis=qgis, tolerance=tolerance)
    folder, target = settle_target(path, out, format=format, qgis=qgis, overwrite=overwrite)
    predictor = Predictor.load(folder, device="cpu")
    if tiles is not None and tiles.image.shape[1] != predictor.card.in_channels:
        raise PredictionError(
            f"The tiles have {tiles.image.shape[1]} bands and the model sees {predictor.card.in_channels}."
        )
    if format == "folder":
        return _export_folder(folder, target, predictor, tiles, tolerance)
    plan = _Plan.make(predictor, format, heights_m, with_normalisation=with_normalisation, qgis=qgis)
    described = describe_export(load_description(folder), predictor.card, plan.heights_m, plan.facts())
    metadata = metadata_of(described, predictor.card)
    if qgis:
        metadata |= qgis_keys(predictor.card, predictor.card.tile_px)
    data = _written(plan, metadata)
    _make_parent(target)
    parity: list[Parity] = []
    with durable_file(
        target, error=PredictionError, verify=lambda file: parity.append(plan.checked(file, tiles, tolerance))
    ) as file:
        file.write(data)
    return Exported(target, format, parity[0], plan.notes())


# --- what was asked for -----------------------------------------------------------------------------------------------


def _check_options(
    format: str, heights_m: Sequence[float] | None, *, with_normalisation: bool, qgis: bool, tolerance: float
) -> None:
    _check_format(format, qgis=qgis)
    if not tolerance > 0:
        raise PredictionError(f"tolerance: {tolerance:g} must be larger than 0, for example {TOLERANCE:g}.")
    if format == "folder" and (with_normalisation or heights_m is not None):
        raise PredictionError(
            "A model folder is copied as it is: --heights and --with-normalisation are for the other formats."
        )


def _check_format(format: str, *, qgis: bool) -> None:
    if format not in FORMATS:
        raise PredictionError(f"Format {format!r} is not known. Choose {', '.join(FORMATS)}.")
    if qgis and format != "onnx":
        raise PredictionError(f"--qgis makes an ONNX file; it cannot be {format}. Leave one of them out.")


def _check_target(target: Path, *, is_folder: bool, overwrite: bool) -> None:
    if target.is_dir() and not is_folder:
        raise PredictionError(f"{target} is a folder. Name the file to write: --out FILE.")
    if is_folder and target.exists():
        raise PredictionError(f"{target} exists already. Name a folder that is not there yet.")
    if target.exists() and not overwrite:
        raise PredictionError(f"{target} would be replaced. Choose another --out, or add --overwrite.")


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise PredictionError(explain_os_error(cause, target.parent)) from cause


@dataclass(frozen=True)
class _Plan:
    """What is written and how it is checked."""

    predictor: Predictor
    name: str
    format: GraphFormat
    rule: InputRule
    heights_m: tuple[float, ...]
    graph: Graph

    @classmethod
    def make(
        cls,
        predictor: Predictor,
        name: str,
        heights_m: Sequence[float] | None,
        *,
        with_normalisation: bool,
        qgis: bool,
    ) -> _Plan:
        card = predictor.card
        if qgis:
            check_for_qgis(card)
        heights = card.heights(heights_m)
        rule = input_rule(card, "unit" if qgis else "raw" if with_normalisation else "normalised")
        own = card.task.heights_m
        kept = [own.index(height) for height in heights] if heights != own and not asks_heights(card) else None
        activation: Activation = "none" if not qgis else "softmax" if card.task.kind == "multiclass" else "sigmoid"
        module = ExportedNetwork(
            predictor.model.to(memory_format=torch.contiguous_format),
            rule,
            channels=kept,
            activation=activation,
            temperature=card.temperature,
        )
        graph = Graph(
            module.eval().requires_grad_(False),
            card.in_channels,
            heights if asks_heights(card) else (),
            int(getattr(predictor.model, "multiple", 1)),
            fixed_px=card.tile_px if qgis else None,
            output="probabilities" if qgis else "logits",
        )
        return cls(predictor, name, GRAPH_FORMATS[name], rule, heights, graph)

    @property
    def least_px(self) -> int:
        """Smallest side the file takes."""
        return max(1, self.format.least_multiples * self.graph.multiple)

    def facts(self) -> dict[str, Any]:
        """Of what is written, as plain values."""
        return {
            "format": self.name,
            "input": self.rule.to_dict(),
            "output": self.graph.output,
            "fixed_px": self.graph.fixed_px,
            "least_px": self.least_px,
            "multiple": self.graph.multiple,
            "receptive_field_px": getattr(self.predictor.model, "receptive_field_px", None),
        }

    def notes(self) -> tuple[str, ...]:
        """What the file cannot do."""
        notes = []
        if self.format.fixed:
            fixed = self.format.fixed.format(least=self.least_px)
            if self.graph.heights_m:
                fixed += f", and {len(self.graph.heights_m)} heights at a time"
            notes.append(f"{fixed}; {self.name} is deprecated by PyTorch")
        if self.graph.fixed_px is not None:
            notes += qgis_notes(self.predictor.card)
        return tuple(notes)

    def checked(self, file: Path, tiles: Tiles | None, tolerance: float) -> Parity:
        """Ask the file; raises PredictionError if it answers differently."""
        card = self.predictor.card
        cases = make_cases(
            card,
            self.rule,
            self.heights_m,
            tiles,
            fixed_px=self.graph.fixed_px,
            least_px=self.least_px,
            fixes_heights=self.format.fixes_heights,
        )
        probabilities = self.graph.output == "probabilities"
        parity = compare(
            self._expected,
            self.format.open(file),
            cases,
            _mask_of(card, probabilities=probabilities, heights_m=self.heights_m),
            tolerance,
            is_real=tiles is not None,
            what="outputs" if card.task.kind == "height" else self.graph.output,
        )
        return _require(parity, self.name)

    def _expected(self, image: Tensor, condition: Tensor | None) -> Tensor:
        """What the torch network makes of it."""
        module = self.graph.module
        logits = _answer_of(self.predictor)(image, condition)
        if module.channels is not None:
            logits = logits[:, module.channels]
        if self.graph.output == "logits":
            return logits
        return self.predictor.card.task.decode(logits / self.predictor.card.temperature).probs


def _written(plan: _Plan, metadata: dict[str, str]) -> bytes:
    try:
        return plan.format.write(plan.graph, metadata)
    except PredictionError:
        raise
    except Exception as cause:  # exporters fail in many ways, each with a class of its own
        reason = str(cause).strip().split("\n", 1)[0]
        raise PredictionError(
            f"The network {plan.predictor.card.architecture.kind} cannot be written as {plan.name}: {reason}. "
            "Try another --format."
        ) from cause


# --- a folder ---------------------------------------------------------------------------------------------------------


def _export_folder(folder: Path, target: Path, predictor: Predictor, tiles: Tiles | None, tolerance: float) -> Exported:
    _make_parent(target)
    draft = temporary_path(target)
    try:
        draft.mkdir()
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(folder / name, draft / name)
        copied = Predictor.load(draft, device="cpu")
        card = predictor.card
        parity = compare(
            _answer_of(predictor),
            _answer_of(copied),
            make_cases(card, InputRule(), card.task.heights_m, tiles),
            _mask_of(card, probabilities=False, heights_m=card.task.heights_m),
            tolerance,
            is_real=tiles is not None,
            what="outputs" if card.task.kind == "height" else "logits",
        )
        _require(parity, "folder")
        draft.rename(target)
    except OSError as cause:
        raise PredictionError(explain_os_error(cause, target)) from cause
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone after the rename
    return Exported(target, "folder", parity, ())


# --- the check --------------------------------------------------------------------------------------------------------


def _answer_of(predictor: Predictor) -> Answer:
    def answer(image: Tensor, condition: Tensor | None) -> Tensor:
        with torch.inference_mode():
            if condition is None and isinstance(predictor.card.task, HeightGaps):  # answers its own heights
                condition = torch.tensor([predictor.card.task.heights_m] * len(image))
            logits: Tensor = predictor.model(image, condition)
            return logits

    return answer


def _mask_of(card: ModelCard, *, probabilities: bool, heights_m: tuple[float, ...]) -> Any:
    """Outputs and heights to what is called (B, K, H, W) bool; None for a task of metres."""
    task = card.task
    if not isinstance(task, HeightGaps | ClassTask):
        return None

    def called(outputs: Tensor, condition: Tensor | None) -> Tensor:
        asked = heights_m if condition is None else tuple(condition[0].tolist())
        probs = outputs if probabilities else task.decode(outputs / card.temperature, asked or None).probs
        if task.kind == "multiclass":
            return probs.argmax(dim=1, keepdim=True)
        cuts = card.thresholds or (getattr(task, "probability_threshold", 0.5),) * probs.shape[1]
        return probs > torch.tensor(cuts)[:, None, None]

    return called


def _require(parity: Parity, name: str) -> Parity:
    if parity.passed:
        return parity
    told = [f"The {name} file does not answer as the network does, and was not kept: {parity.sentence()}."]
    if not parity.masks_agree:
        told.append(f"At least {LEAST_AGREEMENT:.1%} of the masks must agree. Choose another --format, and report it.")
    else:
        told.append("Raise --tolerance if the difference does not matter to you, or choose another --format.")
    raise PredictionError(" ".join(told))
