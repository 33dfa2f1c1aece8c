"""What longer rows cost in attention, against the width of the model.   [NaViT, fig. 4]"""

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.computed import command_line, main, stated
from harness.evaluation.pictures import sheet
from navit_eqx import Model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.inference import pooled
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model, is_shape
from reference.evaluation.cost import pair_flops, token_flops
from reference.patches import raster
from reference.rows import Row, Tokens, pack

FOLDER = Path(__file__).parent
IMAGE = 256  # tokens
PACKED = (1, 2, 4, 8)  # images a row
WIDTHS = (1024, 2048, 3072, 4096, 5120, 6144)
MEASURED = (64, 128, 256, 512)
DEPTH, HEAD, PATCH = 2, 64, 2
REPEATS = 5


def shares(width: int, images: int) -> dict[str, float]:
    """Attention's token pairs in rows of so many images, by four definitions; the paper prints no formula.

    Per token and block 24 d² FLOPs in projections and MLP, 16 d² of them in the MLP, and 4 n d in pairs.
    """
    pairs = images * IMAGE * pair_flops(width=width, depth=1)
    rest = token_flops(patch_dim=0, width=width, depth=1, mlp_width=4 * width) - 4 * width**2  # no keys of the pool
    alone = pairs / images
    return {
        "over the rest": pairs / rest,
        "over the MLP": pairs / (16 * width**2),
        "of all": pairs / (rest + pairs),
        "of packing": (pairs - alone) / (rest + alone),
    }


def measure(options: Namespace) -> dict:
    formula = {str(k): [shares(d, k)["over the rest"] for d in WIDTHS] for k in PACKED}
    predicted = {str(k): [shares(d, k)["of packing"] for d in MEASURED] for k in PACKED[1:]}
    measured = {str(k): [] for k in PACKED[1:]}
    for width in MEASURED:
        seconds = forward_seconds(width)
        for k in PACKED[1:]:
            measured[str(k)].append(seconds[k] / seconds[1] - 1)
    rows = [
        {"images a row": k, "definition": name, **{f"d = {d}": f"{shares(d, k)[name]:.1%}" for d in (1024, 6144)}}
        for name in shares(1024, 1)
        for k in PACKED
    ]
    times = [
        {
            "images a row": k,
            **{f"d = {d}": f"{m:+.0%} ({p:.0%})" for d, m, p in zip(MEASURED, measured[k], predicted[k])},
        }
        for k in measured
    ]
    eight = shares(1024, 8)["over the rest"]
    narrow, wide = measured["8"][0], measured["8"][-1]
    claims = [
        stated("Attention falls to a small share as the width grows: 33.3 % to 5.6 % of the rest, eight images a row",
               f"{eight:.1%} to {shares(6144, 8)['over the rest']:.1%}", abs(eight - 1 / 3) < 1e-9),
        stated("The measured cost of packing eight images in a row falls with the width",
               f"{narrow:+.0%} at d = {MEASURED[0]}, {wide:+.0%} at d = {MEASURED[-1]}", wide < 0.7 * narrow),
    ]  # fmt: skip
    return {"claims": claims, "tables": [rows, times], "formula": formula, "measured": measured, "predicted": predicted}


def forward_seconds(width: int) -> dict[int, float]:
    """Images a row → time of the same eight images, the fastest of several runs taken in turn."""
    shape = ModelConfig(
        (PATCH, PATCH), width=width, depth=DEPTH, heads=width // HEAD, mlp_width=4 * width,
        posembed=Factorised(16), unroll=DEPTH,
    )  # fmt: skip
    model = random_model(shape)
    batches = {k: to_device(packed(k)) for k in PACKED}
    for batch in batches.values():
        jax.block_until_ready(pooled(model, batch))
    runs = [{k: timed(model, batch) for k, batch in batches.items()} for _ in range(REPEATS)]
    return {k: min(run[k] for run in runs) for k in PACKED}


def random_model(shape: ModelConfig) -> Model:
    """Made of random numbers by NumPy, so that nothing is compiled but what is timed."""
    rng = np.random.default_rng(0)
    arrays, static = eqx.partition(abstract_model(shape, Classify(classes=10)), is_shape)
    numbers = lambda leaf: jnp.asarray(0.1 * rng.normal(size=leaf.shape), leaf.dtype)
    return eqx.combine(jax.tree.map(numbers, arrays), static)


def timed(model: Model, batch: Row) -> float:
    start = time.perf_counter()
    jax.block_until_ready(pooled(model, batch))
    return time.perf_counter() - start


def packed(images: int) -> Row:
    """Eight images of noise, so many a row."""
    rng = np.random.default_rng(0)
    side = int(IMAGE**0.5)
    grid = np.array([side, side], np.int32)
    noise = lambda: Tokens(rng.integers(0, 256, (IMAGE, 3 * PATCH**2), np.uint8), raster((side, side)), grid)
    rows = [
        pack([noise() for _ in range(images)], range(images), images * IMAGE, images)
        for _ in range(max(PACKED) // images)
    ]
    return Row(*(np.stack(leaf) for leaf in zip(*rows)))


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        for k, values in result["formula"].items():
            left.plot(WIDTHS, [100 * v for v in values], "o-", label=f"{k} images of {IMAGE} tokens")
        left.set(
            xlabel="width d", ylabel="token pairs over everything else, %", title="Formula: n / 6d", ylim=(0, None)
        )
        for number, (k, values) in enumerate(result["measured"].items()):
            color = f"C{number + 1}"
            right.plot(MEASURED, [100 * v for v in values], "o-", color=color, label=f"{k} images a row, measured")
            right.plot(MEASURED, [100 * v for v in result["predicted"][k]], ":", color=color, label="formula")
        right.set_xscale("log", base=2)
        right.set_xticks(MEASURED, map(str, MEASURED))
        right.set(
            xlabel="width d", ylabel="more time than one image a row, %", title="Forward pass on a CPU, equal tokens"
        )
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line())
