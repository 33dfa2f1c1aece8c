"""timm: `vit_*` and `deit_*` with learned tables, and `naflexvit_*`.

Its config.json names an architecture. Which parts there are is read from the names of the tensors; what no tensor shows
(heads, activation, ε, interpolation) from the architecture, over which `model_args` of config.json has the last word.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Factorised, Map, Mean, ModelConfig, NormedMean, Token
from ..config import Table as PositionTable
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..preprocessing import CeilBudget, CenterCrop, Fixed, Preprocessing, SizeRule
from ..tasks.config import Classify, Embed, Task
from .family import BLOCKS, Description, norm
from .folder import Folder, square_root
from .names import CONV, HEADS, LINEAR, OUT, PROBE, QKV, SAME, Arrays, Form, Line, positions, without_bias
from .proposal import Proposal, per_channel, ratio, table_side

HEADS_OF = {64: 2, 96: 3, 1152: 16, 1280: 16, 1408: 16, 1664: 16}  # others have heads of 64
STARTS = ("vit_", "deit_", "deit3_", "flexivit_", "naflexvit_")
OTHER_BLOCKS = ("18x2", "rpn", "_xp_", "pwee", "dwee", "dlittle", "rope", "radio")
TANH = r"naflexvit.*siglip|base_patch32_siglip|large_patch16_siglip(_gap)?_512|so400m_patch16_siglip|giantopt"
# Arguments of the constructor that are read; another one may change the meaning, so it is refused.
READ = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "act_layer"} | {
    *("global_pool", "class_token", "reg_tokens", "qkv_bias", "init_values", "pre_norm", "fc_norm", "final_norm"),
    *("no_embed_class", "dynamic_img_size", "in_chans", "pos_embed", "pos_embed_grid_size", "pos_embed_interp_mode"),
    *("pos_embed_ar_preserving", "num_pooled"),
}


def _kv_read(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return (*(part for rows in zip(np.split(w, 2), np.split(b, 2)) for part in HEADS.read(c, *rows)),)


def _kv_write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
    rows = [HEADS.write(c, w, b) for w, b in zip(ours[::2], ours[1::2])]
    return tuple(np.concatenate(parts) for parts in zip(*rows))


KV = Form(("{}.k", "{}.k_bias", "{}.v", "{}.v_bias"), ("{}.weight", "{}.bias"), _kv_read, _kv_write)
FACTORISED = Form(
    ("{}.tables",),
    ("embeds.pos_embed_y", "embeds.pos_embed_x"),
    lambda c, y, x: (np.concatenate([y, x]),),
    lambda c, tables: (tables[:1], tables[1:]),
)
MAP_TABLE = [
    Line("backbone.pool.probe", PROBE, "attn_pool.latent"),
    Line("backbone.pool.attention.q", HEADS, "attn_pool.q"),
    Line("backbone.pool.attention", KV, "attn_pool.kv"),
    Line("backbone.pool.attention.o", OUT, "attn_pool.proj"),
    norm("backbone.pool.norm", "attn_pool.norm"),
    Line("backbone.pool.mlp.grow", LINEAR, "attn_pool.mlp.fc1"),
    Line("backbone.pool.mlp.shrink", LINEAR, "attn_pool.mlp.fc2"),
]


def tokens_form(names: tuple[str, ...]) -> Form:
    """Learned tokens without positions ↔ our registers."""
    return Form(
        ("backbone.registers",),
        names,
        lambda c, *parts: (np.concatenate([part[0] for part in parts]),),
        lambda c, r: (r[None, :1], r[None, 1:]) if len(names) == 2 else (r[None],),
    )


def describe(folder: Folder) -> Description:
    """The model of a folder.   Raises ConfigError."""
    name, args = str(folder.config["architecture"]), folder.config.get("model_args") or {}
    check(
        name.startswith(STARTS) and not any(part in name for part in OTHER_BLOCKS),
        f"{folder.where}/config.json: architecture {name!r} is none of vit_*, deit_*, flexivit_*, naflexvit_* with "
        "plain blocks and learned positions",
    )
    for key in args.keys() - READ:
        raise ConfigError(f"{folder.where}/config.json: model_args.{key} is not known here, and may change the model")
    at = "embeds." if name.startswith("naflexvit_") else ""
    table, fields = parts(folder, name, args, at)
    cfg = folder.config["pretrained_cfg"]
    fields |= {"mean": tuple(cfg["mean"]), "std": tuple(cfg["std"])}
    config = ModelConfig(**fields, biases=True, qk_norm="none")
    how = Preprocessing(size_rule(cfg, config, bool(at), folder.where), cfg["interpolation"], channels=config.channels)
    classes = ()
    task: Any = Embed()
    if "head.weight" in folder.shapes:
        count = folder.shapes["head.weight"][0]
        known = folder.config.get("label_names") or []
        classes = tuple(map(str, known)) if len(known) == count else tuple(f"class {k}" for k in range(count))
        task, table = Classify(classes=count), [*table, Line("task.head", LINEAR, "head")]
    return Description(config, task, ModelInfo(classes, how), table)


def parts(folder: Folder, name: str, args: dict[str, Any], at: str) -> tuple[list[Line], dict[str, Any]]:
    """Lines of the table, and fields of the configuration, from what the folder holds."""
    shapes = folder.shapes
    kernel = shapes[f"{at or 'patch_embed.'}proj.weight"]
    width, depth = kernel[0], len({key.split(".")[1] for key in shapes if key.startswith("blocks.")})
    patch, channels = sides(kernel, args, name, folder.where)
    conv = CONV if len(kernel) == 4 else LINEAR
    biased = f"{at or 'patch_embed.'}proj.bias" in shapes
    table, posembed, count = places(folder, name, args, at, width)
    table = [
        Line("backbone.patch_embedding", conv if biased else without_bias(conv), f"{at or 'patch_embed.'}proj"),
        *table,
    ]
    table += block_table("blocks.0.attn.qkv.bias" in shapes, "blocks.0.ls1.gamma" in shapes)
    pooled: Any = Map() if "attn_pool.latent" in shapes else NormedMean() if "fc_norm.weight" in shapes else Mean()
    how = args.get("global_pool", folder.config.get("global_pool", "token"))
    pooled = Token() if how == "token" and count else pooled
    check(
        how in ("token", "avg", "map") and (how == "token") == isinstance(pooled, Token),
        f"{folder.where}/config.json: global_pool {how!r} is none of token, avg, map, or does not fit the tensors",
    )
    if isinstance(pooled, Map):
        table += MAP_TABLE
    if isinstance(pooled, NormedMean):
        table.append(norm("backbone.pool.norm", "fc_norm"))
    if "norm.weight" in shapes:
        table.append(norm("backbone.encoder.norm", "norm"))
    if "norm_pre.weight" in shapes:
        table.append(norm("backbone.embedding_norm", "norm_pre"))
    gelu = "quick_gelu" if "quickgelu" in name else "gelu_tanh" if re.search(TANH, name) else "gelu"
    return table, {
        "patch": patch,
        "channels": channels,
        "width": width,
        "depth": depth,
        "heads": args.get("num_heads") or HEADS_OF.get(width, max(1, width // 64)),
        "mlp_width": shapes["blocks.0.mlp.fc1.weight"][0],
        "posembed": posembed,
        "registers": count,
        "pool": pooled,
        "activation": args.get("act_layer", gelu),
        "eps": 1e-5 if "_clip_" in name else 1e-6,
        "embedding_norm": "norm_pre.weight" in shapes,
        "final_norm": "norm.weight" in shapes,
        "layer_scale": float("blocks.0.ls1.gamma" in shapes),
    }


def sides(kernel: tuple[int, ...], args: dict[str, Any], name: str, where: Path) -> tuple[tuple[int, int], int]:
    """Height and width of a patch, and channels."""
    if len(kernel) == 4:
        return (kernel[2], kernel[3]), kernel[1]
    named = re.search(r"_patch(\d+)", name)
    side = args.get("patch_size") or (int(named[1]) if named else 16)
    check(
        isinstance(side, int) and kernel[1] % side**2 == 0,
        f"{where}: patches of {kernel[1]} numbers, patch_size {side}",
    )
    return (side, side), kernel[1] // side**2


def places(folder: Folder, name: str, args: dict[str, Any], at: str, width: int) -> tuple[list[Line], Any, int]:
    """Lines of tokens and positions, the position embedding, and the number of tokens."""
    shapes = folder.shapes
    counts = {f"{at}{kind}": shapes[f"{at}{kind}"][1] for kind in ("cls_token", "reg_token") if f"{at}{kind}" in shapes}
    count = sum(counts.values())
    aspect = args.get("pos_embed_ar_preserving", "_par" in name)
    if f"{at}pos_embed_y" in shapes:
        size = shapes[f"{at}pos_embed_y"][1]
        posembed = Factorised(size, "fractional_aspect" if aspect else "fractional", "learned")
        table = [Line("backbone.posembed", FACTORISED, "")]
        return [*table, *([Line("", tokens_form((*counts,)), "")] if counts else [])], posembed, count
    shape = shapes[f"{at}pos_embed"]
    mode = args.get("pos_embed_interp_mode", "bilinear" if at and "siglip" in name else "bicubic")
    kernel: Any = {"bicubic": "cubic_antialias", "bilinear": "linear_antialias"}[mode]
    if len(shape) == 4:
        return (
            [Line("", positions(counts, f"{at}pos_embed", 0, square=True), "")],
            PositionTable(shape[1], kernel, aspect=aspect),
            count,
        )
    positioned = 0 if math.isqrt(shape[1]) ** 2 == shape[1] else count
    side = square_root(shape[1] - positioned, f"{at}pos_embed", folder.where)
    return [Line("", positions(counts, f"{at}pos_embed", positioned), "")], PositionTable(side, kernel), count


def block_table(qkv_bias: bool, layer_scale: bool) -> list[Line]:
    """Our parameters of the blocks and theirs."""
    at = "blocks.{i}"
    gains = [
        Line(f"{BLOCKS}.attention_scale", SAME, f"{at}.ls1.gamma"),
        Line(f"{BLOCKS}.mlp_scale", SAME, f"{at}.ls2.gamma"),
    ]
    return [
        norm(f"{BLOCKS}.attention_norm", f"{at}.norm1"),
        Line(f"{BLOCKS}.attention", QKV if qkv_bias else QKV_BARE, f"{at}.attn.qkv"),
        Line(f"{BLOCKS}.attention.o", OUT, f"{at}.attn.proj"),
        norm(f"{BLOCKS}.mlp_norm", f"{at}.norm2"),
        Line(f"{BLOCKS}.mlp.grow", LINEAR, f"{at}.mlp.fc1"),
        Line(f"{BLOCKS}.mlp.shrink", LINEAR, f"{at}.mlp.fc2"),
        *(gains if layer_scale else []),
    ]


def _bare_write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
    check(not any(np.any(bias) for bias in ours[1::2]), "a bias that the other format does not have is not zero")
    return QKV.write(c, *ours)[:1]


QKV_BARE = QKV._replace(
    theirs=QKV.theirs[:1], read=lambda c, w: QKV.read(c, w, np.zeros(len(w), w.dtype)), write=_bare_write
)


def size_rule(cfg: dict[str, Any], config: ModelConfig, naflex: bool, where: Path) -> SizeRule:
    """The size rule of evaluation in timm.   Raises ConfigError where it is none of those known here."""
    size = cfg.get("test_input_size") or cfg["input_size"]
    height, width = size[1:]
    if naflex:
        return CeilBudget((height // config.patch[0]) * (width // config.patch[1]))
    share = cfg.get("test_crop_pct") or cfg.get("crop_pct") or 0.875
    mode = cfg.get("crop_mode") or "center"
    if share == 1 and mode == "squash":
        return Fixed(height, width)
    check(
        mode in ("center", "squash") and height == width,
        f"{where}: crop_mode {mode!r} of {height} x {width} is not known",
    )
    return CenterCrop(height, width, math.floor(height / share), aspect=mode == "center", middle="round")


def propose_vit(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A `vit_*`: one table, images of one size.   Raises ConfigError where the size rule has no such size."""
    name = "vit_base_patch16_clip_224" if c.eps == 1e-5 else "vit_base_patch16_224"
    token = isinstance(c.pool, Token)
    counts = {"cls_token": 1} if token else {}
    counts |= {"reg_token": c.registers - token} if c.registers > token else {}
    side = table_side(c) * c.patch[0]
    args = arguments(c, task) | {"img_size": [side, side], "dynamic_img_size": True}
    how = info.preprocessing.size
    match how:
        case Fixed(height, width):
            size, crop = (height, width), {"crop_pct": 1.0, "crop_mode": "squash"}
        case CenterCrop(height, width):
            share = (
                height / how.side if math.floor(height / (height / how.side)) == how.side else height / (how.side + 0.5)
            )
            size, crop = (height, width), {"crop_pct": share, "crop_mode": "center" if how.aspect else "squash"}
        case other:
            raise ConfigError(f"info.preprocessing.size={other} is a size rule that vit_* of timm does not have")
    conv = without_bias(CONV) if c.embedding_norm else CONV  # as timm makes them
    places = Line("", positions(counts, "pos_embed", sum(counts.values())), "")
    return proposed(
        name, args, [Line("backbone.patch_embedding", conv, "patch_embed.proj"), places], c, task, info, size, crop
    )


def propose_naflexvit(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """A `naflexvit_*`: any size within a number of tokens.   Raises ConfigError for another size rule."""
    name = "naflexvit_base_patch16_gap" if c.layer_scale else "naflexvit_base_patch16_siglip"
    how, token = info.preprocessing.size, isinstance(c.pool, Token)
    if not isinstance(how, CeilBudget):
        raise ConfigError(f"info.preprocessing.size={how} is not CeilBudget(...), as of naflexvit_* of timm")
    counts = {"embeds.cls_token": 1} if token else {}
    counts |= {"embeds.reg_token": c.registers - token} if c.registers > token else {}
    rows = max(n for n in range(1, math.isqrt(how.tokens) + 1) if how.tokens % n == 0)
    size = rows * c.patch[0], how.tokens // rows * c.patch[1]
    side = [table_side(c)] * 2
    args = arguments(c, task) | {"pos_embed_grid_size": side}
    if isinstance(c.posembed, Factorised):
        args |= {"pos_embed": "factorized", "pos_embed_ar_preserving": c.posembed.coordinate == "fractional_aspect"}
        lines = [Line("backbone.posembed", FACTORISED, "")]
        lines += [Line("", tokens_form((*counts,)), "")] if counts else []
    else:
        mode = "bicubic" if getattr(c.posembed, "kernel", "") == "cubic_antialias" else "bilinear"
        args |= {"pos_embed_interp_mode": mode, "pos_embed_ar_preserving": getattr(c.posembed, "aspect", False)}
        lines = [Line("", positions(counts, "embeds.pos_embed", 0, square=True), "")]
    return proposed(
        name, args, [Line("backbone.patch_embedding", LINEAR, "embeds.proj"), *lines], c, task, info, size, {}
    )


def arguments(c: ModelConfig, task: Task) -> dict[str, Any]:
    """Arguments of both constructors."""
    token, normed = isinstance(c.pool, Token), isinstance(c.pool, NormedMean)
    return {
        **{"patch_size": c.patch[0], "embed_dim": c.width, "depth": c.depth, "num_heads": c.heads},
        **{"mlp_ratio": ratio(c), "num_classes": task.classes or 0, "in_chans": c.channels},
        **{"global_pool": "token" if token else "map" if isinstance(c.pool, Map) else "avg"},
        **{"class_token": token, "reg_tokens": c.registers - token, "act_layer": c.activation, "qkv_bias": True},
        **{"pre_norm": c.embedding_norm, "final_norm": c.final_norm or normed, "fc_norm": normed},
        **({"init_values": c.layer_scale} if c.layer_scale else {}),
    }


def proposed(
    name: str,
    args: dict[str, Any],
    first: list[Line],
    c: ModelConfig,
    task: Task,
    info: ModelInfo,
    size: tuple[int, int],
    crop: dict[str, Any],
) -> Proposal:
    """config.json and the table, from the lines that the two kinds do not share."""
    table = [*first, *block_table(True, bool(c.layer_scale))]
    table += MAP_TABLE if isinstance(c.pool, Map) else []
    table += [norm("backbone.pool.norm", "fc_norm")] if isinstance(c.pool, NormedMean) else []
    table += [norm("backbone.encoder.norm", "norm")] if c.final_norm else []
    table += [norm("backbone.embedding_norm", "norm_pre")] if c.embedding_norm else []
    table += [Line("task.head", LINEAR, "head")] if isinstance(task, Classify) else []
    pixels = {"mean": per_channel(c.mean, c.channels), "std": per_channel(c.std, c.channels)}
    cfg = {"input_size": [c.channels, *size], "interpolation": info.preprocessing.filter, **crop, **pixels}
    cfg |= {"num_classes": args["num_classes"], "first_conv": first[0].theirs, "classifier": "head"}
    said = {"architecture": name, "num_classes": args["num_classes"], "num_features": c.width}
    said |= {"global_pool": args["global_pool"], "model_args": args, "pretrained_cfg": cfg}
    return Proposal(said | ({"label_names": list(info.classes)} if info.classes else {}), table)
