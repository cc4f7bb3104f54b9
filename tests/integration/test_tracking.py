"""A real run followed by TensorBoard and MLflow at once, killed and resumed; and one whose server never answers."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.config import Experiment, load_experiment
from maskwright.files import read_json
from maskwright.tracking import RunFolder, find_runs, read_events
from maskwright.training import Callback, StepOutcome, TrainState
from maskwright.workflows.doctor import examine_run
from maskwright.workflows.train import resume, train

TILE = 32

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tensorboard", "mlflow")), reason="needs the extra track"
)


class PulledPlug(BaseException):
    """No chance to save anything."""


class Unhurried(Callback):
    """Gives a tiny run the time a sample of resources needs."""

    def on_batch_begin(self, state: TrainState) -> None:
        time.sleep(0.05)


class PullPlug(Callback):
    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_batch_begin(self, state: TrainState) -> None:
        if state.global_step == self.at_step:
            raise PulledPlug

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        """Nothing."""


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    rng = np.random.Generator(np.random.Philox(3))
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(24):
        picture = rng.integers(60, 120, (TILE, TILE, 3), dtype=np.uint8)
        mask = np.zeros((TILE, TILE), dtype=np.uint8)
        picture[5:15, 5:20], mask[5:15, 5:20] = 220, 255
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"p{number:02d}.png")
    (tmp_path / "experiment.yaml").write_text(
        f"""
name: followed
task: {{kind: binary}}
data: {{kind: images, folder: data, tiles: {{size_px: {TILE}}}, loader: {{batch_size: 4}}}}
model: {{kind: unet, base_channels: 4, depth: 2}}
training: {{epochs: 2, threads: 1, device: cpu}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {tmp_path / "outputs"}, quiet: true, log_every_steps: 1}}
"""
    )
    return load_experiment([tmp_path / "experiment.yaml"])


def with_tracking(experiment: Experiment, **settings: object) -> Experiment:
    return experiment.model_copy(update={"tracking": experiment.tracking.model_copy(update=settings)})


def steps_of(folder: RunFolder, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder.tensorboard))
    reader.Reload()
    return [event.step for event in reader.Scalars(tag)]


def test_a_killed_and_resumed_run_is_one_curve_in_tensorboard_and_one_run_in_mlflow(
    experiment: Experiment, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    followed = with_tracking(experiment, mlflow=True, mlflow_uri=uri, resources_every_s=0.1)
    with pytest.raises(PulledPlug):
        train(followed, callbacks=[Unhurried(), PullPlug(8)])
    (folder,) = find_runs(tmp_path / "outputs")
    first_epoch = read_events(folder.events, kinds=["epoch"])[0]["global_step"]
    assert 0 < first_epoch < 8  # steps behind the checkpoint are done again
    outcome = resume(folder.path, callbacks=[Unhurried()])
    last = 2 * first_epoch
    assert outcome.finished
    assert steps_of(folder, "step/loss") == list(range(1, last + 1))
    assert steps_of(folder, "train/loss") == steps_of(folder, "val/iou") == [first_epoch, last]
    assert steps_of(folder, "test/iou@foreground") == [last]
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("maskwright").experiment_id])
    history = client.get_metric_history(run.info.run_id, "step/loss")
    assert [point.step for point in history] == list(range(1, last + 1))
    assert run.info.status == "FINISHED"
    assert {"model", "report.html", "samples"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert read_events(folder.events, kinds=["resources"])
    assert not read_events(folder.events, kinds=["warning"])
    assert not [line for line in examine_run(folder.path).lines if "no rows of resources" in line]


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_changes_nothing_about_a_run(
    experiment: Experiment, tmp_path: Path, silent_server: str
) -> None:
    alone = train(with_tracking(experiment, tensorboard=False))
    hanging = {"mlflow": True, "mlflow_uri": silent_server, "finish_timeout_s": 0.1}
    followed = train(with_tracking(experiment, **hanging))
    assert followed.finished
    numbers = [read_json(outcome.folder.path / "evaluation_blocks.json") for outcome in (alone, followed)]
    assert numbers[0] == numbers[1]
    assert list(alone.folder.tensorboard.iterdir()) == []
    log = followed.folder.log.read_text()
    assert log.count("MLflow had not taken everything 0.1 s after the end of the run") == 1
