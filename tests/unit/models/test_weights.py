from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskwright.config.model import SmpConfig, UNetConfig
from maskwright.errors import ConfigError, ModelError
from maskwright.models import build_model
from maskwright.models.weights import adapt_bands, load_pretrained


def network(bands: int = 3, outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(bands, 4, 3), nn.ReLU(), nn.Conv2d(4, outputs, 1))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_of_the_same_network_are_taken_whole(tmp_path: Path, suffix: str) -> None:
    path, source, ours = tmp_path / f"weights.{suffix}", network(), network()
    if suffix == "pt":
        torch.save({"epoch": 3, "state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    report = load_pretrained(ours, path)
    assert report.complete
    assert report.matched == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert str(report) == "4 weights match"
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in source.state_dict().items())


def test_an_encoder_is_taken_out_of_a_whole_network(tmp_path: Path) -> None:
    path, source, ours = tmp_path / "weights.pt", network(), network()
    whole = {f"encoder.{name}": value for name, value in source.state_dict().items()} | {"head.bias": torch.ones(1)}
    torch.save(whole, path)
    assert load_pretrained(ours, path, prefix="encoder.").complete
    assert torch.equal(ours[0].weight, source[0].weight)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_a_first_layer_for_three_bands_is_adapted(tmp_path: Path, bands: int) -> None:
    path, source, ours = tmp_path / "weights.pt", network(), network(bands)
    torch.save(source.state_dict(), path)
    report = load_pretrained(ours, path)
    assert report.complete
    assert report.adapted == ("0.weight",)
    assert torch.equal(ours[0].weight, adapt_bands(source[0].weight, bands))


def test_equal_bands_are_answered_as_before_where_their_number_is_one_or_a_multiple() -> None:
    weight, band = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 6, 6)
    expected = nn.functional.conv2d(band.expand(-1, 3, -1, -1), weight)
    for bands in (1, 3, 6):
        ours = nn.functional.conv2d(band.expand(-1, bands, -1, -1), adapt_bands(weight, bands))
        torch.testing.assert_close(ours, expected)


def test_what_does_not_fit_is_refused_or_reported(tmp_path: Path) -> None:
    path, source, ours = tmp_path / "weights.pt", network(), network(outputs=5)
    torch.save(
        {name: value for name, value in source.state_dict().items() if name != "0.bias"} | {"x": torch.ones(1)}, path
    )
    with pytest.raises(
        ModelError, match=r"1 weights match, 1 missing \(0.bias\), 1 not known \(x\), 2 of another shape \(2.weight"
    ):
        load_pretrained(ours, path)
    assert not torch.equal(ours[0].weight, source[0].weight)
    report = load_pretrained(ours, path, partial=True)
    assert (report.matched, report.missing, report.unexpected) == (("0.weight",), ("0.bias",), ("x",))
    assert report.mismatched == ("2.weight", "2.bias")
    assert torch.equal(ours[0].weight, source[0].weight)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt does not exist"):
        load_pretrained(network(), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.pt cannot be read as weights"):
        load_pretrained(network(), tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match=r"list\.pt holds no weights by name"):
        load_pretrained(network(), tmp_path / "list.pt")
    torch.save({"y": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="0 weights match"):
        load_pretrained(network(), tmp_path / "other.pt", partial=True)


def test_no_file_leaves_the_network_as_it_is() -> None:
    network = torch.nn.Linear(2, 1)
    before = network.weight.clone()
    report = load_pretrained(network, None)
    assert torch.equal(network.weight, before)
    assert (report.matched, report.missing) == ((), ("weight", "bias"))


# --- whole networks from the settings ---------------------------------------------------------------------------------


SMALL = {"base_channels": 4, "depth": 1}


def trained(**options: object) -> nn.Module:
    torch.manual_seed(5)
    return build_model(UNetConfig(**(SMALL | options)))


@pytest.mark.parametrize("given", ["run/model/model.safetensors", "run/model", "run"])
def test_a_network_starts_from_a_file_a_model_folder_or_a_run_folder(
    tmp_path: Path, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    source = trained()
    save_file(source.state_dict(), tmp_path / "run" / "model" / "model.safetensors")
    with caplog.at_level("INFO", "maskwright"):
        ours = build_model(UNetConfig(**SMALL, initial_weights=tmp_path / given))
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in source.state_dict().items())
    assert f"model.initial_weights, {tmp_path / given}: {len(source.state_dict())} weights match" in caplog.text
    assert caplog.records[-1].levelname == "INFO"


def test_a_ready_made_network_starts_as_a_whole_and_fetches_nothing_for_its_encoder(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = build_model(SmpConfig(encoder="resnet18"), 3, 2)
    save_file(source.state_dict(), tmp_path / "whole.safetensors")
    config = SmpConfig(encoder="resnet18", encoder_weights="imagenet", initial_weights=tmp_path / "whole.safetensors")
    ours = build_model(config, 3, 2)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in source.state_dict().items())
    assert config.bare() == SmpConfig(encoder="resnet18")


def test_weights_of_another_network_are_taken_in_part_only_if_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "other.safetensors"
    save_file(trained(depth=2).state_dict(), path)
    with pytest.raises(ModelError, match=r"does not fit the network: .* or set partial_weights to take those that fit"):
        build_model(UNetConfig(**SMALL, initial_weights=path))
    build_model(UNetConfig(**SMALL, initial_weights=path, partial_weights=True))
    assert "not known" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder without model.safetensors. Give the folder of a model"):
        build_model(UNetConfig(**SMALL, initial_weights=tmp_path))


def test_a_part_of_nothing_is_refused_and_a_bare_network_has_no_initial_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no initial_weights to take a part of"):
        UNetConfig(partial_weights=True)
    bare = UNetConfig(initial_weights=tmp_path, partial_weights=True).bare()
    assert (bare.initial_weights, bare.partial_weights) == (None, False)
    assert UNetConfig.model_validate(bare.to_dict()) == bare
