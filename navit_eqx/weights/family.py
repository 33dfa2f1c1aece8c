"""What an importer says of a folder, and what the importers of one hub have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config import ModelConfig
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import CeilBudget, CenterCrop, Fixed, Preprocessing, SizeRule
from ..tasks.config import Classify, Embed, Task
from .folder import Folder, number
from .names import LINEAR, NORM, Form, Line, Table, without_bias

BLOCKS = "backbone.encoder.blocks"
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # as numbered by Pillow
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class Description:
    """A foreign model in our terms."""

    config: ModelConfig
    task: Task
    info: ModelInfo
    table: Table
    prefix: str = ""
    """Common start of their names, left out in the table."""
    unread: tuple[str, ...] = ()
    """Names, or starts of names ending in *, of tensors that belong to no part of our model."""


def prefix_of(folder: Folder, probe: str, candidates: Sequence[str]) -> str:
    """The candidate with which the folder holds `probe`.   Raises ConfigError where none fits."""
    for prefix in candidates:
        if prefix + probe in folder.shapes:
            return prefix
    wanted = ", ".join(repr(prefix + probe) for prefix in candidates)
    raise ConfigError(f"{folder.where} holds none of {wanted}: it is not of the kind that its config.json names")


def activation(name: Any, where: Any) -> Any:
    """Our name of an activation.   Raises ConfigError for an unknown one."""
    check(name in ACTIVATIONS, f"{where}/config.json: activation {name!r} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def sizes(config: dict[str, Any], folder: Folder, defaults: dict[str, Any]) -> dict[str, Any]:
    """Fields of ModelConfig from the usual keys of Hugging Face; `defaults` are those of the class."""
    known = defaults | config
    get = lambda key: number(known, key, folder.where)
    patch = get("patch_size")
    return {
        "patch": (patch, patch),
        "channels": number(known, "num_channels", folder.where, 3),
        "width": get("hidden_size"),
        "depth": get("num_hidden_layers"),
        "heads": get("num_attention_heads"),
        "activation": activation(known["hidden_act"], folder.where),
        "eps": known["layer_norm_eps"],
        "biases": True,
        "qk_norm": "none",
    }


def vision_config(folder: Folder) -> dict[str, Any]:
    """The configuration of the vision tower: a part of config.json, or all of it where the tower is alone."""
    inner = folder.config.get("vision_config", folder.config)
    check(isinstance(inner, dict), f"{folder.where}/config.json: vision_config={inner!r} is no object")
    return inner


def bicubic_unless_said(folder: Folder) -> Folder:
    """The folder with the filter of processors of transformers that are bicubic where their file names none."""
    said = folder.preprocessor
    return folder if said is None else folder._replace(preprocessor={"resample": 3} | said)


def theta_of(config: dict[str, Any]) -> float:
    """The base of rotary frequencies, in the old key or the new one; 10,000 without either."""
    new = config.get("rope_parameters") or {}
    return float(config.get("rope_theta", new.get("rope_theta", 10_000.0)))


def norm(ours: str, theirs: str) -> Line:
    """A norm."""
    return Line(ours, NORM, theirs)


def head(folder: Folder, config: dict[str, Any], name: str) -> tuple[Task, tuple[str, ...], list[Line]]:
    """Task, classes and lines of a linear head called `name`; without one, features alone."""
    if f"{name}.weight" not in folder.shapes:
        return Embed(), (), []
    count = folder.shapes[f"{name}.weight"][0]
    labels = config.get("id2label")
    labels = {int(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}
    known = sorted(labels) == list(range(count))
    classes = tuple(labels[k] if known else f"class {k}" for k in range(count))
    check(len({*classes}) == count, f"{folder.where}/config.json: id2label names a class twice: make its names differ")
    return Classify(classes=count), classes, [Line("task.head", LINEAR, name)]


def preprocessing(
    folder: Folder, config: ModelConfig, rule: SizeRule | None = None
) -> tuple[ModelConfig, Preprocessing]:
    """The model with its mean and standard deviation, and preprocessing, from preprocessor_config.json.

    `rule` is that of families whose own rule is not done here.

    Raises ConfigError where the file is missing or asks for what is not done here.
    """
    said = folder.preprocessor
    where = f"{folder.where}/preprocessor_config.json"
    if said is None:
        raise ConfigError(f"no {where}: features depend on size, filter, mean and deviation, so fetch it too")
    check(said.get("do_rescale", True) is True, f"{where}: do_rescale is off, pixels here are divided by 255")
    factor = said.get("rescale_factor", 1 / 255)
    check(
        isinstance(factor, int | float) and abs(factor * 255 - 1) < 1e-6,
        f"{where}: rescale_factor={factor!r}, not 1/255",
    )
    normal = said.get("do_normalize", True)
    mean = tuple(said.get("image_mean") or ()) if normal else (0.0,)
    std = tuple(said.get("image_std") or ()) if normal else (1.0,)
    check(bool(mean) and bool(std), f"{where}: image_mean and image_std are missing: fetch the file again")
    resample = said.get("resample", 2)
    check(resample in range(len(FILTERS)), f"{where}: resample={resample!r} is no number from 0 to {len(FILTERS) - 1}")
    patch = said.get("patch_size", config.patch[0])
    known = (None, config.patch[0], {"height": config.patch[0], "width": config.patch[1]})
    check(
        not isinstance(patch, bool) and patch in known, f"{where}: patch_size={patch!r}, the model's is {config.patch}"
    )
    rule = rule or size_rule(said, where)
    found: Any = FILTERS[resample]
    return replace(config, mean=mean, std=std), Preprocessing(rule, found, channels=config.channels)


def size_rule(said: dict[str, Any], where: str) -> SizeRule:
    """The size rule of a preprocessor_config.json.   Raises ConfigError where it is none of those known here."""
    if "max_num_patches" in said:
        count = said["max_num_patches"]
        check(type(count) is int and count > 0, f"{where}: max_num_patches={count!r} must be a positive integer")
        return CeilBudget(count)
    size, crop = said.get("size"), said.get("crop_size")
    check(
        said.get("do_resize", True) is True and size is not None,
        f"{where}: images are not resized, nor is a size given",
    )
    size = {"shortest_edge": size} if isinstance(size, int) and said.get("do_center_crop") else size
    size = {"height": size, "width": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    sides = size.keys() if isinstance(size, dict) else ()
    match (size, crop if said.get("do_center_crop") else None):
        case ({"height": int(h), "width": int(w)}, None) if h > 0 < w:
            return Fixed(h, w)
        case ({"shortest_edge": int(side)}, {"height": int(h), "width": int(w)}) if side >= max(h, w):
            return CenterCrop(h, w, side)
        case ({"height": int(side), "width": int(other)}, {"height": int(h), "width": int(w)}) if (
            side == other >= max(h, w)
        ):
            return CenterCrop(h, w, side, aspect=False)
    raise ConfigError(f"{where}: size {size!r} with crop {crop!r} ({', '.join(sides)}) is no size rule known here")


def linear(bias: bool) -> Form:
    """The form of a linear layer, with or without a bias."""
    return LINEAR if bias else without_bias(LINEAR)
