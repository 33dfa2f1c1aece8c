"""Images of a source, corrupted at their native size, before anything resizes them."""

import zlib
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Num, UInt8

from reference.evaluation.corruptions import CORRUPTIONS, corrupt

from ..boxes import turned
from ..errors import DataError
from ..manifest import Manifest
from ..randomness import Purpose, generator
from .source import UNLABELED, Source, mask_of


class Corrupted:
    """A source whose images are corrupted; see `reference/evaluation/corruptions.py`.

    Random numbers follow from seed, corruption and name of an image alone: the same for every severity, model, subset
    and order. Masks and boxes turn with their image. Raises DataError for pixels that are no bytes, for channels that
    are neither gray nor RGB, and where masks or boxes cannot follow their pixels.
    """

    def __init__(self, source: Source, name: str, severity: int, seed: int = 0):
        manifest = source.manifest
        if manifest.dtype != "uint8" or manifest.channels not in (1, 3) or manifest.has_clips:
            raise DataError(f"{manifest.where}: corruptions are of images in bytes, gray or RGB")
        if has_places(manifest) and CORRUPTIONS[name].moves:
            raise DataError(f"{manifest.where}: {name!r} moves pixels, but neither masks nor boxes")
        self.source, self.name, self.severity, self.seed = source, name, severity, seed
        self.turns = round(CORRUPTIONS[name].strengths[severity - 1] / 90) if name == "rotation" and severity else 0
        boxes = manifest.boxes and turned(manifest.boxes, manifest.sizes, self.turns)
        sizes = manifest.sizes[:, ::-1] if self.turns % 2 else manifest.sizes
        self.manifest = replace(manifest, sizes=sizes, boxes=boxes)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """At full size, whatever `shrink` says: a corruption of a smaller image is another one.   Raises BadImage."""
        name = bytes(self.source.manifest.names[index])
        rng = generator(Purpose.CORRUPTION, self.seed, zlib.crc32(self.name.encode()), zlib.crc32(name))
        things = things_in(self.source, index) if CORRUPTIONS[self.name].things else None
        return corrupted(self.source.image(index), self.name, self.severity, rng, things)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage, and DataError where the source has no masks."""
        return np.rot90(mask_of(self.source, index), self.turns)


def corrupted(
    image: UInt8[np.ndarray, "h w C"],
    name: str,
    severity: int,
    rng: np.random.Generator,
    things: Bool[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "y x C"]:
    """Bytes of a corrupted image; severity 0 changes none."""
    return np.rint(255 * corrupt(image / 255, name, severity, rng, things)).astype(np.uint8)


def things_in(source: Source, index: int) -> Bool[np.ndarray, "h w"]:
    """Which pixels have a class other than the background, 0.   Raises BadImage, and DataError without masks."""
    mask = mask_of(source, index)
    return (mask > 0) & (mask != UNLABELED)


def has_places(manifest: Manifest) -> bool:
    """Whether the truth of an image is a matter of places: masks or boxes."""
    return manifest.masks or manifest.boxes is not None


def changes(source: Source, name: str) -> bool:
    """Whether a corruption changes images of a source, and leaves their truth: of colors in RGB alone, of things where
    masks are known and not asked for, of places where nothing is asked of them."""
    found = CORRUPTIONS[name]
    if has_places(source.manifest) and (found.moves or found.things):
        return False
    return (source.manifest.channels == 3 or not found.colors) and (not found.things or knows_things(source))


def knows_things(source: Source) -> bool:
    """Whether a source has a mask for its images."""
    try:
        return len(source.manifest) > 0 and mask_of(source, 0) is not None
    except DataError:
        return False
