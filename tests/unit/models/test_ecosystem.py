from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskwright.config.model import SmpConfig, SmpFilmConfig
from maskwright.errors import ModelError, ShapeError
from maskwright.models import ecosystem
from maskwright.models.ecosystem import DECODERS, Ecosystem, EcosystemFilm, get_available_encoders


def encoder_for(decoder: str) -> str:
    return "tu-vit_tiny_patch16_224" if decoder == "dpt" else "resnet18"


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_learns_from_one_image_of_odd_size(decoder: str) -> None:
    torch.manual_seed(0)
    network = Ecosystem(2, 3, decoder=decoder, encoder=encoder_for(decoder)).train()
    logits = network(torch.randn(1, 2, 40, 33), torch.ones(1))
    assert logits.shape == (1, 3, 40, 33)
    logits.square().mean().backward()
    for name, each in network.named_parameters():
        assert each.grad is not None, name
        assert torch.isfinite(each.grad).all(), name


@pytest.mark.parametrize(
    ("decoder", "encoder", "idle"),
    [
        ("pspnet", "resnet18", ("layer3", "layer4")),
        ("pspnet", "efficientnet-b0", ("_conv_head", "_bn1")),
        ("dpt", "tu-vit_tiny_patch16_224", ("model.norm", "model.head")),
    ],
)
def test_what_no_decoder_looks_at_is_left_out(decoder: str, encoder: str, idle: tuple[str, ...]) -> None:
    network = Ecosystem(2, 1, decoder=decoder, encoder=encoder)
    for part in idle:
        assert not list(network.encoder.get_submodule(part).parameters())
    assert network.training
    assert all(module.training for module in network.modules())
    network(torch.randn(2, 2, 64, 64)).square().mean().backward()
    assert all(each.grad is not None for each in network.parameters())


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_can_be_told_heights(decoder: str) -> None:
    torch.manual_seed(0)
    network = EcosystemFilm(1, decoder=decoder, encoder=encoder_for(decoder), film_hidden=8).double().eval()
    image, heights = torch.randn(2, 1, 33, 40).double(), torch.tensor([[2.0, 9.0], [20.0, 1.0]])
    with torch.no_grad():
        start = network(image, heights)
        torch.testing.assert_close(start[:, 0], start[:, 1])  # nothing is modulated yet
        nn.init.normal_(network.film.out.weight, std=0.3)
        together = network(image, heights)
        for k in range(2):
            torch.testing.assert_close(together[:, k], network(image, heights[:, k])[:, 0], rtol=0, atol=1e-9)
    assert together.shape == (2, 2, 33, 40)
    assert not torch.allclose(together[:, 0], together[:, 1])


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_height_reaches_the_features_each_level_receives(decoder: str) -> None:
    torch.manual_seed(0)
    network = EcosystemFilm(1, decoder=decoder, encoder=encoder_for(decoder), film_hidden=8).eval()
    received: list[Any] = []
    network.decoder.register_forward_pre_hook(lambda _module, inputs: received.append(inputs[0]))
    nn.init.normal_(network.film.out.weight, std=0.3)
    with torch.no_grad():
        network(torch.randn(1, 1, 64, 64), torch.tensor([[2.0, 30.0]]))
    changed = [level for level, each in enumerate(received[0]) if each.numel() and not torch.equal(each[0], each[1])]
    assert tuple(changed) == network.modulated
    assert changed[-1] == len(received[0]) - 1


def test_one_image_is_learned_at_two_heights() -> None:
    """Two masks of the same image that contradict each other unless the height is used."""
    torch.manual_seed(0)
    network = EcosystemFilm(1, decoder="linknet", encoder="mobilenet_v2", film_hidden=16).train()
    canopy = F.interpolate(torch.rand(2, 1, 4, 4).mul(20).round(), scale_factor=16)
    heights = torch.tensor([[5.0, 15.0], [5.0, 15.0]])
    target = (canopy < heights[:, :, None, None]).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        logits = network(canopy / 30, heights)
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    right = ((logits > 0) == target.bool()).float().mean(dim=(0, 2, 3))
    assert right.min() > 0.9


def test_settings_name_exactly_the_decoders_there_are() -> None:
    assert get_args(SmpConfig.model_fields["decoder"].annotation) == DECODERS
    assert SmpFilmConfig().conditioned
    for decoder in DECODERS:
        network = Ecosystem(1, 1, decoder=decoder, encoder=encoder_for(decoder))
        head = next(module for module in network.head.modules() if isinstance(module, nn.Conv2d))
        assert SmpConfig(decoder=decoder).base_channels == head.in_channels, decoder  # type: ignore[arg-type]
    assert SmpConfig(encoder_weights="imagenet").bare() == SmpConfig()


def test_encoders_are_listed() -> None:
    names = get_available_encoders()
    assert {"resnet34", "efficientnet-b0", "mit_b0", "mobilenet_v2"} <= set(names)
    assert list(names) == sorted(names)
    more = get_available_encoders(timm=True)
    assert set(names) < set(more)
    assert "tu-convnext_tiny" in more


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ModelError, match=r"model\.encoder: 'resnet35' is unknown\. Did you mean resnet"):
        Ecosystem(1, 1, encoder="resnet35")
    with pytest.raises(ModelError, match=r"'tu-convnext_tinyy' is unknown\. Did you mean tu-convnext_tiny"):
        Ecosystem(1, 1, encoder="tu-convnext_tinyy")
    with pytest.raises(ModelError, match=r"'zzzzzz' is unknown\. get_available_encoders\(\) lists them all"):
        Ecosystem(1, 1, encoder="zzzzzz")
    with pytest.raises(ModelError, match=r"model\.decoder: 'segnet' is unknown\. Available: unet, unetplusplus"):
        Ecosystem(1, 1, decoder="segnet")


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ModelError, match=r"resnet34 does not work with the decoder dpt .* takes vision transformers"):
        Ecosystem(1, 1, decoder="dpt", encoder="resnet34")


def test_images_of_other_bands_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"the network takes \(batch, 1, height, width\)"):
        Ecosystem(1, 1, encoder="resnet18")(torch.randn(1, 3, 64, 64))


def test_an_unreachable_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        @staticmethod
        def create_model(*names: str, **options: Any) -> nn.Module:
            assert options["encoder_weights"] == "imagenet"
            raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(ecosystem, "_import_smp", lambda: Offline)
    monkeypatch.setattr(ecosystem, "_check_encoder", lambda encoder: None)
    with pytest.raises(
        ModelError,
        match=r"imagenet weights of resnet18 could not be had \(ConnectionError: no route to the hub\)\. Connect",
    ):
        Ecosystem(1, 1, encoder="resnet18", encoder_weights="imagenet")


def test_optional_weights_that_cannot_be_had_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    smp = ecosystem._import_smp()

    class Offline:
        @staticmethod
        def create_model(*names: str, **options: Any) -> nn.Module:
            if options["encoder_weights"] is not None:
                raise ConnectionError("no route to the hub")
            return smp.create_model(*names, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(ecosystem, "_import_smp", lambda: Offline)
    monkeypatch.setattr(ecosystem, "_check_encoder", lambda encoder: None)
    network = Ecosystem(1, 1, encoder="resnet18", encoder_weights="optional")
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 1, 32, 32)
    assert "weights of resnet18 could not be had (ConnectionError: no route to the hub). The encoder starts" in (
        caplog.text.replace("\n", " ")
    )


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ModelError, match="pip install segmentation-models-pytorch"):
        Ecosystem(1, 1)


def test_weights_come_from_a_file_and_the_first_layer_is_adapted(tmp_path: Path) -> None:
    source = Ecosystem(3, 1, encoder="resnet18")
    torch.save(source.state_dict(), tmp_path / "whole.pt")
    network = Ecosystem(1, 1, encoder="resnet18", encoder_weights=tmp_path / "whole.pt")
    ours, theirs = network.encoder.state_dict(), source.encoder.state_dict()
    torch.testing.assert_close(ours["conv1.weight"], theirs["conv1.weight"].sum(dim=1, keepdim=True))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "conv1.weight")
    with pytest.raises(ModelError, match=r"does not fit the network: .* missing"):
        Ecosystem(1, 1, encoder="resnet34", encoder_weights=tmp_path / "whole.pt")
    Ecosystem(1, 1, encoder="resnet34", encoder_weights=tmp_path / "whole.pt", partial_weights=True)


def test_importing_the_package_leaves_the_libraries_alone() -> None:
    import subprocess

    code = "import sys, maskwright.models; assert not {'timm', 'segmentation_models_pytorch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
