"""Images that are drawn, not read: their number and their seed."""

from dataclasses import dataclass
from typing import ClassVar

from ..errors import DataError, check_in
from .source import Source


@dataclass(frozen=True)
class Generated:
    """Base of embedded data sets; what they draw depends on split, index and seed alone."""

    train_images: int = 300_000
    """Number of training images."""
    val_images: int = 2_000
    """Number of validation images."""
    seed: int = 0
    """Seed of the images, independent of the seed of the run."""

    WHAT: ClassVar[str] = "images"
    CHANNELS: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self):
        check_in("[1, 2147483647]", train_images=self.train_images, val_images=self.val_images)
        check_in("[0, 4294967295]", seed=self.seed)

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split.   Raises DataError for other numbers of channels."""
        if channels not in self.CHANNELS:
            known = " or ".join(map(str, self.CHANNELS))
            raise DataError(
                f"{self.WHAT} have {known} channels, the model reads {channels}: --model.channels {self.CHANNELS[0]}"
            )
        return self.drawn(split, self.train_images if split == "train" else self.val_images, channels)

    def drawn(self, split: str, count: int, channels: int) -> Source:
        """`count` images of a split."""
        raise NotImplementedError
