"""The towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, for still images, with their mergers.

Rotary positions by patch index, Qwen3-VL with a table beside them; no norm after the last block; a kernel in time, of
which a still image, repeated, sees the sum. Most blocks of Qwen2.5-VL attend within windows. Blocks of 2 x 2 tokens are
merged by an MLP; Qwen3-VL merges the tokens after three inner blocks too.
"""

from typing import Any

from ..config import Gated, Local, Mean, ModelConfig, NoPositions, Rope
from ..config import Table as PositionTable
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import Blocks
from ..tasks.config import Embed, Merger, Task
from .family import (
    BLOCKS,
    Description,
    activation,
    bicubic_unless_said,
    norm,
    prefix_of,
    preprocessing,
    theta_of,
    vision_config,
)
from .folder import Folder, number, square_root
from .names import LINEAR, NORM, OUT, QKV, Line, Table, conv_in_time, positions, without_bias
from .proposal import Proposal, hub_sizes, pixels

V2 = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "hidden_act": "quick_gelu", "mlp_ratio": 4, "num_heads": 16}
V2 |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
V25 = V2 | {"hidden_size": 1280, "hidden_act": "silu", "intermediate_size": 3420, "out_hidden_size": 3584}
V25 |= {"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}
V3 = {"depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 4304, "num_heads": 16}
V3 |= {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584}
V3 |= {"deepstack_visual_indexes": [8, 16, 24]}
EPS = 1e-6  # of all norms, in the code of the peers
FRAMES = 2
PREFIXES = ("visual.", "model.visual.", "")
UNREAD = ("model.layers.*", "model.embed_tokens.*", "model.norm.*", "*language_model.*", "lm_head.*")
SIZE = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}


def block_table(fc1: str, fc2: str) -> Table:
    """Our parameters of the blocks and theirs."""
    at = "blocks.{i}"
    return [
        norm(f"{BLOCKS}.attention_norm", f"{at}.norm1"),
        Line(f"{BLOCKS}.attention", QKV, f"{at}.attn.qkv"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attn.proj"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.{fc1}"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.{fc2}"),
    ]


def merger_table(ours: str, theirs: str, names: tuple[str, str, str], copies: int | None = None) -> Table:
    """A merger: norm and two linear layers."""
    parts = [norm(f"{ours}.norm", f"{theirs}.{names[0]}")]
    parts += [Line(f"{ours}.{n}", LINEAR, f"{theirs}.{name}") for n, name in zip(("grow", "shrink"), names[1:])]
    return [line._replace(copies=copies) for line in parts]


V2_TABLE = [
    Line("backbone.patch_embedding", conv_in_time(FRAMES, bias=False), "patch_embed.proj"),
    *block_table("fc1", "fc2"),
    *merger_table("task.merger", "merger", ("ln_q", "mlp.0", "mlp.2")),
]


def v25_table() -> Table:
    """Our parameters and theirs, of Qwen2.5-VL: RMSNorm and a gated MLP."""
    at, scale = "blocks.{i}", without_bias(NORM)
    merger = merger_table("task.merger", "merger", ("ln_q", "mlp.0", "mlp.2"))
    return [
        V2_TABLE[0],
        Line(f"{BLOCKS}.attention_norm", scale, f"{at}.norm1"),
        Line(f"{BLOCKS}.attention", QKV, f"{at}.attn.qkv"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attn.proj"),
        Line(f"{BLOCKS}.mlp_norm", scale, f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.gate_proj"),
        Line(f"{BLOCKS}.mlp.gate", LINEAR, f"{at}.mlp.up_proj"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.down_proj"),
        merger[0]._replace(form=scale),
        *merger[1:],
    ]


def v3_table(taps: int) -> Table:
    """Our parameters and theirs, of Qwen3-VL."""
    names = ("norm", "linear_fc1", "linear_fc2")
    return [
        Line("backbone.patch_embedding", conv_in_time(FRAMES, bias=True), "patch_embed.proj"),
        Line("", positions({}, "pos_embed.weight", 0, batched=False), ""),
        *block_table("linear_fc1", "linear_fc2"),
        *merger_table("task.merger", "merger", names),
        *(merger_table("task.taps", "deepstack_merger_list.{i}", names, taps) if taps else []),
    ]


def shape(folder: Folder, config: dict[str, Any], prefix: str, width: str) -> dict[str, Any]:
    """Fields of ModelConfig that the towers share.   Raises ConfigError."""
    get = lambda key: number(config, key, folder.where)
    check(
        get("temporal_patch_size") == FRAMES,
        f"{folder.where}/config.json: temporal_patch_size={config['temporal_patch_size']}, not {FRAMES} as in all "
        "known models",
    )
    patch = get("patch_size")
    return {
        **{"patch": (patch, patch), "channels": folder.shapes[f"{prefix}patch_embed.proj.weight"][1]},
        **{"width": get(width), "depth": get("depth"), "heads": get("num_heads"), "eps": EPS, "biases": True},
        **{"qk_norm": "none", "final_norm": False, "pool": Mean(), "rope": Rope(theta_of(config))},
        "activation": activation(config["hidden_act"], folder.where),
    }


def described(folder: Folder, ours: ModelConfig, merger: Merger, table: Table, prefix: str) -> Description:
    """The tower with its merger and preprocessing.   Raises ConfigError."""
    ours, how = preprocessing(bicubic_unless_said(folder), ours, size_rule(folder, merger.block))
    return Description(ours, Embed(merger=merger), ModelInfo((), how), table, prefix, UNREAD)


def size_rule(folder: Folder, block: int) -> Blocks:
    """Least and largest area in pixels, by the old keys or the new ones."""
    said = folder.preprocessor or {}
    size = SIZE | (said.get("size") or {})
    least = said.get("min_pixels") or size.get("min_pixels", size["shortest_edge"])
    most = said.get("max_pixels") or size.get("max_pixels", size["longest_edge"])
    for name, value in (("min_pixels", least), ("max_pixels", most)):
        where = f"{folder.where}/preprocessor_config.json"
        check(isinstance(value, int) and value > 0, f"{where}: {name}={value!r} must be a positive integer")
    return Blocks(least, most, block)


def describe_v2(folder: Folder) -> Description:
    """Qwen2-VL.   Raises ConfigError."""
    config = V2 | vision_config(folder)
    prefix = prefix_of(folder, "patch_embed.proj.weight", PREFIXES)
    fields = shape(folder, config, prefix, "embed_dim")
    wide = int(fields["width"] * config["mlp_ratio"])
    merger = Merger(number(config, "hidden_size", folder.where), number(config, "spatial_merge_size", folder.where))
    ours = ModelConfig(**fields, mlp_width=wide, posembed=NoPositions())
    return described(folder, ours, merger, V2_TABLE, prefix)


def describe_v25(folder: Folder) -> Description:
    """Qwen2.5-VL.   Raises ConfigError."""
    config = V25 | vision_config(folder)
    get = lambda key: number(config, key, folder.where)
    prefix = prefix_of(folder, "patch_embed.proj.weight", PREFIXES)
    fields = shape(folder, config, prefix, "hidden_size")
    merger = Merger(get("out_hidden_size"), get("spatial_merge_size"), norm="rms")
    side = get("window_size") // merger.block // get("patch_size") * merger.block  # whole blocks of patches
    whole = tuple(n + 1 for n in config["fullatt_block_indexes"])
    ours = ModelConfig(
        **fields,
        norm="rms",
        mlp=Gated(),
        mlp_width=get("intermediate_size"),
        posembed=NoPositions(),
        local=Local((side, side), whole),
    )
    return described(folder, ours, merger, v25_table(), prefix)


def describe_v3(folder: Folder) -> Description:
    """Qwen3-VL.   Raises ConfigError."""
    config = V3 | vision_config(folder)
    prefix = prefix_of(folder, "patch_embed.proj.weight", PREFIXES)
    taps = tuple(n + 1 for n in config["deepstack_visual_indexes"])
    merger = Merger(
        number(config, "out_hidden_size", folder.where), number(config, "spatial_merge_size", folder.where), taps=taps
    )
    fields = shape(folder, config, prefix, "hidden_size")
    check(
        all(0 < n <= fields["depth"] for n in taps) and sorted({*taps}) == [*taps],
        f"{folder.where}/config.json: deepstack_visual_indexes={config['deepstack_visual_indexes']} are no blocks of "
        f"{fields['depth']}, in their order",
    )
    side = square_root(folder.shapes[f"{prefix}pos_embed.weight"][0], "pos_embed.weight", folder.where)
    ours = ModelConfig(
        **fields,
        mlp_width=number(config, "intermediate_size", folder.where),
        posembed=PositionTable(side, "linear", "corners"),
    )
    return described(folder, ours, merger, v3_table(len(taps)), prefix)


def proposed(c: ModelConfig, task: Task, info: ModelInfo) -> tuple[Merger, dict[str, Any], dict[str, Any]]:
    """Merger, and what config.json and preprocessor_config.json of all of them say.   Raises ConfigError."""
    if not isinstance(task, Embed) or task.merger is None:
        raise ConfigError(f"the task {type(task).__name__} has no merger, which the towers of Qwen end with")
    match info.preprocessing.size:
        case Blocks(least, most, block) if block == task.merger.block:
            how = {"size": {"shortest_edge": least, "longest_edge": most}, "merge_size": block}
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is not Blocks(least, most), as of Qwen")
    how |= {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": c.patch[0]}
    how |= {"temporal_patch_size": FRAMES} | pixels(c, info.preprocessing)
    theta = c.rope.theta if c.rope else 10_000.0
    said = {"hidden_act": hub_sizes(c)["hidden_act"], "depth": c.depth, "num_heads": c.heads, "in_channels": c.channels}
    said |= {"patch_size": c.patch[0], "temporal_patch_size": FRAMES, "spatial_merge_size": task.merger.block}
    said |= {"rope_parameters": {"rope_type": "axial", "rope_theta": theta}}
    return task.merger, said, how


def propose_v2(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The tower of Qwen2-VL alone."""
    merger, said, how = proposed(c, task, info)
    check(c.mlp_width % c.width == 0, f"model.mlp_width={c.mlp_width} is no multiple of model.width={c.width}")
    said |= {"model_type": "qwen2_vl_vision", "architectures": ["Qwen2VisionTransformerPretrainedModel"]}
    said |= {"embed_dim": c.width, "hidden_size": merger.size, "mlp_ratio": c.mlp_width // c.width}
    return Proposal(said, V2_TABLE, preprocessor=how)


def propose_v25(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The tower of Qwen2.5-VL alone."""
    merger, said, how = proposed(c, task, info)
    local = c.local or Local(whole=())
    said |= {"model_type": "qwen2_5_vl_vision", "architectures": ["Qwen2_5_VisionTransformerPretrainedModel"]}
    said |= {"hidden_size": c.width, "out_hidden_size": merger.size, "intermediate_size": c.mlp_width}
    said |= {"window_size": local.window[0] * c.patch[0], "fullatt_block_indexes": [n - 1 for n in local.whole]}
    return Proposal(said, v25_table(), preprocessor=how)


def propose_v3(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """The tower of Qwen3-VL alone."""
    merger, said, how = proposed(c, task, info)
    side = getattr(c.posembed, "size", 1)
    said |= {"model_type": "qwen3_vl_vision", "architectures": ["Qwen3VLVisionModel"], "hidden_size": c.width}
    said |= {"out_hidden_size": merger.size, "intermediate_size": c.mlp_width, "num_position_embeddings": side**2}
    said |= {"deepstack_visual_indexes": [n - 1 for n in merger.taps]}
    return Proposal(said, v3_table(len(merger.taps)), preprocessor=how)
