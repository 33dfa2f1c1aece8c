"""How long devices wait for the slowest one: the cost of a step on up to 1,024 devices, simulated.

    python benchmarks/balance.py [--quick]

Sizes of photographs are log-normal around 500 pixels a side. The cost is the forward FLOPs of B/16, for attention that
computes no pair of tokens of different images; the largest over the mean of the devices is 1 where nobody waits.
Compared are rows in the order of the plan, the same rows dealt by `reference/dealing.py:deal`, and images without a
plan: each device takes as many as the rows of a device hold in the mean, as they come.
"""

import numpy as np

from benchmarks.measure import arguments, report
from benchmarks.settings import SEED
from data.plan import plan_epoch
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native, NeverEnlarged, Resolution, Sides
from harness.cost import image_cost, imbalance
from navit_eqx.config import variant
from reference.dealing import deal

PATCH, SHAPE, CLASSES = (16, 16), variant("B/16"), 1000
SETTINGS: dict[str, tuple[Resolution, Constant, Packing]] = {
    "64 to 256, half dropped": (Sides(64, 256), Constant(0.5), Packing(256, 16)),
    "128 to 512": (Sides(128, 512), Constant(0.0), Packing(1024, 32)),
    "256 to 1024, never enlarged": (NeverEnlarged(Sides(256, 1024)), Constant(0.0), Packing(4096, 64)),
    "native sizes": (Native(1.0, 1.0), Constant(0.0), Packing(16384, 256)),
}
STEPS = 20


def main() -> None:
    args = arguments(__doc__, "4,000 images and 8 devices alone").parse_args()
    sizes = web_sizes(4_000 if args.quick else 100_000)
    for name, (resolution, dropping, packing) in SETTINGS.items():
        plan = plan_epoch(
            sizes, seed=SEED, epoch=0, patch_size=PATCH, resolution=resolution, dropping=dropping, packing=packing,
            longest_side=4096,
        )  # fmt: skip
        for devices in (8,) if args.quick else (8, 64, 256, 1024):
            for rows in (2, 4, 8, 16):
                measure(name, plan.kept, packing.shape[0], devices, rows)


def web_sizes(count: int) -> np.ndarray:
    """Heights and widths of photographs of many kinds."""
    rng = np.random.default_rng(SEED)
    side = np.exp(rng.normal(np.log(500), 0.6, count)).clip(32, 4000)
    aspect = np.exp(rng.normal(0.2, 0.35, count))
    return np.stack([side / np.sqrt(aspect), side * np.sqrt(aspect)], -1).round().astype(np.int32).clip(16, None)


def measure(name: str, kept: np.ndarray, row_tokens: int, devices: int, rows: int) -> None:
    """Steps of random rows of the plan, `rows` of them on each device."""
    rng, tokens = np.random.default_rng(SEED), rows * row_tokens
    pairs, lengths = (kept.astype(float) ** 2).sum(1), kept[kept > 0]
    images = max(1, round(rows * len(lengths) / len(kept)))
    lone = np.array([image_cost(SHAPE, CLASSES, n) for n in range(lengths.max() + 1)])
    found = []
    for _ in range(STEPS):
        costs = pairs[rng.integers(len(pairs), size=devices * rows)]
        dealt = costs[deal(costs, devices)]
        assert sorted(dealt) == sorted(costs)
        loads = [imbalance(SHAPE, CLASSES, tokens, each.reshape(devices, rows).sum(1)) for each in (costs, dealt)]
        unplanned = lone[rng.choice(lengths, (devices, images))].sum(1)
        found.append((*loads, unplanned.max() / unplanned.mean()))
    as_planned, dealt, unplanned = np.mean(found, axis=0)
    report(
        name="balance", setting=name, row_tokens=row_tokens, images_per_row=len(lengths) / len(kept), devices=devices,
        rows_per_device=rows, as_planned=as_planned, dealt=dealt, unplanned=unplanned, steps=STEPS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
