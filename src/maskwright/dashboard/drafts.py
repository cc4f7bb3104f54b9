"""What a new experiment may begin with: the run on show, experiment files near the runs, presets."""

from __future__ import annotations

from pathlib import Path

import yaml

from maskwright.config import Experiment, presets
from maskwright.config.load import PRESET_PREFIX
from maskwright.tracking import RunFolder

__all__ = ["sources"]


def sources(run: Path | None, folder: Path) -> dict[str, str]:
    """What a new experiment may begin with: label to file or preset.

    Args:
        run: The run on show.
        folder: Where experiment files may lie beside the runs: it and the folders above and here are looked at.
    """
    found: dict[str, str] = {}
    if run is not None and RunFolder(run).config.is_file():
        found[f"settings of {run.name}"] = str(RunFolder(run).config)
    for place in dict.fromkeys((Path.cwd(), folder.absolute(), folder.absolute().parent)):
        for file in sorted([*place.glob("*.yaml"), *place.glob("*.yml")])[:50]:
            if _looks_like_experiment(file):
                found[f"file {file}"] = str(file)
    found |= {f"preset {name}: {says}": f"{PRESET_PREFIX}{name}" for name, says in presets().items()}
    return found


def _looks_like_experiment(file: Path) -> bool:
    """Whether a YAML file names two sections of an experiment at least; others may lie there too."""
    try:
        if file.stat().st_size > 1 << 20:
            return False
        tree = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and len(Experiment.model_fields.keys() & tree.keys()) >= 2
