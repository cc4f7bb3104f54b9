"""Files of each format: how they are written, and how they are asked."""

from __future__ import annotations

import copy
import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.errors import PredictionError
from maskwright.prediction.export_network import ExportedNetwork, height_by_height

__all__ = ["GRAPH_FORMATS", "METADATA_KEY", "Answer", "Graph", "GraphFormat", "open_onnx", "require"]

METADATA_KEY = "maskwright"
"""Under this key a file holds what ``model.json`` says of the model, and what was exported of it."""

_JIT: Any = torch.jit  # without types
_OPSET = 18  # of 2022: old programs read it too

Answer = Callable[[Tensor, Tensor | None], Tensor]
"""Image (B, C, H, W) and heights (B, K) or None to (B, K, H, W)."""


@dataclass(frozen=True)
class Graph:
    """A network ready to be written.

    Attributes:
        module: With what goes before and after it.
        in_channels: Bands of its input.
        heights_m: K heights in metres to be asked; empty if it takes none.
        multiple: Images are padded to multiples of this inside, in pixels.
        fixed_px: Side of the only image it takes; None: any size.
        output: Name of what comes out: ``logits`` or ``probabilities``.
    """

    module: ExportedNetwork
    in_channels: int
    heights_m: tuple[float, ...]
    multiple: int
    fixed_px: int | None = None
    output: str = "logits"

    def example(self, *, exact: bool = False) -> tuple[Tensor, ...]:
        """Input of a size that needs padding in both directions, so that no trace leaves it out.

        Args:
            exact: Ask exactly the heights; else at least two, since exporters take a single one for a constant.
        """
        rows, cols = 2 * self.multiple + 5, 3 * self.multiple + 7
        if self.fixed_px is not None:
            rows = cols = self.fixed_px
        image = torch.rand(2, self.in_channels, rows, cols, generator=torch.Generator().manual_seed(0))
        if not self.heights_m:
            return (image,)
        asked = self.heights_m if exact or len(self.heights_m) > 1 else (*self.heights_m, 2 * self.heights_m[0])
        return image, torch.tensor([asked] * 2)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs."""
        return ("image", "condition") if self.heights_m else ("image",)


@dataclass(frozen=True)
class GraphFormat:
    """A format of one file.

    Attributes:
        ending: Of the file.
        write: A graph and its metadata to the file's bytes.
        open: The file to something that answers.
        least_multiples: Smallest side it answers, in multiples of the network; 0: any.
        fixed: What the file fixes, in words.
        fixes_heights: True if it takes exactly as many heights as it was made with.
    """

    ending: str
    write: Callable[[Graph, Mapping[str, str]], bytes]
    open: Callable[[Path], Answer]
    least_multiples: int = 0
    fixed: str = ""
    fixes_heights: bool = False


def require(package: str, purpose: str) -> Any:
    """Import a package of the extra ``export``.

    Raises:
        PredictionError: If it is not installed; says how to.
    """
    try:
        return importlib.import_module(package)
    except ImportError as cause:
        raise PredictionError(
            f"{purpose} needs the package {package}, which is not installed. "
            "Install it: pip install 'maskwright[export]'"
        ) from cause


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _write_onnx(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    for package in ("onnx", "onnxscript", "onnxruntime"):  # the last for the check of what was written
        require(package, "The export to ONNX")
    any_size: dict[int, Any] = {0: "batch"} if graph.fixed_px is not None else {0: "batch", 2: "height", 3: "width"}
    with _quiet():
        program: Any = torch.onnx.export(
            graph.module,
            graph.example(),
            dynamo=True,
            dynamic_shapes=(any_size, {0: "batch", 1: "heights"})[: len(graph.names)],
            input_names=list(graph.names),
            output_names=[graph.output],
            opset_version=_OPSET,
            verbose=False,
        )
    program.model.metadata_props.update(metadata)
    proto = program.model_proto
    if graph.fixed_px is None:  # the exporter names them by how they were padded and cut; they are the image's own
        for axis, name in ((2, "height"), (3, "width")):
            proto.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    data: bytes = proto.SerializeToString()
    return data


def open_onnx(path: Path) -> Any:
    """An onnxruntime session on the CPU with as many threads as torch uses here.

    Raises:
        PredictionError: If onnxruntime is not installed, or the file is none of ONNX.
    """
    runtime = require("onnxruntime", "The backend onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # onnxruntime has a class of its own for every reason
        raise PredictionError(
            f"{path} cannot be opened as an ONNX model: {_first_line(cause)}. Export the model again."
        ) from cause


def _open_onnx(path: Path) -> Answer:
    session = open_onnx(path)
    names = [given.name for given in session.get_inputs()]

    def answer(image: Tensor, condition: Tensor | None) -> Tensor:
        given = [np.ascontiguousarray(each.numpy()) for each in (image, condition) if each is not None]
        return torch.from_numpy(session.run(None, dict(zip(names, given, strict=True)))[0])

    return answer


# --- TorchScript ------------------------------------------------------------------------------------------------------


def _write_torchscript(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    whole = copy.deepcopy(graph.module)
    whole.network = height_by_height(whole.network, len(graph.heights_m))
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        traced = _JIT.trace(whole, graph.example(exact=True), check_trace=False)
        _JIT.save(traced, buffer, _extra_files={f"{key}.json": text for key, text in metadata.items()})
    return buffer.getvalue()


def _open_torchscript(path: Path) -> Answer:
    with _quiet():
        return _asked(_JIT.load(str(path)))


# --- torch.export -----------------------------------------------------------------------------------------------------


def _write_torch_export(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    config: Any = importlib.import_module("torch.fx.experimental._config")
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free}, {0: free, 1: free})[: len(graph.names)]
    buffer = io.BytesIO()
    # Without this the program is tied to sizes that need padding if the example did, and to whole ones if it did not.
    with _quiet(), torch.no_grad(), config.patch(backed_size_oblivious=True):
        program = torch.export.export(graph.module, graph.example(), dynamic_shapes=shapes)
        torch.export.save(program, buffer, extra_files={f"{key}.json": text for key, text in metadata.items()})
    return buffer.getvalue()


def _open_torch_export(path: Path) -> Answer:
    with _quiet():
        return _asked(torch.export.load(io.BytesIO(path.read_bytes())).module())


# --- shared -----------------------------------------------------------------------------------------------------------


def _asked(module: Any) -> Answer:
    def answer(image: Tensor, condition: Tensor | None) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(image) if condition is None else module(image, condition)
        return logits

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves; whether the file is right is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", _JIT.TracerWarning)
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", message="# The axis name")
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


GRAPH_FORMATS: dict[str, GraphFormat] = {
    "onnx": GraphFormat(".onnx", _write_onnx, _open_onnx),
    "torch-export": GraphFormat(".pt2", _write_torch_export, _open_torch_export),
    "torchscript": GraphFormat(
        ".torchscript",
        _write_torchscript,
        _open_torchscript,
        least_multiples=2,
        fixed="a trace: it takes images of at least {least} px a side",
        fixes_heights=True,
    ),
}
"""Formats of one file; beside them there is ``folder``, the portable model."""
