"""CompositeRegularization: everything it promises really happens to the network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from maskwright.errors import ConfigError, ModelError
from maskwright.training import CompositeRegularization
from maskwright.training.regularization import SmoothedLoss


def net(dropout: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    between = [nn.Dropout2d(0.9)] if dropout else []
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *between, nn.Conv2d(8, 2, 1))


def test_a_dropout_that_is_there_is_set_and_none_is_added() -> None:
    model = net(dropout=True)
    assert CompositeRegularization(model, 0.25).dropouts == 1
    assert model[3].p == 0.25
    assert sum(isinstance(module, nn.Dropout2d) for module in model.modules()) == 1


def test_a_network_without_dropout_gets_one_that_really_drops_channels_in_training_only() -> None:
    model = net()
    names = list(model.state_dict())
    assert CompositeRegularization(model, 0.999).dropouts == 1
    assert list(model.state_dict()) == names
    image, bias = torch.randn(1, 1, 6, 6), model[3].bias
    dropped = model.train()(image)
    torch.testing.assert_close(dropped, bias.view(1, 2, 1, 1).expand_as(dropped))  # type: ignore[union-attr,operator]
    assert not torch.allclose(model.eval()(image), dropped)


def test_none_and_zero_leave_dropouts_as_they_are_and_out() -> None:
    model = net(dropout=True)
    assert CompositeRegularization(model, None).dropouts == 0
    assert model[3].p == 0.9
    assert CompositeRegularization(net(), 0.0).dropouts == 0


def test_branches_are_dropped_more_often_the_deeper_they_are() -> None:
    model = torchvision.models.resnet18()
    assert CompositeRegularization(model, drop_path_rate=0.4).branches == 8
    rates = [block.drop_path.rate for layer in (model.layer1, model.layer4) for block in layer]
    assert rates == pytest.approx([0.05, 0.1, 0.35, 0.4])
    with pytest.raises(ModelError, match="no residual block"):
        CompositeRegularization(net(), drop_path_rate=0.1)


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(50)  # type: ignore[operator,union-attr]
    CompositeRegularization(model, spectral_norm=True)
    model.train()
    for _ in range(50):  # the estimate gets better with every pass
        model(torch.randn(1, 1, 6, 6))
    weight: Any = model.eval()[0].weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_groups_decay_weights_alone() -> None:
    model = net()
    decayed, plain = CompositeRegularization(model, weight_decay=0.02).parameter_groups()
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.02, 0.0)
    assert len(decayed["params"]) == 2  # type: ignore[arg-type]
    assert len(plain["params"]) == 4  # type: ignore[arg-type]


def test_smoothed_cross_entropy_is_that_of_torch() -> None:
    logits, target = torch.randn(2, 4, 3, 3), torch.randint(0, 4, (2, 3, 3))
    smoothed = CompositeRegularization(net(), label_smoothing=0.2).loss(nn.CrossEntropyLoss())
    assert isinstance(smoothed, SmoothedLoss)
    torch.testing.assert_close(smoothed(logits, target), F.cross_entropy(logits, target, label_smoothing=0.2))


def test_smoothed_binary_cross_entropy_is_that_of_softened_targets_without_pixels_that_do_not_count() -> None:
    logits, target = torch.randn(2, 1, 3, 3), torch.randint(0, 2, (2, 3, 3)).float()

    class Binary(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            counts = target != 255
            return F.binary_cross_entropy_with_logits(logits[:, 0][counts], target[counts])

    smoothed = SmoothedLoss(Binary(), 0.1)
    target[0, 0, 0] = 255
    counts = target != 255
    expected = F.binary_cross_entropy_with_logits(logits[:, 0][counts], (target * 0.9 + 0.05)[counts])
    torch.testing.assert_close(smoothed(logits, target), expected)
    moved = logits.clone()
    moved[0, 0, 0, 0] += 5
    torch.testing.assert_close(smoothed(moved, target), expected)


def test_nothing_to_smooth_leaves_the_loss_itself() -> None:
    loss = nn.CrossEntropyLoss()
    assert CompositeRegularization(net()).loss(loss) is loss


@pytest.mark.parametrize(
    "options",
    [{"dropout_rate": 1.0}, {"drop_path_rate": -0.1}, {"label_smoothing": 1.0}, {"weight_decay": math.nan}],
)
def test_numbers_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(options))} is .*but must"):
        CompositeRegularization(net(), **options)  # type: ignore[arg-type]
