"""MoonViT: the tower of Kimi-VL (MoonViT-SO-400M, also alone) and of Kimi K2.5, for still images.

Additive table and rotary positions together. Their rotary pairs are neighbors (2c, 2c + 1), of x and y in turn; ours
are (j, j + K/2), y before x. The rows of queries and keys are permuted once, when they are read.
"""

from typing import Any

import numpy as np

from ..config import Mean, ModelConfig, Rope
from ..config import Table as PositionTable
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import NeverEnlarged, Preprocessing, TokenBudget
from ..tasks.config import Embed, Task
from .family import BLOCKS, Description, norm, prefix_of, sizes, vision_config
from .folder import Folder, number
from .names import CONV, LINEAR, OUT, QKV, Arrays, Line, Table, positions
from .proposal import Proposal, hub_sizes, per_channel, table_side

DEFAULTS = {
    **{"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304},
    **{"patch_size": 14, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-5},
}
PREFIXES = ("vision_tower.", "vision_model.", "model.vision_tower.", "")
UNREAD = ("language_model.*", "model.language_model.*", "lm_head.*", "*mm_projector.*", "multi_modal_projector.*")
RENAMED = {
    **{"vt_hidden_size": "hidden_size", "vt_num_hidden_layers": "num_hidden_layers"},
    **{"vt_num_attention_heads": "num_attention_heads", "vt_intermediate_size": "intermediate_size"},
}  # as the files of Kimi K2.5 and K3 say it


def tower_config(folder: Folder) -> dict[str, Any]:
    """The configuration of the tower, by the names of transformers."""
    said = vision_config(folder)
    return said | {usual: said[name] for name, usual in RENAMED.items() if name in said}


def order(size: int) -> np.ndarray:
    """Old place of each dimension of a head of this size, K."""
    pairs = np.arange(size // 4)
    y, x = 4 * pairs + 2, 4 * pairs
    return np.concatenate([y, x, y + 1, x + 1])


def _read(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    q, q_bias, k, k_bias, *v = QKV.read(c, w, b)
    return (*(array[..., order(c.head_channels)] for array in (q, q_bias, k, k_bias)), *v)


def _write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
    back = np.argsort(order(c.head_channels))
    return QKV.write(c, *(array[..., back] for array in ours[:4]), *ours[4:])


WQKV = QKV._replace(read=_read, write=_write)


def table() -> Table:
    """Our parameters and theirs."""
    at = "encoder.blocks.{i}"
    return [
        Line("backbone.patch_embedding", CONV, "patch_embed.proj"),
        Line("", positions({}, "patch_embed.pos_emb.weight", 0, batched=False, square=True), ""),
        norm(f"{BLOCKS}.attention_norm", f"{at}.norm0"),
        Line(f"{BLOCKS}.attention", WQKV, f"{at}.wqkv"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.wo"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.norm1"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.fc0"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.fc1"),
        norm("backbone.encoder.norm", "encoder.final_layernorm"),
    ]


def describe(folder: Folder) -> Description:
    """The tower, without the merger of 2 x 2 tokens and the projector behind it.   Raises ConfigError."""
    config = DEFAULTS | tower_config(folder)
    prefix = prefix_of(folder, "patch_embed.pos_emb.weight", PREFIXES)
    mean, std, how = preprocessing(folder)
    ours = ModelConfig(
        **sizes(config, folder, DEFAULTS),
        mlp_width=number(config, "intermediate_size", folder.where),
        posembed=PositionTable(side_of_table(folder, prefix), "cubic"),
        rope=Rope(10_000.0),
        pool=Mean(),
        mean=mean,
        std=std,
    )
    return Description(ours, Embed(), ModelInfo((), how), table(), prefix, UNREAD)


def side_of_table(folder: Folder, prefix: str) -> int:
    """Entries per side of the position table.   Raises ConfigError where it is no square."""
    shape = folder.shapes[f"{prefix}patch_embed.pos_emb.weight"]
    check(len(shape) == 3 and shape[0] == shape[1], f"{folder.where}: positions of shape {shape} are no square table")
    return shape[0]


def preprocessing(folder: Folder) -> tuple[tuple[float, ...], tuple[float, ...], Preprocessing]:
    """Mean, deviation and size rule: never enlarged, at most the patches that the processor allows.

    Choice: resized to whole patches. The processors of this family crop or pad with black instead.
    Raises ConfigError where there is no preprocessor_config.json, or no limit in it.
    """
    where = f"{folder.where}/preprocessor_config.json"
    if folder.preprocessor is None:
        raise ConfigError(f"no {where}: features depend on size, mean and deviation, so fetch it too")
    said: dict[str, Any] = folder.preprocessor | folder.preprocessor.get("media_proc_cfg", {})
    limit = said.get("in_token_limit", said.get("in_patch_limit"))
    check(isinstance(limit, int) and limit > 0, f"{where}: in_token_limit={limit!r} must be a positive integer")
    mean, std = (tuple(said.get(name) or ()) for name in ("image_mean", "image_std"))
    check(bool(mean) and bool(std), f"{where}: image_mean and image_std are missing: fetch the file again")
    return mean, std, Preprocessing(NeverEnlarged(TokenBudget(limit or 1)), "bicubic")


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """MoonViT alone.   Raises ConfigError where the size rule is not that of its processor."""
    said, how = proposed(c, info)
    return Proposal(hub_sizes(c) | {"model_type": "moonvit"} | said, table(), preprocessor=how)


def proposed(c: ModelConfig, info: ModelInfo) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json and preprocessor_config.json of both MoonViTs say.   Raises ConfigError."""
    match info.preprocessing.size:
        case NeverEnlarged(TokenBudget(limit)):
            how: dict[str, Any] = {"in_token_limit": limit, "patch_size": c.patch[0], "merge_kernel_size": [1, 1]}
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is not NeverEnlarged(TokenBudget(...)), as of MoonViT")
    side = {"init_pos_emb_height": table_side(c), "init_pos_emb_width": table_side(c)}
    for name in ("mean", "std"):
        how[f"image_{name}"] = list(per_channel(getattr(c, name), c.channels))
    return {"intermediate_size": c.mlp_width, "merge_kernel_size": [1, 1]} | side, how
