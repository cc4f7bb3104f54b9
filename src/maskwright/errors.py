"""Every error Maskwright raises on purpose, one family.

::

    MaskwrightError                something a person can mend; shown without a traceback, exit code 2
    ├── ConfigError                a setting, a file of settings, a command-line option
    ├── DataError                  rasters, labels, grids, splits
    │   ├── GridError              two rasters that should lie on one grid do not
    │   └── UnreadableError        one file that cannot be decoded
    ├── ModelError                 architecture, weights, shapes given to a network
    │   └── ShapeError             arrays whose sizes do not fit together
    ├── TrainingError              the run itself: a loss that is not finite, no samples
    ├── CheckpointError            a checkpoint or model folder that cannot be written, read or trusted
    ├── RunError                   a run folder that is missing, busy or of another version
    └── PredictionError            applying a model to new input

A message says what was wrong, where, and what to do. The cause, if another exception led here, stays in ``__cause__``.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GridError",
    "MaskwrightError",
    "ModelError",
    "PredictionError",
    "RunError",
    "ShapeError",
    "TrainingError",
    "UnreadableError",
]


class MaskwrightError(Exception):
    """Base of all errors a person can mend; the command line prints the message and exits with 2."""


class ConfigError(MaskwrightError):
    """A setting, a file of settings or a command-line option is wrong."""


class DataError(MaskwrightError):
    """Input data is missing, unreadable, inconsistent or too small."""


class GridError(DataError):
    """Two rasters that should lie on one grid do not."""


class UnreadableError(DataError):
    """A file that cannot be decoded: damaged, empty, no image. A source may leave such a file out, and says so."""


class ModelError(MaskwrightError):
    """A network cannot be built, loaded or used as asked."""


class ShapeError(ModelError):
    """Arrays whose sizes do not fit together."""


class TrainingError(MaskwrightError):
    """The training run cannot go on."""


class CheckpointError(MaskwrightError):
    """A checkpoint or model folder cannot be written, read or trusted."""


class RunError(MaskwrightError):
    """A run folder is missing, busy or of another version."""


class PredictionError(MaskwrightError):
    """A model cannot be applied to this input."""
