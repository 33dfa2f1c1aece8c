"""Tokens of images that are merged by thresholds: counted once at a resolution, before anything is planned, and cached.

[APT, arXiv:2510.18091] leaves the number to the pixels; with a table of numbers the plan still knows it beforehand.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reference.adaptive import quads_in

from .complexity import with_complexity
from .errors import BadImage
from .rows import read_region
from .sampling.kinds import Patch
from .sampling.merge import Law, MergeByContent, MergeByThreshold, Merged, of_images
from .sources import measured
from .sources.decode import Whole
from .sources.measured import load_arrays, store_arrays
from .sources.source import Source


def of_source(law: Law, source: Source, patch: Patch) -> Law:
    """The law of an evaluation for all images of a source, with what is known of them, or is measured now."""
    merge = law.merge if isinstance(law, Merged) else None
    if isinstance(law, Merged) and isinstance(merge, MergeByThreshold):
        return replace(law, known=counted(source, law, patch))
    known = with_complexity(source) if isinstance(merge, MergeByContent) else source
    return of_images(law, known.manifest.complexity)


@lru_cache(maxsize=16)
def counted(source: Source, law: Merged, patch: Patch) -> Int[np.ndarray, " N"]:
    """Quads that are merged in each image at the size that the law gives it; 0 for one that cannot be read."""
    grids = law.sampling.grids(np.random.default_rng(0), source.manifest.sizes, patch)
    file = cache_file(source, law, patch, grids)
    found = load_arrays(file, ("quads",)) if file else None
    if found is not None and found[0].dtype == np.int32 and found[0].shape == (len(grids),):
        return found[0]
    quads = np.array([count(source, law, i, grid, patch) for i, grid in enumerate(grids.tolist())], np.int32)
    if file:
        store_arrays(file, quads=quads)
    return quads


def count(source: Source, law: Merged, index: int, grid: list[int], patch: Patch) -> int:
    """Quads that are merged in one image."""
    assert isinstance(law.merge, MergeByThreshold)
    height, width = source.manifest.sizes[index].tolist()
    size = grid[0] * patch[0], grid[1] * patch[1]
    try:
        return quads_in(law.merge.cut(read_region(source, Whole(), index, (0, 0, width, height), size), patch))
    except BadImage:
        return 0


def cache_file(source: Source, law: Merged, patch: Patch, grids: Int[np.ndarray, "N 2"]) -> Path | None:
    """The place of the numbers of these images; None where a change of the images would not be noticed."""
    return measured.cache_file(source.manifest, "counts", law, patch, grids.tolist())
