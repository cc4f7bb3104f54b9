from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from maskwright.config.drafts import read_base
from maskwright.desktop.document_fields import initial_settings
from maskwright.desktop.examine import Verdict, examine, weights_out_of_reach


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """Folders as document 004 has them; the files are never opened here."""
    for name in ("images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return {
        "images_dir": str(tmp_path / "images"),
        "masks_dir": str(tmp_path / "masks"),
        "checkpoint_dir": str(tmp_path / "runs"),
    }


def looked_at(paths: dict[str, str], **changes: Any) -> Verdict:
    said = initial_settings({"encoder_weights": None}, paths) | {
        path.replace("__", "."): value for path, value in changes.items()
    }
    return examine(None, said, read_base(None, said))


def test_a_draft_without_faults_is_an_experiment_with_all_its_settings(pictures: dict[str, str]) -> None:
    verdict = looked_at(pictures)
    assert verdict.can_start
    assert verdict.experiment is not None
    assert verdict.experiment.training.epochs == 50
    assert verdict.values["training.epochs"] == 50
    assert (verdict.faults, verdict.advice) == ({}, {})


def test_wrong_values_are_told_at_their_settings(pictures: dict[str, str]) -> None:
    verdict = looked_at(pictures, training__epochs=0, loss__bce=0, loss__dice=0)
    assert not verdict.can_start
    assert verdict.values == {}
    assert verdict.faults["training.epochs"][0].startswith("0 is below the minimum 1. Set a whole number")
    assert "At least one term needs a weight" in verdict.faults[""][0]


def test_places_that_are_not_there_are_told_before_the_start(pictures: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a_file"
    file.touch()
    missing, empty = str(tmp_path / "missing"), str(tmp_path / "lists")
    Path(empty).mkdir()
    verdict = looked_at(pictures | {"images_dir": missing, "masks_dir": str(file), "split_dir": empty})
    assert verdict.faults == {
        "data.images": (f"{missing} does not exist.",),
        "data.labels.folder": (f"{file} is a file; choose a folder.",),
        "data.split.files": (f"{empty} has no train.txt and no val.txt.",),
    }
    (Path(empty) / "train.txt").touch()
    assert looked_at(pictures | {"split_dir": empty}).faults["data.split.files"] == (f"{empty} has no val.txt.",)
    assert not verdict.can_start


def test_a_folder_that_must_not_be_written_in_is_told(
    pictures: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a_file"
    file.touch()
    inside = looked_at(pictures | {"checkpoint_dir": str(file / "runs")})
    assert inside.faults["tracking.output_dir"] == (f"{file} is a file; choose a folder.",)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert looked_at(pictures).faults["tracking.output_dir"] == (
        f"Nothing may be written in {tmp_path}. Choose another folder.",
    )


def test_folders_that_do_not_belong_together_are_told(pictures: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    advice = looked_at(pictures | {"masks_dir": str(other)}).advice
    assert advice == {"data.labels.folder": f"There are no masks in {other}."}
    (other / "inner" / "x.png").touch()
    advice = looked_at(pictures | {"masks_dir": str(other)}).advice
    assert advice["data.labels.folder"] == (
        "No mask is named as an image: the first image is a, the first mask x. Choose the folders that belong together."
    )
    (other / "inner" / "b_mask.png").touch()
    assert looked_at(pictures | {"masks_dir": str(other)}, data__labels__suffix="_mask").advice == {}
    assert looked_at(pictures | {"images_dir": str(tmp_path / "runs")}).advice == {}  # told as a fault


def test_weights_that_cannot_be_had_are_told_before_the_start(
    pictures: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(address: Any, timeout: float) -> Any:
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "create_connection", nobody)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    verdict = looked_at(pictures, model__encoder_weights="imagenet")
    assert verdict.can_start  # it may be reachable a minute later
    assert verdict.advice["model.encoder_weights"] == (
        "The weights of resnet34 are not on this computer, and hub.example does not answer. Clear the box to start "
        "from random weights, or connect to the internet once."
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in weights_out_of_reach("resnet34")
    (tmp_path / "models--smp-hub--resnet34.imagenet").mkdir()
    assert weights_out_of_reach("resnet34") == ""


def test_weights_can_be_fetched_where_the_hub_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as hub:
        hub.bind(("127.0.0.1", 0))
        hub.listen()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
        assert weights_out_of_reach("resnet34") == ""
