"""Predictions of a model for every image of a set, at one resolution, and what studies need of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from data.manifest import Manifest
from data.plan import NOTHING, Plan
from data.sampling.dropping import Dropping
from data.sampling.kinds import Patch
from data.sampling.resolution import Resolution
from data.sources.digits import Digits
from data.sources.source import Source
from data.tasks import DataTask
from navit_eqx.config import Flexi, ModelConfig
from navit_eqx.errors import ConfigError, check
from navit_eqx.inference import Output, forward, predict
from navit_eqx.rows import Row, to_device
from navit_eqx.tasks.model import Model, reconfigured

from ..config import Config
from ..cost import image_cost
from ..run.loading import evaluation_rows

REPEATS = 5  # timed runs of one batch
MEASURES = ("mean_tokens", "mean_gflops", "images_per_second", "score", "score_se", "images")
BANDS = (("tall", 0.0, 0.8), ("square", 0.8, 1.25), ("wide", 1.25, np.inf))  # of width / height


class Predictions(NamedTuple):
    """One entry per image that could be read, in the order of the manifest."""

    image_ids: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"]
    """Of the task, the more the better; NaN where the outputs are features."""
    outputs: Float[np.ndarray, "N *n"]
    """Logits, or features."""
    tokens: Int[np.ndarray, " N"]
    flops: Float[np.ndarray, " N"]
    """Forward, of the image alone: no padding, no pairs of tokens of different images."""
    seconds: float
    """Per image; see `seconds_per_image`."""
    left_out: int
    """Images too large for positions or rows."""
    unreadable: int
    metrics: dict[str, float]
    """Other measures of the task, over all images."""

    @property
    def correct(self) -> Bool[np.ndarray, " N"]:
        """Whether an answer is right, where scores are 0 or 1."""
        return self.scores > 0.5

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Predictions":
        """The images where `chosen` is True."""
        return self._replace(**{name: getattr(self, name)[chosen] for name in self._fields[:5]})


def evaluate(
    model: Model,
    config: Config,
    source: Source,
    task: DataTask,
    resolution: Resolution,
    dropping: Dropping = NOTHING,
    output: Output = forward,
    patch: Patch | None = None,
) -> Predictions:
    """Every image once, in patches of the model's own size or of another."""
    model = able_to_read(model, patch)
    batches, plan = evaluation_rows(config, source, resolution, dropping, patch)
    first = to_device(next(batches))
    image_ids, outputs, *_ = predict(model, chain([first], map(to_device, batches)), output)
    order = np.argsort(image_ids)
    image_ids, outputs = image_ids[order], outputs[order]
    tokens = kept_of(plan, len(source.manifest))[image_ids]
    judged = output is forward
    return Predictions(
        image_ids,
        task.scores(outputs, image_ids, source.manifest) if judged else np.full(len(image_ids), np.nan),
        outputs,
        tokens,
        forward_flops(tokens, replace(config.model, patch=patch or config.model.patch, flexi=None), config),
        seconds_per_image(model, first, output),
        len(plan.left_out),
        int((plan.image_ids >= 0).sum()) - len(image_ids),
        task.metrics(outputs, image_ids, source.manifest) if judged else {},
    )


def able_to_read(model: Model, patch: Patch | None) -> Model:
    """The model for patches of a size; its parameters are the same.   Raises ConfigError on a patch it cannot read."""
    config = model.config
    if patch is None or patch in config.patches:
        return model
    check(patch[0] == patch[1], f"patches of {patch} are no squares: this model reads {config.patches} and squares")
    flexi = Flexi((*(config.flexi.sizes if config.flexi else ()), patch[0]), config.interpolation)
    return reconfigured(model, replace(config, flexi=flexi))


def kept_of(plan: Plan, count: int) -> Int[np.ndarray, " N"]:
    """Tokens that stay of each of `count` images; 0 where the plan left it out."""
    kept, used = np.zeros(count, np.int32), plan.image_ids >= 0
    kept[plan.image_ids[used]] = plan.kept[used]
    return kept


def forward_flops(tokens: Int[np.ndarray, " N"], shape: ModelConfig, config: Config) -> Float[np.ndarray, " N"]:
    """Of each image by itself: the cost is quadratic, so the cost at the mean number of tokens is too low."""
    lengths, place = np.unique(tokens, return_inverse=True)
    return np.array([image_cost(shape, config.task.classes or 0, int(n)) for n in lengths], float)[place]


def seconds_per_image(model: Model, batch: Row, output: Output = forward) -> float:
    """Time of the compiled model for one batch that already lies on the device, over its images.

    Nothing else is in it: no reading, no resizing, no transfer, no compilation. Padding is in it. The fastest run
    counts: what disturbs a run can only slow it down.
    """

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(output(model, batch))
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(REPEATS)) / max(int((np.asarray(batch.grids[..., 0]) > 0).sum()), 1)


def on_common_images(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Each without the images that another could not read: differences are then the model's, not the images'.

    Raises ConfigError where no image is left.
    """
    common = predictions[0].image_ids
    for other in predictions[1:]:
        common = np.intersect1d(common, other.image_ids)
    check(len(common) > 0, "no image can be read in all these ways: leave out the largest --resolutions")
    return [each.only(np.isin(each.image_ids, common)) for each in predictions]


def halves(predictions: Predictions) -> tuple[Predictions, Predictions]:
    """A fixed random half to choose on, and the other to report on.   Raises ConfigError below two images."""
    count = len(predictions.image_ids)
    check(count >= 2, f"{count} image cannot be halved into images to choose on and images to report on")
    first = np.random.default_rng(0).permutation(count) < count // 2
    return predictions.only(first), predictions.only(~first)


def measures(predictions: Predictions) -> dict:
    """The columns that every table has. `score` is printed under the name of the task's metric."""
    scores = predictions.scores
    return {
        "mean_tokens": float(predictions.tokens.mean()),
        "mean_gflops": float(predictions.flops.mean()) / 1e9,
        "images_per_second": 1 / predictions.seconds,
        "score": float(scores.mean()),
        "score_se": float(scores.std() / np.sqrt(len(scores))),
        "images": len(scores),
    }


@dataclass(frozen=True)
class Context:
    """What a study may use: a trained model, the images to judge it by, and its predictions, each made once."""

    model: Model
    config: Config
    source: Source
    task: DataTask
    resolutions: tuple[float, ...]
    patch: Patch | None = None
    """None is the model's own."""
    cache: dict = field(default_factory=dict, repr=False)

    @property
    def metric(self) -> str:
        """The name of the mean score, in words."""
        return self.task.metric.replace("_", " ")

    def sampling_at(self, resolution: float) -> Resolution:
        """The run's sampling of resolutions at one resolution."""
        return self.config.data.resolution.at(resolution)

    def predict(
        self, resolution: Resolution, dropping: Dropping = NOTHING, output: Output = forward, patch: Patch | None = None
    ) -> Predictions:
        """In patches of `patch`; None takes that of this context."""
        key = (resolution, dropping, output, patch or self.patch or self.config.model.patch)
        if key not in self.cache:
            self.cache[key] = evaluate(self.model, self.config, self.source, self.task, *key)
        return self.cache[key]

    def predictions(self) -> list[Predictions]:
        """At each resolution, on the images that can be read at all of them."""
        return on_common_images([self.predict(self.sampling_at(r)) for r in self.resolutions])

    def truth(self, predictions: Predictions) -> Bool[np.ndarray, "N Y"]:
        """True at the classes of each image.   Raises ConfigError where the task has none."""
        truth: Any = getattr(self.task, "truth", None)
        if truth is None:
            raise ConfigError(f"this study needs classes, and the task {type(self.task).__name__} has none")
        return truth(predictions.image_ids, self.source.manifest)


def labels_of(manifest: Manifest) -> Int[np.ndarray, " N"]:
    """One label for each image.   Raises ConfigError where the images have sets of them."""
    check(manifest.labels.ndim == 1, f"this study needs one class for each image; {manifest.where} has sets of them")
    return manifest.labels


def groups(config: Config, manifest: Manifest) -> dict[str, np.ndarray]:
    """Masks over the images by which accuracy is worth splitting."""
    sizes = manifest.sizes.astype(float)
    if isinstance(config.data.source, Digits):
        count = (sizes.max(-1) / sizes.min(-1)).round().astype(int)
        return {f"digits {k}": count == k for k in range(1, count.max() + 1)}
    shape = sizes[:, 1] / sizes[:, 0]
    return {name: (lo <= shape) & (shape < hi) for name, lo, hi in BANDS}


def by_group(predictions: Predictions, masks: dict[str, np.ndarray]) -> dict[str, float | None]:
    """The mean score within each group; None where it is empty."""
    inside = {name: predictions.scores[mask[predictions.image_ids]] for name, mask in masks.items()}
    return {name: float(scores.mean()) if len(scores) else None for name, scores in inside.items()}
