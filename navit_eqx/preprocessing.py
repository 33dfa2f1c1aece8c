"""How a model wants its images: at which size, by which filter, with which channels, in rows of which shape.

A size rule has `grid(size, patch)`: rows and columns of patches for an image of `size` (height, width) pixels, in
patches of `patch` (height, width) pixels. The image is resized to whole patches, so a grid is at least 1 x 1. The rules
are the laws of resolution by which a model was trained, at one resolution: nothing is random here.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Literal

from .pixels import read_image as read_image

Filter = Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"]
Size = tuple[int, int]  # height and width, or rows and columns

LARGEST = 2**31 - 1  # grids are int32
SLACK = 1e-9  # keeps a side of exactly n patches from falling to n − 1 by rounding
SHRINKS = (8, 4, 2)  # at which a JPEG can be decoded smaller


def _whole(patches: float) -> int:
    """Whole patches, at least one."""
    return int(min(max(1, patches), LARGEST))


@dataclass(frozen=True)
class Area:
    """Every image at area side², aspect kept: rows = ⌊s · height / patch height⌋ with s² = side² / area."""

    side: float = 224

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.

        >>> Area(64).grid((100, 400), (16, 16))
        (2, 8)
        """
        scale = self.side / math.sqrt(size[0] * size[1])
        return _whole(scale * size[0] / patch[0] + SLACK), _whole(scale * size[1] / patch[1] + SLACK)


@dataclass(frozen=True)
class Native:
    """Every image at its own size times a factor."""

    factor: float = 1.0

    def grid(self, size: Size, patch: Size) -> Size:
        return Area(math.sqrt(size[0] * size[1]) * self.factor).grid(size, patch)


@dataclass(frozen=True)
class TokenBudget:
    """Every image at the largest size, aspect kept, that has at most so many tokens."""

    tokens: int = 256

    def grid(self, size: Size, patch: Size) -> Size:
        # Sides in units of a patch, as integers: only their ratio counts.
        height, width = size[0] * patch[1], size[1] * patch[0]
        return self._most(height, width), self._most(width, height)

    def _most(self, side: int, other: int) -> int:
        """The largest k for which the grid that has just gained its k-th patch on this side fits the budget."""
        tokens = lambda k: k * max(1, k * other // side)
        return max(1, bisect_right(range(1, self.tokens + 1), self.tokens, key=tokens))


@dataclass(frozen=True)
class NeverEnlarged:
    """As `rule`, but no image beyond its own size; one below a patch is still seen as one patch."""

    rule: "SizeRule" = Area()

    def grid(self, size: Size, patch: Size) -> Size:
        rows, columns = self.rule.grid(size, patch)
        return min(rows, _whole(size[0] // patch[0])), min(columns, _whole(size[1] // patch[1]))


@dataclass(frozen=True)
class Square:
    """Every image squeezed to a square of about the tokens that `rule` would give it."""

    rule: "SizeRule" = Area()

    def grid(self, size: Size, patch: Size) -> Size:
        tokens, (height, width) = math.prod(self.rule.grid(size, patch)), patch
        rows, columns = math.sqrt(tokens * width / height), math.sqrt(tokens * height / width)
        return max(1, round(rows)), max(1, round(columns))


@dataclass(frozen=True)
class OneSquare:
    """Every image squeezed to one square, of which whole patches are used."""

    side: float = 224

    def grid(self, size: Size, patch: Size) -> Size:
        return _whole(self.side // patch[0]), _whole(self.side // patch[1])


@dataclass(frozen=True)
class Fixed:
    """Every image squeezed to one size, as most pretrained models want it."""

    height: int = 224
    width: int = 224

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.   Raises ValueError where the size is no multiple of the patch."""
        if self.height % patch[0] or self.width % patch[1]:
            raise ValueError(f"Fixed: {self.height} x {self.width} pixels are no whole patches of {patch}")
        return self.height // patch[0], self.width // patch[1]


SizeRule = Area | Native | TokenBudget | NeverEnlarged | Square | OneSquare | Fixed


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to the patches that a model reads.

    Pixels keep their kind: uint8 images give uint8 patches, which the model normalizes on the device by its own mean
    and deviation. Float images count as normalized already: they give float32 patches, which the model takes as they
    are. uint16 arrays are scaled to float32 in [−1, 1] by x / 32767.5 − 1. One batch holds one kind.

    >>> Preprocessing(Area(64), "bicubic").size.grid((100, 400), (16, 16))
    (2, 8)
    """

    size: SizeRule
    filter: Filter = "bilinear"
    """By which images are resized, antialiased (but for nearest), each channel for itself."""
    channels: int = 3
    row_tokens: int = 256
    """T, tokens of a row unless `pack` is told otherwise; rows grow where an image is longer."""
    row_images: int = 16
    """I, most images of a row."""
    decode_margin: float = 0.0
    """Decoded pixels a side, at least, for each one that is shown: JPEG files are then decoded at a half, a quarter or
    an eighth of their size. 0 decodes them whole."""

    def shrink(self, size: Size, shown: Size) -> int:
        """By how much a JPEG of `size` may be decoded smaller that is shown at `shown` pixels."""
        if not self.decode_margin:
            return 1
        ratio = min(n / m for n, m in zip(size, shown)) / self.decode_margin
        return next((s for s in SHRINKS if s <= ratio), 1)


def size_rule(law: dict[str, Any]) -> SizeRule:
    """The rule of a training law in its JSON form, as saved models hold it.   Raises ValueError for a random law.

    >>> size_rule({"kind": "NeverEnlarged", "sampling": {"kind": "Sides", "lo": 64, "hi": 64}})
    NeverEnlarged(rule=Area(side=64))
    """
    match law:
        case {"kind": "Sides" | "Areas", "lo": side, "hi": hi} if side == hi is not None:
            return Area(side)
        case {"kind": "Native", "lo": factor, "hi": hi} if factor == hi:
            return Native(factor)
        case {"kind": "TokenBudget", "tokens": tokens}:
            return TokenBudget(tokens)
        case {"kind": "OneSquare", "side": side}:
            return OneSquare(side)
        case {"kind": "NeverEnlarged", "sampling": inner}:
            return NeverEnlarged(size_rule(inner))
        case {"kind": "Square", "sampling": inner}:
            return Square(size_rule(inner))
    raise ValueError(f"{law} is no law that gives one resolution: encode law.at(resolution)")


def at_resolution(rule: SizeRule, resolution: float) -> SizeRule:
    """The same rule at another resolution: a side, a factor or a number of tokens, as the rule has it.

    >>> at_resolution(Square(Area(64)), 128)
    Square(rule=Area(side=128))
    """
    match rule:
        case NeverEnlarged() | Square():
            return replace(rule, rule=at_resolution(rule.rule, resolution))
        case Native():
            return Native(resolution)
        case TokenBudget():
            return TokenBudget(int(resolution))
        case Fixed():
            return Fixed(int(resolution), int(resolution))
    return replace(rule, side=resolution)
