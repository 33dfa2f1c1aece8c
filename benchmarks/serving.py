"""Serving under Poisson load: latency (p50, p99) and images per second of one server in rows of one shape, against one
image at a time, against length buckets, and against timm's NaFlexVit with the same weights where torch is installed.

Checked first: every contestant gives every image the output of the model on that image alone. All read the same images
at the same times, by the same queue; they differ in which images leave together, and in what computes them.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np

import navit_eqx as navit
from benchmarks.measure import arguments, report
from navit_eqx.config import ModelConfig, Table
from navit_eqx.preprocessing import CeilBudget, Preprocessing
from navit_eqx.rows import Row
from navit_eqx.serving import Options, Server, Shape
from navit_eqx.tasks.config import Classify

TOKENS, BATCH = 256, 4  # of an image at most; images of a bucket that leave together
TOLERANCE = 1e-4  # float32, relative to the largest entry


class Buckets(Server):
    """Images of one bucket of lengths leave together, each in a row of its own: a compiled program for each bucket."""

    def __init__(self, model: navit.Model, options: Options, buckets: Sequence[int] = (64, 128, TOKENS)):
        self.buckets = buckets
        super().__init__(model, options)
        for bucket in buckets:
            empty = navit.images.empty_rows(BATCH, bucket, 1, model.config.patch_dim, 2, np.uint8)
            self.compute(empty)

    def bucket(self, tokens: int) -> int:
        return next(bucket for bucket in self.buckets if tokens <= bucket)

    def together(self, lengths: Sequence[int]) -> list[int]:
        """The oldest image, and others of its bucket."""
        return [n for n, tokens in enumerate(lengths) if self.bucket(tokens) == self.bucket(lengths[0])][:BATCH]

    def is_due(self, lengths: Sequence[int], waited: float) -> bool:
        return bool(lengths) and (len(self.together(lengths)) == BATCH or waited >= self.options.latency)

    def chosen(self, lengths: Sequence[int]) -> list[list[int]]:
        return [[n] for n in self.together(lengths)]

    def answer(self, batch: Any) -> None:
        self.shape = Shape(BATCH, self.bucket(batch[0][0].image.tokens), 1)
        super().answer(batch)


class Timm(Buckets):
    """The same buckets, computed by timm: the weights as `save_pretrained` writes them for it."""

    def __init__(self, model: navit.Model, options: Options):
        import timm
        import torch

        self.torch = torch
        with tempfile.TemporaryDirectory() as folder:
            navit.save_pretrained(model, folder, "timm")
            self.peer = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        super().__init__(model, options)

    def compute(self, rows: Row) -> np.ndarray:
        torch, valid = self.torch, np.asarray(rows.segment_ids) > 0
        valid[~valid.any(1), 0] = True  # a row of padding, whose answer nobody reads
        given = {
            "patches": torch.tensor(np.asarray(rows.patches, np.float32) / 127.5 - 1),
            "patch_coord": torch.tensor(np.asarray(rows.coords, np.int64)),
            "patch_valid": torch.tensor(valid),
        }
        with torch.inference_mode():
            return self.peer(given).numpy()[:, None]


def contestants(options: Options) -> dict[str, Any]:
    """Name → a server of a model."""
    alone = Options(0.0, 1, TOKENS, 1)
    return {
        "exact-fit": lambda model: Server(model, options),
        "one-at-a-time": lambda model: Server(model, alone),
        "buckets": lambda model: Buckets(model, options),
        "timm-buckets": lambda model: Timm(model, options),
    }


def model_of(quick: bool) -> navit.Model:
    """A ViT that timm can hold: antialiased table, no QK-norm, biases; random numbers."""
    width, depth, heads = (32, 1, 2) if quick else (192, 12, 3)
    config = ModelConfig(
        width=width, depth=depth, heads=heads, mlp_width=4 * width, posembed=Table(16, "linear_antialias"),
        biases=True, qk_norm="none", attention=navit.config.Dense(),
    )  # fmt: skip
    how = Preprocessing(CeilBudget(TOKENS), row_tokens=TOKENS, row_images=16)
    model = navit.Model(config, Classify(classes=10), navit.ModelInfo(tuple("abcdefghij"), how), key=jr.key(0))
    weights: Any = lambda m: m.task.head.w  # zero in a fresh model
    return eqx.tree_at(weights, model, 0.1 * jr.normal(jr.key(1), weights(model).shape))


def images_of(count: int) -> list[np.ndarray]:
    """Thumbnails and photographs: areas of 32² to 256² pixels, aspect ratios to 2."""
    rng = np.random.default_rng(0)
    side, aspect = 32 * 8 ** rng.random(count), 2 ** rng.uniform(-0.5, 0.5, count)
    sizes = np.stack([side * aspect, side / aspect], 1).round().astype(int)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]


def served(server: Server, images: list[np.ndarray], rate: float, seed: int) -> dict[str, float]:
    """Latencies and images per second of images that arrive at random, `rate` a second on average."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(images))
    done = np.zeros(len(images))
    waiting: list[Future] = []
    start = time.perf_counter()
    times = start + np.cumsum(gaps)
    for n, (image, due) in enumerate(zip(images, times)):
        time.sleep(max(0.0, due - time.perf_counter()))
        waiting.append(server.submit(image))
        waiting[-1].add_done_callback(lambda _, n=n: done.__setitem__(n, time.perf_counter()))
    for each in waiting:
        each.result()
    time.sleep(0.01)  # callbacks run after results are there
    latency = done - times
    p50, p99 = np.percentile(latency, [50, 99])
    return {
        "p50_seconds": float(p50),
        "p99_seconds": float(p99),
        "images_per_second": len(images) / (done.max() - start),
    }


def main() -> None:
    parser = arguments(__doc__, "a tiny model and 20 images", repeats=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 20.0, 40.0, 80.0], help="images per second")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that an image may wait")
    options = parser.parse_args()
    model, count = model_of(options.quick), 20 if options.quick else options.images
    images = images_of(count)
    # As many tokens leave together as in the largest bucket.
    gathering = Options(options.latency, BATCH, TOKENS)
    alone = np.stack(
        [navit.unpack(b, navit.forward(model, b))[0] for b in (navit.pack([x], model) for x in images[:20])]
    )
    for name, make in contestants(gathering).items():
        try:
            server = make(model)
        except ImportError as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        with server:
            got = np.stack([each.result() for each in [server.submit(image) for image in images[:20]]])
            error = float(np.abs(got - alone).max() / np.abs(alone).max())
            assert error <= TOLERANCE, f"{name} gives something else: {error}"
            for rate in options.rates[:1] if options.quick else options.rates:
                for seed in range(1 if options.quick else options.repeats):
                    found = served(server, images, rate, seed)
                    report(
                        benchmark="serving", contestant=name, rate=rate, seed=seed, images=count, relative_error=error,
                        latency_budget=options.latency, **found,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
