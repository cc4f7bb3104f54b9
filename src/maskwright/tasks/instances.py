"""Objects one by one, with their classes and masks: crowns, defects, cells."""

from __future__ import annotations

from typing import ClassVar

from maskwright.tasks.object_task import ObjectTask

__all__ = ["Instances"]


class Instances(ObjectTask):
    """Classes of pixels, centres and offsets; nothing beside them. Arguments as of ``ObjectTask``."""

    kind: ClassVar[str] = "instances"
