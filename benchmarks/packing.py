"""Speed and padding of each packing rule, and of the plan of an epoch.

    python benchmarks/packing.py [--quick]

Token counts of the paper's setting: photographs of common shapes, R ~ U(64, 256), patches of 16 pixels, with
Beta(0.5, 0.9) dropping or none.
"""

from typing import Literal

import numpy as np

from benchmarks.measure import arguments, median_seconds, report
from benchmarks.settings import SEED, photo_sizes
from data.plan import Plan, plan_epoch
from data.sampling.dropping import Beta, Constant, Dropping
from data.sampling.packing import BestFit, ExactFit, FirstFit, Packing, Rule
from data.sampling.resolution import Sides
from reference.packing import padding
from reference.sampling.dropping import kept_tokens

RESOLUTION, PATCH = Sides(64, 256), (16, 16)
SETTINGS: list[tuple[Dropping, int]] = [(Beta(0.5, 0.9), 256), (Constant(0.0), 256), (Constant(0.0), 512)]
ROW_IMAGES, WINDOW = 16, 64
PACKINGS: dict[str, Rule] = {
    "first_fit": FirstFit(WINDOW), "best_fit": BestFit(WINDOW), "exact_fit": ExactFit(WINDOW),
}  # fmt: skip


def main() -> None:
    args = arguments(__doc__, "2,000 images alone").parse_args()

    for count in (2_000,) if args.quick else (10_000, 100_000, 1_000_000):
        for dropping, row_tokens in SETTINGS:
            for rule in PACKINGS if count < 1_000_000 else ("exact_fit",):
                measure_rule(rule, count, dropping, row_tokens, args.repeats)
    for count in (2_000,) if args.quick else (10_000, 100_000):
        for fill in ("none", "rate", "resolution"):
            measure_plan(count, fill, args.repeats)


def measure_rule(rule: str, count: int, dropping: Dropping, row_tokens: int, repeats: int) -> None:
    lengths = token_counts(count, dropping)
    pack = lambda: PACKINGS[rule].rows(lengths, row_tokens, ROW_IMAGES)
    rows = pack()
    check_rows(rows, lengths, row_tokens)
    seconds = median_seconds(pack, repeats)
    report(
        name="packing",
        rule=rule,
        dropping=str(dropping),
        row_tokens=row_tokens,
        row_images=ROW_IMAGES,
        window=WINDOW,
        images=count,
        images_per_second=count / seconds.seconds,
        padding=padding(lengths, rows, row_tokens),
        images_per_row=count / len(rows),
        **seconds._asdict(),
    )


def measure_plan(count: int, fill: Literal["none", "rate", "resolution"], repeats: int) -> None:
    (dropping, row_tokens), shapes = SETTINGS[0], photo_sizes(count)
    packing = Packing(row_tokens, ROW_IMAGES, ExactFit(WINDOW), fill)
    options = {"patch_size": PATCH, "resolution": RESOLUTION, "dropping": dropping, "packing": packing}
    make = lambda: plan_epoch(shapes, seed=SEED, epoch=0, longest_side=64, **options)
    plan = make()
    check_plan(plan, count, row_tokens)
    seconds = median_seconds(make, repeats)
    report(
        name="plan_epoch",
        rule="exact_fit",
        fill=fill,
        dropping=str(dropping),
        row_tokens=row_tokens,
        row_images=ROW_IMAGES,
        window=WINDOW,
        images=count,
        images_per_second=count / seconds.seconds,
        padding=float(plan.padding(row_tokens)),
        images_per_row=count / len(plan.image_ids),
        **seconds._asdict(),
    )


def token_counts(count: int, dropping: Dropping) -> list[int]:
    rng = np.random.default_rng(SEED + 1)
    tokens = RESOLUTION.grids(rng, photo_sizes(count), PATCH).prod(-1)
    return kept_tokens(tokens, dropping.rates(rng, tokens, np.arange(count))).tolist()


def check_rows(rows: list[list[int]], lengths: list[int], row_tokens: int) -> None:
    """Check that every image is in one row, and no row is empty or exceeds its tokens or slots."""
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(1 <= len(row) <= ROW_IMAGES for row in rows)
    assert all(sum(lengths[i] for i in row) <= row_tokens for row in rows)


def check_plan(plan: Plan, count: int, row_tokens: int) -> None:
    """Check that every image is in one row with at most the tokens of its grid, and no row exceeds its tokens."""
    used = plan.image_ids >= 0
    assert not plan.left_out and np.array_equal(np.sort(plan.image_ids[used]), np.arange(count))
    assert used.any(-1).all() and (plan.kept.sum(-1) <= row_tokens).all()
    assert ((plan.kept >= 1) == used).all() and (plan.kept <= plan.grids.prod(-1)).all()


if __name__ == "__main__":
    main()
