"""Complexity of the images of a source: measured once, before anything is planned, and cached between runs.

A law that follows it (`MergeByContent`, `ByContent`) knows the number of tokens of every image before a row is read.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reference.sampling.complexity import BOX, SIDE, complexity, complexity_size

from .errors import BadImage, DataError
from .manifest import Manifest
from .rows import read_region
from .sources import measured
from .sources.decode import Shrunk
from .sources.measured import load_arrays, store_arrays
from .sources.source import Source

DECODING = Shrunk(2.0)  # at least 2 x 2 decoded pixels for each that is measured


def with_complexity(source: Source) -> Source:
    """The source, whose manifest now has the complexity of each image.   Raises DataError for clips."""
    manifest = source.manifest
    if manifest.has_clips:
        raise DataError(f"{manifest.where} has clips, and complexity is that of an image: --data.merge none")
    if manifest.complexity is None:
        source.manifest = replace(manifest, complexity=cached(source))
    return source


def cached(source: Source) -> Float[np.ndarray, " N"]:
    """Complexity of every image, from the cache if these files were measured before."""
    file, count = cache_file(source.manifest), len(source.manifest)
    found = load_arrays(file, ("complexity",)) if file else None
    if found is not None and found[0].dtype == np.float32 and found[0].shape == (count,) and found[0].min() >= 0:
        return found[0]
    values = np.array([measure(source, i) for i in range(count)], np.float32)
    if file:
        store_arrays(file, complexity=values)
    return values


def cache_file(manifest: Manifest) -> Path | None:
    """The place of the values of these images; None where a change of the images would not be noticed."""
    return measured.cache_file(manifest, "complexity", SIDE, BOX)


def measure(source: Source, index: int) -> float:
    """Complexity of one image; 0 where it cannot be read: it has no tokens to keep."""
    height, width = source.manifest.sizes[index].tolist()
    size = complexity_size((height, width))
    try:
        return complexity(read_region(source, DECODING, index, (0, 0, width, height), size))
    except BadImage:
        return 0.0
