"""Packages that may or may not be there."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from maskwright.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_picture", "import_or_say"]


def import_or_say(module: str, what: str, install: str) -> Any:
    """A module of another package.

    Args:
        module: For example ``ultralytics``.
        what: What needs it, for the message.
        install: How to get it, for the message.

    Raises:
        ModelError: If it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as cause:
        missing = cause.name or module
        if missing.partition(".")[0] == module.partition(".")[0]:
            raise ModelError(f"{what} needs the package {missing}, which is not installed. {install}") from cause
        raise ModelError(f"{what}: the package {module} is installed, but lacks {missing}. {install}") from cause


def check_picture(image: NDArray[np.uint8]) -> None:
    """Raise ModelError unless the image is (H, W, 3) uint8, as these packages were trained on."""
    if image.ndim != 3 or image.shape[2] != 3 or str(image.dtype) != "uint8":
        raise ModelError(
            f"image is {image.shape} {image.dtype}, but must be (height, width, 3) uint8: red, green, blue, 0 to 255."
        )
