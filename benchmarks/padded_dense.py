"""Packed against padded rows for masks and boxes: the gradient of the mean loss over the same images.

    python benchmarks/padded_dense.py [--images 256] [--presets segment-glyphs detect-digits] [--quick]

Forms: rows that several images share, as they are trained ("packed"); one image a row, as long as the longest of them
("padded to the longest"); one image a row, as long as a square of the longest side, as OWL-ViT does ("padded to a
square").
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks.measure import arguments, median_seconds, report
from benchmarks.settings import stacked, training_stream
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from harness.config import Config
from harness.cost import row_cost
from harness.presets import PRESETS
from harness.resolve import resolve
from harness.run.loading import open_source, open_task
from navit_eqx import Model
from navit_eqx.rows import Batch, to_device

FLOAT32 = 1e-3  # largest error of the gradient, over its largest number, against that of the packed rows
SCALE = 1.0


def main() -> None:
    parser = arguments(__doc__, "16 images, two repeats")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--presets", nargs="+", default=["segment-glyphs", "detect-digits"])
    args = parser.parse_args()
    for preset in args.presets:
        compare(preset, 16 if args.quick else args.images, 2 if args.quick else args.repeats)


def compare(preset: str, images: int, repeats: int) -> None:
    """Check that all forms have one gradient, and measure each."""
    base = PRESETS[preset]()
    data = replace(base.data, source=replace(base.data.source, train_images=images), resolution=Native(SCALE, SCALE))
    base = replace(base, data=data)
    wanted = model = None
    for form, packing in forms(base).items():
        config, batch, tokens = epoch(replace(base, data=replace(data, packing=packing)))
        model = model or Model(config.model, config.task, key=jr.key(0))
        run = lambda batch=batch, model=model: jax.block_until_ready(gradient(model, batch))
        found = run()
        wanted = found if wanted is None else wanted
        error = max(jax.tree.leaves(jax.tree.map(relative_error, found, wanted)))
        assert error <= FLOAT32, f"{preset}, {form}: relative error {error:.3g}, limit {FLOAT32}"
        timed, rows = median_seconds(run, repeats), len(batch.row.segment_ids)
        flops = 3 * rows * row_cost(config.model, config.task.classes or 0, *packing.shape)
        report(
            **{"name": "padded_dense", "preset": preset, "form": form, "images": images, "rows": rows},
            **{"row_tokens": packing.shape[0], "padding": 1 - tokens / (rows * packing.shape[0])},
            **{"mflops_per_image": 1e-6 * flops / images, "images_per_second": images / timed.seconds},
            **{"tokens_per_second": tokens / timed.seconds, "relative_error": error, **timed._asdict()},
        )


def forms(config: Config) -> dict[str, Packing]:
    """The rows of the preset, and rows of one image."""
    source = open_source(config, "train")
    grids = config.data.resolution.grids(np.random.default_rng(0), source.manifest.sizes, config.model.patch)
    return {
        "packed": config.data.packing,
        "padded to the longest": Packing(row_tokens=int(grids.prod(-1).max()), row_images=1),
        "padded to a square": Packing(row_tokens=int(grids.max()) ** 2, row_images=1),
    }


def epoch(config: Config) -> tuple[Config, Batch, int]:
    """The resolved configuration, every image once with its targets, and the number of tokens."""
    source = open_source(config, "train")
    prepared, task = open_task(config, source.manifest)
    config, _ = resolve(
        replace(config, task=prepared.config, rows=1, steps=len(source.manifest)), source.manifest, task
    )
    seen, rows = 0, []
    for row in training_stream(config, source, task):
        seen += int((row.row.image_ids >= 0).sum())
        rows.append(row)
        if seen >= len(source.manifest):
            break
    assert seen == len(source.manifest), "an epoch ends with a row"
    batch = stacked(rows)
    tokens = int((batch.row.segment_ids > 0).sum())
    return config, Batch(to_device(batch.row), jax.tree.map(jnp.asarray, batch.targets)), tokens


@eqx.filter_jit
def gradient(model: Model, batch: Batch) -> Any:
    """Of the mean loss."""

    def mean(model: Model) -> jax.Array:
        total, count, _ = model.loss(batch, jr.key(0))
        return total / jnp.maximum(count, 1).astype(total.dtype)

    return eqx.filter_grad(mean)(model)


def relative_error(got: jax.Array, want: jax.Array) -> float:
    return float(jnp.abs(got - want).max() / jnp.maximum(jnp.abs(want).max(), 1e-3))


if __name__ == "__main__":
    main()
