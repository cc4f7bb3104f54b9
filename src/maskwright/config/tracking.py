"""Where runs are written, what they say while they work, and who else is told."""

from __future__ import annotations

from pathlib import Path

from maskwright.config.base import Field, Section

__all__ = ["TrackingConfig"]


class TrackingConfig(Section):
    """The run folder, and the services that follow a run; none of them can stop or slow it."""

    output_dir: Path = Field(
        Path("outputs"),
        beside_file=False,
        help="Folder that holds the run folders; a relative one starts from the working folder.",
    )
    log_every_steps: int = Field(10, ge=1, unit="steps", help="Updates from one row of the event log to the next.")
    resources_every_s: float = Field(
        10.0,
        ge=0.1,
        unit="s",
        help="Seconds from one sample of processor, memory, speed and waiting for data to the next.",
    )
    quiet: bool = Field(False, help="No progress on the screen.")
    tensorboard: bool = Field(
        True, help="Write curves, pictures and settings for TensorBoard into the run folder (package: tensorboard)."
    )
    mlflow: bool = Field(False, help="Send the run to MLflow as well (package: mlflow or mlflow-skinny).")
    mlflow_uri: str | None = Field(
        None, help="Address of MLflow; unset: the variable MLFLOW_TRACKING_URI, else the folder mlruns here."
    )
    mlflow_experiment: str = Field("maskwright", min_length=1, help="Name of the experiment that holds the runs.")
    wandb: bool = Field(
        False, help="Send the run to Weights & Biases as well (package: wandb); WANDB_MODE=offline keeps it here."
    )
    wandb_project: str = Field("maskwright", min_length=1, help="Project of Weights & Biases.")
    wandb_entity: str | None = Field(None, help="User or team of Weights & Biases; unset: that of the account.")
    finish_timeout_s: float = Field(
        15.0, ge=0, unit="s", help="How long the end of a run waits for services that have not taken everything yet."
    )
