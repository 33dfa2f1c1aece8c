"""Size rules: the grid of patches of an image of any size.

A size rule has `grid(size, patch)`: rows and columns of patches for an image of `size` (height, width) pixels, in
patches of `patch` (height, width) pixels. The image is resized to an integer number of patches, at least 1 x 1. The
rules are the resolution sampling of training, fixed at one resolution: they are not random.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Literal

from .errors import check, check_in
from .tower_sizes import Blocks as Blocks
from .tower_sizes import LongestEdge as LongestEdge

Size = tuple[int, int]  # height and width, or rows and columns

LARGEST = 2**31 - 1  # grids are int32
SLACK = 1e-9  # keeps a side of exactly n patches from being rounded down to n − 1


def _whole(patches: float) -> int:
    """Round down to an integer number of patches, at least one."""
    return int(min(max(1, patches), LARGEST))


@dataclass(frozen=True)
class Area:
    """Resize to area side² in pixels, aspect kept: rows = ⌊s · height / patch height⌋ with s² = side² / area."""

    side: float = 224

    def __post_init__(self):
        check_in("info.preprocessing.size", "(0, 1000000]", side=self.side)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.

        >>> Area(64).grid((100, 400), (16, 16))
        (2, 8)
        """
        scale = self.side / math.sqrt(size[0] * size[1])
        return _whole(scale * size[0] / patch[0] + SLACK), _whole(scale * size[1] / patch[1] + SLACK)

    def budget(self, patch: Size) -> int:
        """Most tokens of an image with sides of at least a patch; thinner ones may have more.

        >>> Area(64).budget((16, 16))
        16
        """
        return _whole(self.side / patch[0] * self.side / patch[1] + SLACK)


@dataclass(frozen=True)
class Native:
    """Resize by a factor of the native size."""

    factor: float = 1.0

    def __post_init__(self):
        check_in("info.preprocessing.size", "(0, 1000000]", factor=self.factor)

    def grid(self, size: Size, patch: Size) -> Size:
        return Area(math.sqrt(size[0] * size[1]) * self.factor).grid(size, patch)

    def budget(self, patch: Size) -> None:
        """The tokens of an image grow with its size."""


@dataclass(frozen=True)
class TokenBudget:
    """Resize to the largest size, aspect kept, with at most `tokens` tokens."""

    tokens: int = 256

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 2147483647]", tokens=self.tokens)

    def grid(self, size: Size, patch: Size) -> Size:
        # Sides in patches, up to a common factor that keeps them integers: only their ratio matters.
        height, width = size[0] * patch[1], size[1] * patch[0]
        return self._most(height, width), self._most(width, height)

    def budget(self, patch: Size) -> int:
        return self.tokens

    def _most(self, side: int, other: int) -> int:
        """The largest k for which the grid at the scale of the k-th patch on this side is within the budget."""
        tokens = lambda k: k * max(1, k * other // side)
        return max(1, bisect_right(range(1, self.tokens + 1), self.tokens, key=tokens))


@dataclass(frozen=True)
class NeverEnlarged:
    """Like `rule`, but never above the native size; an image smaller than a patch is resized to one patch."""

    rule: "SizeRule" = Area()

    def grid(self, size: Size, patch: Size) -> Size:
        rows, columns = self.rule.grid(size, patch)
        return min(rows, _whole(size[0] // patch[0])), min(columns, _whole(size[1] // patch[1]))

    def budget(self, patch: Size) -> int | None:
        return self.rule.budget(patch)


@dataclass(frozen=True)
class Square:
    """Resize to a square, without keeping the aspect ratio, with about as many tokens as under `rule`."""

    rule: "SizeRule" = Area()

    def grid(self, size: Size, patch: Size) -> Size:
        return self._square(math.prod(self.rule.grid(size, patch)), patch)

    def budget(self, patch: Size) -> int | None:
        most = self.rule.budget(patch)
        return most and math.prod(self._square(most, patch))

    def _square(self, tokens: int, patch: Size) -> Size:
        height, width = patch
        rows, columns = math.sqrt(tokens * width / height), math.sqrt(tokens * height / width)
        return max(1, round(rows)), max(1, round(columns))


@dataclass(frozen=True)
class WholeBlocks:
    """Like `rule`, each side rounded down to blocks of 2^m patches, at least one: for a model with m merges, whose rows
    store tokens by blocks (`navit_eqx/hierarchy.py`)."""

    rule: "SizeRule" = Area()
    merges: int = 1

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 2]", merges=self.merges)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.

        >>> WholeBlocks(Area(96), 1).grid((100, 900), (16, 16))
        (2, 18)
        """
        block = 2**self.merges
        rows, columns = (max(block, n // block * block) for n in self.rule.grid(size, patch))
        return rows, columns

    def budget(self, patch: Size) -> int | None:
        most = self.rule.budget(patch)
        return most and max(4**self.merges, most)


@dataclass(frozen=True)
class OneSquare:
    """Resize every image to one square, without keeping the aspect ratio, rounded down to patches."""

    side: float = 224

    def __post_init__(self):
        check_in("info.preprocessing.size", "(0, 1000000]", side=self.side)

    def grid(self, size: Size, patch: Size) -> Size:
        return _whole(self.side // patch[0]), _whole(self.side // patch[1])

    def budget(self, patch: Size) -> int:
        return math.prod(self.grid((1, 1), patch))


@dataclass(frozen=True)
class Fixed:
    """Resize every image to one size in pixels, without keeping the aspect ratio, as for most pretrained models."""

    height: int = 224
    width: int = 224

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 1000000]", height=self.height, width=self.width)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.   Raises ConfigError where the size is not a multiple of the patch."""
        whole = self.height % patch[0] == 0 and self.width % patch[1] == 0
        check(whole, f"Fixed: height={self.height}, width={self.width} are no whole patches of {patch}")
        return self.height // patch[0], self.width // patch[1]

    def budget(self, patch: Size) -> int:
        return math.prod(self.grid((1, 1), patch))


@dataclass(frozen=True)
class CenterCrop:
    """Resize the shorter side to `side` pixels, aspect kept, then cut `height` x `width` pixels from the middle."""

    height: int = 224
    width: int = 224
    side: int = 256
    aspect: bool = True
    """False resizes to a square of `side` pixels instead."""
    middle: Literal["floor", "round"] = "floor"
    """Rounding of half of the pixels that are cut off; round is to even, as in torchvision."""

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 1000000]", height=self.height, width=self.width, side=self.side)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.   Raises ValueError where the part is not a multiple of the patch."""
        return Fixed(self.height, self.width).grid(size, patch)

    def budget(self, patch: Size) -> int:
        return math.prod(self.grid((1, 1), patch))

    def resized(self, size: Size) -> Size:
        """Height and width in pixels before the cut; the longer side is rounded down.

        >>> CenterCrop(224, 224, 256).resized((300, 451))
        (256, 384)
        """
        if not self.aspect:
            return self.side, self.side
        short = min(size)
        height, width = (self.side if n == short else int(self.side * n / short) for n in size)
        return height, width

    def corner(self, size: Size) -> Size:
        """Top and left of the part that is cut from an image of `size` pixels."""
        spare = size[0] - self.height, size[1] - self.width
        top, left = (round(n / 2) if self.middle == "round" else n // 2 for n in spare)
        return top, left


@dataclass(frozen=True)
class CeilBudget:
    """Resize by the largest factor with at most `tokens` tokens, each side rounded up to patches.   [SigLIP 2, NaFlex]

    The factor is found by bisection between 1e-6 and 100 to a width of 1e-5, as by its authors.
    """

    tokens: int = 256

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 2147483647]", tokens=self.tokens)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.

        >>> CeilBudget(256).grid((480, 640), (16, 16))
        (14, 18)
        """
        lo, hi = 1e-6, 100.0
        while hi - lo >= 1e-5:
            middle = (lo + hi) / 2
            if math.prod(self._at(middle, size, patch)) <= self.tokens:
                lo = middle
            else:
                hi = middle
        return self._at(lo, size, patch)

    def budget(self, patch: Size) -> int:
        return self.tokens

    def _at(self, scale: float, size: Size, patch: Size) -> Size:
        rows, columns = (max(1, math.ceil(n * scale / p)) for n, p in zip(size, patch))
        return rows, columns


@dataclass(frozen=True)
class Frames:
    """Read frames of a clip in the middle of equal steps, and resize them by `rule`: `navit_eqx.clips`."""

    rule: "SizeRule" = Area()
    frames: int = 8
    """Most frames of a clip."""
    stride: float | None = None
    """Distance of frames in the clip; None: over the whole clip."""

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 2147483647]", frames=self.frames)
        check_in("info.preprocessing.size", "(0, 1000000]", stride=self.stride)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches of a frame."""
        return self.rule.grid(size, patch)

    def budget(self, patch: Size) -> None:
        """The tokens of a clip depend on its length."""

    def count(self, available: int, step: int) -> int:
        """Frames that are read of a clip: whole kernels of `step` frames, or one frame.

        >>> Frames(frames=8).count(7, 2)
        6
        """
        most = min(self.frames, available)
        return most - most % step if most >= step else 1

    def times(self, available: int, count: int) -> list[float]:
        """Times of the frames that are read, as shares of the clip.

        >>> Frames(frames=2).times(8, 2)
        [0.25, 0.75]
        """
        step = available / count if self.stride is None else min(self.stride, available / count)
        first = (available - count * step) / 2
        return [(first + (k + 0.5) * step) / available for k in range(count)]


Plain = Area | Native | TokenBudget | CeilBudget | OneSquare | Fixed | CenterCrop | LongestEdge | Blocks
SizeRule = Plain | NeverEnlarged | Square | Frames | WholeBlocks


def size_rule(sampling: dict[str, Any]) -> SizeRule:
    """The size rule of a resolution sampling in JSON form.   Raises ValueError where the resolution is random.

    >>> size_rule({"kind": "NeverEnlarged", "sampling": {"kind": "Sides", "lo": 64, "hi": 64}})
    NeverEnlarged(rule=Area(side=64))
    """
    match sampling:
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
        case {"kind": "WholeBlocks", "sampling": inner, "merges": merges}:
            return WholeBlocks(size_rule(inner), merges)
        case {"kind": "Clips", "sampling": inner, "frames": [frames], "stride": stride}:
            return Frames(size_rule(inner), frames, stride)
    raise ValueError(f"{sampling} does not give one resolution: encode sampling.at(resolution)")


def at_resolution(rule: SizeRule, resolution: float) -> SizeRule:
    """The same rule at another resolution: a side in pixels, a factor or a number of tokens, depending on the rule.

    >>> at_resolution(Square(Area(64)), 128)
    Square(rule=Area(side=128))
    """
    match rule:
        case NeverEnlarged() | Square() | Frames() | WholeBlocks():
            return replace(rule, rule=at_resolution(rule.rule, resolution))
        case Native():
            return Native(resolution)
        case TokenBudget() | CeilBudget():
            return replace(rule, tokens=int(resolution))
        case CenterCrop():
            share = resolution / min(rule.height, rule.width)
            return CenterCrop(
                int(rule.height * share), int(rule.width * share), int(rule.side * share), rule.aspect, rule.middle
            )
        case Fixed():
            return Fixed(int(resolution), int(resolution))
        case LongestEdge():
            return replace(rule, side=int(resolution))
        case Blocks():
            return replace(rule, least=int(resolution**2), most=int(resolution**2))
    return replace(rule, side=resolution)
