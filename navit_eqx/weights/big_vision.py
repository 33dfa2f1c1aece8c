"""ViT, FlexiViT and the image towers of SigLIP in the `.npz` of big_vision (and of older ViT code in JAX).

An `.npz` names no configuration: everything is read from names and shapes. It says nothing of preprocessing either, so
a preprocessor_config.json must stand beside it.
"""

import math
from typing import Any

from ..config import Flexi, Map, Mean, ModelConfig, Token
from ..config import Table as PositionTable
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..tasks.config import Classify, Embed, Task
from .family import BLOCKS, Description, prefix_of, preprocessing
from .folder import Folder, square_root
from .names import PROBE, Form, Line, Table, positions
from .proposal import Proposal, hub_preprocessor

PREFIXES = ("", "params/", "opt/target/", "params/img/", "img/", "opt/target/img/")
UNREAD = ("*txt/*", "params/t", "params/b", "t", "b", "opt/state/*", "extra/*")  # the other tower, the optimizer
SIZES = (8, 10, 12, 15, 16, 20, 24, 30, 40, 48)  # patches of [FlexiViT] at 240 pixels
same = lambda c, *x: x
DENSE = Form(("{}.w", "{}.b"), ("{}/kernel", "{}/bias"), same, same)
NORM = Form(("{}.scale", "{}.bias"), ("{}/scale", "{}/bias"), same, same)
HEADS = Form(("{}", "{}_bias"), ("{}/kernel", "{}/bias"), same, same)
CONV = DENSE._replace(
    read=lambda c, w, b: (w.reshape(-1, len(b)), b),
    write=lambda c, w, b: (w.reshape(*c.patch, c.channels, -1), b),
)


def attention(ours: str, theirs: str) -> list[Line]:
    """Queries, keys, values and output; their shapes are ours."""
    inner = f"{theirs}/MultiHeadDotProductAttention_0"
    names = {"q": "query", "k": "key", "v": "value", "o": "out"}
    return [Line(f"{ours}.{short}", HEADS, f"{inner}/{name}") for short, name in names.items()]


def mlp(ours: str, theirs: str) -> list[Line]:
    """The two layers of an MLP."""
    return [
        Line(f"{ours}.grow", DENSE, f"{theirs}/MlpBlock_0/Dense_0"),
        Line(f"{ours}.shrink", DENSE, f"{theirs}/MlpBlock_0/Dense_1"),
    ]


def block_table(scanned: bool) -> Table:
    """Our parameters of the blocks and theirs; scanned blocks are stacked like ours."""
    at = "Transformer/encoderblock" + ("" if scanned else "_{i}")
    return [
        Line(f"{BLOCKS}.attention_norm", NORM, f"{at}/LayerNorm_0"),
        *attention(f"{BLOCKS}.attention", at),
        Line(f"{BLOCKS}.mlp_norm", NORM, f"{at}/LayerNorm_1"),
        *mlp(f"{BLOCKS}.mlp", at),
        Line("backbone.encoder.norm", NORM, "Transformer/encoder_norm"),
    ]


MAP_TABLE = [
    Line("backbone.pool.probe", PROBE, "MAPHead_0/probe"),
    *attention("backbone.pool.attention", "MAPHead_0"),
    Line("backbone.pool.norm", NORM, "MAPHead_0/LayerNorm_0"),
    *mlp("backbone.pool.mlp", "MAPHead_0"),
]


def describe(folder: Folder) -> Description:
    """The model of an archive.   Raises ConfigError."""
    prefix = prefix_of(folder, "embedding/kernel", PREFIXES)
    shapes = {name.removeprefix(prefix): shape for name, shape in folder.shapes.items() if name.startswith(prefix)}
    table, fields = parts(folder, shapes)
    config, how = preprocessing(folder, ModelConfig(**fields, biases=True, qk_norm="none", activation="gelu_tanh"))
    task: Any = Embed()
    classes = ()
    if "head/kernel" in shapes:
        count = shapes["head/kernel"][-1]
        task, classes = Classify(classes=count), tuple(f"class {k}" for k in range(count))
        table = [*table, Line("task.head", DENSE, "head")]
    return Description(config, task, ModelInfo(classes, how), table, prefix, UNREAD)


def parts(folder: Folder, shapes: dict[str, tuple[int, ...]]) -> tuple[list[Line], dict[str, Any]]:
    """Lines of the table, and fields of the configuration."""
    scanned = "Transformer/encoderblock/LayerNorm_0/scale" in shapes
    block = "Transformer/encoderblock" if scanned else "Transformer/encoderblock_0"
    query = shapes[f"{block}/MultiHeadDotProductAttention_0/query/kernel"][int(scanned) :]
    width, heads = query[0], query[1]
    numbered = {name.split("/")[1] for name in shapes if name.startswith("Transformer/encoderblock_")}
    depth = shapes[f"{block}/LayerNorm_0/scale"][0] if scanned else len(numbered)
    kernel = shapes["embedding/kernel"]
    flat = len(kernel) == 2
    side = square_root(kernel[0] // 3, "embedding/kernel", folder.where) if flat else 0
    patch = (side, side) if flat else (kernel[0], kernel[1])
    lines, posembed, tokens = places(folder, shapes)
    flexible = patch == (32, 32) and posembed.size == 7
    return [
        Line("backbone.patch_embedding", DENSE if flat else CONV, "embedding"),
        *lines,
        *block_table(scanned),
        *(MAP_TABLE if "MAPHead_0/probe" in shapes else []),
    ], {
        "patch": patch,
        "channels": 3 if flat else kernel[2],
        "width": width,
        "heads": heads,
        "depth": depth,
        "mlp_width": shapes[f"{block}/MlpBlock_0/Dense_0/kernel"][-1],
        "posembed": posembed,
        "registers": tokens,
        "flexi": Flexi(SIZES) if flexible else None,
        "pool": Map() if "MAPHead_0/probe" in shapes else Token() if tokens else Mean(),
    }


def places(folder: Folder, shapes: dict[str, tuple[int, ...]]) -> tuple[list[Line], PositionTable, int]:
    """Lines of class token and positions, the table, and the number of tokens.

    Positions are resized linearly, antialiased. In newer files the class token has none; in older ones, the first.
    """
    found = [name for name in ("pos_embedding", "Transformer/posembed_input/pos_embedding") if name in shapes]
    if not found:
        raise ConfigError(f"{folder.where} holds no learned positions (pos_embedding): other kinds are not supported")
    name, tokens = found[0], {"cls": 1} if "cls" in shapes else {}
    shape = shapes[name]
    square = shape[0] != 1
    count = shape[0] * shape[1]
    first = 0 if math.isqrt(count) ** 2 == count else len(tokens)
    form = positions(tokens, name, first, square=square)
    if square:
        check(shape[0] == shape[1], f"{folder.where}: {name!r} has shape {shape}, which is no square table")
        form = form._replace(write=lambda c, *ours: ((ours[0][None],) if tokens else ()) + (ours[-1],))
    return (
        [Line("", form, "")],
        PositionTable(square_root(count - first, name, folder.where), "linear_antialias"),
        len(tokens),
    )


def propose(c: ModelConfig, task: Task, info: ModelInfo) -> Proposal:
    """An archive with a position for each entry of the table; a class token has none."""
    tokens = {"cls": c.registers} if c.registers else {}
    table = [
        Line("backbone.patch_embedding", CONV, "embedding"),
        Line("", positions(tokens, "pos_embedding", 0), ""),
        *block_table(False),
        *(MAP_TABLE if isinstance(c.pool, Map) else []),
        *([Line("task.head", DENSE, "head")] if isinstance(task, Classify) else []),
    ]
    return Proposal({}, table, "params/", preprocessor=hub_preprocessor(c, info.preprocessing))
