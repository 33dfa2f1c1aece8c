"""UniViTAR: a tower for images and clips of any size, for still images.   [arXiv:2504.01792]

Rotary positions alone; queries and keys are normalized over all heads together, after their rotation; RMSNorm, a gated
MLP with a norm before its last layer, LayerScale, no norm after the last block; a kernel of two frames, of which a
still image, repeated, sees the sum.
"""

from typing import Any

from ..config import Gated, Mean, ModelConfig, NoPositions, Rope
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import Blocks, Fixed, Preprocessing, SizeRule
from ..tasks.config import Embed, Task
from .family import BLOCKS, Description, prefix_of, theta_of, vision_config
from .folder import Folder, number
from .names import LINEAR, NORM, OUT, QKV, SAME, Line, Table, conv_in_time, without_bias
from .proposal import Proposal, per_channel

DEFAULTS: dict[str, Any] = {
    **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4224},
    **{"num_channels": 3, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 1, "resize_factor": 1},
    **{"patch_embedding_bias": True, "qkv_bias": False, "qk_normalization": True, "layer_norm_eps": 1e-6},
    **{"initializer_factor": 0.1, "resolution_mode": "native", "min_tokens": 576, "max_tokens": 16384},
    **{"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225), "relarge_ratio": 1.0},
    **{"norm_type": "RMSNorm", "hidden_act": "SwiGLU", "pe_type": "rope2d"},
}
ALWAYS = ("norm_type", "hidden_act", "pe_type", "relarge_ratio")  # of which no other value is known
PREFIXES = ("", "vision_tower.", "vision_model.", "model.")


def table(config: dict[str, Any]) -> Table:
    """Our parameters and theirs."""
    at, scale = "encoder.layers.{i}", without_bias(NORM)
    normed = "qk" if config["qk_normalization"] else ""
    kernel = conv_in_time(config["temporal_patch_size"], bool(config["patch_embedding_bias"]))
    return [
        Line("backbone.patch_embedding", kernel, "embeddings.patch_embedding"),
        Line(f"{BLOCKS}.attention_norm", scale, f"{at}.norm1"),
        Line(f"{BLOCKS}.attention", QKV if config["qkv_bias"] else without_bias(QKV), f"{at}.attn.qkv"),
        *(Line(f"{BLOCKS}.attention.{n}_norm", scale, f"{at}.attn.{n}_norm") for n in normed),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attn.proj"),
        Line(f"{BLOCKS}.attention_scale", SAME, f"{at}.ls1"),
        Line(f"{BLOCKS}.mlp_norm", scale, f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.fc1"),
        Line(f"{BLOCKS}.mlp.gate", LINEAR, f"{at}.mlp.fc3"),
        Line(f"{BLOCKS}.mlp.norm", scale, f"{at}.mlp.norm"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.fc2"),
        Line(f"{BLOCKS}.mlp_scale", SAME, f"{at}.ls2"),
    ]


def describe(folder: Folder) -> Description:
    """The tower.   Raises ConfigError."""
    config = DEFAULTS | vision_config(folder)
    get, where = lambda key: number(config, key, folder.where), f"{folder.where}/config.json"
    for name in ALWAYS:
        check(config[name] == DEFAULTS[name], f"{where}: {name}={config[name]!r}, known is {DEFAULTS[name]!r} alone")
    patch, channels = get("patch_size"), get("num_channels")
    get("temporal_patch_size")
    ours = ModelConfig(
        (patch, patch),
        channels=channels,
        width=get("hidden_size"),
        depth=get("num_hidden_layers"),
        heads=get("num_attention_heads"),
        mlp_width=int(get("intermediate_size") * 2 / 3),
        eps=config["layer_norm_eps"],
        biases=True,
        norm="rms",
        qk_norm="whole" if config["qk_normalization"] else "none",
        activation="silu",
        mlp=Gated(norm=True),
        posembed=NoPositions(),
        rope=Rope(theta_of(config)),
        pool=Mean(),
        final_norm=False,
        layer_scale=float(config["initializer_factor"]) or 1.0,
        mean=tuple(config["image_mean"]),
        std=tuple(config["image_std"]),
    )
    how = Preprocessing(size_rule(config, folder), "bicubic", channels=channels)
    prefix = prefix_of(folder, "embeddings.patch_embedding.weight", PREFIXES)
    return Description(ours, Embed(), ModelInfo((), how), table(config), prefix)


def size_rule(config: dict[str, Any], folder: Folder) -> SizeRule:
    """Native: sides rounded to blocks of patches, between a least and a largest number of tokens; or a square."""
    mode, get = config["resolution_mode"], lambda key: number(config, key, folder.where)
    if mode == "native":
        area = get("patch_size") ** 2
        block = get("spatial_merge_size") * get("resize_factor")
        return Blocks(get("min_tokens") * area, get("max_tokens") * area, block)
    check(str(mode).isdecimal(), f"{folder.where}/config.json: resolution_mode={mode!r} is neither native nor a side")
    return Fixed(int(mode), int(mode))


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The tower alone.   Raises ConfigError where the size rule is not one of its own."""
    area = c.patch[0] ** 2
    match info.preprocessing.size:
        case Blocks(least, most, block) if least % area == most % area == 0:
            said: dict[str, Any] = {"resolution_mode": "native", "resize_factor": block}
            said |= {"min_tokens": least // area, "max_tokens": most // area}
        case Fixed(height, width) if height == width:
            said = {"resolution_mode": str(height)}
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is neither Blocks of whole patches nor a square")
    said |= {"model_type": "univitar", "hidden_size": c.width, "num_hidden_layers": c.depth, "patch_size": c.patch[0]}
    said |= {"num_attention_heads": c.heads, "intermediate_size": -(-3 * c.mlp_width // 2), "layer_norm_eps": c.eps}
    said |= {"num_channels": c.channels, "qk_normalization": c.qk_norm != "none"}
    said |= {"rope_theta": c.rope.theta if c.rope else 10_000.0, "initializer_factor": c.layer_scale or 1.0}
    said |= {f"image_{name}": list(per_channel(getattr(c, name), c.channels)) for name in ("mean", "std")}
    return Proposal(said, table(DEFAULTS | said))
