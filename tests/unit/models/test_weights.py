from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskwright.errors import ModelError
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
