"""Windows of an image in a model configuration, as a frozen dataclass."""

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import check, check_in


@dataclass(frozen=True)
class Local:
    """Attention within windows of an image, but for some blocks.   [Qwen2.5-VL, arXiv:2502.13923]"""

    window: tuple[int, int] = (8, 8)
    """Height and width of a window, in patches; windows begin at the top left, those at the other rims are smaller."""
    whole: tuple[int, ...] = ()
    """Blocks, from 1, that attend to the whole image."""

    def __post_init__(self):
        check_in("model.local", "[1, 1048576]", window=self.window)
        check_in("model.local", "[1, 4096]", whole=self.whole)


def check_local(local: Local | None, depth: int) -> None:
    """Raises ConfigError where the model does not have the blocks that are named."""
    if local is None:
        return
    check(
        max(local.whole, default=0) <= depth,
        f"model.local.whole={local.whole} names blocks that a model of depth={depth} does not have",
    )


def check_whole_blocks(window: Sequence[int], scales: int) -> None:
    """Raises ConfigError where merged patches could lie in two windows."""
    block = 2 ** (scales - 1)
    check(
        all(n % block == 0 for n in window),
        f"model.local.window={tuple(window)}: merged blocks of up to {block} x {block} patches would lie in two "
        f"windows: multiples of {block}, or fewer sizes, --data.merge.scales",
    )
