"""The evaluation at the end of a run, planned before the first step: no pixel is read."""

import numpy as np
from jaxtyping import Bool

from data.errors import DataError
from data.evaluation_plan import most_tokens
from data.plan import in_reach
from data.sampling.merge import of_images
from data.sources.source import Source

from ..config import Config


def resolutions_of(config: Config) -> list[float]:
    """The resolutions of the final evaluation, ascending."""
    return sorted({*config.data.eval_resolutions, config.data.reported_at})


def fits_at(config: Config, source: Source, resolution: float) -> Bool[np.ndarray, " N"]:
    """The images that evaluation at a resolution takes: a position for every patch, and not too many tokens."""
    sampling = of_images(config.data.law.at(resolution), source.manifest.complexity)
    grids = sampling.grids(np.random.default_rng(0), source.manifest.sizes, config.model.patch[-2:])
    few = sampling.token_counts(grids) <= most_tokens(config.data.packing.shape[0])
    return in_reach(grids, config.model.posembed.longest_side) & few


def look_ahead(config: Config, val: Source) -> list[str]:
    """A note on each resolution of the final evaluation at which validation images are left out.

    Raises DataError where none is left at the resolution that is reported: the run would end without its number.
    """
    notes, manifest = [], val.manifest
    for resolution in resolutions_of(config):
        fits = fits_at(config, val, resolution)
        if fits.all():
            continue
        first = int(np.argmin(fits))
        height, width = manifest.sizes[first][-2:]
        where = f"{manifest.name(first)}, {height} x {width} pixels" if fits.any() else "all of them"
        if not fits.any() and resolution == config.data.reported_at:
            raise DataError(
                f"none of {len(fits)} validation images fits a row or the positions at resolution {resolution:g}, at "
                f"which the run is reported, the first {manifest.name(first)}, {height} x {width} pixels: choose a "
                "smaller data.val_resolution, or raise model.posembed.size"
            )
        notes.append(
            f"evaluation at resolution {resolution:g} leaves out {(~fits).sum()} of {len(fits)} images, {where}"
        )
    return notes
