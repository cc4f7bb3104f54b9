"""A training killed at random instants, also in the middle of a save, ends with the same bits as one left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to make many attempts quickly")

CHILD = Path(__file__).with_name("training_child.py")

# 20 kills in every test run, the rest of 200 in the slow ones; MASKWRIGHT_KILLS=200 makes so many at once, and
# MASKWRIGHT_SEED=7 draws their instants as a run with that seed has done.
WANTED = os.environ.get("MASKWRIGHT_KILLS")
KILLS = [int(WANTED)] if WANTED else [20, pytest.param(180, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=KILLS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the child process tells of all its runs."""
    seed = int(os.environ.get("MASKWRIGHT_SEED") or random.SystemRandom().randrange(10**6))
    ended = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path_factory.mktemp("runs")), str(request.param), str(seed)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"seed {seed}: {ended.stderr}"
    found: dict[str, Any] = json.loads(ended.stdout)
    return found | {"wanted": request.param, "seed": seed}


def test_the_undisturbed_runs_finish(report: dict[str, Any]) -> None:
    assert [run["history"][-1]["global_step"] for run in report["undisturbed"]] == [40, 28, 40]
    for undisturbed in report["undisturbed"]:
        assert undisturbed["code"] == 0
        assert undisturbed["digest"]
        assert [entry["epoch"] for entry in undisturbed["history"]] == [1, 2, 3, 4]


def test_kills_at_random_instants_change_no_bit_of_the_final_weights(
    report: dict[str, Any], tally: Callable[..., None]
) -> None:
    kills = [kill for run in report["killed"] for kill in run["kills"]]
    assert len(kills) >= report["wanted"]
    assert {kill["code"] for kill in kills} == {-9}
    assert sum(kill["how"].startswith("disk event") for kill in kills) >= 0.3 * len(kills)  # in the middle of a save
    for run in report["killed"]:
        assert run["code"] == 0, f"seed {report['seed']}"
        assert run["digest"] == report["undisturbed"][run["variant"]]["digest"], (report["seed"], run["kills"])
    tally("kill of a training at a random instant", len(kills), seed=report["seed"])


def test_after_every_kill_the_newest_checkpoint_is_whole(report: dict[str, Any]) -> None:
    assert all(all(run["loadable"]) for run in report["killed"])


def test_killed_runs_have_one_history_entry_per_epoch_with_the_same_averages(report: dict[str, Any]) -> None:
    for run in report["killed"]:
        assert run["history"] == report["undisturbed"][run["variant"]]["history"], (report["seed"], run["kills"])


def test_killed_runs_leave_no_half_written_file_behind(report: dict[str, Any]) -> None:
    for run in report["killed"]:
        assert run["left_over"] == []
        assert run["files"] == report["undisturbed"][run["variant"]]["files"]


def test_a_run_that_is_asked_to_stop_again_and_again_ends_with_the_same_bits(report: dict[str, Any]) -> None:
    run = report["terminated"]
    assert set(run["codes"]) == {0}
    assert "signal SIGTERM" in run["reasons"]
    assert run["digest"] == report["undisturbed"][0]["digest"]
    assert run["history"] == report["undisturbed"][0]["history"]


def test_a_disk_that_takes_no_checkpoint_is_a_warning_and_the_training_goes_on(report: dict[str, Any]) -> None:
    run = report["refused"]
    assert run["code"] == 0
    assert run["digest"] == report["undisturbed"][0]["digest"]
    assert run["history"] == report["undisturbed"][0]["history"]
    assert run["left_over"] == []
    assert any(
        message.startswith("No checkpoint was saved after 2 updates: ") and "could not be written" in message
        for message in run["warnings"]
    )
