"""From the files of a site to its decoded planes: what is checked before, what is computed, what is noticed."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.data.cache import recipe_key, release
from maskwright.data.sources.alignment import differences, offset_units, overlaps, read_onto
from maskwright.data.sources.height_file import HeightFile, bulk_reading, read_header, row_bands
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.sites import Site
from maskwright.data.terrain import Terrain
from maskwright.devices import usable_cores
from maskwright.errors import DataError, GridError
from maskwright.types import Window

__all__ = ["Align", "InputKind", "SitePlan", "faults_in", "notes_on", "plan_site"]

Align = Literal["refuse", "resample"]
InputKind = Literal["dsm", "chm", "both"]

_FORMAT = 1  # of the decoded planes; raise it when the same recipe gives other numbers
_BAND_BYTES = 4 * 2**20
_MOST_THREADS = 16
_TALLEST_TREE_M = 130.0
_DEEPEST_PIT_M = -10.0
_SPARSE_SHARE = 0.2
_MASK_VALUES = (0.0, 1.0, 255.0)


@dataclass(frozen=True)
class SitePlan:
    """How the planes of a site are made: plane 0 the surface, the last plane the canopy; one plane if they are one.

    Attributes:
        site: The site.
        grid: The grid of its surface, or of its CHM.
        files: The files read, by ``dsm``, ``chm``, ``dtm``.
        resampled: Those that are laid onto ``grid``.
        surface: What plane 0 is: the ``dsm``, the ``chm``, or the CHM on ``simulated`` terrain.
        terrain: The invented terrain, if simulated.
        notes: What the headers told.
    """

    site: Site
    grid: Grid
    files: dict[str, HeightFile]
    resampled: frozenset[str]
    surface: Literal["dsm", "chm", "simulated"]
    terrain: Terrain | None
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self.surface == "chm" else 2, self.grid.height, self.grid.width)

    def key(self, hashes: Mapping[Path, str]) -> str:
        """Differs if anything does that changes the planes; given the hash of each file's content."""
        return recipe_key(
            {
                "format": _FORMAT,
                "files": {kind: hashes[file.path] for kind, file in self.files.items()},
                "nodata": {kind: repr(file.nodata_used) for kind, file in self.files.items()},
                "resampled": sorted(self.resampled),
                "surface": self.surface,
                "terrain": self.terrain.to_dict() if self.terrain else None,
            }
        )

    def decode(self, planes: np.ndarray) -> dict[str, Any]:
        """Fill the planes band by band; returns the facts :func:`faults_in` and :func:`notes_on` look at.

        Raises:
            DataError: If a file is damaged or holds values that are no heights.
        """
        facts = _Facts(self.files)
        block_rows = max(file.block_rows for file in self.files.values())
        windows = row_bands(self.grid, min(block_rows, self.grid.height), band_bytes=_BAND_BYTES)
        with contextlib.ExitStack() as stack:
            stack.enter_context(bulk_reading())
            plans = _OfThreads(self, stack)

            def decode(window: Window) -> _Facts:
                return plans.own().decode_rows(planes, window)

            with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
                for found in pool.map(decode, windows):  # in order, so the first fault from the top is the one told
                    facts.merge(found)
        return facts.to_dict()

    def decode_rows(self, planes: np.ndarray, window: Window) -> _Facts:
        """Fill some rows of the planes; returns what was noticed in them."""
        facts = _Facts(self.files)
        rows = np.asarray(planes)[:, window.row : window.row_stop]
        straight = {"chm": rows[-1], **({"dsm": rows[0]} if self.surface == "dsm" else {})}
        heights = {kind: self._read(kind, window, straight.get(kind)) for kind in self.files}
        canopy = heights["chm"] if "chm" in heights else heights["dsm"] - heights["dtm"]
        surface = self._surface(heights, canopy, window)
        facts.add(surface, canopy, heights)
        for plane, values in zip(rows, (surface, canopy), strict=False):
            if values is not straight["chm"] and values is not straight.get("dsm"):  # else it is there already
                plane[...] = values
        release(planes)
        return facts

    def _read(self, kind: str, window: Window, out: np.ndarray | None) -> np.ndarray:
        file = self.files[kind]
        return read_onto(file, self.grid, window) if kind in self.resampled else file.read(window, out=out)

    def _surface(self, heights: Mapping[str, np.ndarray], canopy: np.ndarray, window: Window) -> np.ndarray:
        if self.surface == "dsm":
            return heights["dsm"]
        if self.terrain is None:
            return canopy
        x, y = _ground_coordinates(self.grid, window)
        surface: np.ndarray = canopy + self.terrain.surface(x, y)
        return surface


def plan_site(
    site: Site, *, input: InputKind, align: Align, terrain: Terrain | None
) -> tuple[SitePlan | None, list[DataError]]:
    """Check the headers of a site's files and decide how its planes are made; no pixel is read.

    Returns:
        The plan, or None, and every fault found.
    """
    uses, faults = _files_needed(site, input, terrain)
    files: dict[str, HeightFile] = {}
    for kind, path in _named(site).items():
        try:
            header = read_header(path)
        except DataError as error:
            faults.append(error)
            continue
        if kind in uses:
            files[kind] = HeightFile(header, _nodata(site, kind))
    if faults:
        return None, faults
    base = "dsm" if "dsm" in files else "chm"
    grid = files[base].grid
    notes = [f"{kind.upper()}: {note}" for kind, file in files.items() for note in file.notes]
    resampled = set()
    for kind, file in files.items():
        if kind != base:
            fault, note, resample = _fit(files[base], base, file, kind, align)
            faults += [fault] if fault else []
            notes += [note] if note else []
            resampled |= {kind} if resample else set()
    unused = sorted(_named(site).keys() - files.keys())
    notes += [f"{kind.upper()}: not used, {_why_unused(kind, input)}" for kind in unused]
    surface: Literal["dsm", "chm", "simulated"] = "dsm" if base == "dsm" else "simulated"
    if input == "chm":
        surface = "chm"
    if surface == "simulated" and terrain is not None:
        notes.append(
            f"surface: the CHM on invented terrain (amplitude {terrain.amplitude_m:g} m, "
            f"wavelength {terrain.wavelength_m:g} m, seed {terrain.seed})"
        )
    plan = SitePlan(
        site, grid, files, frozenset(resampled), surface, terrain if surface == "simulated" else None, tuple(notes)
    )
    return (None if faults else plan), faults


def faults_in(plan: SitePlan, facts: Mapping[str, Any]) -> list[DataError]:
    """What the decoded planes show to be unusable."""
    name = plan.site.name
    if facts["mask_like"]:
        path = plan.files["chm"].path
        return [
            DataError(
                f"{path} holds only the values 0, 1 and 255: a mask, not heights. Name the CHM in metres instead."
            )
        ]
    for kind, missing in facts["missing_px"].items():
        if missing == plan.grid.height * plan.grid.width:
            file = plan.files[kind]
            nodata = "no nodata value is declared" if file.nodata_used is None else f"nodata is {file.nodata_used:g}"
            return [
                DataError(
                    f"{file.path}: not one pixel was measured where site {name} needs it ({nodata}). "
                    "Check the nodata value, or remove the site."
                )
            ]
    if facts["valid_px"] == 0:
        files = " and ".join(str(file.path) for file in plan.files.values())
        return [
            DataError(f"{files}: no pixel was measured in all of them. Check the nodata values, or remove site {name}.")
        ]
    return []


def notes_on(plan: SitePlan, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person should know about the decoded planes."""
    notes = []
    pixels = plan.grid.height * plan.grid.width
    for kind, file in plan.files.items():
        missing, zeros = facts["missing_px"][kind], facts["zero_px"][kind]
        if file.nodata_used == 0.0 and kind in ("chm", "dtm"):
            cure = "data.chm_nodata: none" if kind == "chm" else "the nodata of the site"
            notes.append(
                f"{kind.upper()}: {missing} pixels ({missing / pixels:.2%}) are not measured because nodata is 0; "
                f"if ground lies at 0 m there, set {cure}"
                if missing
                else f"{kind.upper()}: no pixel is lost because nodata is 0"
            )
        elif kind != "chm" and zeros and facts["lowest_other"][kind] is not None and facts["lowest_other"][kind] > 20.0:
            notes.append(
                f"{kind.upper()}: {zeros} pixels ({zeros / pixels:.2%}) are exactly 0 m while all others lie above "
                f"{facts['lowest_other'][kind]:.0f} m; if 0 means 'not measured', set data.nodata: 0"
            )
    if facts["canopy_max_m"] > _TALLEST_TREE_M:
        notes.append(
            f"canopy: {facts['canopy_max_m']:.0f} m at its highest, above any tree; are the heights in metres?"
        )
    if facts["canopy_min_m"] < _DEEPEST_PIT_M:
        notes.append(
            f"canopy: {facts['canopy_min_m']:.1f} m at its lowest, far below the ground; such pixels count as gaps"
        )
    elif facts["canopy_min_m"] < 0:
        notes.append(f"canopy: heights down to {facts['canopy_min_m']:.2f} m are kept as they are")
    if facts["valid_px"] < _SPARSE_SHARE * pixels:
        notes.append(f"only {facts['valid_px'] / pixels:.1%} of the pixels are measured")
    return tuple(notes)


class _OfThreads:
    """A copy of a plan for each thread, as files must not be read by two threads at once."""

    def __init__(self, plan: SitePlan, stack: contextlib.ExitStack) -> None:
        self._plan, self._stack = plan, stack
        self._local, self._lock = threading.local(), threading.Lock()

    def own(self) -> SitePlan:
        """The plan of the thread that asks; its files are closed with the stack."""
        if not hasattr(self._local, "plan"):
            files = {kind: copy.copy(file) for kind, file in self._plan.files.items()}
            with self._lock:
                for file in files.values():
                    self._stack.enter_context(file)
            self._local.plan = dataclasses.replace(self._plan, files=files)
        plan: SitePlan = self._local.plan
        return plan


class _Facts:
    """What is noticed while bands pass by."""

    def __init__(self, files: Mapping[str, HeightFile]) -> None:
        self.missing_px = dict.fromkeys(files, 0)
        self.zero_px = dict.fromkeys(files, 0)
        self.lowest_other: dict[str, float] = dict.fromkeys(files, np.inf)
        self.valid_px = 0
        self.low, self.high = np.inf, -np.inf
        self.mask_like = "chm" in files and np.dtype(files["chm"].header.dtype).kind in "iu"
        self.has_one = False

    def add(self, surface: np.ndarray, canopy: np.ndarray, heights: Mapping[str, np.ndarray]) -> None:
        valid = np.isfinite(canopy)
        if surface is not canopy:
            valid &= np.isfinite(surface)
        self.valid_px += int(np.count_nonzero(valid))
        self.low = min(self.low, float(np.min(canopy, initial=np.inf, where=valid)))
        self.high = max(self.high, float(np.max(canopy, initial=-np.inf, where=valid)))
        for kind, values in heights.items():
            self.missing_px[kind] += int(np.count_nonzero(np.isnan(values)))
            if kind != "chm":
                zero = values == 0
                self.zero_px[kind] += int(np.count_nonzero(zero))
                lowest = float(np.fmin.reduce(values, axis=None, initial=np.inf, where=~zero))
                self.lowest_other[kind] = min(self.lowest_other[kind], lowest)
        if self.mask_like:
            values = np.unique(heights["chm"])
            values = values[np.isfinite(values)]
            self.mask_like = bool(np.isin(values, _MASK_VALUES).all())
            self.has_one |= bool((values > 0).any())

    def merge(self, other: _Facts) -> None:
        """Add what was noticed in other rows."""
        self.valid_px += other.valid_px
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for kind in self.missing_px:
            self.missing_px[kind] += other.missing_px[kind]
            self.zero_px[kind] += other.zero_px[kind]
            self.lowest_other[kind] = min(self.lowest_other[kind], other.lowest_other[kind])
        self.mask_like &= other.mask_like
        self.has_one |= other.has_one

    def to_dict(self) -> dict[str, Any]:
        measured = self.valid_px > 0
        return {
            "valid_px": self.valid_px,
            "canopy_min_m": self.low if measured else None,
            "canopy_max_m": self.high if measured else None,
            "missing_px": self.missing_px,
            "zero_px": self.zero_px,
            "lowest_other": {kind: low if np.isfinite(low) else None for kind, low in self.lowest_other.items()},
            "mask_like": self.mask_like and self.has_one,
        }


def _named(site: Site) -> dict[str, Path]:
    files = {"dsm": site.dsm, "chm": site.chm, "dtm": site.dtm}
    return {kind: Path(path) for kind, path in files.items() if path is not None}


def _files_needed(site: Site, input: InputKind, terrain: Terrain | None) -> tuple[set[str], list[DataError]]:
    named = _named(site)
    truth = {"chm"} if "chm" in named else {"dsm", "dtm"}
    if not truth <= named.keys():
        return set(), [DataError("heights above ground are not known. Give a CHM, or a DSM with a DTM.")]
    if input == "chm":
        return truth, []
    if "dsm" in named:
        return truth | {"dsm"}, []
    if terrain is None:
        return set(), [
            DataError(
                f"data.input is {input}, and the site has a CHM alone ({named['chm']}). Add its DSM, or set "
                "data.terrain.simulate: true to lay the CHM on invented terrain, or data.input: chm."
            )
        ]
    return truth, []


def _why_unused(kind: str, input: InputKind) -> str:
    if kind == "dsm":
        return f"data.input is {input}"
    return "the heights above ground come from the CHM"


def _nodata(site: Site, kind: str) -> float | str | None:
    if kind == "chm" and site.chm_nodata != "tag":
        return site.chm_nodata
    return site.nodata


def _fit(
    base: HeightFile, base_kind: str, file: HeightFile, kind: str, align: Align
) -> tuple[GridError | None, str | None, bool]:
    """Fault, note, and whether to resample ``file`` onto the grid of ``base``."""
    pair = f"{kind.upper()} {file.path} and {base_kind.upper()} {base.path}"
    if not overlaps(base.grid, file.grid):
        return GridError(f"{pair} cover different ground. Check that they belong to one site."), None, False
    found = differences(base.grid, file.grid)
    if found and align == "refuse":
        text = (
            f"{pair} lie on different grids: {'; '.join(found)}. Set data.align: resample to lay the {kind.upper()} "
            f"onto the grid of the {base_kind.upper()}, or bring them to one grid first."
        )
        return GridError(text), None, False
    if found:
        return None, f"{kind.upper()}: resampled onto the grid of the {base_kind.upper()} ({'; '.join(found)})", True
    notes = []
    if (base.grid.crs is None) != (file.grid.crs is None):
        notes.append(f"of {kind.upper()} and {base_kind.upper()} only one names a CRS; it is taken for both")
    shift = offset_units(base.grid, file.grid)
    if shift > 0.01 * min(base.grid.pixel_size):
        notes.append(f"{kind.upper()}: lies {shift:.3g} units beside the {base_kind.upper()}, taken as the same grid")
    return None, "; ".join(notes) or None, False


def _ground_coordinates(grid: Grid, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres, x (W,) and y (H,) in metres; for a turned raster along its own axes."""
    a, b, c, d, e, f = grid.transform
    if b != 0 or d != 0:
        (a, e) = grid.pixel_size[0], -grid.pixel_size[1]
    unit = grid.metres_per_unit
    x = (c + (np.arange(window.col, window.col_stop) + 0.5) * a) * unit
    y = (f + (np.arange(window.row, window.row_stop) + 0.5) * e) * unit
    return x, y
