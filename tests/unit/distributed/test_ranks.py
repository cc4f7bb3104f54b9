"""Who we are among the processes of a launch, which device is ours, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from maskwright.distributed import (
    from_main,
    gathered,
    is_main,
    joined,
    largest,
    launched_size,
    own_device,
    rank,
    require_alike,
    require_joined,
    require_single_process,
    restarts,
    share_of,
    world_size,
)
from maskwright.distributed import ranks as module
from maskwright.errors import ConfigError, TrainingError

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_one_process_that_hears_itself() -> None:
    assert (launched_size(), world_size(), rank(), is_main(), restarts()) == (1, 1, 0, True, 0)
    require_joined()
    require_single_process("This")
    with joined():
        assert gathered("a") == ["a"]
        assert from_main(lambda: 3) == 3
        assert largest(4) == 4
        require_alike({"a": 1}, "anything")


def test_a_launched_process_that_has_not_joined_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (launched_size(), world_size(), is_main()) == (4, 1, True)
    with pytest.raises(TrainingError, match=r"started 4 processes .* has not joined the others: .* without the launch"):
        require_joined()


def test_work_for_one_process_is_refused_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"^Training in stages runs in one process, and a launcher started 2"):
        require_single_process("Training in stages")


def test_an_environment_that_names_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE='two' in the environment is no number of processes"):
        launched_size()


@pytest.mark.parametrize(
    ("count", "parts", "shares"),
    [
        (7, 3, [[0, 1, 2], [3, 4], [5, 6]]),
        (6, 3, [[0, 1], [2, 3], [4, 5]]),
        (1, 3, [[0], [], []]),
        (0, 2, [[], []]),
        (5, 1, [[0, 1, 2, 3, 4]]),
    ],
)
def test_shares_follow_one_another_and_differ_by_one_at_most(count: int, parts: int, shares: list[list[int]]) -> None:
    assert [list(share_of(count, part, parts)) for part in range(parts)] == shares


@pytest.fixture
def _second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "rank", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")


def test_one_process_takes_the_device_that_is_named() -> None:
    assert own_device("cuda:1", ("cpu", "cuda:0", "cuda:1")) == "cuda:1"


@pytest.mark.usefixtures("_second_of_two")
def test_each_process_takes_the_gpu_of_its_number() -> None:
    assert own_device("auto", ("cpu", "cuda:0", "cuda:1")) == "cuda:1"
    assert own_device("cuda", ("cpu", "cuda:0", "cuda:1")) == "cuda:1"
    assert own_device("auto", ("cpu",)) == "cpu"
    assert own_device("auto", ("cpu", "mps")) == "cpu"


@pytest.mark.usefixtures("_second_of_two")
@pytest.mark.parametrize(
    ("name", "available", "told"),
    [
        ("cuda", ("cpu", "cuda:0"), r"process 1, number 2 on .*, finds no GPU of its own; available: cuda:0. Start 1"),
        ("cuda", ("cpu",), r"finds no GPU of its own; available: no GPU"),
        ("cuda:0", ("cpu", "cuda:0"), r"cuda:0 is one GPU, and 2 were started. Use cuda, which gives each its own"),
        ("mps", ("cpu", "mps"), r"MPS works for one process, and 2 were started"),
    ],
)
def test_a_device_that_is_not_there_for_each_is_refused(name: str, available: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        own_device(name, available)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    reason = "The server socket has failed to listen on any local network address. port: 29500, EADDRINUSE"
    told = module._no_meeting(reason, "127.0.0.1:29500")
    assert told.startswith("The processes cannot meet at 127.0.0.1:29500: the port is in use by another program")
    assert "MASTER_PORT" in told


def test_an_error_of_a_connection_that_was_cut_tells_of_the_other_process() -> None:
    cut = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3")
    wrapped = TrainingError("Callback failed")
    wrapped.__cause__ = cut
    for error in (cut, wrapped):
        told = module._lost(error)
        assert told is not None
        assert "ended in the middle of the work" in str(told)
    assert module._lost(ValueError("closed by peer")) is None
    assert module._lost(RuntimeError("shapes differ")) is None


def test_asking_who_we_are_loads_no_torch() -> None:
    script = "import sys; from maskwright.distributed import rank, world_size; rank(); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
