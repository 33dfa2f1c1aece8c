"""Random changes of training images, as options; `data/augment.py` does them."""

from dataclasses import dataclass

from ..errors import check_in


@dataclass(frozen=True)
class Mix:
    """A share of the training images is mixed with another image of the set, drawn for each one."""

    share: float = 0.5
    """Of the images that are mixed."""
    alpha: float = 0.8
    """The partner's weight is Beta(alpha, alpha)."""
    cut: float = 0.5
    """Of the mixed images, those that get a box of the partner (CutMix) and not a blend (mixup)."""

    def __post_init__(self):
        check_in("[0, 1]", share=self.share, cut=self.cut)
        check_in("(0, inf)", alpha=self.alpha)


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image that keep its aspect ratio, so that the plan stays valid."""

    flip: bool = False
    """Mirror every second image left to right."""
    crop: float = 1.0
    """Smallest share of the area that a random crop keeps; 1 keeps all."""
    stretch: float = 0.0
    """The crop's aspect ratio moves by up to this factor: ± ln(1 + stretch)."""
    rotate: float = 0.0
    """Turned by up to this angle either way, in radians; what comes into view is grey."""
    jitter: float = 0.0
    """Brightness, contrast and saturation move by up to this share."""
    mix: Mix | None = None
    """Mixing with another image; none by default."""

    def __post_init__(self):
        check_in("(0, 1]", crop=self.crop)
        check_in("[0, inf)", stretch=self.stretch)
        check_in("[0, 3.1416]", rotate=self.rotate)
        check_in("[0, 1]", jitter=self.jitter)
