"""Imported towers say what their own classes say, in packed rows beside others, and obey our own laws."""

import copy
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import navit_eqx as navit
from navit_eqx import tables as fast_tables
from navit_eqx.images import pack as pack_images
from navit_eqx.layers import normalize
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from navit_eqx.weights.moonvit import order
from reference import attention, layers, rope, tables
from reference import model as slow
from reference import tasks as slow_tasks
from reference.tasks import embed
from tests.support import golden, laws
from tests.support.golden import FAMILIES, FOLDER, GRIDS, PICTURES
from tests.support.laws import caught
from tests.support.strategies import rows
from tests.support.tolerances import PEER32, PEER64, assert_close

# Families of which a part is computed in float32 by their own classes, whatever they are given: an interpolated table,
# rotary angles.
IN_FLOAT32 = ("siglip2_naflex", "dinov3", "dinov3_gated", "moonvit")
# One compiled program for each kind of part; the others differ in what the reference shows as well.
COMPILED = (
    *("vit", "clip", "siglip2_naflex", "dinov2_swiglu", "dinov2_registers", "dinov3"),
    *("timm_clip", "naflexvit", "naflexvit_parfac", "big_vision_flexivit", "pixtral", "qwen3_vl", "univitar"),
)
families = pytest.mark.parametrize("name", FAMILIES)


def limit(name: str) -> float:
    """How close: float64, or what the peer computes in float32."""
    return PEER32 if name in IN_FLOAT32 else PEER64


def says_what_the_peer_says(said: golden.Said, peer: golden.Said, name: str) -> None:
    """Tokens and output of each image, whatever its grid."""
    says_the_same(said, peer, limit(name))


def says_the_same(said: golden.Said, other: golden.Said, within: float) -> None:
    """Tokens, output and merged tokens of each image."""
    for one, two in zip(said, other, strict=True):
        assert len(one) == len(two) in (0, len(GRIDS))
        for got, want in zip(one, two, strict=True):
            assert_close(got, want, within)


def by_reference(params: dict) -> golden.Said:
    """Tokens, outputs and merged tokens of images alone, by the definition of every part in NumPy."""
    task, backbone, merger = params["task"], params["backbone"], params["task"].get("merger")
    images = [golden.tokens_of(grid) for grid in golden.grids_of(task["config"])]
    states = [slow.image_hidden_states(backbone, x) for x in images]
    tokens = [layers.norm(backbone["encoder"]["norm"], found[-1]) for found in states]
    if not merger:
        predict = slow_tasks.TASKS[task["kind"]].predict
        return golden.Said(tokens, [predict(task, slow.forward_image(backbone, x)[None])[0] for x in images], [])
    merged = [merged_alone(task, *parts) for parts in zip(images, states, tokens)]
    return golden.Said(tokens, [found[0].mean(0) for found in merged], merged)


def merged_alone(task: dict, image, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Merged tokens "kinds N E" of one image."""
    taps = [states[n] for n in task["config"].merger.taps]
    found = embed.merged(task, tokens, taps, image.coords, np.ones(len(tokens), int))
    return golden.first_of_blocks(np.moveaxis(found, 0, 1), tuple(image.grid), task["merger"]["block"])


@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_packed_row_says_what_the_peer_says(name):
    says_what_the_peer_says(golden.ours(golden.loaded(name)), golden.theirs(name), name)


@families
def test_the_reference_says_what_the_peer_says(name):
    says_what_the_peer_says(by_reference(to_reference(golden.loaded(name))), golden.theirs(name), name)


@families
def test_preprocessing_is_equal_to_the_byte(name):
    """Size rule, filter and order of numbers in a patch, for pictures that are wide, tall and of the size itself."""
    model, stored = navit.load(FOLDER / name), golden.expected(name)
    how = model.info.preprocessing
    for size in PICTURES if "bytes_8x8" in stored and name != "idefics3" else ():
        row = pack_images([golden.picture(size)], preprocessing=how, patch=model.config.patch, row_tokens=64)
        rows, columns = row.grids[0, 0]
        want = stored["bytes_{}x{}".format(*size)]
        if want.ndim == 3:
            want = golden.patchify(want.transpose(1, 2, 0), model.config.patch)
        np.testing.assert_array_equal(row.patches[0, : rows * columns], want)


def test_normalized_pixels_are_those_of_the_peer():
    """Mean and deviation, by channel."""
    for name in ("clip", "dinov2", "vit"):
        model, stored = navit.load(FOLDER / name), golden.expected(name)
        row = navit.pack([golden.picture(PICTURES[0])], model)
        seen = normalized_by(model, row.patches[0, :16])
        assert_close(seen, golden.patchify(stored["normalized"].transpose(1, 2, 0), model.config.patch), 1e-5)


def normalized_by(model, patches):
    """Patches as the model reads them."""
    return np.asarray(normalize(patches, model.backbone.mean, model.backbone.std))


@pytest.mark.parametrize("side", [26, 70])
def test_buckets_are_those_of_float32(side):
    """Every grid of 1 to 140 patches, those included where float32 is off by one, on both sides."""
    with np.load(FOLDER / "buckets" / "buckets.npz") as stored:
        want = stored[str(side)]
    x, n = (np.concatenate(parts) for parts in zip(*((np.arange(n), np.full(n, n)) for n in range(1, 141))))
    np.testing.assert_array_equal(tables.bucketed(x, n, side).argmax(-1), want)
    np.testing.assert_array_equal(fast_tables.bucketed(*(jnp.asarray(v, float) for v in (x, n)), side).argmax(-1), want)
    assert (want != x * side // n).sum() >= 4, "float32 is off by one in none"


# our own laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "dinov3"])
@settings(max_examples=5)
@given(packed=rows(least=2))
def test_packing_cannot_be_observed(name, packed):
    """Alone or beside others, in any order, with anything in padding."""
    model = golden.loaded(name)
    forward = lambda row: np.asarray(navit.forward(model, to_device(row)))
    laws.gives_each_image_its_meaning(forward, laws.model_of(to_reference(model)), packed)
    laws.does_not_see_order(forward, packed, list(range(len(packed.images)))[::-1])
    laws.ignores_padding(forward, packed, np.nan)


# mistakes -------------------------------------------------------------------------------------------------------------


def put(path: str, value):
    """A change of one entry of the parameters."""

    def change(params: dict) -> None:
        *outer, last = path.split(".")
        for key in outer:
            params = params[key]
        params[last] = value(params[last]) if callable(value) else value

    return change


MLP, NORM = "backbone.encoder.blocks.mlp", "backbone.encoder.blocks.mlp_norm"
ATTENTION = "backbone.encoder.blocks.attention"
LATE = (2, 4)
MISTAKES = {
    "epsilon": ("clip", put(f"{NORM}.eps", 1e-6)),
    "epsilon of ViT": ("vit", put(f"{NORM}.eps", 1e-6)),
    "exact GELU for tanh": ("siglip", put(f"{MLP}.activation", "gelu")),
    "tanh GELU for exact": ("dinov2_registers", put(f"{MLP}.activation", "gelu_tanh")),
    "GELU for quick-GELU": ("timm_clip", put(f"{MLP}.activation", "gelu")),
    "no norm after the embedding": ("clip", put("backbone.embedding_norm", None)),
    "antialias in a table": ("vit", put("backbone.posembed.kernel", "cubic_antialias")),
    "no antialias in a table": ("dinov2_registers", put("backbone.posembed.kernel", "cubic")),
    "another filter": ("siglip2_naflex", put("backbone.posembed.kernel", "cubic_antialias")),
    "corners for half pixels": ("vit", put("backbone.posembed.grid", "corners")),
    "a table with its axes swapped": ("deit", put("backbone.posembed.entries", lambda x: x.swapaxes(0, 1))),
    "interpolation for buckets": ("idefics3", put("backbone.posembed.kernel", "linear")),
    "aspect not kept": ("naflexvit_par", put("backbone.posembed.aspect", False)),
    "factors in the wrong order": ("naflexvit_parfac", put("backbone.posembed.tables", lambda x: x[::-1])),
    "rotation by the patch index": ("dinov3", put("backbone.rope.coordinate", "absolute")),
    "another base of frequencies": ("dinov3", put("backbone.rope.theta", 10_000.0)),
    "gate and value swapped": ("dinov2_swiglu", lambda p: swap(p["backbone"]["encoder"]["blocks"]["mlp"])),
    "GELU in a gate": ("dinov2_swiglu", put(f"{MLP}.activation", "gelu")),
    "tokens in the wrong order": ("deit", put("backbone.registers", lambda x: x[::-1])),
    "queries for keys": ("timm_vit", lambda p: swap(p["backbone"]["encoder"]["blocks"]["attention"], "q", "k")),
    "rotary pairs not permuted": ("moonvit", lambda p: unpermuted(p, "q", "k", "q_bias", "k_bias")),
    "biases not permuted": ("moonvit", lambda p: unpermuted(p, "q_bias", "k_bias")),
    "pairs of wide heads not permuted": ("moonvit_v2", lambda p: unpermuted(p, "q", "k")),
    "cubic for linear": ("moonvit_v2", put("backbone.posembed.kernel", "cubic")),
    "an epsilon where there is none": ("moonvit_v2", put(f"{NORM}.eps", 1e-6)),
    "the scale of narrow heads": ("moonvit_v2", put(f"{ATTENTION}.logit_scale", 8**-0.5)),
    "no norm within a gate": ("univitar", put(f"{MLP}.norm", None)),
    "gains of other heads": ("univitar", put(f"{ATTENTION}.q_norm.scale", lambda x: x[:, ::-1])),
    "gate for value": ("univitar", lambda p: swap(p["backbone"]["encoder"]["blocks"]["mlp"])),
    "no LayerScale": ("dinov2", put("backbone.encoder.blocks.attention_scale", None)),
    "one set of frequencies for both axes": ("pixtral", put("backbone.rope.frequencies", "shared")),
    "epsilon of Pixtral": ("pixtral", put("backbone.embedding_norm.eps", 1e-6)),
    "layer norm for RMSNorm": ("pixtral", put(f"{NORM}.kind", "LayerNorm")),
    "GELU for quick-GELU in Qwen": ("qwen2_vl", put(f"{MLP}.activation", "gelu_tanh")),
    "half pixels for corners": ("qwen3_vl", put("backbone.posembed.grid", "half_pixel")),
    "no rotation beside the table": ("qwen3_vl", put("backbone.rope", None)),
    "a tap one block late": ("qwen3_vl", put("task.config", lambda c: replace(c, merger=replace(c.merger, taps=LATE)))),
    "mergers of taps in the wrong order": ("qwen3_vl", put("task.taps.grow.w", lambda w: w[::-1])),
    "columns of a block first": ("qwen2_vl", put("task.merger.grow.w", lambda w: columns_first(w))),
    "no windows": ("qwen2_5_vl", put("backbone.local", None)),
    "windows in every block": ("qwen2_5_vl", put("backbone.local.whole", (False,) * 3)),
    "wider windows": ("qwen2_5_vl", put("backbone.local.window", (8, 8))),
    "tokens of a block first": ("timm_deepseek_vit", put("task.merger.grow.w", lambda w: w[::-1])),
    "epsilon of DeepSeek-ViT": ("timm_deepseek_vit", put(f"{NORM}.eps", 1e-5)),
    "norm before the mean": ("naflexvit", put("backbone.pool.norm.scale", lambda x: x[::-1])),
}


def columns_first(w: np.ndarray) -> np.ndarray:
    """The weights of tokens (0, 1) and (1, 0) of a block, swapped."""
    return w.reshape(4, -1, w.shape[-1])[[0, 2, 1, 3]].reshape(w.shape)


def swap(params: dict, one: str = "grow", other: str = "gate") -> None:
    params[one], params[other] = params[other], params[one]


def unpermuted(params: dict, *names: str) -> None:
    """Rotary pairs in the order of the file."""
    attention = params["backbone"]["encoder"]["blocks"]["attention"]
    for name in names:
        attention[name] = attention[name][..., np.argsort(order(attention[name].shape[-1]))]


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_caught(what):
    name, change = MISTAKES[what]
    params = copy.deepcopy(to_reference(golden.loaded(name)))
    change(params)
    caught(says_what_the_peer_says, by_reference(params), golden.theirs(name), name)


def test_a_norm_before_the_rotation_is_caught(monkeypatch):
    """Of all heads together: gains differ between the two channels of a pair."""

    def early(params, name, x, angles):
        y = attention.project(params, name, x)
        y = layers.norm(params[f"{name}_norm"], y.reshape(len(y), -1)).reshape(y.shape)
        return y if angles is None else rope.apply_rotary(y, angles)

    monkeypatch.setattr(attention, "directions", early)
    said = by_reference(to_reference(golden.loaded("univitar")))
    caught(says_what_the_peer_says, said, golden.theirs("univitar"), "univitar")


def test_axes_swapped_in_the_rotation_are_caught(monkeypatch):
    centered = rope.PLACES["centered"]
    monkeypatch.setitem(rope.PLACES, "centered", lambda x, n: centered(x, n)[:, ::-1])
    said = by_reference(to_reference(golden.loaded("dinov3")))
    caught(says_what_the_peer_says, said, golden.theirs("dinov3"), "dinov3")
