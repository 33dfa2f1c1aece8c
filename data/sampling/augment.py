"""Options of augmentation; `data/augment.py` applies them."""

from dataclasses import dataclass

from ..errors import check_in


@dataclass(frozen=True)
class Mix:
    """Mix a random share of the training images with another image of the set (mixup or CutMix)."""

    share: float = 0.5
    """Share of images that are mixed; 0 mixes none."""
    alpha: float = 0.8
    """Parameter of Beta(alpha, alpha), from which the weight of the partner is drawn."""
    cutmix: float = 0.5
    """Share of mixed images in which a box comes from the partner (CutMix); the others are blends (mixup)."""

    def __post_init__(self):
        check_in("[0, 1]", share=self.share, cutmix=self.cutmix)
        check_in("(0, inf)", alpha=self.alpha)


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image; its tokens are as many as planned."""

    flip: bool = False
    """Mirror images left to right with probability 1/2."""
    crop: float = 1.0
    """Smallest share of the area that a random crop keeps; 1 turns cropping off."""
    stretch: float = 0.0
    """Largest change of the aspect ratio of a crop: a factor of up to 1 + stretch; 0 keeps the aspect ratio."""
    rotate: float = 0.0
    """Largest rotation either way, in radians; exposed corners are gray. 0 turns rotation off."""
    jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation; 0 turns color jitter off."""
    mix: Mix | None = None
    """Mixing with another image; none turns mixing off."""
    quarter_turns: bool = False
    """Turn images by 0, 90, 180 or 270 degrees with equal probability; an odd turn exchanges height and width."""
    gray: float = 0.0
    """Share of images that lose their colors."""
    invert: float = 0.0
    """Share of images in which dark and bright are exchanged."""

    def __post_init__(self):
        check_in("(0, 1]", crop=self.crop)
        check_in("[0, inf)", stretch=self.stretch)
        check_in("[0, 3.1416]", rotate=self.rotate)
        check_in("[0, 1]", jitter=self.jitter, gray=self.gray, invert=self.invert)
