"""The front door: images in, vectors or probabilities out, in six names.

import navit_eqx as navit

model = navit.load("runs/digits")
batch = navit.pack(images, model)
out = navit.forward(model, batch)
probabilities = navit.unpack(batch, out)
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from . import images as packing
from . import inference
from .errors import ConfigError
from .info import ModelInfo
from .pixels import Source
from .rows import Row, to_device
from .tasks.config import Task
from .tasks.model import Model
from .weights.saved import load_model

AT_ONCE = 64  # images that `features` packs together
LINKS: dict[str, Callable[[Array], Array]] = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}


def load(folder: Path | str) -> Model:
    """A saved model: the folder of a run, or of a model. `model.config` is its shape, `model.info` how it is used.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.

        model = navit.load("runs/digits")
    """
    return load_model(folder)


def pack(images: Sequence[Source], model: Model, **options: Any) -> Row:
    """Images of any size, as arrays h w C, PIL images or paths, as packed rows on the device.

    Sizes, resampling and rows are those of `model.info.preprocessing`, as in training; `options` are those of
    `navit_eqx.images.pack`, such as rows=8, or another preprocessing. Raises ImageError, naming the image, where one cannot be used.

        batch = navit.pack(["photo.jpg", np.zeros((20, 160, 3), np.uint8)], model)
    """
    return to_device(packing.pack(images, **packing_options(model, options)))


def refusal(model: Model, image: Source, **options: Any) -> str:
    """Why `pack` would refuse an image, from its header alone; empty where it would not.

    usable = [path for path in paths if not navit.refusal(model, path)]
    """
    return packing.refusal(image, **packing_options(model, options))


def packing_options(model: Model, options: dict[str, Any]) -> dict[str, Any]:
    """How the model wants its images, and what a caller wants otherwise."""
    own = {
        "preprocessing": info_of(model).preprocessing,
        "patch": pair(model.config.patch),
        "longest_side": model.config.posembed.longest_side,
    }
    return own | options


def forward(model: Model, batch: Row) -> Array:
    """The output of each image slot, such as logits "B I Y": compiled once for each shape of rows.

    out = navit.forward(model, batch)
    """
    return inference.forward(model, batch)


def unpack(batch: Row, values: Num[Any, "B I *n"]) -> Num[np.ndarray, "N *n"]:
    """One line for each image, in the order in which they were packed.

    logits = navit.unpack(batch, navit.forward(model, batch))
    """
    return packing.unpack(batch, values)


def probabilities(model: Model, logits: Num[Any, "*N Y"]) -> Num[np.ndarray, "*N Y"]:
    """Logits as probabilities, by the function that the model was trained with: softmax or sigmoid.

    Raises ConfigError where the task has no classes.

        p = navit.probabilities(model, logits)
    """
    link = getattr(model.task.config, "link", "")
    if link not in LINKS:
        raise ConfigError(f"{type(model.task).__name__} has no classes: its outputs are no logits")
    return np.asarray(LINKS[link](jnp.asarray(logits)))


def features(
    model: Model, images: Sequence[Source], *, tokens: bool = False, **options: Any
) -> np.ndarray | list[np.ndarray]:
    """The vector of each image "N D", before the head; with `tokens` those of its tokens, a list of "T_i D".

    Images are packed a few at a time, so that memory does not grow with their number.

        vectors = navit.features(model, ["a.jpg", "b.jpg"])
    """
    if tokens:
        return [t for batch in batches(images, model, options) for t in token_features(model, batch)]
    vectors = [unpack(batch, inference.pooled(model, batch)) for batch in batches(images, model, options)]
    return np.concatenate(vectors) if vectors else np.zeros((0, model.config.width), np.float32)


def token_features(model: Model, batch: Row) -> list[np.ndarray]:
    """The encoded tokens of each image of a batch, in raster order."""
    return packing.unpack_tokens(batch, inference.tokens(model, batch))


def batches(images: Sequence[Source], model: Model, options: dict[str, Any]) -> Iterator[Row]:
    """Packed rows, a few images at a time; `report` gets the places of images in the whole list."""
    report = options.get("report")
    for start in range(0, len(images), AT_ONCE):
        here = {"report": lambda i, why, start=start: report(start + i, why)} if report else {}
        yield pack(images[start : start + AT_ONCE], model, **options | here)


def finetune(model: Model, task: Task | Any, optimizer: Any, *, seed: int = 0) -> tuple[Any, Callable[..., Any]]:
    """State and step that train a model for a task, with an optimizer of optax.

    `task` is a configuration, such as `Classify(classes=10)`, whose head starts anew, or a module with its own `loss`
    and `predict`. `step(state, batch)` returns the next state and the mean loss; `state.model` is the model.

        state, step = navit.finetune(model, Classify(classes=10), optax.adamw(1e-3))
        state, loss = step(state, Batch(row, targets))
    """
    from .finetuning import start

    return start(model, task, optimizer, seed)


def info_of(model: Model) -> ModelInfo:
    """How a model is used.   Raises ConfigError where it does not say."""
    if model.info is None:
        raise ConfigError(
            "this model has no info: give it one, Model(config, task, ModelInfo(...)), or load a saved one"
        )
    return model.info


def pair(patch: tuple[int, ...]) -> tuple[int, int]:
    """Height and width.   Raises ConfigError for a patch of another kind, such as a tubelet."""
    if len(patch) != 2:
        raise ConfigError(f"images have patches of two sides, this model reads {patch}")
    return patch[0], patch[1]
