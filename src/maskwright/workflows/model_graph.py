"""The network as a graph of operations, for TensorBoard: recorded on the meta device, so nothing is computed.

Made in the thread of whoever asks, without memory, random numbers or the network that is being trained.
"""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from maskwright.workflows.assemble import Parts

__all__ = ["graph_of_run", "model_graph"]

log = logging.getLogger("maskwright")

_MOST_PX = 64
_FORMAT = 22  # of graphs, as TensorBoard reads them


def graph_of_run(parts: Parts) -> Any:
    """The graph of a run's network; None, with a line in the log, for a network that cannot run on the meta device.

    Args:
        parts: What the run is made of.

    Returns:
        A ``GraphDef`` of TensorBoard.
    """
    experiment = parts.experiment
    size_px = min(experiment.data.tiles.size_px, max(_MOST_PX, 2**experiment.model.depth))
    try:
        with torch.device("meta"), torch.no_grad():
            batch_size = experiment.data.loader.batch_size
            model = parts.task.build_model(experiment.model.bare(), parts.source.in_channels, batch_size).eval()
            image = torch.empty(1, parts.source.in_channels, size_px, size_px)
            condition = torch.empty(1, len(parts.heights_m)) if parts.heights_m else None
            return model_graph(model, {"image": image, "condition": condition})
    except Exception as error:  # a picture for the curious must not cost the curves
        log.info("TensorBoard shows no graph of this network: %s: %s", type(error).__name__, error)
        return None


def model_graph(model: nn.Module, inputs: Mapping[str, Tensor | None]) -> Any:
    """Run a network once and write down its operations, each under the path of the module that called it.

    Args:
        model: The network.
        inputs: Its positional arguments by name; None is handed on and has no node.

    Returns:
        A ``GraphDef`` of TensorBoard: a node for each input and operation, joined by the tensors between them.
    """
    recorder = _Recorder()
    for name, tensor in inputs.items():
        if tensor is not None:
            recorder.add(name, "Input", [], [tensor])
    with torch.no_grad(), _followed(model, recorder), recorder:
        model(*inputs.values())
    return _graph_def(recorder.nodes)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation as (name, kind, names of its inputs, shape)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = []
        self.nodes: list[tuple[str, str, list[str], tuple[int, ...]]] = []
        self._makers: dict[int, str] = {}
        self._alive: list[Tensor] = []  # an address must not be given to a second tensor
        self._seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sources = [self._makers[id(tensor)] for tensor in tensors if id(tensor) in self._makers]
        results = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        if sources and results:
            kind = str(func.overloadpacket.__name__)
            self.add("/".join([*self.path[-1:], kind]), kind, list(dict.fromkeys(sources)), results)
        return made

    def add(self, name: str, kind: str, sources: list[str], results: list[Tensor]) -> None:
        self._seen[name] += 1
        name = name if self._seen[name] == 1 else f"{name}_{self._seen[name]}"
        self.nodes.append((name, kind, sources, tuple(results[0].shape)))
        for tensor in results:
            self._makers[id(tensor)] = name
            self._alive.append(tensor)


@contextmanager
def _followed(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """The recorder knows at each moment which module is at work."""
    handles = []
    for name, module in model.named_modules():
        path = "/".join([type(model).__name__, *filter(None, name.split("."))])
        enter = partial(_enter, recorder, path)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(partial(_leave, recorder), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(recorder: _Recorder, path: str, module: nn.Module, args: Any) -> None:
    recorder.path.append(path)


def _leave(recorder: _Recorder, module: nn.Module, args: Any, result: Any) -> None:
    recorder.path.pop()


def _graph_def(nodes: list[tuple[str, str, list[str], tuple[int, ...]]]) -> Any:
    shapes, values, written = _proto("tensor_shape"), _proto("attr_value"), _proto("node_def")
    graph = _proto("graph").GraphDef(versions=_proto("versions").VersionDef(producer=_FORMAT))
    for name, kind, sources, shape in nodes:
        dims = [shapes.TensorShapeProto.Dim(size=size) for size in shape]
        shown = values.AttrValue(list=values.AttrValue.ListValue(shape=[shapes.TensorShapeProto(dim=dims)]))
        graph.node.append(written.NodeDef(name=name, op=kind, input=sources, attr={"_output_shapes": shown}))
    return graph


def _proto(name: str) -> Any:
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")
