"""Parent: the weights of an earlier run that a new run starts from, and whether they are those of its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.errors import CheckpointError, ConfigError, RunError
from maskwright.files import sha256_file
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.difference_table import difference_table
from maskwright.workflows.unfinished import run_around

if TYPE_CHECKING:
    from maskwright.workflows.assemble import Parts

__all__ = ["Parent", "parent_of", "require_same_network", "require_unchanged"]

_MODEL_JSON = "model.json"
# Settings of a network that change neither its weights nor what they mean.
_FREE = ("initial_weights", "partial_weights", "encoder_weights", "dropout", "drop_path", "init")


@dataclass(frozen=True)
class Parent:
    """Where the weights of a new run come from.

    Attributes:
        folder: The run folder, or the model folder where there is no run.
        checkpoint: The file of the weights inside it.
        sha256: Of that file, 64 hexadecimal digits.
        epoch: Epochs the weights have been trained for; None: unknown.
        description: What the file says of its network: task, classes, bands, settings. Empty: nothing.
        notes: What a person should know, for example that the best checkpoint is damaged.
    """

    folder: Path
    checkpoint: str
    sha256: str
    epoch: int | None
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> Path:
        """The file."""
        return self.folder / self.checkpoint

    @property
    def config(self) -> Path | None:
        """The settings of the run the weights come from; None where there is no run."""
        run = run_around(self.weights)
        return run.config if run is not None and run.config.is_file() else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return {
            "folder": str(self.folder),
            "checkpoint": self.checkpoint,
            "sha256": self.sha256,
            "epoch": self.epoch,
        }

    def __str__(self) -> str:
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        return f"Starts from the weights of {self.folder}: {self.checkpoint}{epoch}, sha256 {self.sha256[:12]}."


def parent_of(path: Path) -> Parent:
    """The weights that a path means.

    Args:
        path: A run folder (its best checkpoint), a checkpoint file, a model folder or its file of weights.

    Raises:
        RunError: If there is nothing there, or the run has not saved anything yet.
        CheckpointError: If the weights are damaged, or no checkpoint of Maskwright.
    """
    path = path.absolute()
    if not path.exists():
        raise RunError(f"--resume: {path} does not exist. Give a run folder, a checkpoint file or a model folder.")
    if (path / "run.json").is_file():
        return _of_run(RunFolder.open(path))
    if path.name == "model.safetensors":
        path = path.parent
    if (path / _MODEL_JSON).is_file():
        return _of_model_folder(path)
    if path.is_file():
        return _of_checkpoint(path)
    raise RunError(f"--resume: {path} holds no run and no model. Give a run folder, a checkpoint or a model folder.")


def require_same_network(parent: Parent, parts: Parts) -> None:
    """Refuse weights made for other classes, bands or another architecture than those of a new run.

    Raises:
        ConfigError: With a table of what differs.
    """
    from maskwright.workflows.model_description import describe_model

    theirs, ours = _facts(parent.description, parts), _facts(describe_model(parts), parts)
    rows = [
        (name, theirs[name], ours[name]) for name in sorted(theirs.keys() & ours.keys()) if theirs[name] != ours[name]
    ]
    if rows:
        raise ConfigError(
            f"The weights of {parent.weights} are those of another network:\n"
            f"{difference_table(('', 'the weights', 'this run'), rows)}\n"
            "Give this run the same classes, bands and network, or set model.partial_weights: true to take what fits."
        )


def require_unchanged(recorded: Mapping[str, Any]) -> None:
    """Make sure that the weights a run was begun from are still the same, where it has to begin from them again.

    Args:
        recorded: The parent as run.json has it.

    Raises:
        RunError: If the file is gone or another.
    """
    file = Path(recorded["folder"]) / recorded["checkpoint"]
    advice = "Put it back, or start a new run."
    if not file.is_file():
        raise RunError(f"The weights this run starts from are gone: {file}. {advice}")
    if sha256_file(file) != recorded["sha256"]:
        raise RunError(f"The weights this run starts from have changed since it was begun: {file}. {advice}")


def _of_run(folder: RunFolder) -> Parent:
    from maskwright.checkpoints import CheckpointStore

    store = CheckpointStore(folder)
    if not store.records:
        if (folder.model / _MODEL_JSON).is_file():
            return _of_model_folder(folder.model)
        raise RunError(f"{folder.path} has not saved any weights yet. Train it first, or give another run.")
    loaded = store.load_best(mmap=True)
    record = loaded.record
    name = f"{folder.checkpoints.name}/{record.file}"
    return Parent(folder.path.absolute(), name, record.sha256, record.epoch, _described(loaded.state), loaded.notes)


def _of_checkpoint(path: Path) -> Parent:
    from maskwright.checkpoints import CheckpointStore, load_state, read_about

    sha256 = sha256_file(path)
    state, about = load_state(path, mmap=True), read_about(path)
    run, name = run_around(path), path.name
    if run is None:
        return Parent(path.parent, name, sha256, about.get("epoch"), _described(state))
    same = [record for record in CheckpointStore(run).records if record.sha256 == sha256]
    if same:  # by its own name: checkpoint_best.pt may be another file tomorrow
        name = same[0].file
    return Parent(run.path.absolute(), f"{path.parent.name}/{name}", sha256, about.get("epoch"), _described(state))


def _of_model_folder(path: Path) -> Parent:
    from maskwright.checkpoints import load_description

    description = load_description(path)
    weights = description["weights"]
    if sha256_file(path / weights["file"]) != weights["sha256"]:
        raise CheckpointError(f"{path / weights['file']} is damaged: it is not what {_MODEL_JSON} describes.")
    run = run_around(path)
    folder, name = (path, weights["file"]) if run is None else (run.path, f"{path.name}/{weights['file']}")
    return Parent(folder.absolute(), name, weights["sha256"], description.get("epoch"), description)


def _described(state: Mapping[str, Any]) -> Mapping[str, Any]:
    described: Mapping[str, Any] = state.get("description", {})
    return described


def _facts(description: Mapping[str, Any], parts: Parts) -> dict[str, str]:
    """What must be equal, in words: task, what is found, what goes in, the settings of the network."""
    if "model" not in description or "task" not in description:
        return {}  # a loop of one's own said nothing of its network; its weights are compared when they are loaded
    model = description["model"]
    facts = {f"model.{name}": value for name, value in model.items() if name not in _FREE}
    facts |= {name: description[name] for name in ("in_channels", "input", "band_names") if name in description}
    facts["task"] = description["task"]["kind"]
    if description.get("classes"):
        facts["classes"] = description["classes"]
    elif not parts.experiment.model.conditioned and description.get("heights_m"):
        facts["heights in metres"] = description["heights_m"]
    return {name: _text(value) for name, value in facts.items()}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
