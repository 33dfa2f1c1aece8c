"""A model of ours in the words of another project: the inverse of what `family.py` reads.

A proposal is no promise: `pretrained.py` reads it again by the family's own importer, and refuses what comes back
changed.
"""

import math
from typing import Any, NamedTuple

from ..config import ModelConfig
from ..errors import ConfigError
from ..info import ModelInfo
from ..preprocessing import CeilBudget, CenterCrop, Fixed, Preprocessing
from ..tasks.config import Classify, Task
from .family import ACTIVATIONS, FILTERS
from .names import LINEAR, Line, Table


class Proposal(NamedTuple):
    """Files of another project that may hold a model of ours."""

    config: dict[str, Any]
    """config.json; empty for an archive, which has none."""
    table: Table
    prefix: str = ""
    """Start of all their names."""
    outside: Table = ()
    """Lines whose names stand outside of the prefix."""
    preprocessor: dict[str, Any] | None = None
    """preprocessor_config.json; None where config.json says it."""


def hub_sizes(c: ModelConfig) -> dict[str, Any]:
    """The usual keys of Hugging Face; the inverse of `family.sizes`."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "patch_size": c.patch[0],
        "num_channels": c.channels,
        "hidden_act": names[c.activation],
        "layer_norm_eps": c.eps,
    }


def table_side(c: ModelConfig) -> int:
    """Entries per side of the position table; 1 without one."""
    return getattr(c.posembed, "size", 1)


def ratio(c: ModelConfig) -> float:
    """The quotient r of the widths of MLP and tokens for which ⌊r · width⌋ is that of the MLP."""
    found = c.mlp_width / c.width
    return found if int(found * c.width) == c.mlp_width else math.nextafter(found, math.inf)


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number for each channel."""
    return values if len(values) == channels else values * channels


def hub_head(task: Task, info: ModelInfo, name: str) -> tuple[dict[str, Any], list[Line]]:
    """Keys and lines of a classifier called `name`; none without classes."""
    if not isinstance(task, Classify):
        return {}, []
    named = {"id2label": dict(map(lambda k, c: (str(k), c), range(len(info.classes)), info.classes))}
    return named | {"label2id": {c: k for k, c in enumerate(info.classes)}}, [Line("task.head", LINEAR, name)]


def hub_preprocessor(c: ModelConfig, how: Preprocessing) -> dict[str, Any]:
    """preprocessor_config.json; the inverse of `family.preprocessing`.

    Raises ConfigError where no processor of Hugging Face has this size rule.
    """
    size = lambda height, width: {"height": height, "width": width}
    match how.size:
        case Fixed(height, width):
            said = {"image_processor_type": "ViTImageProcessor", "size": size(height, width)}
        case CenterCrop(height, width, side, True):
            said = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side}}
            said |= {"do_center_crop": True, "crop_size": size(height, width)}
        case CenterCrop(height, width, side):
            said = {"image_processor_type": "DeiTImageProcessor", "size": size(side, side)}
            said |= {"do_center_crop": True, "crop_size": size(height, width)}
        case CeilBudget(tokens):
            said = {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": tokens}
            said |= {"patch_size": c.patch[0]}
        case other:
            raise ConfigError(
                f"info.preprocessing.size={other} is a size rule that no processor of Hugging Face has: pass another "
                f"one, such as preprocessing=Preprocessing(Fixed(224, 224))"
            )
    return said | pixels(c, how)


def pixels(c: ModelConfig, how: Preprocessing) -> dict[str, Any]:
    """Filter, scale, mean and deviation of a preprocessor_config.json."""
    return {
        "do_resize": True,
        "resample": FILTERS.index(how.filter),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(per_channel(c.mean, c.channels)),
        "image_std": list(per_channel(c.std, c.channels)),
    }
