"""Tables of the pages as data frames: epochs, checkpoints, comparison, settings, events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from maskwright.tracking import RunFolder
from maskwright.tracking.facts import best_epoch, checkpoint_words, clock_text, number_text, score_name, size_text

if TYPE_CHECKING:
    import pandas as pd

    from maskwright.tracking.shelf import Snapshot

__all__ = [
    "checkpoint_frame",
    "comparison_frame",
    "event_frame",
    "history_frame",
    "log_tail",
    "measured_frame",
    "metadata_frame",
    "settings_difference",
    "settings_of",
]

_TAIL = 1 << 18  # bytes of the log that are looked at


def history_frame(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each epoch, a column for each number; what is no number is left out."""
    import pandas as pd

    rows = [
        {name: float(value) for name, value in entry.items() if _is_number(value)} | {"epoch": int(entry["epoch"])}
        for entry in history
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame({"epoch": pd.Series(dtype="int64")})


def checkpoint_frame(run: Snapshot, verified: Mapping[str, str]) -> pd.DataFrame:
    """A row for each checkpoint, newest first.

    Args:
        run: The run.
        verified: By file: what a check of its bytes found.
    """
    import pandas as pd

    rows = []
    for record in reversed(run.manifest.records):
        kept = (RunFolder(run.path).checkpoints / record.file).is_file()
        rows.append(
            {
                "file": record.file,
                "what": ", ".join(checkpoint_words(run.manifest, record)),
                "epoch": record.epoch,
                "updates": record.global_step,
                run.manifest.monitor or "score": record.scores.get(run.manifest.monitor or ""),
                "size": size_text(record.bytes),
                "saved (UTC)": clock_text(record.time),
                "file is": verified.get(record.file, "not checked") if kept else "missing",
            }
        )
    return pd.DataFrame(rows)


def comparison_frame(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], name: str, mode: str) -> pd.DataFrame:
    """A row for each run: best and last value of a score, and how they differ from the first run.

    Args:
        runs: Name and history of each.
        name: A key of the histories, ``val/iou``.
        mode: ``min`` or ``max``.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for run, history in runs:
        best = best_epoch(tuple(history), name, mode)
        values = [float(entry[name]) for entry in history if _is_number(entry.get(name))]
        row: dict[str, Any] = {
            "run": run,
            "epochs": len(history),
            f"best {name}": None if best is None else best.score,
            "in epoch": None if best is None else best.epoch,
            f"last {name}": values[-1] if values else None,
        }
        first = rows[0] if rows else row
        own, other = row[f"best {name}"], first[f"best {name}"]
        row["difference of best"] = own - other if rows and own is not None and other is not None else None
        rows.append(row)
    return pd.DataFrame(rows)


def measured_frame(evaluations: Mapping[str, Path]) -> pd.DataFrame:
    """Scores on the test part with their intervals, a row for each run and column; empty if no run was scored."""
    import pandas as pd

    rows = []
    for run, path in evaluations.items():
        try:
            content = json.loads(path.read_bytes())
            score = content.get("score", "iou")
            parts = [(_column(row), row["scores"].get(score), row["intervals"].get(score)) for row in content["model"]]
            if len(parts) > 1:
                parts.append(("mean", content.get("mean", content.get("mean_iou")), content.get("mean_interval")))
            rows += [_measured(run, score, *part) for part in parts]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not scored, or not as we write it: the run stands in the table above all the same
    return pd.DataFrame(rows)


def settings_of(path: Path) -> dict[str, Any]:
    """The settings of a run, flat: ``training.epochs``; empty if they cannot be read."""
    try:
        tree = yaml.safe_load(RunFolder(path).config.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_flat(tree, "")) if isinstance(tree, dict) else {}


def settings_difference(settings: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The settings that are not the same in all runs, a row each; ``-`` where a run has no such setting."""
    import pandas as pd

    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = []
    for name in names:
        said = {run: _said(values[name]) if name in values else "-" for run, values in settings.items()}
        if len(set(said.values())) > 1:
            rows.append({"setting": name, **said})
    return pd.DataFrame(rows)


def event_frame(run: Snapshot, kinds: Sequence[str] = ("warning", "error", "command")) -> pd.DataFrame:
    """What happened, newest first."""
    import pandas as pd

    rows = [
        {
            "time (UTC)": str(row.get("time", "")).partition(".")[0].replace("T", " "),
            "what": kind,
            "update": row.get("global_step"),
            "message": str(row["message"]) if "message" in row else _values(row),
        }
        for kind in kinds
        for row in run.of_kind(kind)
    ]
    return pd.DataFrame(sorted(rows, key=lambda row: str(row["time (UTC)"]), reverse=True))


def metadata_frame(fields: Mapping[str, Any]) -> pd.DataFrame:
    """Machine and versions of a run."""
    import pandas as pd

    environment = fields.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    versions = environment.get("versions")
    rows = [
        ("computer", fields.get("host")),
        ("system", environment.get("system")),
        ("processor", environment.get("cpu")),
        ("cores", environment.get("cores")),
        ("memory", size_text(environment["memory_mb"] * 2**20) if _is_number(environment.get("memory_mb")) else None),
        ("device", fields.get("device")),
        ("precision", fields.get("precision")),
        ("Python", environment.get("python")),
        *(versions.items() if isinstance(versions, dict) else ()),
        ("commit", environment.get("commit")),
        ("process", fields.get("pid")),
        ("attempt", fields.get("attempt")),
    ]
    return pd.DataFrame([(name, str(value)) for name, value in rows if value is not None], columns=["what", "value"])


def log_tail(path: Path, count: int, containing: str = "") -> list[str]:
    """The last lines of a text file that contain a text, in any case; none if there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if containing.lower() in line.lower()][-count:]


def _measured(run: str, score: str, column: str, value: object, interval: object) -> dict[str, Any]:
    ends = interval if isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval)) else None
    return {
        "run": run,
        "score": f"{score_name(score)}, {column}",
        "value": float(value) if _is_number(value) else None,  # type: ignore[arg-type]
        "95% interval": "-" if ends is None else f"{number_text(ends[0], 3)} to {number_text(ends[1], 3)}",
    }


def _column(row: Mapping[str, Any]) -> str:
    return str(row["column"]) if "column" in row else f"{row['height_m']:g} m"


def _values(row: Mapping[str, Any]) -> str:
    """``set_lr, lr 0.001`` from a row of a command."""
    own = {key: value for key, value in row.items() if key not in ("time", "kind", "attempt", "global_step", "command")}
    return ", ".join([*([str(row["command"])] if "command" in row else []), *(f"{k} {v}" for k, v in own.items())])


def _flat(tree: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    return [
        pair
        for name, value in tree.items()
        for pair in (_flat(value, f"{before}{name}.") if isinstance(value, dict) else [(f"{before}{name}", value)])
    ]


def _said(value: Any) -> str:
    return "unset" if value is None else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
