"""Predictions of a model for every image at one resolution, and statistics of them for studies."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from data.counts import of_source
from data.evaluation_plan import longest_image, most_tokens
from data.manifest import Manifest
from data.plan import NOTHING, Plan
from data.sampling.dropping import Dropping
from data.sampling.kinds import Patch
from data.sampling.merge import Law, Merge, law_of
from data.sources.digits import Digits
from data.sources.source import Source
from data.tasks import DataTask
from navit_eqx.config import Flexi, ModelConfig
from navit_eqx.errors import ConfigError, check
from navit_eqx.inference import Output, Runner, forward, predict
from navit_eqx.rows import Row, row_of
from navit_eqx.tasks.model import Model, reconfigured
from navit_eqx.zero_shot import zero_shot

from ..config import Config
from ..cost import image_cost
from ..run.loading import counted, evaluation_rows
from ..working import working
from .budget import Budget

REPEATS = 5  # timed repetitions of one batch
MEASURES = ("mean_tokens", "mean_gflops", "images_per_second", "score", "score_se", "images")
BANDS = (("tall", 0.0, 0.8), ("square", 0.8, 1.25), ("wide", 1.25, np.inf))  # of width / height


class Predictions(NamedTuple):
    """One entry per readable image, in the order of the manifest."""

    image_ids: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"]
    """Scores of the task, higher is better; NaN where the outputs are features."""
    outputs: Float[np.ndarray, "N *n"]
    """Logits, or features."""
    tokens: Int[np.ndarray, " N"]
    flops: Float[np.ndarray, " N"]
    """Forward FLOPs of the image alone: no padding, no attention across images."""
    seconds: float
    """Time per image: see `seconds_per_image`."""
    left_out: int
    """Number of images too large for positions or rows."""
    unreadable: int
    """Number of images that could not be decoded."""
    metrics: dict[str, float]
    """Further metrics of the task, over all images."""
    together: Callable[[np.ndarray, np.ndarray], tuple[float, float] | None] = lambda outputs, image_ids: None
    """`DataTask.score` of outputs and image ids."""
    batches: tuple[tuple[Row, int], ...] = ()
    """For each row length, the first batch and the number of batches."""

    @property
    def correct(self) -> Bool[np.ndarray, " N"]:
        """Whether a prediction is correct, where scores are 0 or 1."""
        return self.scores > 0.5

    @property
    def score(self) -> tuple[float, float]:
        """The metric and its standard error: of all images together, or the mean of their scores."""
        mean = lambda scores: (float(scores.mean()), float(scores.std() / np.sqrt(len(scores))))
        return self.together(self.outputs, self.image_ids) or mean(self.scores)

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Predictions":
        """The images where `chosen` is True."""
        return self._replace(**{name: getattr(self, name)[chosen] for name in self._fields[:5]})


def evaluate(
    model: Model,
    config: Config,
    source: Source,
    task: DataTask,
    resolution: Law,
    dropping: Dropping = NOTHING,
    output: Output = forward,
    patch: Patch | None = None,
    longest: int = 0,
    repeats: int = REPEATS,
) -> Predictions:
    """Predictions for every image on all devices of this process, at the patch size of the model or at `patch`.

    `longest`: see `evaluation_rows`; equal values share compiled programs. `repeats`: how often a batch is timed.
    """
    model = model_for_patch(model, patch)
    batches, plan = evaluation_rows(config, source, resolution, dropping, patch, longest)
    with working("evaluating", len(source.manifest), "images") as advance:
        by_length: dict[int, tuple[Row, int]] = {}
        of_images = task.image_outputs(source) if output is forward else None
        rows = noted(map(row_of, counted(batches, advance)), by_length)
        image_ids, outputs, *_ = predict(model, rows, output, of_images)
    order = np.argsort(image_ids)
    image_ids, outputs = image_ids[order], outputs[order]
    tokens = kept_of(plan, len(source.manifest))[image_ids]
    has_scores = output is forward
    return Predictions(
        image_ids,
        task.scores(outputs, image_ids, source.manifest) if has_scores else np.full(len(image_ids), np.nan),
        outputs,
        tokens,
        forward_flops(tokens, replace(config.model, patch=patch or config.model.patch, flexi=None), config),
        seconds_per_image(model, next(iter(by_length.values()))[0], output, repeats),
        len(plan.left_out),
        int((plan.image_ids >= 0).sum()) - len(image_ids),
        task.metrics(outputs, image_ids, source.manifest) if has_scores else {},
        *([partial(task.score, manifest=source.manifest)] if has_scores else []),
        batches=tuple(by_length.values()),
    )


def noted(batches: Iterable[Row], by_length: dict[int, tuple[Row, int]]) -> Iterator[Row]:
    """The batches; `by_length` takes the first batch of each row length, and their number."""
    for rows in batches:
        first, count = by_length.get(rows.segment_ids.shape[-1], (rows, 0))
        by_length[rows.segment_ids.shape[-1]] = first, count + 1
        yield rows


def model_for_patch(model: Model, patch: Patch | None) -> Model:
    """The same model at another patch size.   Raises ConfigError where it cannot read that size."""
    config = model.config
    if patch is None or patch in config.patches:
        return model
    check(patch[0] == patch[1], f"patches of {patch} are not square: this model reads {config.patches} and squares")
    flexi = Flexi((*(config.flexi.sizes if config.flexi else ()), patch[0]), config.interpolation)
    return reconfigured(model, replace(config, flexi=flexi))


def kept_of(plan: Plan, count: int) -> Int[np.ndarray, " N"]:
    """Tokens kept of each of `count` images; 0 for images left out of the plan."""
    kept, used = np.zeros(count, np.int32), plan.image_ids >= 0
    kept[plan.image_ids[used]] = plan.kept[used]
    return kept


def forward_flops(tokens: Int[np.ndarray, " N"], shape: ModelConfig, config: Config) -> Float[np.ndarray, " N"]:
    """Forward FLOPs of each image; the cost is quadratic in tokens, so the cost at the mean is too low."""
    lengths, place = np.unique(tokens, return_inverse=True)
    return np.array([image_cost(shape, config.task.classes or 0, int(n)) for n in lengths], float)[place]


def seconds_per_image(model: Model, batch: Row, output: Output = forward, repeats: int = REPEATS) -> float:
    """Time of the compiled model for one batch on the devices, divided by its images; NaN where it is not repeated.

    The time includes padding, but not reading, resizing, transfer and compilation. The fastest repetition counts,
    since disturbances only slow it down.
    """
    if not repeats:
        return np.nan

    runner = Runner.on(model, output, jax.local_devices())
    rows = runner.put(batch)

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(runner(rows))
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(repeats)) / max(int((batch.grids[..., 0] > 0).sum()), 1)


def on_common_images(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Predictions restricted to the images that all of them have, so that they can be compared.

    Raises ConfigError where they have no image in common.
    """
    common = predictions[0].image_ids
    for other in predictions[1:]:
        common = np.intersect1d(common, other.image_ids)
    check(len(common) > 0, "no image can be read at all these settings: leave out the largest --resolutions")
    return [each.only(np.isin(each.image_ids, common)) for each in predictions]


def halves(predictions: Predictions) -> tuple[Predictions, Predictions]:
    """Two fixed random halves, for selection and for reporting.   Raises ConfigError for fewer than two images."""
    count = len(predictions.image_ids)
    check(count >= 2, f"{count} image cannot be halved for selection and reporting: use more images")
    first = np.random.default_rng(0).permutation(count) < count // 2
    return predictions.only(first), predictions.only(~first)


def measures(predictions: Predictions) -> dict:
    """Columns of every table. `score` is printed under the name of the metric."""
    score, error = predictions.score
    return {
        "mean_tokens": float(predictions.tokens.mean()),
        "mean_gflops": float(predictions.flops.mean()) / 1e9,
        "images_per_second": 1 / predictions.seconds,
        "score": score,
        "score_se": error,
        "images": len(predictions.image_ids),
    }


@dataclass(frozen=True)
class Context:
    """Input of a study: a trained model, images, task, resolutions, and cached predictions."""

    model: Model
    config: Config
    source: Source
    task: DataTask
    resolutions: tuple[float, ...]
    patch: Patch | None = None
    """Patch size; None: that of the model."""
    reader: Model | None = None
    """The model that reads texts, where `model` is a classifier made from texts."""
    other: "Context | None" = None
    """Another model on the same images, for studies that compare models."""
    budget: Budget | None = None
    """What an image may cost, for the study `trade_off`."""
    merge_rates: tuple[float, ...] = ()
    """Rates of merging of the studies `merge` and `trade_off`; empty: theirs."""
    cache: dict = field(default_factory=dict, repr=False)

    @property
    def metric(self) -> str:
        """Name of the mean score, in words."""
        return self.task.metric.replace("_", " ")

    def sampling_at(self, resolution: float, merge_rate: float | None = None) -> Law:
        """The sampling of resolutions of the run, fixed at one resolution; merging as in the run, or at a rate."""
        data, patch = self.config.data, self.patch or self.config.model.patch[-2:]
        law = data.law
        if merge_rate is not None:
            mine = data.merge if isinstance(data.merge, Merge) else Merge()
            law = law_of(data.resolution, replace(mine, lowest=None, rate=merge_rate) if merge_rate else None)
        return of_source(law.at(resolution), self.source, patch)

    def predict(
        self, resolution: Law, dropping: Dropping = NOTHING, output: Output = forward, patch: Patch | None = None
    ) -> Predictions:
        """Cached predictions; `patch` None: the patch size of this context."""
        key = (resolution, dropping, output, patch or self.patch or self.config.model.patch)
        if key not in self.cache:
            self.cache[key] = evaluate(self.model, self.config, self.source, self.task, *key, self.longest)
        return self.cache[key]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest image over all resolutions: one row length, and one program, for long images."""
        config, patch = self.config, self.patch or self.config.model.spatial_patch
        side, most = config.model.posembed.longest_side, most_tokens(config.data.packing.shape[0])
        sizes = self.source.manifest.sizes
        return max((longest_image(self.sampling_at(r), sizes, patch, side, most) for r in self.resolutions), default=0)

    def predictions(self) -> list[Predictions]:
        """Predictions at each resolution, on the images that are readable at all resolutions."""
        return on_common_images([self.predict(self.sampling_at(r)) for r in self.resolutions])

    def truth(self, predictions: Predictions) -> Bool[np.ndarray, "N Y"]:
        """True at the classes of each image.   Raises ConfigError where the task has no classes."""
        truth: Any = getattr(self.task, "truth", None)
        if truth is None:
            raise ConfigError(f"this study needs classes, and the task {type(self.task).__name__} has none")
        return truth(predictions.image_ids, self.source.manifest)


def context_of(
    model: Model,
    config: Config,
    source: Source,
    task: DataTask,
    resolutions: tuple[float, ...] = (),
    patch: Patch | None = None,
) -> Context:
    """The context of a model. A model that reads texts becomes a classifier of the texts of the source, and a detector
    whose classes are named by texts is asked for the classes of the source."""
    prompts = model.task.prompts(source.manifest.classes)
    reader = model if prompts is not None and model.task.pooled else None
    asked = model if prompts is None else zero_shot(model, prompts)
    return Context(asked, config, source, task, resolutions, patch, reader)


def labels_of(manifest: Manifest) -> Int[np.ndarray, " N"]:
    """One label per image.   Raises ConfigError for label sets."""
    check(manifest.labels.ndim == 1, f"this study needs one class per image; {manifest.where} has label sets")
    return manifest.labels


def groups(config: Config, manifest: Manifest) -> dict[str, np.ndarray]:
    """Groups of images, as masks, for which accuracy is reported separately."""
    sizes = manifest.sizes[:, -2:].astype(float)
    if isinstance(config.data.source, Digits):
        count = (sizes.max(-1) / sizes.min(-1)).round().astype(int)
        return {f"digits {k}": count == k for k in range(1, count.max() + 1)}
    shape = sizes[:, 1] / sizes[:, 0]
    return {name: (lo <= shape) & (shape < hi) for name, lo, hi in BANDS}


def by_group(predictions: Predictions, masks: dict[str, np.ndarray]) -> dict[str, float | None]:
    """The score of each group; None for empty groups."""
    inside = {name: predictions.only(mask[predictions.image_ids]) for name, mask in masks.items()}
    return {name: part.score[0] if len(part.image_ids) else None for name, part in inside.items()}
