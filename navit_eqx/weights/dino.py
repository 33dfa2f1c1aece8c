"""DINOv2, with and without registers, and DINOv3 of Hugging Face transformers."""

from typing import Any

import numpy as np

from ..config import Gated, ModelConfig, NoPositions, Plain, Rope, Token
from ..config import Table as PositionTable
from ..errors import check
from ..info import ModelInfo
from ..tasks.config import Embed, Task
from .family import BLOCKS, Description, linear, norm, prefix_of, preprocessing, sizes
from .folder import Folder, number, square_root
from .names import CONV, HEADS, LINEAR, OUT, PAIR, SAME, Form, Line, Table, positions, without_bias
from .proposal import Proposal, hub_preprocessor, hub_sizes, table_side

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "gelu"}
V2 = BASE | {"mlp_ratio": 4, "patch_size": 14, "layer_norm_eps": 1e-6, "qkv_bias": True, "use_swiglu_ffn": False}
V3 = BASE | {
    **{"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "patch_size": 16},
    **{"layer_norm_eps": 1e-5, "num_register_tokens": 0, "rope_theta": 100.0, "use_gated_mlp": False},
    **{"query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True, "mlp_bias": True},
}
RATIOS = 33  # of the widths of MLP and tokens
MASKED = ("embeddings.mask_token",)
POSITIONS = "embeddings.position_embeddings"


def v2_table(tokens: dict[str, int], qkv_bias: bool, gated: bool) -> Table:
    """Our parameters and theirs, of DINOv2."""
    at = "encoder.layer.{i}"
    inside = HEADS if qkv_bias else without_bias(HEADS)
    mlp = [Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.fc1"), Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.fc2")]
    swiglu = [
        Line(f"{BLOCKS}.mlp", PAIR, f"{at}.mlp.weights_in"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.weights_out"),
    ]
    return [
        Line("backbone.patch_embedding", CONV, "embeddings.patch_embeddings.projection"),
        Line("", positions(tokens, POSITIONS, 1), ""),
        norm(f"{BLOCKS}.attention_norm", f"{at}.norm1"),
        Line(f"{BLOCKS}.attention.q", inside, f"{at}.attention.attention.query"),
        Line(f"{BLOCKS}.attention.k", inside, f"{at}.attention.attention.key"),
        Line(f"{BLOCKS}.attention.v", inside, f"{at}.attention.attention.value"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attention.output.dense"),
        Line(f"{BLOCKS}.attention_scale", SAME, f"{at}.layer_scale1.lambda1"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.norm2"),
        *(swiglu if gated else mlp),
        Line(f"{BLOCKS}.mlp_scale", SAME, f"{at}.layer_scale2.lambda1"),
        norm("backbone.encoder.norm", "layernorm"),
    ]


TOKENS_V3 = Form(
    ("backbone.registers",),
    ("embeddings.cls_token", "embeddings.register_tokens"),
    lambda c, cls, registers: (np.concatenate([cls[0], registers[0]]),),
    lambda c, registers: (registers[None, :1], registers[None, 1:]),
)


def v3_table(config: dict[str, Any]) -> Table:
    """Our parameters and theirs, of DINOv3."""
    at = "layer.{i}"
    inside = lambda name: HEADS if config[f"{name}_bias"] else without_bias(HEADS)
    dense = linear(config["mlp_bias"])
    gate = [Line(f"{BLOCKS}.mlp.gate", dense, f"{at}.mlp.up_proj")]
    grow = "gate_proj" if config["use_gated_mlp"] else "up_proj"
    return [
        Line("backbone.patch_embedding", CONV, "embeddings.patch_embeddings"),
        Line("", TOKENS_V3, ""),
        norm(f"{BLOCKS}.attention_norm", f"{at}.norm1"),
        Line(f"{BLOCKS}.attention.q", inside("query"), f"{at}.attention.q_proj"),
        Line(f"{BLOCKS}.attention.k", inside("key"), f"{at}.attention.k_proj"),
        Line(f"{BLOCKS}.attention.v", inside("value"), f"{at}.attention.v_proj"),
        Line(f"{BLOCKS}.attention.o", OUT if config["proj_bias"] else without_bias(OUT), f"{at}.attention.o_proj"),
        Line(f"{BLOCKS}.attention_scale", SAME, f"{at}.layer_scale1.lambda1"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp.grow", dense, f"{at}.mlp.{grow}"),
        *(gate if config["use_gated_mlp"] else []),
        Line(f"{BLOCKS}.mlp.shrink", dense, f"{at}.mlp.down_proj"),
        Line(f"{BLOCKS}.mlp_scale", SAME, f"{at}.layer_scale2.lambda1"),
        norm("backbone.encoder.norm", "norm"),
    ]


def mlp_width(width: int, ratio: float, gated: bool) -> int:
    """Hidden channels of an MLP of DINOv2: two thirds, rounded up to a multiple of 8, where it is gated."""
    plain = int(width * ratio)
    return (int(plain * 2 / 3) + 7) // 8 * 8 if gated else plain


def describe_v2(folder: Folder) -> Description:
    """DINOv2, without a classifier.   Raises ConfigError."""
    config = V2 | folder.config
    kind = config["model_type"]
    prefix = prefix_of(folder, POSITIONS, (f"{kind}.", ""))
    check(
        "classifier.weight" not in folder.shapes,
        f"{folder.where}: the classifier of DINOv2 reads the class token beside the mean of the patches, which is not "
        "supported: load its backbone, and train a head",
    )
    fields = sizes(config, folder, V2)
    count = number(config, "num_register_tokens", folder.where, 4) if kind.endswith("registers") else 0
    tokens = {"embeddings.cls_token": 1} | ({"embeddings.register_tokens": count} if count else {})
    side = square_root(folder.shapes[prefix + POSITIONS][1] - 1, POSITIONS, folder.where)
    gated, wide = config["use_swiglu_ffn"], mlp_width(fields["width"], config["mlp_ratio"], config["use_swiglu_ffn"])
    fields |= {"activation": "silu"} if gated else {}
    ours = ModelConfig(
        **fields,
        mlp_width=wide,
        mlp=Gated() if gated else Plain(),
        posembed=PositionTable(side, "cubic_antialias" if count else "cubic"),
        registers=1 + count,
        pool=Token(),
        layer_scale=1.0,
    )
    ours, how = preprocessing(folder, ours)
    lines = v2_table(tokens, config["qkv_bias"], gated)
    return Description(ours, Embed(), ModelInfo((), how), lines, prefix, MASKED)


def describe_v3(folder: Folder) -> Description:
    """DINOv3.   Raises ConfigError."""
    config = V3 | folder.config
    prefix = prefix_of(folder, "embeddings.cls_token", ("", "dinov3_vit.", "model."))
    ours = ModelConfig(
        **sizes(config, folder, V3),
        mlp_width=number(config, "intermediate_size", folder.where),
        mlp=Gated() if config["use_gated_mlp"] else Plain(),
        posembed=NoPositions(),
        rope=Rope(float(config["rope_theta"]), coordinate="centered"),
        registers=1 + config["num_register_tokens"],
        pool=Token(),
        layer_scale=1.0,
    )
    ours, how = preprocessing(folder, ours)
    return Description(ours, Embed(), ModelInfo((), how), v3_table(config), prefix, MASKED)


def propose_v2(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """DINOv2, with registers where there are more tokens than the class token; its ratio of widths is whole."""
    count, gated = c.registers - 1, isinstance(c.mlp, Gated)
    ratio = min(range(1, RATIOS), key=lambda r: abs(mlp_width(c.width, r, gated) - c.mlp_width))
    tokens = {"embeddings.cls_token": 1} | ({"embeddings.register_tokens": count} if count > 0 else {})
    said = hub_sizes(c) | {
        "model_type": "dinov2_with_registers" if count > 0 else "dinov2",
        "architectures": ["Dinov2WithRegistersModel" if count > 0 else "Dinov2Model"],
        "image_size": table_side(c) * c.patch[0],
        "mlp_ratio": ratio,
        "use_swiglu_ffn": gated,
        "qkv_bias": True,
    }
    said |= {"num_register_tokens": count} if count > 0 else {}
    said |= {"hidden_act": "gelu"} if gated else {}
    return Proposal(said, v2_table(tokens, True, gated), preprocessor=hub_preprocessor(c, info.preprocessing))


def propose_v3(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """DINOv3, with a bias wherever ours has one."""
    said = (
        V3
        | hub_sizes(c)
        | {
            "model_type": "dinov3_vit",
            "architectures": ["DINOv3ViTModel"],
            "intermediate_size": c.mlp_width,
            "num_register_tokens": c.registers - 1,
            "rope_theta": c.rope.theta if c.rope else 100.0,
            "use_gated_mlp": isinstance(c.mlp, Gated),
            "key_bias": True,
        }
    )
    return Proposal(said, v3_table(said), preprocessor=hub_preprocessor(c, info.preprocessing))
