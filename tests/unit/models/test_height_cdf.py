from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import HeightCdfConfig
from maskwright.config.task import HeightGapsTask
from maskwright.errors import ModelError, ShapeError
from maskwright.models.height_cdf import HeightCdf, HeightMixture
from maskwright.tasks import build_task
from maskwright.types import Batch


def tiny(**options: object) -> HeightCdf:
    torch.manual_seed(0)
    return HeightCdf(1, base_channels=4, depth=2, **options)  # type: ignore[arg-type]


def mixture(centres: list[float], spreads: list[float], weights: list[float], **dtype: torch.dtype) -> HeightMixture:
    """One pixel."""
    return HeightMixture(*(torch.tensor(numbers, **dtype).view(1, -1, 1, 1) for numbers in (centres, spreads, weights)))


def random_network(seed: int, **options: object) -> HeightCdf:
    """Weights far wilder than training leaves them."""
    network = tiny(**options)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


def test_one_logistic_has_the_logit_that_its_formula_says() -> None:
    logits = mixture([10.0], [2.0], [1.0]).logits_below(torch.tensor([[6.0, 10.0, 13.0]]))
    torch.testing.assert_close(logits.flatten(), torch.tensor([-2.0, 0.0, 1.5]))


def test_a_mixture_by_hand() -> None:
    below = 0.25 / (1 + math.exp(-(5 - 2) / 1)) + 0.75 / (1 + math.exp(-(5 - 20) / 3))
    logits = mixture([2.0, 20.0], [1.0, 3.0], [0.25, 0.75]).logits_below(torch.tensor([[5.0]]))
    assert logits.item() == pytest.approx(math.log(below / (1 - below)), rel=1e-5)


def test_far_from_all_centres_logits_are_large_and_finite() -> None:
    logits = mixture([10.0, 12.0], [0.25, 0.25], [0.5, 0.5]).logits_below(torch.tensor([[-1000.0, 9.0, 1000.0]]))
    assert torch.isfinite(logits).all()
    assert logits[0, 0].item() < -60
    assert logits[0, 2].item() > 60


def test_heights_in_any_order_are_answered_in_that_order() -> None:
    pixels = mixture([10.0, 4.0], [2.0, 1.0], [0.3, 0.7])
    heights = torch.tensor([[20.0, 2.0, 9.0, 2.0]])
    together = pixels.logits_below(heights).flatten()
    alone = torch.cat([pixels.logits_below(height[None, None]).flatten() for height in heights[0]])
    torch.testing.assert_close(together, alone)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    heights=st.lists(st.floats(-5, 80, width=32), min_size=2, max_size=12),
    norm=st.sampled_from(["batch", "group", "instance"]),
    components=st.integers(1, 5),
    gain=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_at_a_larger_height_the_logit_is_never_smaller(
    seed: int, heights: list[float], norm: str, components: int, gain: float
) -> None:
    network = random_network(seed, norm=norm, components=components)
    image = gain * torch.randn(2, 1, 13, 11)
    rising = torch.tensor(heights).sort().values.expand(2, -1)
    with torch.no_grad():
        logits = network(image, rising)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert bool((logits[:, 1:] >= logits[:, :-1]).all())


def test_heights_that_differ_by_the_last_bit_of_a_number_keep_their_order() -> None:
    heights = [torch.tensor(5.0)]
    for _ in range(63):
        heights.append(torch.nextafter(heights[-1], torch.tensor(100.0)))
    with torch.no_grad():
        logits = random_network(3)(torch.randn(2, 1, 32, 32), torch.stack(heights).expand(2, -1))
    assert int((logits[:, 1:] < logits[:, :-1]).sum()) == 0


def test_the_task_finds_no_broken_order() -> None:
    network = random_network(5)
    task = build_task(
        HeightGapsTask(heights_m=(2.0, 5.0, 10.0, 20.0)), CombinedLossConfig(), MetricsConfig(), HeightCdfConfig()
    )
    assert not task.fixed
    with torch.no_grad():
        outputs = network(torch.randn(2, 1, 64, 64), torch.tensor([task.heights_m] * 2))
    assert task.decode(outputs, task.heights_m).violations.tolist() == [0, 0, 0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_quantile_is_where_the_chance_is_its_share(share: float) -> None:
    torch.manual_seed(0)
    pixels = HeightMixture(
        30 * torch.rand(2, 3, 5, 4).double(), 0.3 + 5 * torch.rand(2, 3, 5, 4).double(), torch.rand(2, 3, 5, 4).double()
    )
    pixels.weight /= pixels.weight.sum(dim=1, keepdim=True)
    heights = pixels.quantile_m(share)
    assert heights.shape == (2, 5, 4)
    for row in range(5):
        for col in range(4):
            logits = pixels.logits_below(heights[:, row, col, None])[:, 0, row, col]
            torch.testing.assert_close(logits.sigmoid(), torch.full((2,), share).double(), rtol=0, atol=1e-6)


def test_the_median_of_one_logistic_is_its_centre_and_never_below_the_ground() -> None:
    assert mixture([7.5], [2.0], [1.0]).quantile_m(0.5).item() == pytest.approx(7.5)
    network = tiny().eval()
    torch.nn.init.constant_(network.head.bias[:3], -2.0)
    median = network.median(torch.randn(2, 1, 17, 12))
    assert median.shape == (2, 17, 12)
    assert median.min() == 0


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ModelError, match="quantile: 1 must lie above 0 and below 1"):
        mixture([1.0], [1.0], [1.0]).quantile_m(1.0)


def test_a_new_network_says_the_same_everywhere_and_rises_over_the_usual_heights() -> None:
    network = tiny().eval()
    torch.nn.init.zeros_(network.head.weight)
    chances = network(torch.randn(1, 1, 8, 8), torch.tensor([[1.0, 15.0, 29.0]])).sigmoid()
    assert chances.std(dim=(2, 3)).max() < 1e-6
    assert chances[0, 0].max() < 0.3
    torch.testing.assert_close(chances[0, 1], torch.full((8, 8), 0.5))
    assert chances[0, 2].min() > 0.7


def test_the_network_runs_once_for_all_heights() -> None:
    network, seen = tiny(), []
    network.head.register_forward_hook(lambda *call: seen.append(call[1][0].shape[0]))
    network(torch.randn(2, 1, 16, 16), torch.ones(2, 10))
    assert seen == [2]


def test_a_missing_condition_and_wrong_shapes_are_named() -> None:
    with pytest.raises(ModelError, match="This network needs heights in metres as condition"):
        tiny()(torch.randn(2, 1, 16, 16))
    with pytest.raises(ShapeError, match=r"the network takes \(batch, 1, height, width\)"):
        tiny()(torch.randn(2, 2, 16, 16), torch.ones(2))
    with pytest.raises(ModelError, match="condition_scale: 0 must be larger than 0"):
        tiny(condition_scale=0)
    with pytest.raises(ModelError, match=r"model.components: 0 is below the minimum 1"):
        tiny(components=0)


def test_gradients_are_those_of_the_formula() -> None:
    """Against finite differences, with heights out of order and one given twice."""
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    heights = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)

    def logits(centre: torch.Tensor, spread: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return HeightMixture(centre, F.softplus(spread) + 0.2, weight.softmax(dim=1)).logits_below(heights)

    assert torch.autograd.gradcheck(logits, parts)


def test_one_image_is_learned_at_random_heights_by_the_loss_of_the_task() -> None:
    network = tiny(norm="group")
    canopy = F.interpolate(torch.rand(2, 1, 4, 4).mul(20).round(), scale_factor=4)[:, 0]
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    task = build_task(
        HeightGapsTask(heights_m=(5.0, 15.0), train_range_m=(1, 25)),
        CombinedLossConfig(bce=1, dice=0, focal=0),
        MetricsConfig(),
        HeightCdfConfig(),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    for _ in range(150):
        batch = Batch(canopy[:, None] / 30, canopy, valid, condition=1 + 24 * torch.rand(2, 2), where=())
        optimizer.zero_grad()
        task.loss(network(batch.image, batch.condition), batch).total.backward()
        optimizer.step()
    network.eval()
    heights = torch.tensor([[5.0, 15.0], [5.0, 15.0]])  # rarely asked, if ever
    with torch.no_grad():
        right = (network(canopy[:, None] / 30, heights) > 0) == (canopy[:, None] < heights[:, :, None, None])
        off_m = (network.median(canopy[:, None] / 30) - canopy).abs().median()
    assert right.float().mean() > 0.95
    assert off_m < 2.0


def test_the_density_is_the_slope_of_the_chance() -> None:
    torch.manual_seed(0)
    mixture = HeightCdf(1, base_channels=4, depth=1).double().distribution(torch.randn(2, 1, 6, 5).double())
    heights = torch.rand(2, 6, 5).double() * 30
    step = 1e-4
    ends = [torch.sigmoid(mixture._logits((heights + side * step)[:, None])) for side in (-1, 1)]
    slope = ((ends[1] - ends[0]) / (2 * step)).squeeze(1)
    torch.testing.assert_close(mixture.log_density(heights).exp(), slope, rtol=1e-5, atol=1e-9)
    assert torch.isfinite(mixture.log_density(torch.full_like(heights, 1e6))).all()


def test_a_network_hands_on_its_whole_distribution_where_a_likelihood_is_trained() -> None:
    torch.manual_seed(0)
    network, image = HeightCdf(1, base_channels=4, depth=1).eval(), torch.randn(2, 1, 9, 7)
    heights = torch.tensor([[5.0, 10.0], [3.0, 30.0]])
    logits = network(image, heights)
    network.gives_mixture = True
    packed = network(image, heights)
    assert packed.shape == (2, 9, 9, 7)
    assert torch.equal(HeightMixture.unpacked(packed).logits_below(heights), logits)
    with pytest.raises(ShapeError, match=r"\(2, 8, 9, 7\) is not \(B, 3 M, H, W\)"):
        HeightMixture.unpacked(packed[:, :8])


def test_training_by_likelihood_finds_the_heights_that_were_measured() -> None:
    torch.manual_seed(0)
    network = HeightCdf(1, base_channels=8, depth=1)
    network.gives_mixture = True
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = 1
    heights = torch.where(image[:, 0] > 0, 22.0, 4.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -HeightMixture.unpacked(network(image)).log_density(heights).mean()
        loss.backward()
        optimizer.step()
    median = network.eval().median(image)
    assert (median - heights).abs().mean() < 1.5
