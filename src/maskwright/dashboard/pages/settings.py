"""Settings: the experiment of the run, and a form from which a new experiment is written and begun."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from maskwright.config import FieldSpec
from maskwright.config.drafts import (
    Draft,
    check_draft,
    form_groups,
    form_values,
    read_base,
    value_from_text,
    write_draft,
)
from maskwright.dashboard.drafts import sources
from maskwright.dashboard.frames import settings_of
from maskwright.dashboard.steering import show_started, start_file
from maskwright.dashboard.view import View, confirmed, table
from maskwright.errors import MaskwrightError

__all__ = ["show"]

_NUMBERS = ("int", "float")


def show(view: View) -> None:
    """Draw the page."""
    st.title("Settings")
    own, new = st.tabs(["Of this run", "New experiment"])
    with own:
        _of_run(view)
    with new:
        _new(view)


def _of_run(view: View) -> None:
    import pandas as pd

    settings = {} if view.run is None else settings_of(view.run)
    if view.run is None or not settings:
        st.info("There are no settings to show: no run, or its config.yaml cannot be read.")
        return
    wanted = st.text_input("Find", placeholder="a word of a setting or value", key="find_setting").lower()
    rows = [(name, "unset" if value is None else str(value)) for name, value in settings.items()]
    found = [row for row in rows if wanted in f"{row[0]} {row[1]}".lower()]
    table(pd.DataFrame(found, columns=["setting", "value"]), "own", otherwise="No setting holds this word.", rows=20)
    text = (view.run / "config.yaml").read_text("utf-8")
    st.download_button(
        "Download config.yaml", text, f"{view.run.name}.yaml", icon=":material/download:", on_click="ignore"
    )


def _new(view: View) -> None:
    offered = sources(view.run, view.shelf.folder)
    label = st.selectbox("Begin with", list(offered), key="base")
    if label is None:
        return
    source = offered[label]
    try:
        base = _base(source)
    except MaskwrightError as error:
        st.error(str(error))
        return
    changes: dict[str, Any] = st.session_state.setdefault("changes", {}).setdefault(source, {})
    faults = _form(source, base, changes)
    draft = check_draft(source, changes)
    draft = Draft("" if faults else draft.text, (*faults, *draft.faults))
    st.subheader("The new experiment")
    if changes:
        st.caption("Changed: " + ", ".join(f"`{name}` = {value}" for name, value in changes.items()))
    for fault in draft.faults:
        st.error(fault, icon=":material/error:")
    if draft.text:
        st.success("The settings fit together.", icon=":material/check:")
        with st.expander("The whole file"):
            st.code(draft.text, language="yaml")
        _keep(view, draft)


def _form(source: str, base: Mapping[str, Any], changes: dict[str, Any]) -> list[str]:
    """The fields, a section at a time; returns what cannot be read."""
    values = form_values(base, changes)
    groups = {group.title: group for group in form_groups(values)}
    title = st.segmented_control("Section", list(groups), default="training", key="section") or "training"
    group = groups[title]
    faults = _fields(source, group.plain, values, base, changes)
    if group.advanced:
        with st.expander("Seldom changed"):
            faults += _fields(source, group.advanced, values, base, changes)
    return faults


def _fields(
    source: str,
    specs: tuple[FieldSpec, ...],
    values: Mapping[str, Any],
    base: Mapping[str, Any],
    changes: dict[str, Any],
) -> list[str]:
    faults = []
    for place, spec in enumerate(specs):
        if place % 3 == 0:
            columns = st.columns(3, vertical_alignment="bottom")
        with columns[place % 3]:
            try:
                value = _field(spec, values.get(spec.path), f"{source} {spec.path}")
            except MaskwrightError as error:
                faults.append(str(error))
                continue
        if _same(value, values.get(spec.path)):
            continue
        if _same(value, base.get(spec.path)):
            changes.pop(spec.path, None)
        else:
            changes[spec.path] = value
        if spec.name == "kind":
            for path in [path for path in changes if path.startswith(spec.path[:-4]) and path != spec.path]:
                del changes[path]  # they belonged to the former kind
            st.rerun()
    return faults


def _field(spec: FieldSpec, value: Any, key: str) -> Any:
    """The widget of a setting; returns what it says."""
    label = f"{spec.path.partition('.')[2] or spec.path}" + (f" ({spec.unit})" if spec.unit not in spec.path else "")
    help = f"{spec.help} {spec.values[:1].upper()}{spec.values[1:]}."
    if spec.type == "bool":
        return st.toggle(label, bool(value), help=help, key=key)
    if spec.type == "choice":
        words = list(spec.choices)
        if value in words or (value is None and spec.optional):
            place = words.index(value) if value in words else None
            return st.selectbox(label, words, place, help=help, key=key)
    if spec.type in _NUMBERS and not spec.choices and (value is None or isinstance(value, int | float)):
        return _number_field(spec, label, value, help, key)
    text = st.text_input(label, _text(value), help=help, key=key, placeholder="unset" if spec.optional else None)
    return value if text == _text(value) else value_from_text(spec, text)


def _number_field(spec: FieldSpec, label: str, value: float | None, help: str, key: str) -> float | int | None:
    if spec.type == "int":
        whole = None if value is None else int(value)
        found = st.number_input(label, value=whole, step=1, help=help, key=key, placeholder="unset")
        return None if found is None else int(found)
    text = st.text_input(label, "" if value is None else f"{value:.10g}", help=help, key=key, placeholder="unset")
    return value if text == ("" if value is None else f"{value:.10g}") else value_from_text(spec, text)


def _keep(view: View, draft: Draft) -> None:
    st.download_button("Download", draft.text, "experiment.yaml", icon=":material/download:", on_click="ignore")
    if view.read_only:
        return
    name = st.text_input("Write to", str(Path.cwd() / "experiment.yaml"), key="file")
    with st.container(horizontal=True):
        if st.button("Write the file", icon=":material/save:", key="write"):
            _write(draft, Path(name))
        with confirmed("Write and train", ":material/rocket_launch:", "Begin a training with it now?", "train") as yes:
            st.caption(f"The run folder will appear in {view.shelf.folder.absolute()}.")
            if yes() and _write(draft, Path(name)):
                start_file(Path(name), view)
    show_started()


def _write(draft: Draft, file: Path) -> bool:
    try:
        st.success(f"Written: {write_draft(draft, file.expanduser())}")
    except MaskwrightError as error:
        st.error(str(error))
        return False
    return True


@st.cache_data(show_spinner=False, ttl=30)
def _base(source: str) -> dict[str, Any]:
    return read_base(source)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _same(one: Any, other: Any) -> bool:
    as_list = [list(value) if isinstance(value, tuple) else value for value in (one, other)]
    return bool(as_list[0] == as_list[1]) and isinstance(one, bool) == isinstance(other, bool)
