"""Images without the boxes of some classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Num

from ..errors import DataError
from .source import Source


class Unboxed:
    """A source without the boxes of some classes, nor their names; their images stay, and show them all the same.

    Raises DataError where it has no such class, or no other.
    """

    def __init__(self, source: Source, held_out: Sequence[str]):
        manifest, names = source.manifest, set(held_out)
        known = ", ".join(manifest.classes[:8]) + (", …" if len(manifest.classes) > 8 else "")
        for name in held_out:
            if name not in manifest.classes:
                raise DataError(f"task.head.held_out: {manifest.where} has no class {name!r}; it has {known}")
        kept = tuple(name for name in manifest.classes if name not in names)
        if not kept or manifest.boxes is None:
            raise DataError(f"task.head.held_out leaves no class with boxes in {manifest.where}: hold out fewer")
        held = np.array([name in names for name in manifest.classes])[manifest.boxes.classes]
        boxes = manifest.boxes.only(~held)
        note = f"held out: {', '.join(held_out)}; {int(held.sum())} of {len(held)} boxes are left out of training"
        bare = replace(manifest, boxes=boxes, labels=boxes.label_sets(), notes=(*manifest.notes, note))
        self.source, self.manifest = source, bare.renamed(kept)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return self.source.image(index, shrink)


def unboxed(source: Source, held_out: Sequence[str]) -> Source:
    """The source without the boxes of these classes."""
    return Unboxed(source, held_out) if held_out else source
