"""What the rates that follow the content of images need to know of the data."""

from dataclasses import replace

from data.sampling.dropping import ByContent
from data.sampling.merge import MergeByContent
from reference.sampling.complexity import quantiles_of

from .config import Config, with_data
from .lengths import Images, complexity_of

QUANTILES = 16  # of complexity: the ranks of images are whole and half multiples of 1/16


def content(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the quantiles of complexity from the images."""
    notes = []
    for name, kind in (("merge", MergeByContent), ("dropping", ByContent)):
        law, known = getattr(config.data, name), complexity_of(images.manifest)
        if not isinstance(law, kind) or law.quantiles:
            continue
        assert known is not None, "the complexity of images is measured when they are opened: `open_source`"
        found = tuple(float(f"{x:.4g}") for x in quantiles_of(known, QUANTILES))
        config = with_data(config, **{name: replace(law, quantiles=found)})
        why = f"complexity of the images in {QUANTILES} equal shares, 0 is flat"
        notes.append(f"data.{name}.quantiles = {' '.join(f'{x:g}' for x in found)}: {why}")
    return config, notes
