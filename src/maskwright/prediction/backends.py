"""What answers in place of the torch network: an exported ONNX file, by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.checkpoints import load_description
from maskwright.errors import CheckpointError, PredictionError
from maskwright.files import parse_json
from maskwright.prediction.export_formats import METADATA_KEY, open_onnx
from maskwright.prediction.export_network import InputRule
from maskwright.prediction.model_card import ModelCard

__all__ = ["BACKENDS", "ONNX_NAME", "OnnxNetwork", "find_onnx", "load_exported"]

BACKENDS = ("torch", "onnx")
ONNX_NAME = "model.onnx"
"""Name of the exported file inside a model folder."""


class OnnxNetwork(nn.Module):
    """An exported file in the place of the network it was made from; runs on the CPU.

    Args:
        path: Made by ``maskwright export --format onnx``.

    Attributes:
        described: What ``model.json`` held, with ``export``.
        multiple: As of the network.
        receptive_field_px: As of the network.

    Raises:
        PredictionError: If onnxruntime is missing, the file is damaged, or was not made by Maskwright for prediction.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = open_onnx(path)
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise PredictionError(
                f"{path} was not exported by Maskwright: it does not say how its input is made. "
                "Export the run: maskwright export RUN"
            )
        try:
            self.described = parse_json(text)
            facts = self.described["export"]
            self._rule = InputRule.from_dict(facts["input"])
            self.multiple = int(facts["multiple"])
            reach = facts["receptive_field_px"]
            self.receptive_field_px = None if reach is None else int(reach)
            output = str(facts["output"])
        except (KeyError, TypeError, ValueError) as cause:
            raise PredictionError(
                f"{path} does not say what it holds ({cause}). Export the model again with this version."
            ) from cause
        if output != "logits" or facts["fixed_px"] is not None:
            raise PredictionError(
                f"{path} was exported for QGIS: it answers probabilities of tiles of one size. Export without --qgis "
                "for maskwright predict."
            )
        self._names = [given.name for given in self._session.get_inputs()]

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of an image (B, C, H, W), normalised as in training, at heights (B, K)."""
        values = self._rule.given(image.contiguous().numpy())
        given = {self._names[0]: np.ascontiguousarray(values)}
        if condition is not None and len(self._names) > 1:
            given[self._names[1]] = condition.contiguous().numpy()
        return torch.from_numpy(self._session.run(None, given)[0])


def find_onnx(path: str | Path) -> tuple[Path, Path | None]:
    """The ONNX file of a run folder, a model folder or named itself; and the model folder whose it is.

    Raises:
        PredictionError: If there is none.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".onnx":
        return path, None
    for folder in (path, path / "model"):
        if (folder / ONNX_NAME).is_file():
            return folder / ONNX_NAME, folder if (folder / "model.json").is_file() else None
    if not path.exists():
        raise PredictionError(f"{path} does not exist. Give an .onnx file, or a run or model folder that holds one.")
    raise PredictionError(f"{path} holds no {ONNX_NAME}. Make it: maskwright export {path} --format onnx")


def load_exported(path: str | Path, device: str, backend: str) -> tuple[OnnxNetwork, ModelCard]:
    """An exported network and the card of its model.

    Args:
        path: See :func:`find_onnx`.
        device: ``auto`` or ``cpu``.
        backend: ``onnx``.

    Raises:
        PredictionError: If there is no usable file, it was made from other weights than the folder now holds, or the
            backend is another.
    """
    if backend not in BACKENDS:
        raise PredictionError(f"Backend {backend!r} is not known. Choose {' or '.join(BACKENDS)}.")
    if backend != "onnx":
        raise PredictionError(f'{path} is an ONNX file. Add --backend onnx (in Python backend="onnx").')
    if device not in ("auto", "cpu"):
        raise PredictionError(
            f"The backend onnx runs on the CPU, not on {device}. Leave --device out, or use --backend torch."
        )
    file, folder = find_onnx(path)
    network = OnnxNetwork(file)
    try:
        card = ModelCard.from_description(network.described, file)
    except CheckpointError as cause:
        raise PredictionError(str(cause)) from cause
    if folder is not None and load_description(folder)["weights"]["sha256"] != card.sha256:
        raise PredictionError(
            f"{file} was exported before the training went on: {folder} holds other weights now. Export again: "
            f"maskwright export {path} --format onnx --overwrite"
        )
    return network, card
