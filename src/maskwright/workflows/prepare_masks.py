"""Gap masks of height rasters as GeoTIFFs, resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from maskwright.config import HeightRastersData
from maskwright.data.build import build_source
from maskwright.data.sources.rasters import HeightRasters
from maskwright.errors import DataError
from maskwright.pixels import IGNORE_INDEX
from maskwright.workflows.assemble import require_gaps
from maskwright.workflows.prepare import Cleaning, check_heights, mask_rows
from maskwright.workflows.prepare_job import Job, file_facts
from maskwright.workflows.raster_draft import raster_draft

__all__ = ["prepare_masks"]


def prepare_masks(
    data: HeightRastersData,
    heights_m: Sequence[float],
    out: Path,
    *,
    cleaning: Cleaning | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write ``{site}_gap_mask_{t}m.tif`` for every site and height: uint8, 1 gap, 0 none, 255 not measured.

    Killed and started again, it keeps the sites that are finished.

    Raises:
        DataError: If the sites or heights cannot be used; nothing is written then.
        RunError: If the folder cannot be written or holds such files of another job.
    """
    wish = cleaning or Cleaning()
    heights = check_heights(heights_m, wish)
    source = build_source(data.model_copy(update={"input": "chm"}))
    if not isinstance(source, HeightRasters):
        raise DataError("Gap masks are made from height rasters. Name them with data.kind: height_rasters.")
    require_gaps(heights, source)
    names = {scene.name: [f"{scene.name}_gap_mask_{height:g}m.tif" for height in heights] for scene in source.scenes}
    recipe = {
        "files": file_facts(file for scene in source.scenes for file in scene.files),
        "nodata": [data.nodata, data.chm_nodata, *([site.nodata, site.chm_nodata] for site in data.sites)],
        "align": data.align,
        "cleaning": asdict(wish),
    }
    job = Job(out, "masks", recipe, (name for found in names.values() for name in found), overwrite=overwrite)
    for index, scene in enumerate(source.scenes):
        if progress is not None:
            progress(index, len(source.scenes), "sites")
        if any(job.finished(name) is None for name in names[scene.name]):
            with ExitStack() as stack:
                files = [
                    stack.enter_context(raster_draft(out / name, scene.grid, dtype="uint8", nodata=IGNORE_INDEX))
                    for name in names[scene.name]
                ]
                for window, mask in mask_rows(source, scene, heights, wish):
                    place = ((window.row, window.row_stop), (window.col, window.col_stop))
                    for file, plane in zip(files, mask, strict=True):
                        file.write(plane, 1, window=place)
            for name in names[scene.name]:
                job.finish(name)
    if progress is not None:
        progress(len(source.scenes), len(source.scenes), "sites")
    return [out / name for found in names.values() for name in found]
