"""Decoded images on disk: many small ones share a file, so that a hundred thousand of them need a few hundred files.

Which file an image goes to depends on its name alone, so a new image makes one file anew and leaves the others.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from maskwright.data.cache import Cache, recipe_key
from maskwright.data.sources.file_hashes import file_hashes, in_threads
from maskwright.data.sources.image_decode import ImagePlan, Planes, decode
from maskwright.data.sources.image_header import printable
from maskwright.errors import DataError, UnreadableError

__all__ = ["ImageStore"]

_PACK_BYTES = 128 * 2**20
_MEMORY_BYTES = 512 * 2**20  # of images decoded again and again, where the disk has no room
_VERSION = 1


class _FaultyImagesError(DataError):
    """Images of one pack that cannot be decoded.

    Args:
        faults: Name to what is wrong.
    """

    def __init__(self, faults: Mapping[str, DataError]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults.values()))
        self.faults = dict(faults)


class ImageStore:
    """The planes of images, decoded once where the cache has room, else whenever they are asked for.

    Objects may be pickled and forked: files are mapped when a process first needs them.

    Args:
        plans: What is stored; names differ.
        cache: Where.
        skip_unreadable: Leave out files that cannot be decoded.

    Attributes:
        facts: Name to what :func:`maskwright.data.sources.image_decode.decode` returned.
        skipped: Name to why the image is left out.
        faults: Name to what is wrong with it.
        note: What a person should know about the store, or None.
        hashes: File to the SHA-256 of its content.
        is_loose: True if the cache has no room and images are decoded whenever they are asked for.
    """

    def __init__(self, plans: Sequence[ImagePlan], cache: Cache, *, skip_unreadable: bool = False) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.faults: dict[str, DataError] = {}
        self.note: str | None = None
        self._plans = {plan.name: plan for plan in plans}
        self._cache = cache
        self._skip = skip_unreadable
        self.hashes = file_hashes({path for plan in plans for path in plan.files}, cache.folder)
        self._packs = _packs(plans)
        self._keys = [self._key(pack) for pack in self._packs]
        self._places = _places(self._packs)
        self._mapped: dict[int, np.ndarray] = {}
        self._memory: OrderedDict[str, Planes] = OrderedDict()
        self.is_loose = sum(map(_size, self._packs)) > cache.max_bytes
        self._open_all()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that is decoded and how."""
        return recipe_key({"packs": self._keys})

    def planes(self, name: str) -> Planes:
        """The planes of an image, read-only."""
        if self.is_loose:
            return self._decoded_again(name)
        pack, start = self._places[name]
        stored = self._mapped.get(pack)
        if stored is None:
            stored = self._mapped[pack] = self._stored(pack)
        plan = self._plans[name]
        return plan.planes(stored[start : start + plan.nbytes])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}, "_memory": OrderedDict()}

    def _open_all(self) -> None:
        if self.is_loose:
            why = f"they take {_gb(sum(map(_size, self._packs)))} and data.cache.max_gb is {_gb(self._cache.max_bytes)}"
            self._look_at_all(why)
            return
        for pack in range(len(self._packs)):
            try:
                self._mapped[pack] = self._stored(pack)
            except _FaultyImagesError as error:
                self.faults.update(error.faults)
                continue
            except DataError as error:  # of the cache, which has no room
                self._look_at_all(str(error))
                return
            self._learn(self._cache.facts(self._keys[pack])["images"])

    def _stored(self, pack: int) -> np.ndarray:
        plans = self._packs[pack]

        def fill(out: np.ndarray) -> dict[str, Any]:
            starts = np.cumsum([0, *(plan.nbytes for plan in plans)])
            parts = [out[start : start + plan.nbytes] for start, plan in zip(starts, plans, strict=False)]
            return {"images": self._decoded(plans, parts)}

        note = f"{len(plans)} images: {', '.join(plan.name for plan in plans[:5])}"
        mapped = self._cache.array(self._keys[pack], (_size(plans),), np.uint8, fill, note)
        return np.asarray(mapped)  # plain arrays slice faster than memory maps

    def _decoded(self, plans: Sequence[ImagePlan], parts: Sequence[np.ndarray | None]) -> list[dict[str, Any]]:
        """Facts of several images; their planes go to ``parts``, or nowhere."""

        def work(job: tuple[ImagePlan, np.ndarray | None]) -> dict[str, Any] | DataError:
            plan, part = job
            try:
                return decode(plan, plan.planes(np.empty(plan.nbytes, np.uint8) if part is None else part))
            except UnreadableError as error:
                return {"skipped": str(error)} if self._skip else error
            except DataError as error:
                return error

        facts: list[dict[str, Any]] = []
        faults: dict[str, DataError] = {}
        for plan, found in zip(plans, in_threads(work, zip(plans, parts, strict=True)), strict=True):
            if isinstance(found, DataError):
                faults[plan.name] = found
            else:
                facts.append({"name": plan.name, **found})
        if faults:
            raise _FaultyImagesError(faults)
        return facts

    def _learn(self, images: Iterable[Mapping[str, Any]]) -> None:
        for entry in images:
            if "skipped" in entry:
                self.skipped[entry["name"]] = entry["skipped"]
            else:
                self.facts[entry["name"]] = dict(entry)

    # --- without room on the disk ---

    def _look_at_all(self, why: str) -> None:
        """Every image once, for its facts and faults; its planes are not kept."""
        largest = max(self._plans.values(), key=lambda plan: plan.nbytes)
        if largest.nbytes > _MEMORY_BYTES:
            raise DataError(
                f"The decoded images do not fit the cache ({why}), and {printable(largest.path)} is too large to be "
                "decoded whenever it is needed. Raise data.cache.max_gb, or name a folder on a larger disk in "
                "data.cache.folder."
            )
        self.is_loose = True
        self._mapped.clear()
        self.facts, self.skipped, self.faults = {}, {}, {}
        self.note = f"images are decoded again whenever they are needed, which is slow: {why}"
        for pack, key in zip(self._packs, self._keys, strict=True):
            try:
                self._learn(self._facts_alone(pack, key))
            except _FaultyImagesError as error:
                self.faults.update(error.faults)

    def _facts_alone(self, plans: Sequence[ImagePlan], key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def fill(out: np.ndarray) -> dict[str, Any]:
            found[:] = self._decoded(plans, [None] * len(plans))
            out[...] = 0
            return {"images": found}

        facts_key = recipe_key({"facts_of": key})
        try:
            self._cache.array(facts_key, (1,), np.uint8, fill, f"facts about {len(plans)} images")
        except _FaultyImagesError:
            raise
        except DataError:  # not even these fit; they are known now all the same
            return found or self._decoded(plans, [None] * len(plans))
        return list(self._cache.facts(facts_key)["images"])

    def _decoded_again(self, name: str) -> Planes:
        planes = self._memory.pop(name, None)
        if planes is None:
            plan = self._plans[name]
            planes = plan.planes(np.empty(plan.nbytes, np.uint8))
            decode(plan, planes)
            held = sum(self._plans[other].nbytes for other in self._memory) + plan.nbytes
            while self._memory and held > _MEMORY_BYTES:
                held -= self._plans[self._memory.popitem(last=False)[0]].nbytes
        self._memory[name] = planes
        return planes

    def _key(self, pack: Sequence[ImagePlan]) -> str:
        recipes = [[plan.name, plan.recipe(lambda path: self.hashes[path])] for plan in pack]
        return recipe_key({"images": recipes, "skip": self._skip, "format": _VERSION})


def _packs(plans: Sequence[ImagePlan]) -> list[list[ImagePlan]]:
    """Images that share a file: large ones alone, small ones by a hash of their name."""
    small = [plan for plan in plans if plan.nbytes <= _PACK_BYTES // 4]
    buckets = 1
    while buckets * _PACK_BYTES < sum(plan.nbytes for plan in small):
        buckets *= 2
    packs: defaultdict[int, list[ImagePlan]] = defaultdict(list)
    for plan in small:
        packs[int.from_bytes(hashlib.sha256(plan.name.encode()).digest()[:8], "little") % buckets].append(plan)
    return [packs[bucket] for bucket in sorted(packs)] + [[plan] for plan in plans if plan.nbytes > _PACK_BYTES // 4]


def _places(packs: Sequence[Sequence[ImagePlan]]) -> dict[str, tuple[int, int]]:
    places = {}
    for number, pack in enumerate(packs):
        start = 0
        for plan in pack:
            places[plan.name] = (number, start)
            start += plan.nbytes
    return places


def _size(plans: Sequence[ImagePlan]) -> int:
    return sum(plan.nbytes for plan in plans)


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
