"""Those who follow a run: never in its way, never told twice."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from maskwright.tracking import RunFolder
from maskwright.tracking.writers import Entry, Outcome, RunFacts, SentMarks, Tracker, WriterError
from maskwright.tracking.writers_mlflow import MlflowWriter
from maskwright.tracking.writers_tensorboard import TensorBoardWriter
from maskwright.tracking.writers_wandb import WandbWriter

needs_tensorboard = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs mlflow")
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")


class Notebook:
    """A writer that remembers, and does what it is told to when it is called."""

    name = "Notebook"

    def __init__(self, **on_call: Any) -> None:
        self.on_call = on_call
        self.calls: list[Any] = []

    def start(self, facts: RunFacts) -> None:
        self._do("start", facts.global_step)

    def log(self, entry: Entry) -> None:
        self._do("log", entry.global_step)

    def finish(self, outcome: Outcome) -> None:
        self._do("finish", outcome.status)

    def _do(self, verb: str, value: Any) -> None:
        if verb in self.on_call:
            self.on_call[verb](value)
        self.calls.append((verb, value))


@pytest.fixture
def facts(tmp_path: Path) -> RunFacts:
    folder = RunFolder.create(tmp_path / "outputs", "toy")
    return RunFacts(folder, "toy", {"training.epochs": 3, "model.norm": None, "name": "toy"}, "name: toy\n")


def again(facts: RunFacts, global_step: int) -> RunFacts:
    return RunFacts(facts.folder, facts.name, facts.settings, facts.config_text, facts.attempt + 1, global_step)


def step(number: int, loss: float = 0.5) -> Entry:
    return Entry("step", number, {"step/loss": loss})


def done(**more: Any) -> Outcome:
    return Outcome("finished", 4, **more)


# --- the tracker ------------------------------------------------------------------------------------------------------


def test_every_writer_is_told_everything_in_order(facts: RunFacts) -> None:
    writers = [Notebook(), Notebook()]
    tracker = Tracker(writers)
    tracker.start(facts)
    for number in (1, 2, 3):
        tracker.log(step(number))
    tracker.finish(done(), timeout_s=10)
    for writer in writers:
        assert writer.calls == [("start", 0), ("log", 1), ("log", 2), ("log", 3), ("finish", "finished")]
    assert tracker.take_problems() == []


def test_a_writer_that_hangs_holds_up_neither_the_run_nor_the_others(facts: RunFacts) -> None:
    never = threading.Event()
    hanging, working = Notebook(log=lambda _: never.wait()), Notebook()
    tracker = Tracker([hanging, working], capacity=5)
    tracker.start(facts)
    for number in range(100):
        tracker.log(step(number))  # would block here for ever
    tracker.finish(done(), timeout_s=0.2)
    assert working.calls[-1] == ("finish", "finished")
    (problem,) = [text for text in tracker.take_problems() if "left" in text]
    assert problem.startswith("Notebook had not taken everything 0.2 s after the end of the run (")
    assert "tracking.finish_timeout_s" in problem
    never.set()


def test_a_full_queue_lets_the_oldest_rows_go_and_says_so_once(facts: RunFacts) -> None:
    held, go_on = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        held.set()
        go_on.wait()

    slow = Notebook(log=wait)
    tracker = Tracker([slow], capacity=3)
    tracker.start(facts)
    tracker.log(step(0))
    held.wait()  # the first row is in its hands
    for number in range(1, 8):
        tracker.log(step(number))
    (problem,) = tracker.take_problems()
    assert problem.startswith(
        "Notebook takes rows more slowly than they come: 3 are waiting, and from now on the oldest"
    )
    go_on.set()
    tracker.finish(done(), timeout_s=10)
    assert [number for verb, number in slow.calls if verb == "log"] == [0, 5, 6, 7]
    assert tracker.take_problems() == ["Notebook: 4 rows were not written."]


def test_a_writer_that_fails_is_one_problem_and_gets_its_rows_once_it_answers(facts: RunFacts) -> None:
    failures = iter(range(3))

    def refuse_thrice(_: Any) -> None:
        if next(failures, None) is not None:
            raise ConnectionError("nobody at home")

    writer = Notebook(log=refuse_thrice)
    tracker = Tracker([writer], retry_s=0.001)
    tracker.start(facts)
    tracker.log(step(1))
    tracker.log(step(2))
    while ("log", 2) not in writer.calls:
        threading.Event().wait(0.005)
    tracker.finish(done(), timeout_s=10)
    assert [call for call in writer.calls if call[0] == "log"] == [("log", 1), ("log", 2)]
    assert tracker.take_problems() == [
        "Notebook failed (ConnectionError: nobody at home). The training goes on, and Notebook is tried again."
    ]


def test_a_start_that_fails_is_tried_again_and_loses_no_row(facts: RunFacts) -> None:
    failures = iter(range(2))

    def refuse_twice(_: Any) -> None:
        if next(failures, None) is not None:
            raise OSError("disk full")

    writer = Notebook(start=refuse_twice)
    tracker = Tracker([writer], retry_s=0.001)
    tracker.start(facts)
    tracker.log(step(1))
    while not writer.calls[1:]:
        threading.Event().wait(0.005)
    tracker.finish(done(), timeout_s=10)
    assert writer.calls == [("start", 0), ("log", 1), ("finish", "finished")]


def test_a_missing_package_is_one_problem_and_never_tried_again(facts: RunFacts) -> None:
    tried = []

    def refuse(_: Any) -> None:
        tried.append(1)
        raise WriterError("the package is missing.")

    tracker = Tracker([Notebook(start=refuse)], retry_s=0.001)
    tracker.start(facts)
    tracker.log(step(1))
    tracker.finish(done(), timeout_s=10)
    assert tracker.take_problems() == ["Notebook: the package is missing."]
    assert tried == [1]


def test_a_server_that_is_dead_all_along_loses_the_rows_and_says_how_many(facts: RunFacts) -> None:
    def refuse(_: Any) -> None:
        raise ConnectionError("refused")

    tracker = Tracker([Notebook(log=refuse)], retry_s=30)
    tracker.start(facts)
    for number in range(4):
        tracker.log(step(number))
    tracker.finish(done(), timeout_s=10)  # does not wait for another attempt
    assert tracker.take_problems()[-1] == "Notebook: 4 rows were not written."


def test_what_was_sent_is_not_sent_again_but_an_attempt_that_failed_is(tmp_path: Path) -> None:
    marks = SentMarks(tmp_path / "marks.json")
    marks.remember("abc")
    entry = step(10)
    assert marks.is_new(entry)
    assert marks.is_new(entry)  # its sending failed
    assert marks.is_new(Entry("epoch", 10, {}))
    after_a_kill = SentMarks(tmp_path / "marks.json")
    assert after_a_kill.run_id == "abc"
    assert [after_a_kill.is_new(step(number)) for number in (5, 10, 15)] == [False, False, True]


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, round(event.value, 4)) for event in reader.Scalars(tag)]


def write(writer: Any, facts: RunFacts, entries: list[Entry], outcome: Outcome | None = None) -> None:
    writer.start(facts)
    for entry in entries:
        writer.log(entry)
    if outcome is not None:
        writer.finish(outcome)


@needs_tensorboard
def test_tensorboard_shows_curves_settings_pictures_and_hyper_parameters(facts: RunFacts) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = facts.folder.samples / "epoch_0001.png"
    PIL.Image.fromarray(np.zeros((6, 4, 3), dtype=np.uint8)).save(picture)
    epoch = Entry("epoch", 2, {"val/iou@10m": 0.25, "val/iou@5m": float("nan")}, {"samples": picture})
    write(TensorBoardWriter(), facts, [step(1), step(2, 0.4), epoch], done(scores={"test/iou@10m": 0.75}))
    reader = EventAccumulator(str(facts.folder.tensorboard))
    reader.Reload()
    assert points(facts.folder.tensorboard, "step/loss") == [(1, 0.5), (2, 0.4)]
    assert points(facts.folder.tensorboard, "val/iou@10m") == [(2, 0.25)]
    assert points(facts.folder.tensorboard, "test/iou@10m") == [(4, 0.75)]
    (shown,) = reader.Images("samples")
    assert (shown.step, shown.width, shown.height) == (2, 4, 6)
    (text,) = reader.Tensors("experiment/text_summary")
    assert b"name: toy" in text.tensor_proto.string_val[0]
    start = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"training.epochs" in start
    assert len(list(facts.folder.tensorboard.iterdir())) == 1


@needs_tensorboard
def test_tensorboard_shows_the_graph_of_the_network_of_a_first_attempt_only(facts: RunFacts) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    made = []

    def graph() -> Any:
        made.append(1)
        return GraphDef(node=[NodeDef(name="image", op="Input")])

    write(TensorBoardWriter(), replace(facts, graph=graph), [step(1)], done())
    write(TensorBoardWriter(), replace(facts, graph=graph, attempt=2, global_step=1), [step(2)], done())
    reader = EventAccumulator(str(facts.folder.tensorboard))
    reader.Reload()
    assert [node.name for node in reader.Graph().node] == ["image"]
    assert made == [1]


@needs_tensorboard
def test_a_resumed_run_continues_the_curve_of_tensorboard_without_doubled_points(facts: RunFacts) -> None:
    write(TensorBoardWriter(), facts, [step(number, number / 10) for number in (1, 2, 3, 4)])  # killed: no finish
    write(TensorBoardWriter(), again(facts, 2), [step(number, number / 5) for number in (3, 4, 5)], done())
    assert points(facts.folder.tensorboard, "step/loss") == [(1, 0.1), (2, 0.2), (3, 0.6), (4, 0.8), (5, 1.0)]


def test_tensorboard_that_is_missing_names_the_extra_and_the_switch(
    facts: RunFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tracker = Tracker([TensorBoardWriter()])
    tracker.start(facts)
    tracker.finish(done(), timeout_s=30)
    (problem,) = tracker.take_problems()
    assert "tensorboard is missing" in problem
    assert 'pip install "maskwright[track]"' in problem
    assert "--no-tensorboard" in problem


# --- MLflow -----------------------------------------------------------------------------------------------------------


@needs_mlflow
def test_mlflow_holds_settings_scores_and_files_and_a_resumed_run_is_the_same_run(
    facts: RunFacts, tmp_path: Path
) -> None:
    uri = (tmp_path / "mlruns").as_uri()
    write(MlflowWriter(uri), facts, [step(number, number / 10) for number in (1, 2, 3)])
    facts.folder.report.write_text("page")
    outcome = done(scores={"test/iou@5m": 0.75}, files=(facts.folder.report, facts.folder.samples))
    writer = MlflowWriter(uri)
    write(writer, again(facts, 1), [step(number, number / 10) for number in (2, 3, 4)], outcome)
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("maskwright")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "step/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert run.data.metrics["test/iou_at_5m"] == 0.75
    assert run.data.params["training.epochs"] == "3"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html", "samples"]


@needs_mlflow
def test_a_run_continued_in_another_folder_goes_on_in_the_mlruns_it_began_in(
    facts: RunFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for number, folder in enumerate(("here", "there")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        write(MlflowWriter(), again(facts, number), [step(number, 0.5)], done())
    assert not (tmp_path / "there" / "mlruns").exists()
    client = MlflowClient((tmp_path / "here" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("maskwright")
    (run,) = client.search_runs([experiment.experiment_id])
    assert [point.step for point in client.get_metric_history(run.info.run_id, "step/loss")] == [0, 1]


@needs_mlflow
@pytest.mark.parametrize("moved", [True, False], ids=["another address", "run deleted"])
def test_a_run_that_mlflow_does_not_have_becomes_a_new_one_there(facts: RunFacts, tmp_path: Path, moved: bool) -> None:
    from mlflow import MlflowClient

    first, second = tmp_path / "first", tmp_path / ("second" if moved else "first")
    write(MlflowWriter(first.as_uri()), facts, [step(1, 0.5)], done())
    if not moved:
        (made,) = first.glob("[1-9]*/*/meta.yaml")
        shutil.rmtree(made.parent)
    write(MlflowWriter(second.as_uri()), again(facts, 1), [step(2, 0.25)], done())
    client = MlflowClient(second.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("maskwright").experiment_id])
    assert run.data.metrics["step/loss"] == 0.25
    assert run.data.params["training.epochs"] == "3"


@needs_mlflow
def test_a_loss_and_its_terms_stand_side_by_side_in_a_folder_of_mlflow(facts: RunFacts, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    write(MlflowWriter(uri), facts, [Entry("epoch", 1, {"train/loss": 0.5, "train/loss/bce": 0.25})], done())
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("maskwright").experiment_id])
    assert run.data.metrics == {"train/loss": 0.5, "train/loss.bce": 0.25}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@needs_mlflow
def test_an_mlflow_server_that_hangs_costs_the_run_nothing_but_the_wait_at_its_end(
    facts: RunFacts, silent_server: str
) -> None:
    tracker = Tracker([MlflowWriter(silent_server)])
    tracker.start(facts)
    for number in range(1000):
        tracker.log(step(number))
    tracker.finish(done(), timeout_s=0.1)
    (problem,) = tracker.take_problems()
    assert "MLflow had not taken everything 0.1 s after the end of the run (1000 rows were waiting)" in problem


@needs_mlflow
def test_an_mlflow_server_that_refuses_becomes_one_problem(facts: RunFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again below: nobody listens
    tracker = Tracker([MlflowWriter(f"http://127.0.0.1:{port}")], retry_s=60)
    tracker.start(facts)
    tracker.log(step(1))
    problems: list[str] = []
    while not problems:
        problems = tracker.take_problems()
        threading.Event().wait(0.01)
    tracker.finish(done(), timeout_s=10)
    assert problems[0].startswith("MLflow failed (MlflowException: ")
    assert tracker.take_problems() == ["MLflow: 1 rows were not written."]


# --- W&B --------------------------------------------------------------------------------------------------------------


class FakeWandb(SimpleNamespace):
    """What the writer uses of wandb, written down."""

    def __init__(self, key: str | None = "key") -> None:
        run = SimpleNamespace(id="r1", rows=[], summary={}, artifacts=[], ended=None, metrics=[])
        run.log = run.rows.append
        run.define_metric = lambda name, step_metric: run.metrics.append((name, step_metric))
        run.log_artifact = run.artifacts.append
        run.finish = lambda exit_code: setattr(run, "ended", exit_code)
        super().__init__(
            login=lambda prompt: not prompt and key is not None,
            Settings=lambda **options: options,
            Image=lambda path: ("image", Path(path).name),
            Artifact=lambda name, type: SimpleNamespace(name=name, files=[], add_file=lambda path: None),
            run=run,
            asked=[],
        )

    def init(self, **options: Any) -> Any:
        self.asked.append(options)
        return self.run


def test_wandb_gets_settings_rows_and_pictures_and_a_resumed_run_the_same_name(
    facts: RunFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    picture = Entry("epoch", 2, {"val/iou": 0.5}, {"samples": Path("epoch_0001.png")})
    write(WandbWriter("forest", "team"), facts, [step(1), step(2), picture])
    write(WandbWriter("forest", "team"), again(facts, 1), [step(2), picture, step(3)], done(scores={"test/mean": 0.6}))
    assert [row["global_step"] for row in wandb.run.rows] == [1, 2, 2, 3]
    assert wandb.run.rows[2] == {"val/iou": 0.5, "samples": ("image", "epoch_0001.png"), "global_step": 2}
    assert [(o["resume"], o["project"], o["entity"]) for o in wandb.asked] == [("allow", "forest", "team")] * 2
    assert wandb.asked[0]["id"] == wandb.asked[1]["id"]
    assert wandb.asked[0]["config"]["training.epochs"] == 3
    assert wandb.run.metrics[0] == ("*", "global_step")
    assert wandb.run.summary == {"test/mean": 0.6, "status": "finished"}
    assert wandb.run.ended == 0


def test_wandb_never_asks_for_a_key_in_the_middle_of_a_run(facts: RunFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb(key=None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(WriterError, match="wandb login"):
        WandbWriter().start(facts)
    assert wandb.asked == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandbWriter().start(facts)
    assert len(wandb.asked) == 1


@needs_wandb
@pytest.mark.slow
def test_wandb_offline_keeps_the_run_in_its_folder(facts: RunFacts) -> None:
    code = f"""
from pathlib import Path
from maskwright.tracking import RunFolder
from maskwright.tracking.writers import Entry, Outcome, RunFacts
from maskwright.tracking.writers_wandb import WandbWriter
writer = WandbWriter()
writer.start(RunFacts(RunFolder(Path({str(facts.folder.path)!r})), "toy", {{"training.epochs": 3}}, ""))
writer.log(Entry("step", 1, {{"step/loss": 0.5}}))
writer.finish(Outcome("finished", 1, {{"test/mean": 0.5}}))
"""
    environment = os.environ | {"WANDB_MODE": "offline"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert list(facts.folder.path.glob("wandb/offline-run-*/run-*.wandb"))


@needs_wandb
@pytest.mark.slow
def test_a_wandb_server_that_refuses_stops_nothing_and_is_said(facts: RunFacts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again below: nobody listens
    code = f"""
import time
from pathlib import Path
from maskwright.tracking import RunFolder
from maskwright.tracking.writers import Entry, Outcome, RunFacts, Tracker
from maskwright.tracking.writers_wandb import WandbWriter
tracker = Tracker([WandbWriter()])
began = time.monotonic()
tracker.start(RunFacts(RunFolder(Path({str(facts.folder.path)!r})), "toy", {{}}, ""))
for number in range(1000):
    tracker.log(Entry("step", number, {{"step/loss": 0.5}}))
assert time.monotonic() - began < 2, "logging waited"
tracker.finish(Outcome("finished", 1), timeout_s=1)
print(*tracker.take_problems())
"""
    server_address = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "a" * 40}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | server_address,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert "W&B" in ran.stdout
