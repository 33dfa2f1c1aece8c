"""Towers of CLIP, SigLIP, SigLIP 2 (fixed sizes and NaFlex) and Idefics of Hugging Face transformers."""

from typing import Any

from ..config import Map, Mean, ModelConfig, Token
from ..config import Table as PositionTable
from ..info import ModelInfo
from ..preprocessing import NeverEnlarged, TokenBudget
from ..tasks.config import Embed, Task
from .family import BLOCKS, Description, norm, prefix_of, preprocessing, sizes, vision_config
from .folder import Folder, number, square_root
from .names import CONV, HEADS, IN_PROJ, LINEAR, OUT, PROBE, Line, Table, positions, without_bias
from .proposal import Proposal, hub_preprocessor, hub_sizes, pixels, table_side

BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "patch_size": 16,
}
CLIP = BASE | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP = BASE | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
IDEFICS = ("*text_model.*", "*connector.*", "lm_head.*")  # all but the tower
TEXT = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias")  # the other tower
POSITIONS = "embeddings.position_embedding.weight"


def table(at: str = "encoder.layers.{i}") -> Table:
    """Our parameters of the blocks and theirs."""
    return [
        norm(f"{BLOCKS}.attention_norm", f"{at}.layer_norm1"),
        Line(f"{BLOCKS}.attention.q", HEADS, f"{at}.self_attn.q_proj"),
        Line(f"{BLOCKS}.attention.k", HEADS, f"{at}.self_attn.k_proj"),
        Line(f"{BLOCKS}.attention.v", HEADS, f"{at}.self_attn.v_proj"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.self_attn.out_proj"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.layer_norm2"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.fc1"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.fc2"),
        norm("backbone.encoder.norm", "post_layernorm"),
    ]


CLIP_TABLE = [
    Line("backbone.patch_embedding", without_bias(CONV), "embeddings.patch_embedding"),
    Line("", positions({"embeddings.class_embedding": 1}, POSITIONS, 1, batched=False), ""),
    norm("backbone.embedding_norm", "pre_layrnorm"),
    *table(),
]
MAP_TABLE = [
    Line("backbone.pool.probe", PROBE, "head.probe"),
    Line("backbone.pool.attention", IN_PROJ, "head.attention"),
    Line("backbone.pool.attention.o", OUT, "head.attention.out_proj"),
    norm("backbone.pool.norm", "head.layernorm"),
    Line("backbone.pool.mlp.grow", LINEAR, "head.mlp.fc1"),
    Line("backbone.pool.mlp.shrink", LINEAR, "head.mlp.fc2"),
]
SIGLIP_TABLE = [
    Line("backbone.patch_embedding", CONV, "embeddings.patch_embedding"),
    Line("", positions({}, POSITIONS, 0, batched=False), ""),
    *table(),
    *MAP_TABLE,
]
NAFLEX_TABLE = [
    Line("backbone.patch_embedding", LINEAR, "embeddings.patch_embedding"),
    *SIGLIP_TABLE[1:],
]


def vision(folder: Folder, defaults: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The configuration of the vision tower, the fields of ours that follow from it, and the prefix of its names."""
    config = defaults | vision_config(folder)
    prefix = prefix_of(folder, POSITIONS, ("vision_model.", "vision_model.vision_model.", "model.vision_model.", ""))
    fields = sizes(config, folder, defaults) | {"mlp_width": number(config, "intermediate_size", folder.where)}
    return config, fields, prefix


def describe_clip(folder: Folder) -> Description:
    """CLIP's vision tower, with its projection where the folder holds it.   Raises ConfigError."""
    _, fields, prefix = vision(folder, CLIP)
    side = square_root(folder.shapes[prefix + POSITIONS][0] - 1, POSITIONS, folder.where)
    posembed = PositionTable(side, "cubic")
    config, how = preprocessing(
        folder, ModelConfig(**fields, posembed=posembed, registers=1, pool=Token(), embedding_norm=True)
    )
    shape, lines = folder.shapes.get("visual_projection.weight"), list(CLIP_TABLE)
    if shape:
        lines.append(Line("task.head", without_bias(LINEAR), "visual_projection"))
    unread = (*TEXT, "embeddings.position_ids")
    return Description(config, Embed(shape[0] if shape else None), ModelInfo((), how), lines, prefix, unread)


def describe_siglip(folder: Folder) -> Description:
    """The vision tower of SigLIP, or of SigLIP 2 at fixed sizes.   Raises ConfigError."""
    return mapped(folder, "cubic", SIGLIP_TABLE)


def describe_siglip2(folder: Folder) -> Description:
    """The vision tower of SigLIP 2 NaFlex.   Raises ConfigError."""
    return mapped(folder, "linear_antialias", NAFLEX_TABLE)


def describe_idefics(folder: Folder) -> Description:
    """The NaViT of Idefics2, Idefics3 and SmolVLM, made of SigLIP: a table read by buckets, no pooling of its own.

    Choice: images are never enlarged and have at most as many patches as the table. The peers' processors cut images
    into tiles or bound their sides instead. Raises ConfigError.
    """
    _, fields, prefix = vision(folder, SIGLIP)
    side = square_root(folder.shapes[prefix + POSITIONS][0], POSITIONS, folder.where)
    config = ModelConfig(**fields, posembed=PositionTable(side, "bucket"), pool=Mean())
    config, how = preprocessing(folder, config, NeverEnlarged(TokenBudget(side**2)))
    return Description(config, Embed(), ModelInfo((), how), SIGLIP_TABLE[: -len(MAP_TABLE)], prefix, IDEFICS)


def mapped(folder: Folder, kernel: Any, lines: Table) -> Description:
    """A tower with attention pooling."""
    _, fields, prefix = vision(folder, SIGLIP)
    side = square_root(folder.shapes[prefix + POSITIONS][0], POSITIONS, folder.where)
    config, how = preprocessing(folder, ModelConfig(**fields, posembed=PositionTable(side, kernel), pool=Map()))
    return Description(config, Embed(), ModelInfo((), how), lines, prefix, (*TEXT, "embeddings.position_ids"))


def hub_config(c: ModelConfig, kind: str, architecture: str) -> dict[str, Any]:
    """config.json of a tower."""
    side = table_side(c)
    return hub_sizes(c) | {
        "model_type": kind,
        "architectures": [architecture],
        "intermediate_size": c.mlp_width,
        "image_size": side * c.patch[0],
        "num_patches": side**2,
    }


def propose_clip(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A vision tower of CLIP, with its projection where the task is one."""
    size = task.size if isinstance(task, Embed) else None
    last = [Line("task.head", without_bias(LINEAR), "visual_projection")] if size else []
    said = hub_config(c, "clip_vision_model", f"CLIPVisionModel{'WithProjection' if size else ''}")
    said |= {"projection_dim": size} if size else {}
    return Proposal(said, CLIP_TABLE, "vision_model." if size else "", last, hub_preprocessor(c, info.preprocessing))


def propose_siglip(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A vision tower of SigLIP."""
    said = hub_config(c, "siglip_vision_model", "SiglipVisionModel")
    return Proposal(said, SIGLIP_TABLE, preprocessor=hub_preprocessor(c, info.preprocessing))


def propose_siglip2(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A vision tower of SigLIP 2 NaFlex."""
    said = hub_config(c, "siglip2_vision_model", "Siglip2VisionModel")
    return Proposal(said, NAFLEX_TABLE, preprocessor=hub_preprocessor(c, info.preprocessing))


def propose_idefics(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The NaViT of Idefics3; the processor beside it squashes, for want of the tower alone having one."""
    said = hub_config(c, "idefics3_vision", "Idefics3VisionTransformer")
    side = said["image_size"]
    how = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}}
    return Proposal(said, SIGLIP_TABLE[: -len(MAP_TABLE)], preprocessor=how | pixels(c, info.preprocessing))
