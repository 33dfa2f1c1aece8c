"""Size rules of native-resolution towers, whose grids are whole blocks of patches."""

import math
from dataclasses import dataclass

from .errors import check, check_in
from .pixels import ImageError

Size = tuple[int, int]  # height and width, or rows and columns


@dataclass(frozen=True)
class LongestEdge:
    """Shrink the longer side to at most `side` pixels, never enlarge, and round both sides up to blocks.   [Pixtral]"""

    side: int = 1024
    block: int = 1
    """Patches along the side of a block, to whose multiples grids are rounded."""

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 1000000]", side=self.side)
        check_in("info.preprocessing.size", "[1, 4096]", block=self.block)

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.

        >>> LongestEdge(64).grid((50, 200), (16, 16))
        (1, 4)
        """
        ratio = max(1.0, max(n / self.side for n in size))
        rows, columns = (
            self.block * -(-max(1, math.floor(n / ratio)) // (p * self.block)) for n, p in zip(size, patch)
        )
        return rows, columns

    def budget(self, patch: Size) -> int:
        return math.prod(self.grid((self.side, self.side), patch))


@dataclass(frozen=True)
class Blocks:
    """Round both sides to the nearest block, then shrink or enlarge to an area between two limits.   [Qwen2-VL]

    Sides are rounded one by one, so the aspect ratio changes a little. An image more than 200 times as long as it is
    thin is refused, as by its authors.
    """

    least: int = 56 * 56
    """Smallest area in pixels."""
    most: int = 28 * 28 * 1280
    """Largest area in pixels."""
    block: int = 2
    """Patches along the side of a block, to whose multiples grids are rounded."""

    def __post_init__(self):
        check_in("info.preprocessing.size", "[1, 1000000000000]", least=self.least, most=self.most)
        check_in("info.preprocessing.size", "[1, 4096]", block=self.block)
        check(
            self.least <= self.most,
            f"info.preprocessing.size.least={self.least} must not exceed info.preprocessing.size.most={self.most}",
        )

    def grid(self, size: Size, patch: Size) -> Size:
        """Rows and columns of patches.   Raises ImageError for an image that is too thin.

        >>> Blocks().grid((480, 640), (14, 14))
        (34, 46)
        """
        if max(size) > 200 * min(size):
            raise ImageError(
                f"{size[0]} x {size[1]} pixels are more than 200 to 1, which the model does not read: crop it"
            )
        pitch = tuple(p * self.block for p in patch)
        blocks = [round(n / p) for n, p in zip(size, pitch)]  # a half to the nearest even number
        area = math.prod(n * p for n, p in zip(blocks, pitch))
        if area > self.most:
            scale = math.sqrt(math.prod(size) / self.most)
            blocks = [max(1, math.floor(n / scale / p)) for n, p in zip(size, pitch)]
        elif area < self.least:
            scale = math.sqrt(self.least / math.prod(size))
            blocks = [math.ceil(n * scale / p) for n, p in zip(size, pitch)]
        rows, columns = (self.block * max(1, n) for n in blocks)
        return rows, columns

    def budget(self, patch: Size) -> int:
        return max(self.block**2, self.most // math.prod(patch))
