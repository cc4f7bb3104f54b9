"""Several processes that train one model: who they are, what they exchange, how they are started.

The only package that knows of ``torch.distributed``. Importing it loads no torch.
"""

from __future__ import annotations

from maskwright.distributed.exchange import (
    add_up,
    at_main,
    from_main,
    gathered,
    largest,
    require_alike,
    scattered,
)
from maskwright.distributed.ranks import (
    host_first,
    is_main,
    joined,
    launch_id,
    launched_size,
    local_rank,
    own_device,
    rank,
    require_joined,
    require_single_process,
    restarts,
    share_of,
    world_size,
)

__all__ = [
    "add_up",
    "at_main",
    "from_main",
    "gathered",
    "host_first",
    "is_main",
    "joined",
    "largest",
    "launch_id",
    "launched_size",
    "local_rank",
    "own_device",
    "rank",
    "require_alike",
    "require_joined",
    "require_single_process",
    "restarts",
    "scattered",
    "share_of",
    "world_size",
]
