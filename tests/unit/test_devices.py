from __future__ import annotations

import os
import platform
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from maskwright import devices
from maskwright.errors import ConfigError


def have(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False, bf16: bool = True) -> None:
    """Let torch report other devices than this machine has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "_has_bf16", lambda device: bf16 and device.type != "mps")


def test_auto_takes_the_fastest_kind_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    assert devices.choose_device() == torch.device("cpu")
    have(monkeypatch, mps=True)
    assert devices.choose_device("auto") == torch.device("mps")
    have(monkeypatch, cuda=2)
    assert devices.choose_device("auto") == torch.device("cuda:0")


def test_a_named_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda=2)
    assert devices.choose_device("cpu") == torch.device("cpu")
    assert devices.choose_device("cuda") == torch.device("cuda:0")
    assert devices.choose_device("cuda:1") == torch.device("cuda:1")


def test_a_missing_device_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    with pytest.raises(ConfigError, match=r"training.device: 'cuda' is not on this machine. Available: auto, cpu\."):
        devices.choose_device("cuda")
    have(monkeypatch, cuda=2)
    with pytest.raises(ConfigError, match=r"'cuda:2' is not on this machine. Available: auto, cpu, cuda:0, cuda:1\."):
        devices.choose_device("cuda:2")
    with pytest.raises(ConfigError, match=r"'gpu' is no device. Available: auto, cpu"):
        devices.choose_device("gpu")


@pytest.mark.parametrize(
    ("requested", "device", "bf16", "chosen"),
    [
        ("auto", "cpu", True, "fp32"),
        ("auto", "mps", True, "fp32"),
        ("auto", "cuda:0", True, "bf16"),
        ("auto", "cuda:0", False, "fp32"),
        ("bf16", "cpu", True, "bf16"),
        ("fp16", "cuda:0", False, "fp16"),
        ("fp32", "cuda:0", True, "fp32"),
    ],
)
def test_precision_follows_request_and_device(
    monkeypatch: pytest.MonkeyPatch, requested: str, device: str, bf16: bool, chosen: str
) -> None:
    have(monkeypatch, bf16=bf16)
    assert devices.choose_precision(requested, torch.device(device)) == chosen


def test_a_precision_the_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"fp16 trains on cuda only, the device is cpu. Use bf16 or fp32\."):
        devices.choose_precision("fp16", torch.device("cpu"))
    have(monkeypatch, bf16=False)
    with pytest.raises(ConfigError, match=r"bf16 is not available on cuda:0. Use auto or fp32"):
        devices.choose_precision("bf16", torch.device("cuda:0"))
    with pytest.raises(ConfigError, match=r"'int8' is unknown. Available: auto, fp32, bf16, fp16"):
        devices.choose_precision("int8", torch.device("cpu"))


def test_one_seed_repeats_all_draws() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(()).item()  # noqa: NPY002 - the generator is meant

    devices.seed_everything(5)
    first = draw()
    devices.seed_everything(5)
    assert draw() == first
    assert draw() != first


def test_a_prepared_network_is_channels_last() -> None:
    network = nn.Conv2d(4, 8, 3)
    assert devices.prepare_model(network, torch.device("cpu")) is network
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def run_in_own_process(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return result.stdout.strip()


def test_reading_the_module_loads_no_torch() -> None:
    assert run_in_own_process("import sys, maskwright.devices; print('torch' in sys.modules)") == "False"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_a_prepared_process_keeps_freed_memory_and_says_so() -> None:
    """Once warm, large arrays made and dropped take no new pages from the kernel, and the process stops growing."""
    code = """
import resource, torch
from maskwright.devices import prepare_process
print(prepare_process(threads=1))
faults = []
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**21).fill_(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(max(faults[-10:]) < 100, max(faults) > 1000, torch.get_num_threads())
"""
    chosen, effect = run_in_own_process(code).splitlines()
    assert chosen == "{'threads': 1, 'allocator': 'keeps freed memory'}"
    assert effect == "True True 1"


def test_the_allocator_is_left_alone_on_request() -> None:
    code = "from maskwright.devices import prepare_process; print(prepare_process(allocator=False))"
    assert "'allocator': 'unchanged'" in run_in_own_process(code)


def test_memory_is_kept_on_glibc_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert devices.keep_memory() is False
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert devices.keep_memory() is False


def test_waiting_threads_spin_shortly_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    devices.prepare_environment()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    devices.prepare_environment()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    devices.prepare_environment()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_workers_are_chosen_by_what_reading_costs_and_by_who_needs_the_cores() -> None:
    assert devices.choose_workers(3, cached=True) == 3
    assert devices.choose_workers("auto", cached=True, cores=16) == 0
    beside_a_gpu = [devices.choose_workers("auto", cached=False, cores=cores) for cores in (1, 2, 4, 16)]
    assert beside_a_gpu == [0, 1, 3, 8]
    on_the_same_cores = [devices.choose_workers("auto", cached=False, on_cpu=True, cores=n) for n in (1, 2, 4, 16, 64)]
    assert on_the_same_cores == [0, 1, 1, 4, 8]


@pytest.mark.parametrize(("cores", "loading", "threads"), [(2, 0, 2), (2, 1, 2), (8, 0, 8), (8, 2, 6), (4, 8, 1)])
def test_threads_leave_cores_to_loaders_where_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, cores: int, loading: int, threads: int
) -> None:
    asked: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert devices.prepare_process(allocator=False, loading=loading)["threads"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    devices.prepare_process(allocator=False, loading=loading)
    devices.prepare_process(5, allocator=False, loading=loading)
    assert asked == [threads, 3, 5]


def test_a_host_keeps_its_allocator_and_so_does_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(devices, "keep_memory", lambda: taken.append("kept") or True)
    assert devices.settle_process(1, own_process=False)["allocator"] == "unchanged"
    assert devices.settle_process(1, True, False)["allocator"] == "unchanged"
    assert not taken
    assert devices.settle_process(1, True)["allocator"] == "keeps freed memory"


def test_the_layout_may_be_left_as_torch_has_it() -> None:
    network = devices.prepare_model(nn.Conv2d(4, 8, 3), torch.device("cpu"), channels_last=False)
    assert network.weight.is_contiguous()


def test_the_choices_of_a_start_are_one_line() -> None:
    network = devices.network_choices(workers=0, channels_last=True, compile="off")
    assert devices.choices_in_words({"threads": 2, "allocator": "keeps freed memory"} | network) == (
        "2 threads, keeps freed memory, channels last, no loader processes"
    )
    network = devices.network_choices(workers=1, channels_last=False, compile="default")
    assert devices.choices_in_words({"threads": 1, "allocator": "unchanged"} | network) == (
        "1 thread, channels first, 1 loader process, compiled (default)"
    )
