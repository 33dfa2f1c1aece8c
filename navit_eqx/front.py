"""The user interface: images in, vectors or probabilities out, in six names.

import navit_eqx as navit

model = navit.load("runs/digits")
batch = navit.pack(images, model)
out = navit.forward(model, batch)
probabilities = navit.unpack(batch, out)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from . import images as packing
from . import inference
from .config_local import check_whole_blocks
from .errors import ConfigError, check
from .hierarchy import last_level
from .info import ModelInfo
from .pixels import Source
from .preprocessing import Kernel
from .rows import Row, to_device
from .tasks.config import Task
from .tasks.model import Model
from .weights.load import load_model


def load(folder: Path | str) -> Model:
    """Load a model from the folder of a run, of a saved model, or of another project, with its `config` and `info`.

    Families of other projects, and what their folders must hold: docs/weights.md. Raises ConfigError where a file is
    missing, damaged, or does not match the configuration.

        model = navit.load("runs/digits")
    """
    return load_model(folder)


def pack(images: Sequence[Source], model: Model, **options: Any) -> Row:
    """Pack images of any size (arrays h w C, PIL images or paths) into rows on the device.

    Sizes, resampling and rows follow `model.info.preprocessing`, as in training. `options` are arguments of
    `navit_eqx.images.pack`, such as rows=8, or another preprocessing. Raises ImageError, naming the image, where one
    cannot be used.

        batch = navit.pack(["photo.jpg", np.zeros((20, 160, 3), np.uint8)], model)
    """
    return to_device(packing.pack(images, **packing_options(model, options)))


def refusal(model: Model, image: Source, **options: Any) -> str:
    """The reason why `pack` refuses an image, from its header alone; empty where it accepts the image.

    usable = [path for path in paths if not navit.refusal(model, path)]
    """
    return packing.refusal(image, **packing_options(model, options))


def packing_options(model: Model, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `navit_eqx.images.pack` for a model; `options` override them.

    Raises ConfigError where the model does not read images of two axes.
    """
    for name in ("posembed", "rope"):
        axes = getattr(getattr(model.config, name), "axes", 2)
        check(axes == 2, f"model.{name}.axes={axes}: coordinates of images have 2 axes")
    check(
        info_of(model).preprocessing.channels == model.config.channels,
        f"info.preprocessing.channels={info_of(model).preprocessing.channels}, model.channels={model.config.channels}",
    )
    how = options.get("preprocessing", info_of(model).preprocessing)
    if how.merge:
        config = model.config
        if config.local:
            check_whole_blocks(config.local.window, how.merge.scales)
        for name in ("levels", "detail"):
            scales = getattr(getattr(config, name), "scales", how.merge.scales)
            check(scales >= how.merge.scales, f"merge.scales={how.merge.scales}, and model.{name} has {scales}")
        kernel = Kernel(pair(config.patch), config.mean, config.std, config.interpolation, config.detail is not None)
        options = options | {"preprocessing": replace(how, merge=replace(how.merge, kernel=kernel))}
    defaults = {
        "preprocessing": how,
        "patch": pair(model.config.patch),
        "longest_side": model.config.posembed.longest_side,
    }
    return defaults | options


def forward(model: Model, batch: Row) -> np.ndarray:
    """The output of each image slot, such as logits "B I Y", on the host.

    Computed in groups of a fixed number of rows: one compiled program for any number of images, and a second one where
    an image is too long for an ordinary row.

        out = navit.forward(model, batch)
    """
    return inference.run(model, batch)


def unpack(batch: Row, values: Num[Any, "B I *n"]) -> Num[np.ndarray, "N *n"]:
    """Values per image slot → one row per image, in the order in which the images were packed.

    logits = navit.unpack(batch, navit.forward(model, batch))
    """
    return packing.unpack(batch, values)


def probabilities(model: Model, logits: Num[Any, "*N Y"]) -> Num[np.ndarray, "*N Y"]:
    """Logits → probabilities, by the link function of the task: softmax or sigmoid.

    Raises ConfigError where the task has no classes.

        p = navit.probabilities(model, logits)
    """
    link = getattr(model.task.config, "link", "")
    if link not in LINKS:
        raise ConfigError(f"{type(model.task).__name__} has no classes: its outputs are not logits")
    return LINKS[link](np.asarray(logits))


def softmax(logits: Num[np.ndarray, "*N Y"]) -> Num[np.ndarray, "*N Y"]:
    """exp(logits) / Σ exp(logits), over the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(logits: Num[np.ndarray, "*n"]) -> Num[np.ndarray, "*n"]:
    """1 / (1 + exp(−logits)), without overflow."""
    e = np.exp(-np.abs(logits))
    return np.where(logits < 0, e, 1) / (1 + e)


LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid}


def features(
    model: Model, images: Sequence[Source], *, tokens: bool = False, **options: Any
) -> np.ndarray | list[np.ndarray]:
    """Pooled features of each image "N D", before the head; with `tokens` its encoded tokens, a list of "T_i D".

    Images are packed 64 at a time, so that memory on the device does not grow with their number.

        vectors = navit.features(model, ["a.jpg", "b.jpg"])
    """
    found = list(stream(model, images, inference.tokens if tokens else inference.pooled, **options))
    return found if tokens else np.stack(found) if found else np.zeros((0, model.config.out_width), np.float32)


def merged(model: Model, images: Sequence[Source], **options: Any) -> list[np.ndarray]:
    """Merged tokens of each image, as a language model reads them: a list of "rows columns kinds E".

    `kinds` are the output of the last block and, where the tower has them, of its taps. Raises ConfigError where the
    model has no merger.

        tokens = navit.merged(navit.load("Qwen3-VL-4B-Instruct"), ["a.jpg"])[0][..., 0, :]
    """
    found: dict[int, np.ndarray] = {}
    batches = packing.batches(images, **packing_options(model, options))
    for batch, values in inference.outputs(model, batches, inference.merged):
        grids, ids = unpack(batch, batch.grids), np.sort(batch.image_ids[batch.image_ids >= 0])
        block = model.task.config.merger.block
        for i, grid, tokens in zip(ids.tolist(), grids, packing.unpack_tokens(batch, values)):
            found[i] = tokens.reshape(*grid, *tokens.shape[1:])[::block, ::block]
    return [found[i] for i in range(len(images))]


def stream(
    model: Model,
    images: Iterable[Source],
    output: inference.Output = inference.forward,
    *,
    report: Callable[[int, str], None] | None = None,
    **options: Any,
) -> Iterator[np.ndarray]:
    """The output of each image, in order, on all devices, in memory that does not grow with the number of images.

    Images are read 64 at a time: the headers first, then the pixels, image by image. `options` are those of `pack`.
    An image that cannot be used is reported by its index, and its output is NaN; no image makes the rows of others
    longer. Raises ImageError, naming the image, where there is no `report`.

        logits = [*navit.stream(model, ["a.jpg", "b.jpg"])]
    """
    encoded = lambda batch, values: packing.unpack_tokens(last_level(batch, model.config), values)
    by_image = encoded if output is inference.tokens else unpack
    found: dict[int, np.ndarray] = {}
    following = 0
    batches = packing.batches(images, **packing_options(model, options), report=report)
    for batch, values in inference.outputs(model, batches, output):
        ids = np.sort(batch.image_ids[batch.image_ids >= 0])
        found |= dict(zip(ids.tolist(), by_image(batch, values)))
        while following in found:
            yield found.pop(following)
            following += 1


def finetune(model: Model, task: Task | Any, optimizer: Any, *, seed: int = 0) -> tuple[Any, Callable[..., Any]]:
    """Initial state and jitted train step for a model and a task, with an optax optimizer.

    `task` is a configuration, such as `Classify(classes=10)`, whose head is initialized, or a module with `loss` and
    `predict`. `step(state, batch)` returns the next state and the mean loss; `state.model` is the model.

        state, step = navit.finetune(model, Classify(classes=10), optax.adamw(1e-3))
        state, loss = step(state, Batch(row, targets))
    """
    from .finetuning import start

    return start(model, task, optimizer, seed)


def info_of(model: Model) -> ModelInfo:
    """`model.info`.   Raises ConfigError where the model has none."""
    if model.info is None:
        raise ConfigError(
            "this model has no info: give it one, Model(config, task, ModelInfo(...)), or load a saved one"
        )
    return model.info


def pair(patch: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a patch.   Raises ConfigError for patches of more axes, such as tubelets of video."""
    if len(patch) != 2:
        raise ConfigError(
            f"patches of images have two sides, the patches of this model have {len(patch)}: {patch}; clips are packed "
            "by navit.pack_clips"
        )
    return patch[0], patch[1]
