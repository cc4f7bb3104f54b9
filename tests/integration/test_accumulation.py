"""One big batch is many small ones, for the loss of every preset: the weights after an epoch are the same.

With a network without batch statistics, a last group that is shorter, and pixels that count in uneven shares.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.config import load_experiment, presets
from maskwright.losses import CombinedLoss, LossManager, build_loss
from maskwright.losses.presets import FOCUSES, LOSS_PRESETS
from maskwright.tasks import Binary
from maskwright.training import Callback, CallbackList, Monitor, Recovery, StepUpdater, TrainState, fit
from maskwright.training.averages import LossSums
from maskwright.training.learning import learn_together
from maskwright.training.rehearsal import rehearsal, rehearse_update
from maskwright.types import Batch, Mixed, Place, Window

SIZE_PX = 12


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        between = [nn.BatchNorm2d(4)] if norm else []
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), *between, nn.Tanh(), nn.Dropout(dropout), nn.Conv2d(4, 1, 1)
        )

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        outputs: Tensor = self.layers(image)
        return outputs


class Batches:
    def __init__(self, items: list[Batch]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def batches(self, epoch: int, start: int = 0) -> Any:
        return iter(self.items[start:])


class Scores(Callback):
    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.scores: dict[str, float] = {}

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.stop_at:
            state.request_stop("enough")

    def on_epoch_end(self, state: Any, scores: Any) -> None:
        self.scores = dict(scores)


def piece(seed: int, samples: int, share: float) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(samples, 1, SIZE_PX, SIZE_PX, generator=generator)
    valid = torch.rand(samples, SIZE_PX, SIZE_PX, generator=generator) < share
    target = ((image[:, 0] > 0.5) & valid).long()
    where = tuple(Place("toy", Window(seed, n, SIZE_PX, SIZE_PX)) for n in range(samples))
    return Batch(image * valid[:, None], target, valid, None, where)


PIECES = [piece(n, 1 + n % 3, share) for n, share in enumerate((0.9, 0.1, 0.5, 0.02, 0.7, 0.3, 0.9))]


def join(parts: list[Batch]) -> Batch:
    mixes = [part.mix for part in parts if part.mix is not None]
    return Batch(
        torch.cat([part.image for part in parts]),
        torch.cat([part.target for part in parts]),
        torch.cat([part.valid for part in parts]),
        None,
        tuple(place for part in parts for place in part.where),
        mix=Mixed(*(torch.cat([getattr(mix, name) for mix in mixes]) for name in ("target", "valid", "share")))
        if mixes
        else None,
    )


def state_of(task: Binary, batches: int, accumulate: int, model: nn.Module | None = None, **options: Any) -> TrainState:
    model = Net() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    updater = StepUpdater(model.parameters(), accumulate=accumulate, clip_norm=0.3)
    return TrainState(
        model, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0), updater, LossSums(task.loss_terms),
        device="cpu", epochs=1, batches_per_epoch=batches, monitor=Monitor("train/loss", "min"), **options,
    )  # fmt: skip


def train(
    task: Binary, items: list[Batch], accumulate: int, **options: Any
) -> tuple[dict[str, Tensor], dict[str, float]]:
    torch.manual_seed(3)
    state, scores = state_of(task, len(items), accumulate, **options), Scores()
    fit(state, task, Batches(items), None, state.updater, CallbackList([scores]), epochs=1)
    return dict(state.model.state_dict()), scores.scores


def check(loss: CombinedLoss, items: list[Batch] | None = None) -> None:
    task, items = Binary(("thing",), loss), items or PIECES
    big = [join(items[0:3]), join(items[3:6]), join(items[6:7])]
    small, told = train(task, items, 3)
    whole, expected = train(task, big, 1)
    for name, value in whole.items():
        torch.testing.assert_close(small[name], value, atol=2e-6, rtol=1e-5)
        assert not torch.equal(value, Net().state_dict()[name])
    assert told == pytest.approx(expected, abs=1e-5)


def of_experiment(name: str) -> CombinedLoss:
    loss = load_experiment(f"preset:{name}", [f"data.folder={Path.cwd()}"]).loss
    assert loss.kind == "combined"
    return build_loss(replace_auto(loss))


def replace_auto(loss: Any) -> Any:
    """A weight that is measured on training pixels, as a number."""
    return loss.model_copy(update={"pos_weight": 3.0}) if loss.pos_weight == "auto" else loss


@pytest.mark.parametrize("name", [*LOSS_PRESETS, *FOCUSES])
def test_a_loss_preset_gives_the_same_weights_in_groups_as_at_once(name: str) -> None:
    loss = LossManager.create_loss_function({**LOSS_PRESETS, **FOCUSES}[name])
    check(loss.loss)


OF_PIXELS = [
    name
    for name in presets()
    if load_experiment(f"preset:{name}", [f"data.folder={Path.cwd()}"]).loss.kind == "combined"
]


@pytest.mark.parametrize("name", OF_PIXELS)
def test_the_loss_of_a_preset_gives_the_same_weights_in_groups_as_at_once(name: str) -> None:
    check(of_experiment(name))


def test_some_presets_take_an_overlap_over_the_batch_so_the_test_above_means_something() -> None:
    assert not of_experiment("defects").adds_up
    assert of_experiment("quick").adds_up


def test_mixed_images_are_grouped_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    mixed = [
        replace(
            part,
            mix=Mixed(part.target.roll(1, 2), part.valid.roll(1, 2), torch.rand(len(part), generator=generator)),
        )
        for part in PIECES
    ]
    check(of_experiment("defects"), mixed)
    check(of_experiment("quick"), mixed)


@pytest.mark.slow
def test_pieces_that_fit_into_memory_make_the_same_update_of_a_loss_over_the_batch() -> None:
    task = Binary(("thing",), of_experiment("defects"))
    big = [join(PIECES[0:3]), join(PIECES[3:6]), join(PIECES[6:7])]
    whole, expected = train(task, big, 1)

    class Crowded(Net):
        def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
            if len(image) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(image)

    small, told = train(task, big, 1, model=Crowded(), recovery=Recovery(out_of_memory="smaller"))
    for name, value in whole.items():
        torch.testing.assert_close(small[name], value, atol=2e-6, rtol=1e-5)
    assert told == pytest.approx(expected, abs=1e-5)


def test_both_passes_draw_the_same_random_numbers_and_count_statistics_once() -> None:
    task = Binary(("thing",), of_experiment("defects"))
    model = Net(dropout=0.5, norm=True)
    said: list[Tensor] = []
    model.register_forward_hook(lambda module, inputs, output: said.append(output.detach().clone()))
    state = state_of(task, 7, 3, model)
    fit(state, task, Batches(PIECES), None, state.updater, CallbackList(), epochs=1)
    assert len(said) == 3 + 3 + 3 + 3 + 1  # the last group is one batch, and needs one pass
    for first, second in ((0, 3), (6, 9)):
        assert all(torch.equal(said[first + n], said[second + n]) for n in range(3))
    assert not torch.equal(said[0], said[6][: len(said[0])])
    assert int(model.layers[1].num_batches_tracked) == 7  # type: ignore[arg-type]


def test_a_run_in_two_passes_stopped_and_continued_ends_with_the_same_bits() -> None:
    task = Binary(("thing",), of_experiment("defects"))

    def fresh() -> TrainState:
        return state_of(task, 7, 3, Net(dropout=0.3, norm=True))

    def run(state: TrainState, *callbacks: Callback) -> None:
        fit(state, task, Batches(PIECES), None, state.updater, CallbackList(callbacks), epochs=1)

    torch.manual_seed(3)
    through = fresh()
    run(through)
    torch.manual_seed(3)
    stopped = fresh()
    run(stopped, Scores(stop_at=1))
    continued = fresh()
    continued.load_state_dict(stopped.state_dict())
    run(continued)
    for name, value in through.model.state_dict().items():
        assert torch.equal(continued.model.state_dict()[name], value)


def test_images_of_different_sizes_are_filled_up_with_pixels_that_do_not_count() -> None:
    def cut(batch: Batch, rows: int, cols: int) -> Batch:
        return replace(
            batch,
            image=batch.image[..., :rows, :cols],
            target=batch.target[:, :rows, :cols],
            valid=batch.valid[:, :rows, :cols],
        )

    task = Binary(("thing",), of_experiment("defects"))
    group = [cut(PIECES[0], 8, 12), cut(PIECES[2], 12, 5), PIECES[4]]
    weights = task.loss_weights(group)
    state = state_of(task, 3, 3)
    state.begin_group(weights)
    loss = learn_together(state, task, group, weights, lambda: None)
    assert loss is not None

    model = Net()  # the same in one graph, with the outputs of all pixels in a row
    logits = torch.cat([model(batch.image).flatten() for batch in group]).view(1, 1, 1, -1)
    row = Batch(
        torch.empty(1, 1, 1, logits.shape[-1]),
        torch.cat([batch.target.flatten() for batch in group]).view(1, 1, -1),
        torch.cat([batch.valid.flatten() for batch in group]).view(1, 1, -1),
        None,
        (Place("row", Window(0, 0, 1, logits.shape[-1])),),
    )
    expected = task.loss(logits, row)
    expected.total.backward()  # type: ignore[no-untyped-call]
    assert float(loss.total.detach()) == pytest.approx(float(expected.total.detach()), abs=1e-6)
    for mine, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-5)


def test_a_rehearsal_of_such_a_loss_leaves_no_trace() -> None:
    task = Binary(("thing",), of_experiment("defects"))
    state = state_of(task, 7, 3, Net(norm=True))
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with rehearsal(state):
        assert rehearse_update(state, task, PIECES[:3]).stepped
        assert not torch.equal(state.model.state_dict()["layers.0.weight"], before["layers.0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
