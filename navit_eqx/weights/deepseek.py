"""DeepSeek-ViT in the layout of timm: `deepseek_vit_*_enc`, the native tower with its aligner.

Rotary positions alone, RMSNorm, gated MLP without bias. The aligner merges blocks of 3 x 3 tokens; where a grid is no
multiple of 3, what lacks is zero.
"""

from math import isqrt
from typing import Any

import numpy as np

from ..config import Gated, Mean, ModelConfig, NoPositions, Rope
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import Fixed, Preprocessing, SizeRule, TokenBudget
from ..tasks.config import Embed, Merger, Task
from .family import BLOCKS, Description
from .folder import Folder
from .names import CONV, LINEAR, NORM, OUT, PAIR, QKV, Arrays, Line, Table, without_bias
from .proposal import Proposal, per_channel, ratio

START, END = "deepseek_vit_", "_enc"
DEFAULTS = {"num_heads": 16, "downsample_ratio": 3, "rope_temperature": 10_000.0, "norm_eps": 1e-6}
# Arguments of the constructor that are read; another one may change the meaning, so it is refused.
READ = DEFAULTS.keys() | {"img_size", "patch_size", "in_chans", "out_features", "global_pool", "embed_dim", "depth"}
READ |= {"mlp_ratio", "num_classes", "dynamic_img_pad"}


def _pair_read(c: ModelConfig, w: np.ndarray) -> Arrays:
    return PAIR.read(c, w, np.zeros(len(w), w.dtype))


def _pair_write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
    check(not any(np.any(bias) for bias in ours[1::2]), "a bias that the other format does not have is not zero")
    return PAIR.write(c, *ours)[:1]


PAIR_BARE = PAIR._replace(theirs=PAIR.theirs[:1], read=_pair_read, write=_pair_write)


def _unfolded_read(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return w.reshape(len(w), c.width, -1).transpose(2, 1, 0).reshape(-1, len(w)), b


def _unfolded_write(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return w.reshape(-1, c.width, w.shape[-1]).transpose(2, 1, 0).reshape(w.shape[-1], -1), b


UNFOLDED = LINEAR._replace(read=_unfolded_read, write=_unfolded_write)  # channel by channel, then the tokens of a block


def table(aligned: bool) -> Table:
    """Our parameters and theirs."""
    at, scale = "blocks.{i}", without_bias(NORM)
    aligner = [
        Line("task.merger.grow", UNFOLDED, "aligner.fc1"),
        Line("task.merger.shrink", LINEAR, "aligner.fc2"),
    ]
    return [
        Line("backbone.patch_embedding", CONV, "patch_embed.proj"),
        Line(f"{BLOCKS}.attention_norm", scale, f"{at}.norm1"),
        Line(f"{BLOCKS}.attention", QKV, f"{at}.attn.qkv"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attn.proj"),
        Line(f"{BLOCKS}.mlp_norm", scale, f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp", PAIR_BARE, f"{at}.mlp.fc1"),
        Line(f"{BLOCKS}.mlp.shrink", without_bias(LINEAR), f"{at}.mlp.fc2"),
        Line("backbone.encoder.norm", scale, "norm"),
        *(aligner if aligned else []),
    ]


def describe(folder: Folder) -> Description:
    """The tower, with its aligner where the folder holds it.   Raises ConfigError."""
    name, given = str(folder.config["architecture"]), folder.config.get("model_args") or {}
    where, shapes = f"{folder.where}/config.json", folder.shapes
    check(name.endswith(END), f"{where}: architecture {name!r} is a classifier; of DeepSeek-ViT {START}*{END} is read")
    for key in given.keys() - READ:
        raise ConfigError(f"{where}: model_args.{key} is not known here, and may change the model")
    args = DEFAULTS | given
    aligned = "aligner.fc1.weight" in shapes
    check(
        args.get("global_pool", "align") == "align" or not aligned,
        f"{where}: global_pool {args.get('global_pool')!r} beside the weights of an aligner",
    )
    cfg = folder.config["pretrained_cfg"]
    width, channels, *patch = shapes["patch_embed.proj.weight"]
    config = ModelConfig(
        patch=(patch[0], patch[1]),
        channels=channels,
        width=width,
        depth=len({key.split(".")[1] for key in shapes if key.startswith("blocks.")}),
        heads=args["num_heads"],
        mlp_width=shapes["blocks.0.mlp.fc2.weight"][1],
        mlp=Gated(),
        activation="silu",
        norm="rms",
        eps=args["norm_eps"],
        biases=True,
        qk_norm="none",
        posembed=NoPositions(),
        rope=Rope(float(args["rope_temperature"])),
        pool=Mean(),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
    )
    merger = None
    if aligned:
        hidden, size = shapes["aligner.fc1.weight"][0], shapes["aligner.fc2.weight"][0]
        merger = Merger(size, args["downsample_ratio"], hidden, norm="none")
    how = Preprocessing(size_rule(cfg, config, where), cfg["interpolation"], channels=channels)
    return Description(config, Embed(merger=merger), ModelInfo((), how), table(aligned))


def size_rule(cfg: dict[str, Any], config: ModelConfig, where: str) -> SizeRule:
    """The size rule of evaluation in timm.   Raises ConfigError where it is none of those known here.

    Choice: the aspect ratio is kept, with at most the tokens of the square; timm fills the square with a border.
    """
    _, height, width = cfg.get("test_input_size") or cfg["input_size"]
    mode, share = cfg.get("crop_mode") or "center", cfg.get("test_crop_pct") or cfg.get("crop_pct") or 0.875
    check(mode in ("border", "squash") and share == 1, f"{where}: crop_mode {mode!r} of {share} is not known here")
    rule = Fixed(height, width)
    return rule if mode == "squash" else TokenBudget(rule.budget((config.patch[0], config.patch[1])))


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A `deepseek_vit_412m_enc` with these sizes.   Raises ConfigError where the size rule has no square."""
    match info.preprocessing.size:
        case TokenBudget(tokens) if isqrt(tokens) ** 2 == tokens:
            size, mode = [isqrt(tokens) * side for side in c.patch], "border"
        case Fixed(height, width):
            size, mode = [height, width], "squash"
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is no square that deepseek_vit_* of timm has")
    merger = task.merger if isinstance(task, Embed) else None
    args: dict[str, Any] = {"patch_size": c.patch[0], "embed_dim": c.width, "depth": c.depth, "num_heads": c.heads}
    args |= {"mlp_ratio": ratio(c), "in_chans": c.channels, "norm_eps": c.eps, "img_size": size}
    args |= {"rope_temperature": c.rope.theta if c.rope else 10_000.0, "global_pool": "align" if merger else "avg"}
    args |= {"out_features": merger.size, "downsample_ratio": merger.block} if merger else {}
    cfg = {"input_size": [c.channels, *size], "interpolation": info.preprocessing.filter, "crop_pct": 1.0}
    cfg |= {name: list(per_channel(getattr(c, name), c.channels)) for name in ("mean", "std")}
    cfg |= {"crop_mode": mode, "num_classes": 0, "first_conv": "patch_embed.proj", "classifier": None}
    said = {"architecture": f"{START}412m{END}", "num_classes": 0, "num_features": c.width, "model_args": args}
    return Proposal(said | {"global_pool": args["global_pool"], "pretrained_cfg": cfg}, table(merger is not None))
