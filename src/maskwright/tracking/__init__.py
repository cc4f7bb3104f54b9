"""What a run writes and what a face reads: run folder, events, history, manifest, commands. No torch."""

from __future__ import annotations

from maskwright.tracking.control import COMMANDS, Command, ControlFolder
from maskwright.tracking.environment import describe_environment
from maskwright.tracking.events import EventLog, EventTail, read_events, without_superseded
from maskwright.tracking.folder import RunFolder, RunRecord, find_runs
from maskwright.tracking.history import History, read_history
from maskwright.tracking.manifest import CheckpointRecord, Manifest, read_manifest, write_manifest
from maskwright.tracking.reader import RunReader
from maskwright.tracking.system import SystemSampler

__all__ = [
    "COMMANDS",
    "CheckpointRecord",
    "Command",
    "ControlFolder",
    "EventLog",
    "EventTail",
    "History",
    "Manifest",
    "RunFolder",
    "RunReader",
    "RunRecord",
    "SystemSampler",
    "describe_environment",
    "find_runs",
    "read_events",
    "read_history",
    "read_manifest",
    "without_superseded",
    "write_manifest",
]
