"""MoonViT-V2: the tower of Kimi K3, for still images.

As MoonViT, with RMSNorm, no bias anywhere, heads that are wider than width / heads, and a table that is read by linear
interpolation. Its norms are left without an ε: PyTorch takes that of the numbers.
"""

from typing import Any

import numpy as np

from ..config import Mean, ModelConfig, Rope
from ..config import Table as PositionTable
from ..errors import check
from ..info import ModelInfo
from ..tasks.config import Embed, Task
from .family import BLOCKS, Description, prefix_of, sizes
from .folder import Folder, number
from .moonvit import PREFIXES, UNREAD, order, preprocessing, proposed, side_of_table, tower_config
from .names import CONV, HEADS_BARE, LINEAR, OUT_BARE, SCALE, Arrays, Form, Line, Table, positions, without_bias
from .proposal import Proposal, hub_sizes

DEFAULTS = {
    **{"hidden_size": 1024, "num_hidden_layers": 27, "num_attention_heads": 12, "intermediate_size": 4096},
    **{"qkv_hidden_size": 1536, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh"},
    "layer_norm_eps": float(np.finfo(np.float64).eps),
}
KERNELS = {"bilinear": "linear", "bicubic": "cubic"}
ABSENT = ("attn_bias", "linear_bias", "patch_embed_proj_bias")


def _read(c: ModelConfig, w: np.ndarray) -> Arrays:
    q, k, v = (HEADS_BARE.read(c, rows)[0] for rows in np.split(w, 3))
    return q[..., order(c.head_channels)], k[..., order(c.head_channels)], v


def _write(c: ModelConfig, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
    back = np.argsort(order(c.head_channels))
    return (np.concatenate([HEADS_BARE.write(c, x)[0] for x in (q[..., back], k[..., back], v)]),)


WQKV = Form(("{}.q", "{}.k", "{}.v"), ("{}.weight",), _read, _write)


def table() -> Table:
    """Our parameters and theirs."""
    at, bare = "encoder.blocks.{i}", without_bias(LINEAR)
    return [
        Line("backbone.patch_embedding", without_bias(CONV), "patch_embed.proj"),
        Line("", positions({}, "patch_embed.pos_emb.weight", 0, batched=False, square=True), ""),
        Line(f"{BLOCKS}.attention_norm", SCALE, f"{at}.norm0"),
        Line(f"{BLOCKS}.attention", WQKV, f"{at}.wqkv"),
        Line(f"{BLOCKS}.attention.o", OUT_BARE, f"{at}.wo"),
        Line(f"{BLOCKS}.mlp_norm", SCALE, f"{at}.norm1"),
        Line(f"{BLOCKS}.mlp.grow", bare, f"{at}.mlp.fc0"),
        Line(f"{BLOCKS}.mlp.shrink", bare, f"{at}.mlp.fc1"),
        Line("backbone.encoder.norm", SCALE, "encoder.final_layernorm"),
    ]


def describe(folder: Folder) -> Description:
    """The tower, without the merger of 2 x 2 tokens and the projector behind it.   Raises ConfigError."""
    config = DEFAULTS | tower_config(folder)
    where = f"{folder.where}/config.json"
    for name in ABSENT:
        check(not config.get(name), f"{where}: {name}={config.get(name)!r}, and MoonViT-V2 has no bias")
    kernel = config.get("pos_emb_interpolation_mode", "bilinear")
    check(kernel in KERNELS, f"{where}: pos_emb_interpolation_mode={kernel!r} is none of {', '.join(KERNELS)}")
    fields: dict[str, Any] = sizes(config, folder, DEFAULTS) | {"biases": False}
    inner, heads = number(config, "qkv_hidden_size", folder.where), fields["heads"]
    check(inner % heads == 0, f"{where}: qkv_hidden_size={inner} is no multiple of {heads} heads")
    prefix = prefix_of(folder, "patch_embed.pos_emb.weight", PREFIXES)
    mean, std, how = preprocessing(folder)
    ours = ModelConfig(
        **fields,
        head_size=inner // heads if inner != fields["width"] else None,
        mlp_width=number(config, "intermediate_size", folder.where),
        norm="rms",
        posembed=PositionTable(side_of_table(folder, prefix), KERNELS[kernel]),  # pyright: ignore[reportArgumentType]
        rope=Rope(10_000.0),
        pool=Mean(),
        mean=mean,
        std=std,
    )
    return Description(ours, Embed(), ModelInfo((), how), table(), prefix, UNREAD)


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """MoonViT-V2 alone.   Raises ConfigError where the size rule is not that of its processor."""
    said, how = proposed(c, info)
    kernels = {ours: theirs for theirs, ours in KERNELS.items()}
    own = {"model_type": "kimi_k3_vision", "qkv_hidden_size": c.heads * c.head_channels}
    own["pos_emb_interpolation_mode"] = kernels.get(getattr(c.posembed, "kernel", ""), "bilinear")
    return Proposal(hub_sizes(c) | own | said, table(), preprocessor=how)
