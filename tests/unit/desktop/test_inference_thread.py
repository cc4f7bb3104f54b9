from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication

from maskwright.desktop import inference_thread
from maskwright.desktop.inference_thread import InferenceConfig, InferenceThread, command_of

CONFIG = InferenceConfig(Path("run"), (Path("a.png"), Path("b.png")), Path("out"))
RESULT: dict[str, Any] = {"kind": "result", "input": "a.png", "files": {}, "error": "", "notes": []}


class _Heard:
    """Every signal of a thread, in its order."""

    def __init__(self, thread: InferenceThread) -> None:
        self.said: list[tuple[Any, ...]] = []
        thread.progress_updated.connect(lambda *values: self.said.append(("progress", *values)))
        thread.image_completed.connect(lambda *values: self.said.append(("image", *values)))
        thread.inference_completed.connect(lambda outcome: self.said.append(("completed", outcome)))
        thread.inference_failed.connect(lambda reason: self.said.append(("failed", reason)))


def _script(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another process in place of the prediction."""
    monkeypatch.setattr(inference_thread, "command_of", lambda config: [sys.executable, "-c", code])


def _saying(*rows: dict[str, Any], then: str = "") -> str:
    lines = "".join(f"print({json.dumps(row)!r}, flush=True)\n" for row in rows)
    return f"import sys, time\n{lines}{then}"


def _run(qtbot: Any) -> tuple[InferenceThread, _Heard]:
    thread = InferenceThread(CONFIG)
    heard = _Heard(thread)
    with qtbot.waitSignal(thread.finished):
        thread.start()
    qtbot.wait(10)
    return thread, heard


def test_the_command_names_all_that_was_chosen() -> None:
    config = InferenceConfig(
        Path("run"),
        (Path("a.tif"),),
        Path("out"),
        settings={"tta": "4", "probabilities": True, "probability_threshold": 0.4, "max_area_px": None},
        heights_m=(5.0, 7.5),
        recursive=True,
        overwrite=True,
    )
    words = command_of(config)
    assert words[:5] == [sys.executable, "-P", "-m", "maskwright", "predict"]
    assert " ".join(words[5:]) == (
        "run a.tif --out out --json --device auto --set tta=4 --set probabilities=true --set probability_threshold=0.4 "
        "--set max_area_px=null --recursive --overwrite --heights 5 7.5"
    )


def test_each_thing_that_happens_is_a_signal_in_its_order(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {**RESULT, "input": "b.png", "error": "b.png is damaged."}
    rows = (
        {"kind": "progress", "done": 0, "total": 2, "what": "files"},
        RESULT,
        bad,
        {"kind": "end", "inputs": 2, "failed": 1},
    )
    _script(monkeypatch, _saying(*rows, then="print('a word of some library'); sys.exit(2)"))
    thread, heard = _run(qtbot)
    assert [said[:4] for said in heard.said[:3]] == [
        ("progress", 0, 2, "files"),
        ("image", 0, "a.png", True),
        ("image", 1, "b.png", False),
    ]
    kind, outcome = heard.said[3]
    assert kind == "completed"
    assert (outcome["failed"], outcome["stopped"], outcome["out"]) == (1, False, "out")
    assert outcome["results"] == thread.results == [RESULT, bad]
    assert len(heard.said) == 4


def test_a_reason_is_told_as_a_sentence(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "model.json was written by a newer Maskwright. Upgrade Maskwright."
    _script(monkeypatch, _saying({"kind": "failed", "message": reason}, then="sys.exit(2)"))
    assert _run(qtbot)[1].said == [("failed", reason)]


def test_a_process_without_a_reason_is_told_by_its_last_words(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, "import sys; print('Error: --set tta=3: choose 1, 2, 4 or 8', file=sys.stderr); sys.exit(2)")
    assert _run(qtbot)[1].said == [("failed", "--set tta=3: choose 1, 2, 4 or 8")]
    _script(monkeypatch, "import sys; sys.exit(7)")
    assert _run(qtbot)[1].said == [("failed", "The prediction ended with exit code 7 and gave no reason.")]


@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_a_process_that_was_killed_is_noticed(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, _saying(RESULT, then="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    heard = _run(qtbot)[1]
    assert heard.said[-1] == ("failed", "The prediction was ended from outside (SIGKILL). Start it again.")


def test_a_process_that_cannot_be_started_is_told(qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inference_thread, "command_of", lambda config: [str(tmp_path / "no_python")])
    (kind, reason), *rest = _run(qtbot)[1].said
    assert (kind, rest) == ("failed", [])
    assert reason.startswith("The prediction cannot be started: ")


def test_stop_ends_the_process_and_keeps_what_was_done(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, _saying(RESULT, then="time.sleep(3600)"))
    thread = InferenceThread(CONFIG)
    heard = _Heard(thread)
    with qtbot.waitSignal(thread.image_completed):
        thread.start()
    with qtbot.waitSignal(thread.finished):  # which waits for less than the hour that it would have slept
        thread.stop()
    qtbot.wait(10)
    kind, outcome = heard.said[-1]
    assert (kind, outcome["stopped"], outcome["results"]) == ("completed", True, [RESULT])


def test_a_stop_before_the_process_is_there_ends_it_too(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, "import time; time.sleep(3600)")
    thread = InferenceThread(CONFIG)
    heard = _Heard(thread)
    thread.stop()
    with qtbot.waitSignal(thread.finished):
        thread.start()
    qtbot.wait(10)
    assert [said[0] for said in heard.said] == ["completed"]


def test_names_that_are_no_utf_8_come_through(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'import sys; sys.stdout.buffer.write(b\'{"kind": "result", "input": "a\\xff.png", "error": ""}\\n\')'
    _script(monkeypatch, code + '; print(\'{"kind": "end"}\')')
    thread, heard = _run(qtbot)
    assert thread.results[0]["input"] == "a\udcff.png"
    assert heard.said[-1][0] == "completed"


def test_a_thread_nobody_holds_lives_until_its_process_has_ended(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, _saying(RESULT, {"kind": "end"}))
    heard: list[dict[str, Any]] = []
    thread = InferenceThread(CONFIG)
    thread.inference_completed.connect(heard.append)
    thread.start()
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    qtbot.waitUntil(lambda: bool(heard))
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None)


def test_the_end_of_the_application_ends_it(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, _saying(RESULT, then="time.sleep(3600)"))
    thread = InferenceThread(CONFIG)
    with qtbot.waitSignal(thread.image_completed):
        thread.start()
    QCoreApplication.instance().aboutToQuit.emit()
    assert thread.isFinished()
