"""Checkpoints: what was saved with which score, whether it is whole, and how to go on from it."""

from __future__ import annotations

import shlex
from pathlib import Path

import streamlit as st

from maskwright.dashboard.frames import checkpoint_frame
from maskwright.dashboard.view import View, table
from maskwright.files import sha256_file
from maskwright.tracking import RunFolder
from maskwright.tracking.facts import size_text
from maskwright.tracking.processes import resume_command
from maskwright.tracking.shelf import Snapshot

__all__ = ["show", "verified"]


def show(view: View) -> None:
    """Draw the page; it follows the run."""
    st.title("Checkpoints")
    found: dict[str, str] = st.session_state.setdefault("verified", {})

    def draw() -> None:
        run = view.look()
        if run is None:
            return
        own = {file: what for file, what in found.items() if file.startswith(f"{run.path}/")}
        frame = checkpoint_frame(run, {Path(file).name: what for file, what in own.items()})
        table(frame, "checkpoints", otherwise="Nothing was saved yet; the first checkpoint follows the first epoch.")
        if run.manifest.records:
            total = sum(record.bytes for record in run.manifest.records)
            st.caption(
                f"{len(run.manifest.records)} checkpoints, {size_text(total)} in {RunFolder(run.path).checkpoints}"
            )
            _go_on(run)
            _one(run, found)

    view.live(draw)


def verified(file: Path, sha256: str) -> str:
    """``whole``, ``damaged`` or ``missing``, from the bytes of a file."""
    try:
        return "whole" if sha256_file(file) == sha256 else "damaged"
    except OSError:
        return "missing"


def _go_on(run: Snapshot) -> None:
    st.subheader("Continue or apply")
    st.write("Continue the run from its newest checkpoint:")
    st.code(shlex.join(resume_command(run.path)), language="bash")
    if RunFolder(run.path).model.is_dir() and any(RunFolder(run.path).model.iterdir()):
        st.write("Apply its best model:")
        st.code(shlex.join(["maskwright", "predict", str(run.path), "YOUR_FILES", "--out", "maps"]), language="bash")


def _one(run: Snapshot, found: dict[str, str]) -> None:
    st.subheader("Download or check a file")
    records = {record.file: record for record in reversed(run.manifest.records)}
    names = sorted(records, key=lambda name: name != run.manifest.best)
    name = st.selectbox("Checkpoint, the best one first", names, key="checkpoint")
    if name not in records:
        return
    path = RunFolder(run.path).checkpoints / name
    with st.container(horizontal=True):
        if path.is_file():
            st.download_button(
                f"Download {size_text(records[name].bytes)}",
                data=path.read_bytes if records[name].bytes else b"",
                file_name=f"{run.name}_{name}",
                mime="application/octet-stream",
                icon=":material/download:",
                on_click="ignore",
            )
        if st.button("Check its bytes", icon=":material/verified:", help="Compares the file with what was written."):
            with st.spinner("Reading the file"):
                found[str(path)] = verified(path, records[name].sha256)
            st.rerun()
    if str(path) in found:
        word = found[str(path)]
        (st.success if word == "whole" else st.error)(f"{name} is {word}.")
