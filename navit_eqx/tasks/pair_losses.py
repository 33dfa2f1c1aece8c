"""Contrastive losses over the slots of two towers: each image with each text, wherever they lie.   [NaViT, §2.3]

Meaning: `reference/tasks/contrast.py`. A walk over blocks of similarities gives each slot its sums; the loss is made of
these. The backward pass is a second walk over the same blocks, which computes them anew and adds up gradients by
formula: no block outlives its turn. There are three walks: one block; blocks of texts, one after the other; and a lap
around the devices, in which texts travel with what they have collected, until all are at home again.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from ..layers import full

BLOCK = 2**22  # similarities in a block: 16 MiB of float32
LARGEST_SCALE = 100.0
Kind = Literal["sigmoid", "softmax"]
Duplicates = Literal["positive", "ignore", "negative"]
Sums = dict[str, Array]
"""Sums over the other tower, by name, for each slot of one tower; `lse` is the logarithm of a sum of exponentials."""
Block = Callable[[Any, Any], tuple[Sums, Sums]]
"""(image side, text side) → sums of images, sums of texts."""


class Slots(NamedTuple):
    """Slots of a tower in a batch. `ids` tell which image this is, or which image this caption was drawn for."""

    vectors: Float[Array, "N E"]
    keys: Int[Array, " N"]
    """Equal = a positive pair; −1 = empty."""
    ids: Int[Array, " N"]


class Walk(NamedTuple):
    """What is summed, and how blocks are visited: texts of a device in `chunks` equal parts; around the devices of
    `mesh`, if there is one."""

    kind: Kind
    duplicates: Duplicates
    chunks: int
    mesh: AbstractMesh | None


def contrastive_loss(
    kind: Kind,
    images: Slots,
    texts: Slots,
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
    *,
    duplicates: Duplicates = "positive",
    blocks: int | None = None,
) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
    """(sum, count, sums of other metrics); sum / count is the mean loss. Vectors have unit length.

    The count is the number of images, for softmax of those with a positive. Empty slots have no effect, whatever they
    hold. With `blocks`, each device reads its texts in so many parts, and texts travel where there are several devices
    (`training.sharding.with_mesh`); by default sizes decide. Differentiable in reverse mode.
    """
    mesh, chunks = choose_walk(len(images.keys), len(texts.keys), blocks)
    devices = mesh.size if mesh else 1
    images, texts = cleared(images, devices), cleared(texts, devices * chunks)
    log_scale, bias = (full(x).astype(images.vectors.dtype) for x in (log_scale, bias))
    scale = jnp.exp(log_scale)
    scaled, biases = images._replace(vectors=scale * images.vectors), jnp.broadcast_to(bias, images.keys.shape)
    rows, columns = sums_of_slots(Walk(kind, duplicates, chunks, mesh), scaled, texts, biases)  # pyright: ignore
    total, count = TOTALS[kind](images, rows, columns)
    return total, count, jax.lax.stop_gradient(mean_similarities(rows, scale, count))


def choose_walk(images: int, texts: int, blocks: int | None) -> tuple[AbstractMesh | None, int]:
    """The mesh to go around, and the number of parts in which a device reads its texts: blocks have at most `BLOCK`
    similarities. If all pairs are one block, texts do not travel: the compiler gathers them."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or (blocks is None and images * texts <= BLOCK):
        mesh = None
    devices = mesh.size if mesh else 1
    images, texts = -(-images // devices), -(-texts // devices)
    return mesh, min(blocks or -(-images * texts // BLOCK), texts)


def cleared(slots: Slots, multiple: int) -> Slots:
    """Slots in full precision, empty ones zeroed, and as many empty ones more as make their number a multiple."""
    vectors = jnp.where(slots.keys[:, None] >= 0, full(slots.vectors), 0)
    more = -len(vectors) % multiple
    if not more:
        return slots._replace(vectors=vectors)
    keys, ids = (jnp.pad(x, (0, more), constant_values=-1) for x in slots[1:])
    return Slots(jnp.pad(vectors, ((0, more), (0, 0))), keys, ids)


# one block ------------------------------------------------------------------------------------------


def pairs(image_keys: Int[Array, " N"], text_keys: Int[Array, " M"]) -> tuple[Bool[Array, "N M"], Bool[Array, "N M"]]:
    """real: neither slot is empty; same: real, and keys are equal."""
    a, b = image_keys[:, None], text_keys[None]
    real = (a >= 0) & (b >= 0)
    return real, real & (a == b)


def weigh(images: Slots, texts: Slots, duplicates: Duplicates) -> tuple[Bool[Array, "N M"], Bool[Array, "N M"]]:
    """(pairs that count, positives among them)"""
    real, same = pairs(images.keys, texts.keys)
    own = same & (images.ids[:, None] == texts.ids[None])
    if duplicates == "positive":
        return real, same
    return {"ignore": real & (own | ~same), "negative": real}[duplicates], own


def product(a: Float[Array, "N E"], b: Float[Array, "E M"]) -> Float[Array, "N M"]:
    """a b, as exact as the dtype allows: accelerators would round float32 first."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def forward_block(walk: Walk, image_side: tuple[Slots, Array], text_side: tuple[Slots]) -> tuple[Sums, Sums]:
    """Sums of each slot over the slots of the other side."""
    (images, bias), (texts,) = image_side, text_side
    s = product(images.vectors, texts.vectors.T)
    counts, positive = weigh(images, texts, walk.duplicates)
    seen = positive, counts & ~positive
    sums = sums_of_rows(*(x for pairs in seen for x in (jnp.where(pairs, s, 0), pairs.astype(s.dtype))))
    rows, columns = SUMS[walk.kind](s, bias, counts, positive)
    return rows | dict(zip(("positive", "positives", "negative", "negatives"), sums)), columns


def backward_block(walk: Walk, image_side: Any, text_side: Any) -> tuple[Sums, Sums]:
    """Gradients of vectors and bias: dU = G V, dV = Gᵀ U and db = Σ G, with G the gradient of each similarity.

    The sides are those of `forward_block`, with their sums over all blocks, and the gradients of these.
    """
    (images, *of_images), (texts, *of_texts) = image_side, text_side
    s = product(images.vectors, texts.vectors.T)
    counts, positive = weigh(images, texts, walk.duplicates)
    g = jnp.where(counts, SLOPES[walk.kind](s, positive, *of_images, *of_texts), 0)
    return {"vectors": product(g, texts.vectors), "bias": g.sum(1)}, {"vectors": product(g.T, images.vectors)}


def sums_of_rows(*terms: Float[Array, "N M"]) -> tuple[Float[Array, " N"], ...]:
    """Each term summed over its rows, in one pass, in which no term is stored."""
    zeros = tuple(jnp.zeros((), x.dtype) for x in terms)
    return tuple(jax.lax.reduce(terms, zeros, lambda a, b: tuple(map(jnp.add, a, b)), (1,)))


def sigmoid_sums(s: Array, bias: Array, counts: Array, positive: Array) -> tuple[Sums, Sums]:
    """loss: Σ −log σ(±(s + b))"""
    x = s + bias[:, None]
    return {"loss": jnp.where(counts, jax.nn.softplus(jnp.where(positive, -x, x)), 0).sum(1)}, {}


def sigmoid_slope(
    s: Array, positive: Array, bias: Array, rows: Sums, d_rows: Sums, columns: Sums, d_columns: Sums
) -> Float[Array, "N M"]:
    """−σ(−(s + b)) for positives, σ(s + b) for others, times the gradient of the loss of the image."""
    x, d_loss = s + bias[:, None], d_rows["loss"][:, None]
    return jax.nn.sigmoid(jnp.where(positive, -x, x)) * jnp.where(positive, -d_loss, d_loss)


def sigmoid_total(images: Slots, rows: Sums, columns: Sums) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ loss, and the number of images."""
    return rows["loss"].sum(), (images.keys >= 0).sum(dtype=jnp.int32)


def softmax_sums(s: Array, bias: Array, counts: Array, positive: Array) -> tuple[Sums, Sums]:
    """lse: log Σ exp s; positive: Σ s over positives; positives: their number."""
    x = jnp.where(counts, s, -jnp.inf)
    seen = {"positive": jnp.where(positive, s, 0).sum(0), "positives": positive.sum(0, dtype=jnp.int32).astype(s.dtype)}
    return {"lse": log_sum_exp(x, 1)}, seen | {"lse": log_sum_exp(x, 0)}


def log_sum_exp(x: Float[Array, "N M"], axis: int) -> Float[Array, " n"]:
    """log Σ exp x along an axis; −∞ where all of x is."""
    top = jnp.maximum(x.max(axis, keepdims=True), jnp.finfo(x.dtype).min)
    return jnp.log(jnp.exp(x - top).sum(axis)) + top.squeeze(axis)


def softmax_slope(
    s: Array, positive: Array, bias: Array, rows: Sums, d_rows: Sums, columns: Sums, d_columns: Sums
) -> Float[Array, "N M"]:
    """Σ over both sides: exp(s − lse) times the gradient of lse, and for positives the gradient of their sum."""
    g = jnp.zeros_like(s)
    for sums, d, axis in ((rows, d_rows, 1), (columns, d_columns, 0)):
        lse, d_lse, d_positive = (jnp.expand_dims(x, axis) for x in (sums["lse"], d["lse"], d["positive"]))
        g += jnp.exp(s - lse) * d_lse + jnp.where(positive, d_positive, 0)
    return g


def softmax_total(images: Slots, rows: Sums, columns: Sums) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """n ½ (mean over images + mean over texts of lse − mean of s over positives), and n, images with a positive."""

    def asked(sums: Sums) -> tuple[Array, Array]:
        asks = sums["positives"] > 0
        loss = sums["lse"] - sums["positive"] / jnp.maximum(sums["positives"], 1)
        return jnp.where(asks, loss, 0).sum(), asks.sum(dtype=jnp.int32)

    (of_images, n), (of_texts, m) = asked(rows), asked(columns)
    share = n.astype(of_texts.dtype) / jnp.maximum(m, 1).astype(of_texts.dtype)
    return (of_images + share * of_texts) / 2, n


SUMS = {"sigmoid": sigmoid_sums, "softmax": softmax_sums}
SLOPES = {"sigmoid": sigmoid_slope, "softmax": softmax_slope}
TOTALS = {"sigmoid": sigmoid_total, "softmax": softmax_total}


def mean_similarities(rows: Sums, scale: Array, count: Int[Array, ""]) -> dict[str, Array]:
    """Mean of ⟨u, v⟩ over positive and over negative pairs, times the count, by which metrics are divided."""

    def mean(name: str) -> Array:
        total, pairs = rows[name].sum(), rows[f"{name}s"].sum()
        return total / scale / jnp.maximum(pairs, 1) * count.astype(total.dtype)

    return {f"{name}_similarity": mean(name) for name in ("positive", "negative")}


# all blocks -----------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sums_of_slots(walk: Walk, images: Slots, texts: Slots, bias: Float[Array, " N"]) -> tuple[Sums, Sums]:
    """The sums of every slot over all slots of the other side."""
    return visit_all(walk, forward_block, (images, bias), (texts,))


def _forward(walk: Walk, images: Slots, texts: Slots, bias: Array) -> Any:
    rows, columns = sums_of_slots(walk, images, texts, bias)  # pyright: ignore
    return (rows, columns), ((images, bias, rows), (texts, columns))


def _backward(walk: Walk, kept: Any, d: tuple[Sums, Sums]) -> Any:
    images, texts = ((*side, d_sums) for side, d_sums in zip(kept, d))
    rows, columns = visit_all(walk, backward_block, images, texts)
    return Slots(rows["vectors"], None, None), Slots(columns["vectors"], None, None), rows["bias"]  # pyright: ignore


sums_of_slots.defvjp(_forward, _backward)


def visit_all(walk: Walk, block: Callable[..., tuple[Sums, Sums]], images: Any, texts: Any) -> tuple[Sums, Sums]:
    """The sums of `block` over all blocks of the walk."""
    visit = partial(visit_chunks, partial(block, walk), walk.chunks)
    return visit(images, texts) if walk.mesh is None else visit_ring(visit, walk.mesh, images, texts)


def visit_chunks(block: Block, chunks: int, images: Any, texts: Any) -> tuple[Sums, Sums]:
    """Texts in equal parts, one after the other."""
    if chunks == 1:
        return block(images, texts)
    parts = jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), texts)

    def visit(rows: Sums, part: Any) -> tuple[Sums, Sums]:
        found, columns = block(images, part)
        return merged(rows, found), columns

    rows, _ = nothing(block, images, jax.tree.map(lambda x: x[0], parts))
    rows, columns = jax.lax.scan(visit, rows, parts)
    return rows, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), columns)


def visit_ring(block: Block, mesh: AbstractMesh, images: Any, texts: Any) -> tuple[Sums, Sums]:
    """Every device keeps its images; texts go once around, taking along the sums that they have collected."""
    devices, axis = mesh.size, mesh.axis_names
    neighbors = [(device, (device + 1) % devices) for device in range(devices)]

    def lap(images: Any, texts: Any) -> tuple[Sums, Sums]:
        def hop(carry: Any, _: None) -> Any:
            rows, columns, texts = carry
            found, by_texts = block(images, texts)
            rows, columns = merged(rows, found), merged(columns, by_texts)
            return (rows, *jax.lax.ppermute((columns, texts), axis, neighbors)), None

        start = (*nothing(block, images, texts), texts)
        return jax.lax.scan(hop, start, length=devices)[0][:2]

    rows = PartitionSpec(axis)
    return jax.shard_map(lap, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)(images, texts)


def merged(a: Sums, b: Sums) -> Sums:
    """The sums over two sets of slots."""
    return {name: (jnp.logaddexp if name == "lse" else jnp.add)(a[name], b[name]) for name in a}


def nothing(block: Block, image_side: Any, text_side: Any) -> tuple[Sums, Sums]:
    """The sums over no slot: 0, and −∞ for the logarithm of a sum."""

    def empty(sums: dict[str, jax.ShapeDtypeStruct]) -> Sums:
        return {name: jnp.full(x.shape, -jnp.inf if name == "lse" else 0, x.dtype) for name, x in sums.items()}

    rows, columns = jax.eval_shape(block, image_side, text_side)
    return empty(rows), empty(columns)


# towers ---------------------------------------------------------------------------------------------


def unit(x: Float[Array, "*n E"]) -> Float[Array, "*n E"]:
    """x / (‖x‖ + 1e-8), in at least float32. The gradient is finite for a vector of zeros, as empty slots hold."""
    x = full(x)
    square = (x**2).sum(-1, keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x / (length + 1e-8)


def embed_twice(embed: Callable[[Any], Any], parts: Any) -> Any:
    """embed(batch), from its micro-batches (`rows.micro_batches`), one after the other: batches larger than memory.

    Only embeddings are stored; the backward pass embeds each part a second time. A contrastive loss over all of them
    compares all images with all texts, which a sum of the losses of parts does not.
    """
    found = jax.lax.map(jax.checkpoint(embed, prevent_cse=False), parts)
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:]), found)


# start and temperature ------------------------------------------------------------------------------


def bias_init(pairs: int) -> float:
    """−log(N − 1), for N pairs in a batch: the slope of the bias is zero while all similarities are."""
    return -math.log(max(pairs - 1, 1))


def clip_log_scale(log_scale: Float[Array, ""]) -> Float[Array, ""]:
    """min(t, log 100), after each update."""
    return jnp.minimum(log_scale, jnp.asarray(math.log(LARGEST_SCALE), log_scale.dtype))
