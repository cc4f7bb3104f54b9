"""Flat names of the earlier systems to an experiment: attributes of ``Config``, dictionary of ``TrainingThread``.

``FLAT_NAMES`` is the whole translation, one line a name. A value this version has no setting for is refused with the
reason, never dropped; one that only says "off" passes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.config.base import Section
from maskwright.config.experiment import Experiment
from maskwright.config.faults import did_you_mean, show
from maskwright.config.load import section_from
from maskwright.config.merge import put
from maskwright.config.metric_names import canonical_metric
from maskwright.config.optim import (
    OPTIMIZER_NAMES,
    SCHEDULE_NAMES,
    USUAL_WARMUP_EPOCHS,
    WARMED,
    optimizer_kind,
    schedule_kind,
)
from maskwright.config.yaml_tree import Fault, Mark, Node, to_node
from maskwright.errors import ConfigError

__all__ = ["FLAT_NAMES", "FlatName", "flat_settings", "from_flat"]

_Flat = Mapping[str, Any]
_Settings = Mapping[str, Any]  # dotted path to plain value


@dataclass(frozen=True, slots=True)
class FlatName:
    """What becomes of one flat name.

    Attributes:
        path: Our setting, or the section that takes over; for the docs as well.
        convert: From the value and all flat values to settings by dotted path; raises ``_NoPlaceError`` with the
            reason. None: the value as it is.
    """

    path: str
    convert: Callable[[Any, _Flat], _Settings] | None = None


class _NoPlaceError(ValueError):
    """This version's settings cannot say it; the text says why."""


def from_flat(
    flat: object, *, data: Section | Mapping[str, Any] | str | os.PathLike[str] | None = None, name: str = "converted"
) -> Experiment:
    """Turn flat settings into an experiment.

    Args:
        flat: A mapping of flat names, or an object whose public attributes are the settings.
        data: Where the data lies: a folder of rasters, or a data section. The flat names say nothing of height rasters;
            folders of photographs they do.
        name: Name of the experiment.

    Returns:
        The experiment; settings that no flat name says have their defaults.

    Raises:
        ConfigError: Every unknown name (with a suggestion), every value that has no place in this version's settings
            (with the reason), names that contradict each other, and values out of range; one a line.
    """
    tree = Node({}, Mark("flat settings"))
    put(tree, "name", to_node(name, Mark("name")))
    put(tree, "data", Node({}, tree.mark) if data is None else _data_node(data))
    said, faults = _settings_said(flat)
    for path, (setting, mark) in said.items():
        put(tree, path, to_node(setting, mark))
    return section_from(Experiment, [tree], faults)


def flat_settings(flat: object) -> dict[str, Any]:
    """The settings that flat names say, by dotted path; whether they make an experiment is not asked.

    Raises:
        ConfigError: For names as :func:`from_flat` refuses them, one a line; values out of range pass.
    """
    said, faults = _settings_said(flat)
    if faults:
        raise ConfigError("\n".join(str(fault) for fault in faults))
    return {path: setting for path, (setting, _) in said.items()}


def _settings_said(flat: object) -> tuple[dict[str, tuple[Any, Mark]], list[Fault]]:
    """Settings by path with who said them, and what is wrong with the names."""
    values = dict(flat) if isinstance(flat, Mapping) else _attributes(flat)
    said: dict[str, tuple[Any, Mark]] = {}
    faults: list[Fault] = []
    said_by: dict[str, tuple[str, Any]] = {}
    for flat_name, value in values.items():
        if flat_name not in FLAT_NAMES:
            faults.append(Fault(str(flat_name), "unknown name", None, did_you_mean(flat_name, list(FLAT_NAMES))))
            continue
        try:
            settings = _convert(flat_name, value, values)
        except _NoPlaceError as error:
            faults.append(Fault(flat_name, f"{show(value)} has no place in this version's settings: {error}"))
            continue
        for path, setting in settings.items():
            other, before = said_by.setdefault(path, (flat_name, setting))
            if before != setting:
                faults.append(Fault(flat_name, f"{show(value)} contradicts {other} = {show(values[other])}"))
            said[path] = setting, Mark(f"{flat_name} = {show(value)}")
    return said, faults


def _convert(name: str, value: Any, flat: _Flat) -> _Settings:
    row = FLAT_NAMES[name]
    if row.convert is not None:
        return row.convert(value, flat)
    return {} if value is None else {row.path: value}


def _attributes(settings: object) -> dict[str, Any]:
    """Public attributes of an object or class, without its methods."""
    named = {name: getattr(settings, name) for name in dir(settings) if not name.startswith("_")}
    return {name: value for name, value in named.items() if not callable(value)}


def _data_node(data: Section | Mapping[str, Any] | str | os.PathLike[str]) -> Node:
    if isinstance(data, Section):
        data = data.to_dict()
    return to_node(dict(data) if isinstance(data, Mapping) else {"folder": os.fspath(data)}, Mark("data"))


def _word(value: Any) -> str:
    """A word without case and punctuation: ``ReduceLROnPlateau`` and ``reduce_lr_on_plateau`` are one."""
    return re.sub(r"[^a-z0-9]", "", str(value).lower())


def _is_off(value: Any) -> bool:
    return not value or _word(value) in ("none", "null", "off", "false")


def _refuse(reason: str) -> Callable[[Any, _Flat], _Settings]:
    """A converter for what does not exist yet; a value that only says "off" passes."""

    def convert(value: Any, flat: _Flat) -> _Settings:
        if not _is_off(value):
            raise _NoPlaceError(reason)
        return {}

    return convert


def _model(value: Any, flat: _Flat) -> _Settings:
    kinds = {
        "attentionunet": "attention_unet",
        "deeplabv3plus": "deeplabv3plus",
        "deeplabv3plusthreshold": "deeplabv3plus_film",
        "filmunet": "film_unet",
        "resunet": "resunet",
        "resunetfilm": "resunet_film",
        "unet": "unet",
        "unetallfeatures": "unet_all_features",
        "unetfilm": "film_unet",
    }
    if not _is_off(flat.get("encoder")):
        return {"model.kind": "smp", "model.decoder": _word(value)}
    if _word(value) not in kinds:
        raise _NoPlaceError(f"its networks are {', '.join(sorted(set(kinds.values())))}")
    return {"model.kind": kinds[_word(value)]}


def _encoder(value: Any, flat: _Flat) -> _Settings:
    return {} if _is_off(value) else {"model.kind": "smp", "model.encoder": str(value)}


def _encoder_weights(value: Any, flat: _Flat) -> _Settings:
    if _is_off(value):
        return {}
    if _is_off(flat.get("encoder")):
        raise _NoPlaceError("they belong to a ready-made encoder; name it with encoder")
    return {"model.encoder_weights": str(value)}


def _is_of_photographs(flat: _Flat) -> bool:
    return any(not _is_off(flat.get(name)) for name in ("images_dir", "masks_dir", "split_dir"))


def _photographs(path: str, **more: str) -> Callable[[Any, _Flat], _Settings]:
    """A converter for a folder of the system that knew photographs, and one class, alone."""

    def convert(value: Any, flat: _Flat) -> _Settings:
        return {} if _is_off(value) else {"task.kind": "binary", path: str(value), **more}

    return convert


def _optimizer(value: Any, flat: _Flat) -> _Settings:
    kind = optimizer_kind(value)
    if kind not in OPTIMIZER_NAMES.values():
        raise _NoPlaceError(f"its optimizers are {', '.join(sorted(OPTIMIZER_NAMES.values()))}")
    return {"optim.optimizer.kind": kind}


def _schedule_word(flat: _Flat) -> str | None:
    """The schedule in one word, ``none`` if it is off, None if nothing was said."""
    said = [flat[name] for name in ("scheduler_type", "scheduler") if name in flat]
    return None if not said else "none" if _is_off(said[0]) else _word(said[0])


def _schedule(value: Any, flat: _Flat) -> _Settings:
    kind = "constant" if _is_off(value) else schedule_kind(value)
    kinds = sorted(set(SCHEDULE_NAMES.values()))
    if kind not in kinds:
        raise _NoPlaceError(f"its schedules are {', '.join(kinds)}")
    warmed = {"optim.warmup_epochs": USUAL_WARMUP_EPOCHS} if _word(value) in WARMED else {}
    return {"optim.schedule.kind": kind} | ({} if flat.get("warmup_epochs") is not None else warmed)


def _warmup_epochs(value: Any, flat: _Flat) -> _Settings:
    schedule = _schedule_word(flat)
    if value is None or schedule not in (None, *WARMED):
        return {}  # only schedules with a warm-up ever looked at it
    return {"optim.warmup_epochs": value}


def _scheduler_patience(value: Any, flat: _Flat) -> _Settings:
    schedule = _schedule_word(flat)
    if value is None or schedule_kind(schedule) != "reduce_on_plateau":
        return {}  # the others never looked at it
    return {"optim.schedule.patience": value}


def _clipping(value: Any, flat: _Flat) -> _Settings:
    by_norm, by_value = flat.get("clip_norm"), flat.get("clip_value")
    if not flat.get("use_gradient_clipping", True):
        by_norm = by_value = None
    elif by_norm is None and by_value is None and flat.get("use_gradient_clipping"):
        by_norm = 1.0  # what the earlier system did when only told to clip
    return {"training.clip_norm": by_norm, "training.clip_value": by_value}


def _droppath(value: Any, flat: _Flat) -> _Settings:
    probabilities = (flat.get("droppath_start_prob"), flat.get("droppath_final_prob"))
    wanted = flat.get("use_droppath", any(not _is_off(probability) for probability in probabilities))
    if not _is_off(wanted):
        raise _NoPlaceError("set model.drop_path of a residual network, and training.drop_path for how it rises")
    return {}


def _threshold_weights(value: Any, flat: _Flat) -> _Settings:
    return {} if _is_off(value) else {"loss.height_weights": "rare_gaps"}


def _threshold_adjustment(value: Any, flat: _Flat) -> _Settings:
    if not _is_off(value) and not _is_off(flat.get("use_threshold_weights", True)):
        raise _NoPlaceError("weights by height are measured; loss.height_weights says how")
    return {}


def _loss(value: Any, flat: _Flat) -> _Settings:
    said = flat.get("loss_type", flat.get("loss", "combined"))
    weights = {term: flat.get(f"{term}_weight") for term in ("bce", "dice", "focal")}
    kind = _word(said).removesuffix("loss")
    if kind in weights:
        chosen = {term: float(term == kind) for term in weights}
    elif kind == "combined":  # taken as they are, as the earlier dialog did
        default = {"bce": 0.5, "dice": 0.5, "focal": 0.0}
        chosen = {term: default[term] if weight is None else weight for term, weight in weights.items()}
        return {"loss.weights": "raw"} | {f"loss.{term}": weight for term, weight in chosen.items()}
    elif kind == "combo":
        chosen = {"bce": 0.5, "dice": 0.3, "focal": 0.2}
    elif kind == "combinedfocaldice":  # its one alpha both mixed the terms and weighed the classes
        chosen = {"bce": 0.0, "dice": 0.5, "focal": 0.5}
        return {"loss.focal_alpha": 0.5} | {f"loss.{term}": weight for term, weight in chosen.items()}
    elif kind in ("iou", "jaccard"):
        chosen = {"bce": 0.0, "dice": 0.0, "focal": 0.0, "jaccard": 1.0}
    else:
        raise _NoPlaceError("its terms are bce, dice, focal, iou and the weighted sum of the first three")
    return {f"loss.{term}": weight for term, weight in chosen.items()}


def _heights(value: Any, flat: _Flat) -> _Settings:
    if value is None:
        return {}
    heights = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
    numbers = isinstance(heights, list) and all(isinstance(height, int | float) for height in heights)
    return {"task.heights_m": sorted(heights) if numbers else heights}  # what is no list of numbers is refused later


def _monitor(value: Any, flat: _Flat) -> _Settings:
    return {} if value is None else {"callbacks.monitor": canonical_metric(str(value))}


def _save_best_only(value: Any, flat: _Flat) -> _Settings:
    return {"checkpoints.max_checkpoints": 1} if value else {}  # the newest stays as well, to go on from


def _progress_bar(value: Any, flat: _Flat) -> _Settings:
    return {"tracking.quiet": not value}


def _device(value: Any, flat: _Flat) -> _Settings:
    return {} if value is None else {"training.device": str(value)}


def _folders(value: Any, flat: _Flat) -> _Settings:
    """Logs and checkpoints of a run share one folder here: the one that held both."""
    named = [flat[name] for name in ("checkpoint_dir", "CHECKPOINTS_DIR", "LOGS_DIR") if flat.get(name) is not None]
    if not named:
        return {}
    whole = [os.path.abspath(str(folder)) for folder in named]
    shared = os.path.commonpath(whole)
    if Path(shared) == Path(shared).parent:
        raise _NoPlaceError("logs and checkpoints of a run lie in one folder, and these folders have none in common")
    return {"tracking.output_dir": shared}


def _image_size(value: Any, flat: _Flat) -> _Settings:
    width, height = flat.get("image_width", value), flat.get("image_height", value)
    if None in (width, height):
        return {} if width == height else {"data.tiles.size_px": width or height}
    if _is_of_photographs(flat):  # whole pictures of this size, each a tile
        return {"data.tiles.size_px": max(width, height), "data.resize_px": [height, width]}
    if width != height:
        raise _NoPlaceError("tiles are square; give width and height alike")
    return {"data.tiles.size_px": width}


def _augmentation(value: Any, flat: _Flat) -> _Settings:
    if value is None:
        return {}
    if value == 0:
        return {"data.augment.enabled": False}
    if _is_of_photographs(flat):  # its changes had a probability of 0.5
        return {"data.augment.preset": "document_004", "data.augment.strength": 2 * value}
    return {f"data.augment.{change}": value for change in ("flip_p", "turn_p", "rotate_p")}


FLAT_NAMES: dict[str, FlatName] = {
    # said in both
    "learning_rate": FlatName("optim.optimizer.lr"),
    "batch_size": FlatName("data.loader.batch_size"),
    "num_workers": FlatName("data.loader.workers"),
    "optimizer": FlatName("optim.optimizer.kind", _optimizer),
    "weight_decay": FlatName("optim.optimizer.weight_decay"),
    "device": FlatName("training.device", _device),
    "seed": FlatName("training.seed"),
    "early_stopping_patience": FlatName("callbacks.early_stopping.patience"),
    # the attribute Config
    "epochs": FlatName("training.epochs"),
    "scheduler_type": FlatName("optim.schedule.kind", _schedule),
    "warmup_epochs": FlatName("optim.warmup_epochs", _warmup_epochs),
    "use_gradient_clipping": FlatName("training.clip_norm", _clipping),
    "clip_value": FlatName("training.clip_value", _clipping),
    "clip_norm": FlatName("training.clip_norm", _clipping),
    "monitor_gradients": FlatName("tracking", lambda value, flat: {}),  # every run logs the norm of its gradients
    "use_threshold_weights": FlatName("loss.height_weights", _threshold_weights),
    "threshold_weight_adjustment": FlatName("loss.height_weights", _threshold_adjustment),
    "use_droppath": FlatName("model", _droppath),
    "droppath_start_prob": FlatName("model", _droppath),
    "droppath_final_prob": FlatName("model", _droppath),
    "droppath_strategy": FlatName("model", _droppath),
    "thresholds": FlatName("task.heights_m", _heights),
    "model_name": FlatName("model.kind", _model),
    "loss_type": FlatName("loss", _loss),
    "use_early_stopping": FlatName("callbacks.early_stopping.enabled"),
    "early_stopping_min_delta": FlatName("callbacks.early_stopping.min_delta"),
    "early_stopping_min_epochs": FlatName("callbacks.early_stopping.min_epochs"),
    "early_stopping_monitor": FlatName("callbacks.monitor", _monitor),
    "early_stopping_mode": FlatName("callbacks.mode"),
    "save_best_only": FlatName("checkpoints.max_checkpoints", _save_best_only),
    "monitor_metric": FlatName("callbacks.monitor", _monitor),
    "vis_save_frequency": FlatName("tracking", _refuse("no pictures are drawn during training")),
    "use_tensorboard": FlatName(
        "tracking", _refuse("nothing is written for TensorBoard; the run folder has the history")
    ),
    "use_progress_bar": FlatName("tracking.quiet", _progress_bar),
    "LOGS_DIR": FlatName("tracking.output_dir", _folders),
    "CHECKPOINTS_DIR": FlatName("tracking.output_dir", _folders),
    # the dictionary of TrainingThread
    "architecture": FlatName("model.kind", _model),
    "encoder": FlatName("model.encoder", _encoder),
    "encoder_weights": FlatName("model.encoder_weights", _encoder_weights),
    "num_epochs": FlatName("training.epochs"),
    "split_dir": FlatName("data.split.files", _photographs("data.split.files", **{"data.split.by": "files"})),
    "images_dir": FlatName("data.images", _photographs("data.images")),
    "masks_dir": FlatName("data.labels.folder", _photographs("data.labels.folder")),
    "checkpoint_dir": FlatName("tracking.output_dir", _folders),
    "loss": FlatName("loss", _loss),
    "bce_weight": FlatName("loss.bce", _loss),
    "dice_weight": FlatName("loss.dice", _loss),
    "focal_weight": FlatName("loss.focal", _loss),
    "scheduler": FlatName("optim.schedule.kind", _schedule),
    "scheduler_patience": FlatName("optim.schedule.patience", _scheduler_patience),
    "image_width": FlatName("data.tiles.size_px", _image_size),
    "image_height": FlatName("data.tiles.size_px", _image_size),
    "augmentation_prob": FlatName("data.augment", _augmentation),
}
