"""The plan of an evaluation: every image once, in rows as in training and, for longer images, in longer rows."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from .plan import NOTHING, Plan, in_reach, plan_epoch, round_up
from .sampling.dropping import Complexity, Dropping
from .sampling.kinds import Patch
from .sampling.merge import Law, kept_by
from .sampling.packing import Packing, TwoLengths
from .sampling.patch_size import PatchSizes

LONG = 4096  # tokens of an image, at which rows of evaluation need not be as short as in training


def plan_evaluation(
    sizes: Int[np.ndarray, "N A"],
    *,
    patch_size: Patch | PatchSizes,
    resolution: Law,
    packing: Packing,
    longest_side: int,
    dropping: Dropping = NOTHING,
    complexity: Complexity = None,
) -> Plan:
    """Every image once, unshuffled, by default with all tokens."""
    return plan_epoch(
        sizes,
        seed=0,
        epoch=0,
        patch_size=patch_size,
        resolution=resolution,
        dropping=dropping,
        packing=packing,
        shuffle=False,
        longest_side=longest_side,
        complexity=complexity,
    )


def longest_image(
    resolution: Law,
    sizes: Int[np.ndarray, "N A"],
    patch: Patch,
    longest_side: int,
    most: int,
    dropping: Dropping = NOTHING,
) -> int:
    """Tokens of the longest image at this resolution, of those with a position for every patch and at most `most`
    tokens; 0 where there is none."""
    rng = np.random.default_rng(0)
    grids = resolution.grids(rng, sizes, patch)
    tokens = resolution.token_counts(grids)
    kept = kept_by(resolution, tokens, dropping.rates(rng, tokens, np.arange(len(tokens))))
    return int(kept[in_reach(grids, longest_side) & (kept <= most)].max(initial=0))


def most_tokens(row_tokens: int) -> int:
    """Most tokens of an image in evaluation: images of up to 4 rows, and 4,096 tokens in any case."""
    return max(4 * row_tokens, LONG)


def packing_at(
    packing: Packing,
    resolution: Law,
    sizes: Int[np.ndarray, "N A"],
    patch: Patch,
    dropping: Dropping = NOTHING,
    *,
    longest_side: int,
    longest: int = 0,
) -> Packing:
    """`packing` for evaluation, with a rule that drops none: rows as in training and, for images that need them, rows
    for the longest image, or of `longest` tokens."""
    short, _ = packing.shape
    longest = max(longest, longest_image(resolution, sizes, patch, longest_side, most_tokens(short), dropping))
    row_tokens = short if longest <= short else round_up(longest)
    return replace(packing, row_tokens=row_tokens, rule=TwoLengths(short=short), fill="none")


def of_two_lengths(plan: Plan, packing: Packing, short: int) -> Iterator[tuple[int, Plan]]:
    """Row length and rows of the two parts of a plan by `TwoLengths`; a part without rows is left out."""
    is_short = plan.kept.sum(-1) <= short
    for row_tokens, rows in ((short, is_short), (packing.shape[0], ~is_short)):
        if rows.any():
            tables = (plan.image_ids[rows], plan.grids[rows], plan.kept[rows], plan.patch_sizes[rows])
            yield row_tokens, Plan(*tables, plan.left_out)


def fill_last_batch(plan: Plan, rows: int) -> Plan:
    """The plan, padded with empty rows to a multiple of `rows`."""
    missing = -len(plan.image_ids) % rows

    def fill(table, value):
        widths = [(0, missing)] + [(0, 0)] * (table.ndim - 1)
        return np.pad(table, widths, constant_values=value)

    return plan._replace(
        image_ids=fill(plan.image_ids, -1),
        grids=fill(plan.grids, 0),
        kept=fill(plan.kept, 0),
        patch_sizes=np.pad(plan.patch_sizes, [(0, missing), (0, 0), (0, 0)], mode="edge"),
    )
