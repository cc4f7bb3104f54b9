"""What a prediction says to a program that started it: a line of JSON on standard output for each thing that happens.

=============  ==========================================================================================
``kind``       other fields
=============  ==========================================================================================
``progress``   ``done``, ``total``, ``what``
``result``     ``input``, ``files`` (path by what it is), ``error`` (empty: all went well), ``notes``,
               ``seconds``, ``size`` (rows, columns), ``heights_m``, ``per_height``, ``per_class``
``end``        ``inputs``, ``failed``: how many
``failed``     ``message``: why nothing could be done
=============  ==========================================================================================
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from maskwright.files import json_text

if TYPE_CHECKING:
    from maskwright.prediction import RasterResult

__all__ = ["JsonLines"]

_AT_MOST_EVERY_S = 0.1


class JsonLines:
    """Writes the lines, each at once. Progress comes at most ten times a second, its last step always.

    Args:
        stream: Where to; unset: standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._what = ""
        self._again_s = 0.0  # monotonic seconds

    def progress(self, done: int, total: int, what: str) -> None:
        """How far the work is."""
        now_s = time.monotonic()
        if what == self._what and done < total and now_s < self._again_s:
            return
        self._what, self._again_s = what, now_s + _AT_MOST_EVERY_S
        self._say("progress", done=done, total=total, what=what)

    def result(self, result: RasterResult) -> None:
        """What came of one input."""
        self._say(
            "result",
            input=str(result.raster),
            files={name: str(path) for name, path in result.files.items()},
            error=result.error,
            notes=list(result.notes),
            seconds=result.seconds,
            size=list(result.size),
            heights_m=list(result.heights_m),
            per_height=list(result.per_height),
            per_class=list(result.per_class),
        )

    def end(self, *, inputs: int, failed: int) -> None:
        """All inputs were tried."""
        self._say("end", inputs=inputs, failed=failed)

    def failed(self, message: str) -> None:
        """Nothing could be done."""
        self._say("failed", message=message)

    def _say(self, kind: str, **fields: object) -> None:
        self._stream.write(json_text({"kind": kind, **fields}) + "\n")
        self._stream.flush()
