"""Pixtral: the tower of Pixtral and Mistral 3 in the layout of Hugging Face transformers.

Rotary positions alone, whose two axes take turns along one series of frequencies; RMSNorm, a norm after the embedding
and none after the last block; gated MLP; no bias anywhere.
"""

from typing import Any

from ..config import Gated, Mean, ModelConfig, NoPositions, Rope
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import LongestEdge, SizeRule
from ..tasks.config import Embed, Task
from .family import (
    BLOCKS,
    Description,
    bicubic_unless_said,
    prefix_of,
    preprocessing,
    sizes,
    theta_of,
    vision_config,
)
from .folder import Folder, number
from .names import CONV, HEADS_BARE, LINEAR, OUT_BARE, SCALE, Line, Table, without_bias
from .proposal import Proposal, hub_sizes, pixels

DEFAULTS = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
DEFAULTS |= {"patch_size": 16, "layer_norm_eps": 1e-5}
PREFIXES = ("vision_tower.", "model.vision_tower.", "vision_encoder.", "")
UNREAD = ("*language_model.*", "*multi_modal_projector.*", "lm_head.*")


def table() -> Table:
    """Our parameters and theirs."""
    at, bare = "transformer.layers.{i}", without_bias(LINEAR)
    return [
        Line("backbone.patch_embedding", without_bias(CONV), "patch_conv"),
        Line("backbone.embedding_norm", SCALE, "ln_pre"),
        Line(f"{BLOCKS}.attention_norm", SCALE, f"{at}.attention_norm"),
        *(Line(f"{BLOCKS}.attention.{n}", HEADS_BARE, f"{at}.attention.{n}_proj") for n in "qkv"),
        Line(f"{BLOCKS}.attention.o", OUT_BARE, f"{at}.attention.o_proj"),
        Line(f"{BLOCKS}.mlp_norm", SCALE, f"{at}.ffn_norm"),
        Line(f"{BLOCKS}.mlp.grow", bare, f"{at}.feed_forward.gate_proj"),
        Line(f"{BLOCKS}.mlp.gate", bare, f"{at}.feed_forward.up_proj"),
        Line(f"{BLOCKS}.mlp.shrink", bare, f"{at}.feed_forward.down_proj"),
    ]


def describe(folder: Folder) -> Description:
    """The tower, without the projector behind it.   Raises ConfigError.

    Implementations differ in the activation that they take for granted, so config.json has to name it.
    """
    config = DEFAULTS | vision_config(folder)
    check(
        "hidden_act" in config,
        f"{folder.where}/config.json names no hidden_act: write silu into its vision_config for the models of Mistral",
    )
    fields: dict[str, Any] = sizes(config, folder, DEFAULTS) | {"biases": False}
    size = config.get("head_dim", fields["width"] // fields["heads"])
    check(
        size == fields["width"] // fields["heads"],
        f"{folder.where}/config.json: head_dim={size!r} is not hidden_size / num_attention_heads",
    )
    ours = ModelConfig(
        **fields,
        norm="rms",
        mlp=Gated(),
        mlp_width=number(config, "intermediate_size", folder.where),
        posembed=NoPositions(),
        rope=Rope(theta_of(config), frequencies="interleaved"),
        pool=Mean(),
        embedding_norm=True,
        final_norm=False,
    )
    ours, how = preprocessing(bicubic_unless_said(folder), ours, size_rule(folder))
    prefix = prefix_of(folder, "patch_conv.weight", PREFIXES)
    return Description(ours, Embed(), ModelInfo((), how), table(), prefix, UNREAD)


def size_rule(folder: Folder) -> SizeRule | None:
    """At most so many pixels along the longer side; Mistral 3 rounds to blocks of patches, which it merges."""
    said = folder.preprocessor or {}
    size = said.get("size", {"longest_edge": 1024})
    side = size.get("longest_edge") if isinstance(size, dict) else size
    where = f"{folder.where}/preprocessor_config.json"
    check(isinstance(side, int) and side > 0, f"{where}: size={size!r} has no longest_edge, a positive integer")
    return LongestEdge(side or 1, number(folder.config, "spatial_merge_size", folder.where, 1))


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The tower alone.   Raises ConfigError where the size rule is not that of its processor."""
    match info.preprocessing.size:
        case LongestEdge(side, 1):
            how: dict[str, Any] = {
                "size": {"longest_edge": side},
                "patch_size": {"height": c.patch[0], "width": c.patch[1]},
            }
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is not LongestEdge(side), as of Pixtral")
    theta = c.rope.theta if c.rope else 10_000.0
    said = hub_sizes(c) | {"model_type": "pixtral", "architectures": ["PixtralVisionModel"]}
    said |= {"intermediate_size": c.mlp_width, "image_size": side, "rope_theta": theta}
    said |= {"rope_parameters": {"rope_type": "axial", "rope_theta": theta}}
    how |= {"image_processor_type": "PixtralImageProcessor"} | pixels(c, info.preprocessing)
    return Proposal(said, table(), preprocessor=how)
