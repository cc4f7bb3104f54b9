"""Height rasters as a source: surface in, canopy height as truth, each site decoded once and memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.cache import Cache, default_cache_folder, recipe_key, release
from maskwright.data.context import MARGIN_PX, aspect_bands, context_bands, context_channels
from maskwright.data.normalise import (
    HeightNormaliser,
    MetresNormaliser,
    ReferenceSurface,
    build_reference,
    normalise_heights,
    reference_shape,
)
from maskwright.data.sources.alignment import ground_ids
from maskwright.data.sources.decode import Align, InputKind, SitePlan, faults_in, notes_on, plan_site
from maskwright.data.sources.file_hashes import file_hashes
from maskwright.data.sources.height_file import HeightFile, open_heights, row_bands
from maskwright.data.sources.interface import Scene
from maskwright.data.sources.level_planes import LevelPlanes
from maskwright.data.sources.sites import Site, find_sites
from maskwright.data.terrain import Terrain
from maskwright.errors import DataError, GridError
from maskwright.types import Place, Window

__all__ = ["HeightFile", "HeightRasters", "Site", "find_sites", "open_heights"]

_BAND_ROWS = 512  # looked at together for statistics


class HeightRasters:
    """Sites of height rasters, implementing :class:`maskwright.data.sources.interface.Source`.

    Opening checks the headers of all files, then decodes what is not in the cache yet, so that every fault of every
    site is told at once, before any work. Afterwards no source file is read again. Objects may be pickled and forked:
    memory maps are opened when a process first needs them.

    Args:
        sites: The sites; names differ.
        input: ``dsm``: the surface; ``chm``: the canopy height itself; ``both``: two bands, surface and canopy.
        align: What to do if rasters of a site lie on different grids: ``refuse``, or ``resample`` onto the surface's.
        terrain: Invented terrain for sites that have a CHM alone; None refuses them where a surface is needed.
        normaliser: From metres to network input; default metres.
        context: Bands derived from the surface, after the others: words of ``slope``, ``aspect``, ``altitude``.
        cache: Where decoded planes lie; default the user's cache folder.
        notes: Notes on the whole source, passed on.

    Attributes:
        scenes: One scene per site, in the order given.
        in_channels: 1, or 2 for ``both``, and the derived bands.
        context: As given.
        aspect_bands: Indices of the sine and cosine of the aspect in an image; None without them.
        notes: As given.
        normaliser: As given; set it anew once it is fitted on :meth:`training_pieces`.

    Raises:
        DataError: Listing every fault of every site (GridError if all are about grids).
    """

    def __init__(
        self,
        sites: Iterable[Site],
        *,
        input: InputKind = "dsm",
        align: Align = "refuse",
        terrain: Terrain | None = None,
        normaliser: HeightNormaliser | None = None,
        context: Sequence[str] = (),
        cache: Cache | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.normaliser: HeightNormaliser = normaliser or MetresNormaliser()
        self.notes = tuple(notes)
        self.context = tuple(context)
        self._bands = 2 if input == "both" else 1
        self.in_channels = self._bands + context_channels(self.context)
        self.aspect_bands = aspect_bands(self.context, self._bands)
        self._input: InputKind = input
        self._cache = cache or Cache(default_cache_folder())
        self.sites = tuple(sites)
        self._plans = _plans(self.sites, input, align, terrain)
        hashes = file_hashes(
            {file.path for plan in self._plans.values() for file in plan.files.values()}, self._cache.folder
        )
        self._keys = {name: plan.key(hashes) for name, plan in self._plans.items()}
        self._planes: dict[str, np.ndarray] = {}
        self._process = os.getpid()
        self._references: dict[str, ReferenceSurface | None] = {}
        self._levels = LevelPlanes(self._cache)
        self._facts = self._decoded_facts()
        self._files = {name: _file_facts(plan, hashes) for name, plan in self._plans.items()}
        self.scenes = self._build_scenes(hashes)

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Image (C, H, W) float32, normalised, 0 where not valid; valid (H, W) bool."""
        surface, canopy = self._heights(scene, window)
        valid = np.isfinite(surface)
        if self._input == "both":
            valid &= np.isfinite(canopy)
        image = np.empty((self.in_channels, window.height, window.width), np.float32)
        self._fill_image(scene, window, valid, image)
        return image, valid

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Canopy height (H, W) float32 metres, 0 where not valid; valid (H, W) bool."""
        _, canopy = self._heights(scene, window)
        valid = np.isfinite(canopy)
        return np.where(valid, canopy, np.float32(0.0)), valid

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (C, H, W), canopy height (H, W), valid (H, W): valid where both are, 0 elsewhere."""
        size = window.height, window.width
        image, target = np.empty((self.in_channels, *size), np.float32), np.empty(size, np.float32)
        valid = np.empty(size, np.bool_)
        self.sample_into(scene, window, image, target, valid)
        return image, target, valid

    def sample_into(self, scene: str, window: Window, image: np.ndarray, target: np.ndarray, valid: np.ndarray) -> None:
        """Write what :meth:`sample` gives to arrays of its shapes and types."""
        surface, canopy = self._heights(scene, window)
        np.copyto(target, canopy)
        np.isfinite(target, out=valid)
        level = self._level(scene, window)
        if level is not None:
            np.copyto(image[0], level)
            valid &= np.isfinite(image[0])
        elif surface is not canopy:
            valid &= np.isfinite(surface)
        if not valid.all():
            np.copyto(target, 0.0, where=~valid)
        self._fill_image(scene, window, valid, image, levelled=level is not None)

    def surface(self, scene: str, window: Window) -> np.ndarray:
        """What the network sees, before normalisation: (H, W) float32 metres, NaN where not measured."""
        return np.array(self._heights(scene, window)[0])

    def canopy(self, scene: str, window: Window) -> np.ndarray:
        """Height above ground: (H, W) float32 metres, NaN where not measured."""
        return np.array(self._heights(scene, window)[1])

    def training_pieces(self, places: Iterable[Place]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Heights of tiles before normalisation, to take statistics of, pixels that lie in several tiles only once.

        Yields:
            Heights (C, H, W) float32 metres (surface, for ``both`` also canopy), anything where not valid; (H, W) bool,
            where every band and the canopy were measured. No derived bands.
        """
        for scene, windows in _by_scene(places).items():
            grid = self._plan(scene).grid
            for window in row_bands(grid, min(_BAND_ROWS, grid.height), band_bytes=0):
                inside = [part for tile in windows if (part := tile.intersection(window)) is not None]
                if not inside:
                    continue
                wanted = np.zeros((window.height, window.width), bool)
                for part in inside:
                    row = part.row - window.row
                    wanted[row : row + part.height, part.col : part.col_stop] = True
                surface, canopy = self._heights(scene, window)
                wanted &= np.isfinite(surface) & np.isfinite(canopy)
                yield np.stack((surface, canopy)[: self._bands]), wanted
                release(self._open(scene))

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        """(rows, cols) float64 share 0..1 of valid pixels in each tile of the grid anchored at (0, 0).

        The last row and column of tiles may reach past the scene; out there nothing is valid.
        """
        grid = self._plan(scene).grid
        planes = self._open(scene)
        starts = np.arange(0, grid.width, tile_px)
        rows = []
        for row in range(0, grid.height, tile_px):
            valid = np.isfinite(planes[:, row : row + tile_px]).all(axis=0)
            rows.append(np.add.reduceat(np.count_nonzero(valid, axis=0), starts))
            release(planes)
        return np.stack(rows) / float(tile_px) ** 2

    def tile_notes(self, tile_px: int) -> tuple[str, ...]:
        """A sentence for each scene that is smaller than a tile and is therefore padded."""
        return tuple(
            f"{scene.name}: {scene.grid.height} x {scene.grid.width} pixels are less than a tile of {tile_px} px; "
            "it is padded with pixels that do not count"
            for scene in self.scenes
            if min(scene.grid.height, scene.grid.width) < tile_px
        )

    def reference(self, scene: str) -> ReferenceSurface | None:
        """The reference surface subtracted from the scene's surface; None where it is 0."""
        if scene not in self._references:
            self._references[scene] = self._build_reference(scene)
        return self._references[scene]

    @property
    def cache_bytes(self) -> int:
        """What lies decoded on disk once all is read: the planes, and each surface again as the network sees it."""
        return sum(
            4 * plan.grid.height * plan.grid.width * (plan.shape[0] + self._is_levelled(plan))
            for plan in self._plans.values()
        )

    def describe(self) -> dict[str, dict[str, Any]]:
        """Facts about each site for the record of a run; plain values that JSON takes."""
        return {scene.name: self._describe(scene) for scene in self.scenes}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planes": {}}

    def _plan(self, scene: str) -> SitePlan:
        try:
            return self._plans[scene]
        except KeyError:
            raise DataError(f"There is no scene {scene!r}. Scenes: {', '.join(self._plans)}.") from None

    def _open(self, scene: str) -> np.ndarray:
        """The planes of a scene (1 or 2, rows, cols), mapped by this process."""
        if self._process != os.getpid():
            self._planes, self._process = {}, os.getpid()
        planes = self._planes.get(scene)
        if planes is None:
            plan = self._plan(scene)
            note = f"{scene}: {', '.join(str(file.path) for file in plan.files.values())}"
            mapped = self._cache.array(self._keys[scene], plan.shape, np.float32, plan.decode, note)
            planes = self._planes[scene] = np.asarray(mapped)  # plain arrays slice faster than memory maps
        return planes

    def _heights(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Surface and canopy of a window, NaN where not measured: one object if they are one, views where possible."""
        part = _cut(self._open(scene), window)
        surface = part[0]
        return surface, (surface if len(part) == 1 else part[1])

    def _level(self, scene: str, window: Window) -> np.ndarray | None:
        """The surface less its reference as the network sees it, NaN where not measured; None unless kept at hand."""
        normaliser, reference = self.normaliser, self.reference(scene)
        if reference is None:
            return None
        assert isinstance(normaliser, MetresNormaliser)
        surface, pixels = self._open(scene)[0], window.height * window.width
        plane = self._levels.plane(self._keys[scene], normaliser, surface, reference, pixels)
        return None if plane is None else _cut(plane[None], window)[0]

    def _fill_image(
        self, scene: str, window: Window, valid: np.ndarray, image: np.ndarray, *, levelled: bool = False
    ) -> None:
        """Write the network's input; where ``levelled`` the first band is there already but for pixels not valid."""
        first = 1 if levelled else 0
        if levelled and not valid.all():
            np.copyto(image[0], 0.0, where=~valid)
        if first < self._bands:
            planes = self._heights(scene, window)[first : self._bands]
            reference = None if levelled else self.reference(scene)
            shift = 0.0 if reference is None else reference.window(window)
            shifts = (shift, 0.0)[: len(planes)]
            normalise_heights(self.normaliser, planes, valid, shifts, image[first : self._bands])
        if self.context:
            around = self._heights(scene, window.grown(MARGIN_PX))[0]
            pixel_size_m = self._plan(scene).grid.pixel_size_m
            context_bands(around, self.context, pixel_size_m, valid, image[self._bands :])

    def _is_levelled(self, plan: SitePlan) -> bool:
        return plan.surface != "chm" and isinstance(self.normaliser, MetresNormaliser)

    def _build_reference(self, scene: str) -> ReferenceSurface | None:
        plan, normaliser = self._plan(scene), self.normaliser
        if not self._is_levelled(plan):
            return None
        assert isinstance(normaliser, MetresNormaliser)
        cell_px = max(1.0, normaliser.reference_cell_m / plan.grid.pixel_size_m)
        percentile = normaliser.reference_percentile
        grid = plan.grid

        def fill(values: np.ndarray) -> None:
            planes = self._open(scene)

            def band(window: Window) -> np.ndarray:
                release(planes)  # what the bands before it took
                return planes[0, window.row : window.row_stop]

            values[...] = build_reference(
                band,
                grid.height,
                grid.width,
                cell_px=cell_px,
                percentile=percentile,
            ).values

        key = recipe_key({"reference_of": self._keys[scene], "cell_px": cell_px, "percentile": percentile, "format": 1})
        shape = reference_shape(grid.height, grid.width, cell_px)
        values = self._cache.array(key, shape, np.float32, fill, f"reference surface of {scene}")
        return ReferenceSurface(np.array(values), cell_px)

    def _decoded_facts(self) -> dict[str, dict[str, Any]]:
        facts: dict[str, dict[str, Any]] = {}
        faults: list[tuple[str, DataError]] = []
        for name, plan in self._plans.items():
            try:
                self._open(name)
            except DataError as error:
                faults.append((name, error))
                continue
            facts[name] = self._cache.facts(self._keys[name])
            faults += [(name, fault) for fault in faults_in(plan, facts[name])]
        _refuse(faults)
        return facts

    def _build_scenes(self, hashes: Mapping[Path, str]) -> tuple[Scene, ...]:
        grids = {name: plan.grid for name, plan in self._plans.items()}
        grounds = ground_ids(grids, {name: plan.site.ground for name, plan in self._plans.items()})
        scenes = []
        for name, plan in self._plans.items():
            notes = [*plan.notes, *notes_on(plan, self._facts[name])]
            if len({hashes[file.path] for file in plan.files.values()}) < len(plan.files):
                notes.append(
                    f"{' and '.join(kind.upper() for kind in plan.files)} are one and the same file; is that meant?"
                )
            others = [other for other, ground in grounds.items() if ground == grounds[name] and other != name]
            if others:
                notes.append(f"shows the same ground as {', '.join(others)}: they stay in one part of the split")
            files = tuple(file.path for file in plan.files.values())
            scenes.append(Scene(name, plan.grid, grounds[name], files, tuple(notes)))
        return tuple(scenes)

    def _describe(self, scene: Scene) -> dict[str, Any]:
        plan, facts, grid = self._plan(scene.name), self._facts[scene.name], scene.grid
        normaliser = self.normaliser
        reference = "0"
        if self._is_levelled(plan):
            assert isinstance(normaliser, MetresNormaliser)
            reference = f"percentile {normaliser.reference_percentile:g} of cells of {normaliser.reference_cell_m:g} m"
        return {
            "height_px": grid.height,
            "width_px": grid.width,
            "pixel_size_m": grid.pixel_size_m,
            "crs": grid.crs or "none",
            "transform": list(grid.transform),
            "ground": scene.ground,
            "surface": plan.surface,
            "terrain": plan.terrain.to_dict() if plan.terrain else None,
            "reference": reference,
            **({"context": list(self.context)} if self.context else {}),
            "resampled": sorted(plan.resampled),
            "valid_share": facts["valid_px"] / (grid.height * grid.width),
            "canopy_min_m": facts["canopy_min_m"],
            "canopy_max_m": facts["canopy_max_m"],
            "files": self._files[scene.name],
            "notes": list(scene.notes),
        }


def _cut(planes: np.ndarray, window: Window) -> np.ndarray:
    """A window of planes (N, H, W), a view where possible, NaN outside."""
    _, height, width = planes.shape
    if window.row >= 0 and window.col >= 0 and window.row_stop <= height and window.col_stop <= width:
        return planes[:, window.row : window.row_stop, window.col : window.col_stop]
    part = np.full((len(planes), window.height, window.width), np.nan, np.float32)
    inside = window.intersection(Window(0, 0, height, width))
    if inside is not None:
        row, col = inside.row - window.row, inside.col - window.col
        part[:, row : row + inside.height, col : col + inside.width] = planes[
            :, inside.row : inside.row_stop, inside.col : inside.col_stop
        ]
    return part


def _by_scene(places: Iterable[Place]) -> dict[str, list[Window]]:
    windows: dict[str, list[Window]] = {}
    for place in places:
        windows.setdefault(place.scene, []).append(place.window)
    return windows


def _plans(sites: tuple[Site, ...], input: InputKind, align: Align, terrain: Terrain | None) -> dict[str, SitePlan]:
    if not sites:
        raise DataError("There are no sites. Name them in data.sites, or a folder of rasters in data.folder.")
    names = [site.name for site in sites]
    faults: list[tuple[str, DataError]] = [
        (name, DataError("the name is given to more than one site. Names must differ."))
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    plans = {}
    for site in sites:
        plan, found = plan_site(site, input=input, align=align, terrain=terrain)
        faults += [(site.name, fault) for fault in found]
        if plan is not None:
            plans[site.name] = plan
    _refuse(faults)
    return plans


def _refuse(faults: list[tuple[str, DataError]]) -> None:
    """Raise one error that tells all faults; nothing if there are none."""
    if not faults:
        return
    kind = GridError if all(isinstance(fault, GridError) for _, fault in faults) else DataError
    lines = [f"site {name}: {fault}" for name, fault in faults]
    if len(lines) == 1:
        raise kind(lines[0]) from faults[0][1]
    raise kind("\n".join([f"{len(lines)} faults in the rasters:", *(f"  {line}" for line in lines)])) from faults[0][1]


def _file_facts(plan: SitePlan, hashes: Mapping[Path, str]) -> list[dict[str, Any]]:
    facts = []
    for kind, file in plan.files.items():
        status = file.path.stat()
        facts.append(
            {
                "kind": kind,
                "path": str(file.path),
                "bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": hashes[file.path],
                "nodata": None if file.nodata_used is None else repr(file.nodata_used),
            }
        )
    return facts
