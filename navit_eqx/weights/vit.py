"""ViT and DeiT of Hugging Face transformers: class token, learned table, classifier on the class token."""

from typing import Any

from ..config import ModelConfig, Token
from ..config import Table as PositionTable
from ..errors import check
from ..info import ModelInfo
from ..tasks.config import Task
from .family import BLOCKS, Description, head, norm, prefix_of, preprocessing, sizes
from .folder import Folder, number, square_root
from .names import CONV, HEADS, LINEAR, OUT, Line, Table, positions, without_bias
from .proposal import Proposal, hub_head, hub_preprocessor, hub_sizes, table_side

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
}
TOKENS = {
    "vit": {"embeddings.cls_token": 1},
    "deit": {"embeddings.cls_token": 1, "embeddings.distillation_token": 1},
}
UNREAD = ("pooler.*", "embeddings.mask_token")  # the tanh layer of ViTModel, and what masked training has


def table(tokens: dict[str, int], qkv_bias: bool = True) -> Table:
    """Our parameters and theirs."""
    at = "encoder.layer.{i}"
    inside = HEADS if qkv_bias else without_bias(HEADS)
    return [
        Line("backbone.patch_embedding", CONV, "embeddings.patch_embeddings.projection"),
        Line("", positions(tokens, "embeddings.position_embeddings", len(tokens)), ""),
        norm(f"{BLOCKS}.attention_norm", f"{at}.layernorm_before"),
        Line(f"{BLOCKS}.attention.q", inside, f"{at}.attention.attention.query"),
        Line(f"{BLOCKS}.attention.k", inside, f"{at}.attention.attention.key"),
        Line(f"{BLOCKS}.attention.v", inside, f"{at}.attention.attention.value"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attention.output.dense"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.layernorm_after"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.intermediate.dense"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.output.dense"),
        norm("backbone.encoder.norm", "layernorm"),
    ]


def describe(folder: Folder) -> Description:
    """The model of a folder.   Raises ConfigError."""
    config = DEFAULTS | folder.config
    kind = config["model_type"]
    tokens = TOKENS[kind]
    prefix = prefix_of(folder, "embeddings.position_embeddings", (f"{kind}.", ""))
    check(
        "distillation_classifier.weight" not in folder.shapes,
        f"{folder.where}: a DeiT with two classifiers, the mean of which it answers, is not supported: load the "
        "backbone of its DeiTModel",
    )
    fields: dict[str, Any] = sizes(config, folder, DEFAULTS)
    places = folder.shapes[f"{prefix}embeddings.position_embeddings"][1] - len(tokens)
    ours = ModelConfig(
        **fields,
        mlp_width=number(config, "intermediate_size", folder.where),
        posembed=PositionTable(square_root(places, "position_embeddings", folder.where), "cubic"),
        registers=len(tokens),
        pool=Token(),
    )
    ours, how = preprocessing(folder, ours)
    task, classes, last = head(folder, config, "classifier")
    lines = [*table(tokens, config["qkv_bias"]), *last]
    return Description(ours, task, ModelInfo(classes, how), lines, prefix, UNREAD)


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A ViT, or with two tokens a DeiT."""
    kind, name = ("deit", "DeiT") if c.registers == 2 else ("vit", "ViT")
    fields, last = hub_head(task, info, "classifier")
    said = (
        hub_sizes(c)
        | fields
        | {
            "model_type": kind,
            "architectures": [f"{name}{'ForImageClassification' if last else 'Model'}"],
            "intermediate_size": c.mlp_width,
            "image_size": table_side(c) * c.patch[0],
            "qkv_bias": True,
        }
    )
    return Proposal(
        said, table(TOKENS[kind]), f"{kind}." if last else "", last, hub_preprocessor(c, info.preprocessing)
    )
