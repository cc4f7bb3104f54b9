"""From settings to a task."""

from __future__ import annotations

import pytest
import torch

from maskwright.config.base import kind_of, sections_in
from maskwright.config.loss import CombinedLossConfig, RegressionLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.config.task import BinaryTask, HeightGapsTask, HeightTask, MulticlassTask, MultilabelTask, TaskConfig
from maskwright.errors import ConfigError
from maskwright.tasks import TASKS, build_task

SETTINGS = HeightGapsTask(heights_m=(3.0, 8.0), condition_scale_m=25.0)


def test_every_kind_of_task_setting_has_a_task() -> None:
    assert set(TASKS) == {kind_of(section) for section in sections_in(TaskConfig)}
    assert all(task.kind == kind for kind, task in TASKS.items())


def test_settings_reach_the_task() -> None:
    task = build_task(
        SETTINGS, CombinedLossConfig(bce=1, dice=0, focal=0), MetricsConfig(probability_threshold=0.3), FilmUNetConfig()
    )
    assert task.to_dict() == {
        "kind": "height_gaps",
        "heights_m": [3.0, 8.0],
        "condition_scale": 25.0,
        "probability_threshold": 0.3,
        "fixed": False,
    }
    assert {name: (term.factor, term.per) for name, term in task.loss_terms.items()} == {"bce": (1.0, "pixels")}


def test_heights_are_fixed_for_a_network_without_condition() -> None:
    assert build_task(SETTINGS, CombinedLossConfig(), MetricsConfig(), UNetConfig()).fixed


def test_the_task_builds_networks_that_answer_its_heights() -> None:
    image, heights = torch.zeros(2, 1, 16, 16), torch.tensor([[3.0, 8.0], [3.0, 8.0]])
    for settings in (UNetConfig(base_channels=4, depth=1), FilmUNetConfig(base_channels=4, depth=1, film_hidden=4)):
        task = build_task(SETTINGS, CombinedLossConfig(), MetricsConfig(), settings)
        assert task.build_model(settings, 1, 2)(image, heights).shape == (2, 2, 16, 16)


def test_every_kind_is_built_with_the_loss_its_target_takes() -> None:
    metrics, loss = MetricsConfig(probability_threshold=0.4), CombinedLossConfig()
    one = build_task(BinaryTask(), loss, metrics, UNetConfig(), ("crack",))
    assert (one.kind, one.columns, one.combined_loss.takes) == ("binary", ("crack",), "channels")
    many = build_task(MulticlassTask(), loss, metrics, UNetConfig(), ("sky", "crack"))
    assert {name: term.per for name, term in many.loss_terms.items()} == {
        "bce": "positions",
        "dice": "samples",
        "focal": "positions",
    }
    labels = build_task(MultilabelTask(), loss, metrics, UNetConfig(), ("a", "b"))
    assert labels.to_dict() == {"kind": "multilabel", "class_names": ["a", "b"], "probability_threshold": 0.4}
    height = build_task(HeightTask(scale_m=20), RegressionLossConfig(), metrics, UNetConfig())
    assert (height.scale_m, dict(height.loss_terms)["huber"].per) == (20.0, "pixels")


def test_weights_are_measured_where_the_settings_say_so() -> None:
    measured = CombinedLossConfig(class_weights="auto")
    many = build_task(MulticlassTask(), measured, MetricsConfig(), UNetConfig(), ("a", "b"), class_counts=[30, 10, 40])
    assert many.combined_loss.functions["bce"].options["class_weights"] == pytest.approx((0.5, 1.5))
    one = build_task(
        BinaryTask(),
        CombinedLossConfig(pos_weight="auto"),
        MetricsConfig(),
        UNetConfig(),
        ("a",),
        class_counts=[30, 10],
    )
    assert one.combined_loss.pos_weight == pytest.approx(3.0)
    heights = CombinedLossConfig(height_weights="rare_gaps")
    gaps = build_task(SETTINGS, heights, MetricsConfig(), FilmUNetConfig(), gap_shares={3.0: 0.1, 8.0: 0.3})
    assert gaps.height_weights is not None
    assert gaps.height_weights.of(torch.tensor([[3.0, 8.0]])).tolist() == [pytest.approx([1.5, 0.5])]


def test_what_must_be_measured_and_was_not_is_asked_for() -> None:
    for task, loss, names, told in (
        (
            MulticlassTask(),
            CombinedLossConfig(class_weights="auto"),
            ("a", "b"),
            r"loss\.class_weights: auto is measured",
        ),
        (BinaryTask(), CombinedLossConfig(pos_weight="auto"), ("a",), r"loss\.pos_weight: auto is measured"),
        (SETTINGS, CombinedLossConfig(height_weights="imbalance"), (), r"loss\.height_weights: .* Give gap_shares"),
        (BinaryTask(), CombinedLossConfig(), (), "needs the names of its classes"),
        (
            MulticlassTask(),
            CombinedLossConfig(class_weights=(1, 2)),
            ("a", "b", "c"),
            "2 weights .* 3 classes: a, b, c",
        ),
    ):
        with pytest.raises(ConfigError, match=told):
            build_task(task, loss, MetricsConfig(), FilmUNetConfig(), names)


def test_schedules_and_learned_factors_are_told_as_moving() -> None:
    still = build_task(SETTINGS, CombinedLossConfig(), MetricsConfig(), FilmUNetConfig())
    assert still.moving_weights == {}
    assert still.loss_schedule is None
    assert still.loss_module is None
    moving = build_task(SETTINGS, CombinedLossConfig(schedule={"kind": "cosine"}), MetricsConfig(), FilmUNetConfig())
    assert moving.loss_schedule is not None
    assert moving.moving_weights == {"bce": 0.5, "dice": 0.3, "focal": 0.2}
    learned = build_task(SETTINGS, CombinedLossConfig(learn_weights=True), MetricsConfig(), FilmUNetConfig())
    assert learned.loss_module is not None
    assert learned.moving_weights == pytest.approx({"bce": 0.5, "dice": 0.3, "focal": 0.2})
