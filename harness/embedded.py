"""Whether images can be embedded once: only where nothing of an image is drawn at random, by a backbone that stays."""

import jax

from data.sampling.augment import Augment
from data.sampling.dropping import Constant
from data.sampling.packing import Template
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Clips, WholeBlocks
from navit_eqx.errors import check
from navit_eqx.tasks import TASKS
from navit_eqx.training.config import Backbone, Parts

from .config import Config, with_data
from .lengths import Images, patch_sampling


def embedded(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Raises ConfigError where an image has no single vector, or the backbone is trained. Vectors need no workers."""
    if config.data.embedded is None:
        return config, []
    check_frozen(config)
    check_fixed(config)
    if not config.data.workers:
        return config, []
    return with_data(config, workers=0), ["data.workers = 0: vectors of images are in memory"]


def check_frozen(config: Config) -> None:
    """Raises ConfigError where a vector changes while the model is trained, or is not all that the task reads."""
    frozen, name = config.optim.frozen, type(config.task).__name__
    whole = isinstance(frozen, Backbone) or isinstance(frozen, Parts) and "backbone" in frozen.names
    check(
        whole and not getattr(frozen, "last_n", 0),
        "data.embedded: the backbone is trained, so vectors would be of a former one: --optim.frozen backbone, or "
        "--data.embedded none",
    )
    pooled = TASKS[type(config.task)].pooled
    check(pooled, f"data.embedded gives one vector of each image, and the task {name} reads more: leave it out")
    check(
        jax.process_count() == 1,
        "data.embedded: each of several processes would embed all images; train in one, or --data.embedded none",
    )


def check_fixed(config: Config) -> None:
    """Raises ConfigError, naming the option, where something of an image is drawn anew each time it is read."""
    data, model = config.data, config.model
    law, (lo, hi) = data.resolution, data.resolution.spread
    drawn = {
        "data.augment changes images: turn all its options off": data.augment != Augment(),
        "data.dropping drops tokens: --data.dropping constant": data.dropping != Constant(0.0),
        f"data.resolution draws sizes from {lo:g} to {hi:g}: give one, as --data.resolution tokenbudget": lo != hi,
        "data.resolution samples clips": isinstance(law, Clips),
        "data.resolution is for a hierarchy": isinstance(law, WholeBlocks),
        "data.patch_sizes: one size alone, that of the model": patch_sampling(config) != OneSize(model.spatial_patch),
        "data.merge joins patches: --data.merge none": data.merge is not None,
        "data.packing.fill changes images by their neighbors: --data.packing.fill none": data.packing.fill != "none",
        "data.packing.rule=Template cuts images: choose ExactFit": isinstance(data.packing.rule, Template),
        "model.stochastic_depth skips blocks: 0": model.stochastic_depth > 0,
        "model.fuzzy moves patches: --model.fuzzy none": model.fuzzy is not None,
    }
    for why, is_drawn in drawn.items():
        check(not is_drawn, f"data.embedded keeps one vector of an image, but {why}, or --data.embedded none")
