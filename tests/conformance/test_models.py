"""Every registered network answers the same questions."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

from maskwright.config.base import kind_of, sections_in
from maskwright.config.model import (
    AttentionUNetConfig,
    DeepLabV3PlusConfig,
    DeepLabV3PlusFilmConfig,
    FilmUNetConfig,
    HeightCdfConfig,
    MaskRcnnConfig,
    ModelConfig,
    MultitaskSmpConfig,
    MultitaskUNetConfig,
    RegressionUNetConfig,
    ResUNetConfig,
    ResUNetFilmConfig,
    SmpConfig,
    SmpFilmConfig,
    UNetAllFeaturesConfig,
    UNetConfig,
)
from maskwright.errors import ModelError
from maskwright.models import MODELS, build_model, enable_gradient_checkpointing
from maskwright.models.droppath import DropPath
from maskwright.prediction.member import fold_batch_norm

TINY = {"base_channels": 4, "depth": 2}
TINY_DEEPLAB: dict[str, Any] = {"aspp_channels": 8, "aspp_rates": (1, 2), "low_level_channels": 4}
CONFIGS: dict[str, Any] = {
    "unet": UNetConfig(**TINY),
    "unet, other options": UNetConfig(**TINY, norm="group", activation="silu", upsampling="transpose", dropout=0.1),
    "unet, on blocks of pixels": UNetConfig(**TINY, shrink=2),
    "film_unet": FilmUNetConfig(**TINY),
    "film_unet, other options": FilmUNetConfig(
        **TINY, norm="instance", activation="leaky_relu", upsampling="transpose", init="orthogonal", dropout=0.1
    ),
    "film_unet, as in the paper": FilmUNetConfig(
        **TINY, condition_by="bottleneck", positional=True, attention="gate", film_hidden=128
    ),
    "film_unet, everywhere": FilmUNetConfig(
        **TINY, condition_by="both", attention="gate", upsampling="pixel_shuffle", downsampling="strided"
    ),
    "film_unet, on blocks of pixels": FilmUNetConfig(**TINY, shrink=2, condition_by="both", positional=True),
    "multitask_unet": MultitaskUNetConfig(**TINY, head_channels=4),
    "multitask_unet, other options": MultitaskUNetConfig(
        **TINY, head_channels=6, norm="group", attention="se", activation="gelu", drop_path=0.0
    ),
    "multitask_unet, on blocks of pixels": MultitaskUNetConfig(**TINY, head_channels=4, shrink=2),
    "mask_rcnn": MaskRcnnConfig(**TINY, head_channels=4),
    "multitask_smp": MultitaskSmpConfig(encoder="resnet18", head_channels=8),
    "multitask_smp, other options": MultitaskSmpConfig(decoder="fpn", encoder="mobilenet_v2", head_channels=8),
    "regression_unet": RegressionUNetConfig(**TINY),
    "regression_unet, other options": RegressionUNetConfig(**TINY, norm="group", attention="cbam", drop_path=0.0),
    "regression_unet, on blocks of pixels": RegressionUNetConfig(base_channels=4, depth=1, shrink=4, norm="group"),
    "resunet": ResUNetConfig(**TINY),
    "resunet, other options": ResUNetConfig(**TINY, norm="group", attention="se", downsampling="average"),
    "resunet_film": ResUNetFilmConfig(**TINY),
    "resunet_film, other options": ResUNetFilmConfig(
        **TINY, norm="group", attention="gate", condition_by="both", drop_path=0.0
    ),
    "attention_unet": AttentionUNetConfig(**TINY),
    "attention_unet, other options": AttentionUNetConfig(base_channels=6, depth=3, norm="group", positional=True),
    "unet_all_features": UNetAllFeaturesConfig(**TINY),
    "deeplabv3plus": DeepLabV3PlusConfig(**TINY, **TINY_DEEPLAB),
    "deeplabv3plus, other options": DeepLabV3PlusConfig(
        base_channels=4, depth=1, **TINY_DEEPLAB, norm="group", positional=True, downsampling="strided"
    ),
    "deeplabv3plus_film": DeepLabV3PlusFilmConfig(**TINY, **TINY_DEEPLAB),
    "deeplabv3plus_film, other options": DeepLabV3PlusFilmConfig(
        base_channels=4, depth=4, **TINY_DEEPLAB, norm="group", condition_by="both", dropout=0.1
    ),
    "smp": SmpConfig(encoder="resnet18"),
    "smp, other options": SmpConfig(decoder="fpn", encoder="tu-mobilenetv3_small_050"),
    "smp_film": SmpFilmConfig(encoder="resnet18"),
    "smp_film, other options": SmpFilmConfig(decoder="deeplabv3plus", encoder="mobilenet_v2"),
    "height_cdf": HeightCdfConfig(**TINY),
    "height_cdf, on blocks of pixels": HeightCdfConfig(**TINY, shrink=2, norm="group"),
    "height_cdf, other options": HeightCdfConfig(**TINY, norm="group", activation="gelu", components=1, dropout=0.1),
}
CHANNELS, OUTPUTS = 2, 3


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> Any:
    return CONFIGS[request.param]


def build(config: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(config, CHANNELS, OUTPUTS, 30.0, batch_size=2)


def inputs(size: tuple[int, int] = (32, 24), batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, CHANNELS, *size), torch.rand(batch, OUTPUTS) * 30


def test_tables_and_kinds_agree() -> None:
    kinds = {kind_of(section) for section in sections_in(ModelConfig)}
    assert sorted(MODELS) == list(MODELS) == sorted(str(kind) for kind in kinds)
    assert {config.kind for config in CONFIGS.values()} == kinds


def test_a_network_needs_heights_exactly_where_its_section_says_so(config: Any) -> None:
    network, (image, _) = build(config).eval(), inputs()
    if config.conditioned:
        with pytest.raises(ModelError, match="needs heights in metres as condition"):
            network(image)
        assert network(image, torch.ones(2, 5)).shape[1] == 5
    else:
        assert torch.equal(network(image), network(image, torch.ones(2, OUTPUTS)))
        assert network(image).shape[1] == OUTPUTS


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3), (16, 16), (33, 50)])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_size_goes_forward_and_backward(config: Any, size: tuple[int, int], batch: int) -> None:
    network = build(config)
    image, condition = inputs(size, batch)
    logits = network(image, condition)
    assert logits.shape == (batch, OUTPUTS, *size)
    logits.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert len(gradients) == len(list(network.parameters()))


def test_nearly_every_weight_is_taught_within_three_steps(config: Any) -> None:
    network = build(config)
    for module in network.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0  # a branch may be left out three times in a row
    image, condition = inputs((64, 48))
    target = (torch.rand(2, OUTPUTS, 64, 48) < 0.5).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    taught: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(image, condition), target).backward()
        optimizer.step()
        taught |= {name for name, each in network.named_parameters() if each.grad is not None and each.grad.any()}
    assert len(taught) > 0.95 * len(list(network.parameters()))


# Those of the ecosystem are asked with a smaller encoder in a test of their own.
OF_OUR_OWN = sorted({config.kind for config in CONFIGS.values() if config.conditioned} - {"smp_film"})


@pytest.mark.parametrize("kind", OF_OUR_OWN)
def test_one_image_is_learned_at_two_heights(kind: str) -> None:
    network, (image, _) = build(CONFIGS[kind]), inputs((32, 32))
    heights = torch.tensor([[5.0, 20.0]]).expand(2, -1)
    target = torch.zeros(2, 2, 32, 32)
    target[:, 0, :, :12] = 1  # at the lower height the left part, at the higher one nearly all
    target[:, 1, 3:] = 1
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(image, heights), target).backward()
        optimizer.step()
    called = network(image, heights) > 0
    assert (called == target.bool()).float().mean() > 0.95
    assert not torch.equal(called[:, 0], called[:, 1])


def test_weights_survive_saving_and_loading(config: Any) -> None:
    network, (image, condition) = build(config), inputs()
    network(image, condition)  # running means move
    network.eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    other = build_model(config, CHANNELS, OUTPUTS, 30.0, batch_size=2).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(image, condition), network(image, condition))


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (19, 30)])
def test_an_exported_network_gives_the_same(config: Any, size: tuple[int, int]) -> None:
    network, example = build(config).eval(), inputs(size, batch=1)
    exported = torch.export.export(network, example).module()
    # Positions are counted differently in a graph for any size, which moves their last bits.
    torch.testing.assert_close(exported(*example), network(*example), rtol=1e-5, atol=5e-5)


QUICK = ("unet", "height_cdf")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_an_onnx_file_answers_any_batch_size_and_height(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    network, free = build(config).eval(), torch.export.Dim.DYNAMIC
    names = ("image", "condition") if config.conditioned else ("image",)
    open_sizes = ({0: free, 2: free, 3: free}, {0: free, 1: free})[: len(names)]
    file = tmp_path / "network.onnx"
    torch.onnx.export(
        network,
        inputs((37, 53))[: len(names)],
        file,
        dynamo=True,
        dynamic_shapes=open_sizes,
        input_names=list(names),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size, batch in (((32, 48), 2), ((19, 30), 1), ((7, 130), 3)):
        given = inputs(size, batch)[: len(names)]
        answer = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=True)})[0]
        torch.testing.assert_close(torch.from_numpy(answer), network(*given).detach(), rtol=1e-3, atol=1e-4)


def test_the_output_of_an_image_does_not_depend_on_its_batch(config: Any) -> None:
    network, (image, condition) = build(config).double().eval(), inputs(batch=3)
    image = image.double()
    together = network(image, condition)
    alone = network(image[1:2], condition[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)


def test_order_in_the_batch_is_kept(config: Any) -> None:
    network, (image, condition) = build(config).double().eval(), inputs(batch=3)
    order = torch.tensor([2, 0, 1])
    image = image.double()
    torch.testing.assert_close(
        network(image[order], condition[order]), network(image, condition)[order], rtol=0, atol=1e-12
    )


def test_mixed_precision_is_finite_and_close(config: Any) -> None:
    network, (image, condition) = build(config), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(image, condition)
        logits.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(image, condition)
    with torch.no_grad():
        full = network(image, condition)
    assert (half - full).norm() < 0.05 * full.norm()


def test_channels_last_gives_the_same_and_is_kept_inside(config: Any) -> None:
    network, (image, condition) = build(config).double().eval(), inputs((32, 32))
    image = image.double()
    expected = network(image, condition)
    network = network.to(memory_format=torch.channels_last)
    lost: list[str] = []

    def look(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[1] > 1:
            lost.extend([] if output.is_contiguous(memory_format=torch.channels_last) else [name])

    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(lambda _module, _inputs, output, name=name: look(name, output))
    torch.testing.assert_close(network(image, condition), expected, rtol=0, atol=1e-12)
    assert lost == [] or "smp" in config.kind  # what the library does inside is its own affair


def test_batch_norm_folds_into_the_convolutions_before_it(config: Any) -> None:
    network, (image, condition) = build(config).double(), inputs()
    image = image.double()
    for _ in range(3):
        network(image * 3 + 1, condition)  # running means move
    network.eval()
    expected = network(image, condition)
    fold_batch_norm(network)
    torch.testing.assert_close(network(image, condition), expected, rtol=0, atol=1e-9)


def test_gradient_checkpointing_remembers_less_and_changes_nothing(config: Any) -> None:
    plain = build(config)
    sparing = copy.deepcopy(plain)
    assert enable_gradient_checkpointing(sparing) == enable_gradient_checkpointing(sparing) > 0
    image, condition = inputs((64, 64))
    remembered = {}
    for name, network in (("plain", plain), ("sparing", sparing)):
        torch.manual_seed(5)
        logits, remembered[name] = forward_and_bytes_remembered(network, image, condition)
        logits.square().mean().backward()
    assert remembered["sparing"] < 0.9 * remembered["plain"]
    for one, other in zip(plain.parameters(), sparing.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    assert plain.state_dict().keys() == sparing.state_dict().keys()
    for one, other in zip(plain.state_dict().values(), sparing.state_dict().values(), strict=True):
        assert torch.equal(one, other)  # running means too: a batch counts once


def forward_and_bytes_remembered(
    network: nn.Module, image: torch.Tensor, condition: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Logits, and the bytes that the backward pass holds on to beside the weights."""
    held: list[torch.Tensor] = []

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        logits = network(image, condition)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    memory = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    return logits, sum(size for place, size in memory.items() if place not in weights)


def test_training_twice_with_one_seed_gives_the_same_weights(config: Any) -> None:
    image, condition = inputs()
    start, ends = build(config), []
    for _ in range(2):
        network = copy.deepcopy(start)
        torch.manual_seed(3)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            network(image, condition).sigmoid().mean().backward()
            optimizer.step()
        ends.append(network.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
