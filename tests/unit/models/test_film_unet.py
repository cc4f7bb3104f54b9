from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from maskwright.errors import ModelError, ShapeError
from maskwright.models import FilmUNet
from maskwright.models.film import BottleneckCondition


def tiny(**options: object) -> FilmUNet:
    torch.manual_seed(0)
    return FilmUNet(1, base_channels=4, depth=2, film_hidden=16, **options)  # type: ignore[arg-type]


def trained_a_little(network: FilmUNet) -> FilmUNet:
    """A network whose modulation does something."""
    torch.nn.init.normal_(network.film.out.weight, std=0.3)
    return network.eval()


def test_height_changes_nothing_at_initialisation() -> None:
    network, image = tiny().eval(), torch.randn(2, 1, 16, 16)
    low, high = network(image, torch.tensor([2.0, 2.0])), network(image, torch.tensor([25.0, 25.0]))
    assert torch.equal(low, high)
    assert low.std() > 0


def test_one_height_per_image_in_two_shapes_gives_the_same() -> None:
    network, image = trained_a_little(tiny()), torch.randn(2, 1, 16, 16)
    heights = torch.tensor([2.0, 10.0])
    assert torch.equal(network(image, heights), network(image, heights[:, None]))


def test_many_heights_at_once_equal_one_after_the_other() -> None:
    network, image = trained_a_little(tiny().double()), torch.randn(3, 1, 16, 24, dtype=torch.float64)
    heights = torch.tensor([[2.0, 5.0, 10.0], [1.0, 20.0, 30.0], [7.0, 7.0, 3.0]])
    together = network(image, heights)
    assert together.shape == (3, 3, 16, 24)
    for k in range(3):
        torch.testing.assert_close(together[:, k], network(image, heights[:, k])[:, 0], rtol=0, atol=1e-12)
    assert not torch.allclose(together[0, 0], together[0, 1])


def test_the_encoder_runs_once_for_all_heights() -> None:
    network, seen = tiny(), []
    network.encoder.register_forward_hook(lambda *call: seen.append(call[1][0].shape[0]))
    network(torch.randn(2, 1, 16, 16), torch.ones(2, 5))
    assert seen == [2]


def test_a_missing_condition_is_named() -> None:
    with pytest.raises(ModelError, match="This network needs heights in metres as condition"):
        tiny()(torch.randn(2, 1, 16, 16))


def test_a_list_of_heights_without_images_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"condition is \(3,\) for 2 images"):
        tiny()(torch.randn(2, 1, 16, 16), torch.tensor([2.0, 5.0, 10.0]))


def test_a_scale_of_0_is_refused() -> None:
    with pytest.raises(ModelError, match="condition_scale: 0 must be larger than 0"):
        tiny(condition_scale=0)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_nearly_all_parameters_receive_a_gradient_within_three_steps(norm: str) -> None:
    network = tiny(norm=norm)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image, heights = torch.randn(2, 1, 32, 32), torch.tensor([[2.0], [10.0]])
    target = (image < 0).float()
    reached: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(image, heights), target).backward()
        optimizer.step()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None and torch.count_nonzero(parameter.grad):
                reached.add(name)
    assert len(reached) > 0.95 * len(list(network.parameters()))


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_one_image_is_learned_at_two_heights(norm: str) -> None:
    """Two masks of the same image that contradict each other unless the height is used."""
    network = tiny(norm=norm)
    canopy = torch.rand(2, 1, 32, 32).mul(20).round()
    image, heights = canopy / 30, torch.tensor([[5.0, 15.0], [5.0, 15.0]])
    target = (canopy < heights[:, :, None, None]).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(image, heights), target).backward()
        optimizer.step()
    gap = network(image, heights) > 0
    right = (gap == target.bool()).float().mean(dim=(0, 2, 3))
    assert right.min() > 0.97


@pytest.mark.parametrize("condition_by", ["bottleneck", "both"])
@pytest.mark.parametrize("attention", ["none", "gate"])
@pytest.mark.parametrize("residual", [False, True])
def test_heights_at_the_bottleneck_are_answered_together_as_alone(
    condition_by: str, attention: str, residual: bool
) -> None:
    network = tiny(condition_by=condition_by, attention=attention, residual=residual).double().eval()
    if network.film is not None:
        torch.nn.init.normal_(network.film.out.weight, std=0.3)
    image = torch.randn(2, 1, 16, 24, dtype=torch.float64)
    heights = torch.tensor([[2.0, 5.0, 30.0], [20.0, 1.0, 7.0]])
    together = network(image, heights)
    for k in range(3):
        torch.testing.assert_close(together[:, k], network(image, heights[:, k])[:, 0], rtol=0, atol=1e-12)
    assert not torch.allclose(together[0, 0], together[0, 2])


def test_a_height_beside_the_deepest_features_equals_further_channels() -> None:
    torch.manual_seed(0)
    block = BottleneckCondition(6, hidden=8, scale=30.0, norm="group", activation="relu")
    features, heights = torch.randn(2, 6, 4, 4), torch.tensor([[3.0], [12.0]])
    embedded = block.embed(heights / 30)[..., None, None].expand(-1, -1, 4, 4)  # (B, hidden, H, W)
    weight = torch.cat([block.from_features.weight, block.from_condition.weight[..., None, None]], dim=1)
    joined = F.conv2d(torch.cat([features, embedded], dim=1), weight)
    torch.testing.assert_close(block(features, heights), block.activation(block.norm(joined)))


def test_an_unknown_way_of_telling_the_height_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'input' is unknown. Available: film, bottleneck, both"):
        tiny(condition_by="input")
