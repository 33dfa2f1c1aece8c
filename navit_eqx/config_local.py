"""Groups of attention in a model configuration, windows, frames and whole images, as a frozen dataclass."""

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import check, check_in


@dataclass(frozen=True)
class Local:
    """Attention within windows of an image, or of a frame, but for some blocks.

    [Qwen2.5-VL, arXiv:2502.13923; Qwen2-VL, arXiv:2409.12191]
    """

    window: tuple[int, int] = (8, 8)
    """Height and width of a window, in patches; windows begin at the top left, those at the other rims are smaller."""
    whole: tuple[int, ...] = ()
    """Blocks, from 1, that attend to the whole image, or clip."""
    frame: tuple[int, ...] = ()
    """Blocks, from 1, that attend to one frame of a clip: all tubelets of one time, as in Qwen2-VL."""

    def __post_init__(self):
        check_in("model.local", "[1, 1048576]", window=self.window)
        check_in("model.local", "[1, 4096]", whole=self.whole, frame=self.frame)


def check_local(
    local: Local | None, depth: int, shapes: Sequence[Sequence[int]], strides: Sequence[Sequence[int]]
) -> None:
    """Raises ConfigError where the model does not have the blocks or frames that are named; `shapes` and `strides` are
    those of its tubelets, none for images."""
    if local is None:
        return
    for name in ("whole", "frame"):
        found = getattr(local, name)
        check(
            max(found, default=0) <= depth,
            f"model.local.{name}={found} names blocks that a model of depth={depth} does not have",
        )
    both = sorted({*local.whole} & {*local.frame})
    check(not both, f"model.local: blocks {both} stand in whole and in frame, choose one")
    check(
        bool(shapes) or not local.frame,
        f"model.local.frame={local.frame}: the model reads images, which have no frames",
    )
    times = sorted({tubelet[0] for tubelet in (*shapes, *strides)})
    check(
        len(times) <= 1,
        f"model.local keeps frames apart, and model.tubelets have shapes and strides of {times} frames: choose one",
    )


def check_whole_blocks(window: Sequence[int], scales: int) -> None:
    """Raises ConfigError where merged patches could lie in two windows."""
    block = 2 ** (scales - 1)
    check(
        all(n % block == 0 for n in window),
        f"model.local.window={tuple(window)}: merged blocks of up to {block} x {block} patches would lie in two "
        f"windows: multiples of {block}, or fewer sizes, --data.merge.scales",
    )
