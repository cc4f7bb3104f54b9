"""Every page in a real browser while a real training runs beside it, steered from there to its end."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from maskwright.data.synthetic_images import write_pictures
from maskwright.tracking import RunFolder, find_runs, read_events

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
PATIENCE_S = 300.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("websockets") is None, reason="needs websockets"),
]

EXPERIMENT = """
name: watched
task: {{kind: binary}}
data:
  kind: images
  folder: {data}
  tiles: {{size_px: 32}}
  loader: {{batch_size: 4, workers: 0, samples_per_epoch: 32}}
model: {{base_channels: 4, depth: 2}}
training: {{epochs: 100000, threads: 1, device: cpu}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false, log_every_steps: 1}}
"""


class Page:
    """A page of Chromium, through its debugging protocol."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._numbers = connection, itertools.count(1)

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": values}))
        while (answer := json.loads(self._connection.recv(timeout=PATIENCE_S))).get("id") != number:
            pass  # an event
        assert "error" not in answer, answer
        return dict(answer["result"])

    def value(self, script: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        give_up = time.monotonic() + PATIENCE_S
        while not (found := self.value(script)):
            assert time.monotonic() < give_up, f"{script}\n{self.value('document.body.innerText')}"
            time.sleep(0.2)
        return found

    def shows(self, text: str) -> None:
        self.until(f"!!document.body && document.body.innerText.includes({json.dumps(text)})")
        assert not self.value("!!document.querySelector('[data-testid=stException]')")

    def click(self, label: str) -> None:
        """A click of the mouse on the button or link with these words behind its icon."""
        place = f"""(() => {{
            const said = one => [...one.querySelectorAll('p')].map(p => p.innerText).join(' ') || one.innerText;
            const fits = one =>
                said(one).trim().split('\\n').pop() === {json.dumps(label)} && one.getClientRects().length;
            const one = [...document.querySelectorAll('button, a')].filter(fits).pop();
            if (!one) return null;
            one.scrollIntoView({{block: 'center'}});
            const box = one.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.until(place)
        time.sleep(0.5)  # what was drawn anew moves
        x, y = self.until(place)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@contextmanager
def at_work(*words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        words, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE_S)
        finally:
            process.kill()


def answer(url: str) -> bytes:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return bytes(reply.read())
        except OSError:
            assert time.monotonic() < give_up, f"{url} does not answer"
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    from websockets.sync.client import connect

    port = free_port()
    switches = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1400")
    with at_work(CHROMIUM, *switches, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"):
        tabs = json.loads(answer(f"http://127.0.0.1:{port}/json"))
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        with connect(address, max_size=None) as connection:
            yield Page(connection)


def events(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return read_events(run.events, kinds=[kind])


def wait(said: str, holds: Any) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, said
        time.sleep(0.2)


def test_every_page_and_every_button_beside_a_training(tmp_path: Path) -> None:
    data, out = tmp_path / "pictures", tmp_path / "out"
    write_pictures(data, "cracks", 10, size_px=64)
    file = tmp_path / "watched.yaml"
    file.write_text(EXPERIMENT.format(data=data, out=out))
    own = {"MASKWRIGHT_CACHE": str(tmp_path / "cache")}
    maskwright = (sys.executable, "-m", "maskwright")
    with ExitStack() as stack:
        training = stack.enter_context(at_work(*maskwright, "train", str(file), **own))
        port = free_port()
        stack.enter_context(at_work(*maskwright, "monitor", str(out), "--no-browser", "--port", str(port)))
        page = stack.enter_context(browser(tmp_path / "profile"))
        answer(f"http://127.0.0.1:{port}/_stcore/health")
        wait("no epoch has ended", lambda: (runs := find_runs(out)) and runs[0].history.is_file())
        run = find_runs(out)[0]

        page.send("Page.navigate", url=f"http://127.0.0.1:{port}/")
        for text in (run.path.name, "Loss by epoch", "Loss by update"):
            page.shows(text)
        for name, text in (
            ("Compare", "Settings that differ"),
            ("Checkpoints", "Download or check a file"),
            ("System", "Machine and versions"),
            ("Settings", "Of this run"),
            ("Logs", "newest line first"),
            ("Live", "Save checkpoint"),
        ):
            page.click(name)
            page.shows(text)

        for label, command in (
            ("Pause", "pause"),
            ("Go on", "resume"),
            ("Save checkpoint", "checkpoint"),
            ("Change learning rate", "set_lr"),
            ("Stop", "stop"),
        ):
            before = len(events(run, "command"))
            page.click(label)
            page.shows(f"Yes, {label[0].lower()}{label[1:]}")
            assert len(events(run, "command")) == before  # a question, not yet a command
            page.click(f"Yes, {label[0].lower()}{label[1:]}")
            wait(f"{label} was not obeyed", lambda before=before: len(events(run, "command")) > before)
            assert events(run, "command")[-1]["command"] == command
        assert training.wait(timeout=PATIENCE_S) is not None
        assert run.record.status() == "stopped"
        page.shows("Continue")
