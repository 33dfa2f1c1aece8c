"""One look at the images: all of them seen in one way, and what the model says of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from data.laws import Dropping, Resolution
from data.plan import NOTHING, Plan
from data.sources import Source
from navit_eqx.config import ModelConfig
from navit_eqx.config_json import check
from navit_eqx.evaluate import forward, predict
from navit_eqx.model import NaViT
from navit_eqx.types import Row, to_device

from .config import Config
from .cost import image_cost
from .loading import evaluation_batches

REPEATS = 5  # timed runs of one batch
Output = Callable[[NaViT, Row], Array]


class Look(NamedTuple):
    """One entry per image that could be seen, in the order of the manifest."""

    image_ids: Int[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    output: Float[np.ndarray, "N Y"]
    """Logits, or features."""
    tokens: Int[np.ndarray, " N"]
    flops: Float[np.ndarray, " N"]
    """Forward, of the image alone: no padding, no pairs of tokens that must not see each other."""
    seconds: float
    """Per image; see `seconds_per_image`."""
    left_out: int
    """Images too large for positions or rows."""
    unreadable: int

    @property
    def correct(self) -> Bool[np.ndarray, " N"]:
        return self.output.argmax(-1) == self.labels

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Look":
        """The images where `chosen` is True."""
        return self._replace(**{name: getattr(self, name)[chosen] for name in self._fields[:5]})


def look(
    model: NaViT,
    config: Config,
    source: Source,
    resolution: Resolution,
    dropping: Dropping = NOTHING,
    output: Output = forward,
    patch_size: int = 0,
) -> Look:
    """See every image once, in patches of the model's own size (0) or of another."""
    batches, plan = evaluation_batches(config, source, resolution, dropping, patch_size)
    first = to_device(next(batches))
    predictions = predict(model, chain([first], map(to_device, batches)), output)
    order = np.argsort(predictions.image_ids)
    image_ids = predictions.image_ids[order]
    tokens = kept_of(plan, len(source.manifest))[image_ids]
    return Look(
        image_ids,
        predictions.labels[order],
        predictions.logits[order],
        tokens,
        forward_flops(tokens, replace(config.model, patch_size=patch_size or config.model.patch_size)),
        seconds_per_image(model, first, output),
        len(plan.left_out),
        int((plan.image_ids >= 0).sum()) - len(image_ids),
    )


def kept_of(plan: Plan, count: int) -> Int[np.ndarray, " N"]:
    """Tokens that stay of each of `count` images; 0 where the plan left it out."""
    kept, used = np.zeros(count, np.int32), plan.image_ids >= 0
    kept[plan.image_ids[used]] = plan.kept[used]
    return kept


def forward_flops(tokens: Int[np.ndarray, " N"], shape: ModelConfig) -> Float[np.ndarray, " N"]:
    """Of each image by itself: the cost is quadratic, so the cost at the mean number of tokens is too low."""
    lengths, place = np.unique(tokens, return_inverse=True)
    return np.array([image_cost(shape, int(n)) for n in lengths], float)[place]


def seconds_per_image(model: NaViT, batch: Row, output: Output = forward) -> float:
    """Time of the compiled model for one batch that already lies on the device, over its images.

    Nothing else is in it: no reading, no resizing, no transfer, no compilation. Padding is in it. The fastest run
    counts: what disturbs a run can only slow it down.
    """

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(output(model, batch))
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(REPEATS)) / max(int((batch.labels >= 0).sum()), 1)


def on_common_images(looks: Sequence[Look]) -> list[Look]:
    """Each look, without the images that another could not see: differences are then the model's, not the images'.

    Raises ConfigError where no image is left.
    """
    common = looks[0].image_ids
    for other in looks[1:]:
        common = np.intersect1d(common, other.image_ids)
    check(len(common) > 0, "no image can be seen in all these ways: leave out the largest --resolutions")
    return [each.only(np.isin(each.image_ids, common)) for each in looks]


def halves(look: Look) -> tuple[Look, Look]:
    """A fixed random half to choose on, and the other to report on.   Raises ConfigError below two images."""
    count = len(look.image_ids)
    check(count >= 2, f"{count} image cannot be halved into images to choose on and images to report on")
    first = np.random.default_rng(0).permutation(count) < count // 2
    return look.only(first), look.only(~first)


def measures(look: Look) -> dict:
    """The columns that every table has."""
    accuracy = float(look.correct.mean())
    return {
        "mean_tokens": float(look.tokens.mean()),
        "mean_gflops": float(look.flops.mean()) / 1e9,
        "images_per_second": 1 / look.seconds,
        "accuracy": accuracy,
        "accuracy_se": float(np.sqrt(accuracy * (1 - accuracy) / len(look.labels))),
        "images": len(look.labels),
    }


@dataclass(frozen=True)
class Context:
    """What a study may use: a trained model, the images to judge it by, and looks at them, each taken once."""

    model: NaViT
    config: Config
    source: Source
    resolutions: tuple[float, ...]
    patch_size: int = 0
    """0 is the model's own."""
    taken: dict = field(default_factory=dict, repr=False)

    def law(self, resolution: float) -> Resolution:
        """The run's law at one resolution."""
        return self.config.data.resolution.at(resolution)

    def look(
        self, law: Resolution, dropping: Dropping = NOTHING, output: Output = forward, patch_size: int = 0
    ) -> Look:
        """In patches of `patch_size`; 0 takes that of this context."""
        key = (law, dropping, output, patch_size or self.patch_size or self.config.model.patch_size)
        if key not in self.taken:
            self.taken[key] = look(self.model, self.config, self.source, *key)
        return self.taken[key]

    def looks(self) -> list[Look]:
        """At each resolution, on the images that can be seen at all of them."""
        return on_common_images([self.look(self.law(r)) for r in self.resolutions])
