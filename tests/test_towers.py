"""Towers of models that read images and texts: taken out of the whole folder, and their size rules."""

import json
import re
import shutil

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import navit_eqx as navit
from navit_eqx.errors import ConfigError
from navit_eqx.images import pack
from navit_eqx.pixels import ImageError
from navit_eqx.preprocessing import Blocks, Fixed, LongestEdge, Preprocessing, at_resolution
from navit_eqx.rope import Rope
from navit_eqx.weights import univitar
from navit_eqx.weights.bridge import flatten, to_reference
from navit_eqx.weights.folder import open_folder
from navit_eqx.weights.foreign import FAMILIES
from reference import rope as slow_rope
from reference import rotary_forms
from tests.support.golden import FOLDER
from tests.support.tolerances import EXACT, assert_close

sides = st.integers(1, 3000)


LANGUAGE = ("language_model.model.embed_tokens.weight", "lm_head.weight")
TEXT = ("text_model.final_layer_norm.weight", "text_projection.weight", "logit_scale")
IDEFICS = ("model.text_model.embed_tokens.weight", "model.connector.modality_projection.proj.weight", "lm_head.weight")
WHOLE = {  # by `model_type`: a tower, the start of its names within the whole model, other tensors of that model
    "llava": ("pixtral", "vision_tower.", LANGUAGE),
    "mistral3": ("pixtral", "vision_tower.", LANGUAGE),
    "clip": ("clip", "", TEXT),
    "siglip": ("siglip", "vision_model.", (*TEXT, "logit_bias")),
    "siglip2": ("siglip2_naflex", "vision_model.", (*TEXT, "logit_bias")),
    "idefics2": ("idefics3", "model.vision_model.", (*IDEFICS, "model.connector.perceiver_resampler.latents")),
    "idefics3": ("idefics3", "model.vision_model.", IDEFICS),
    "smolvlm": ("idefics3", "model.vision_model.", IDEFICS),
    "kimi_vl": ("moonvit", "", (*LANGUAGE, "multi_modal_projector.linear_1.weight")),
    "qwen3_vl_moe": ("qwen3_vl", "", ()),
}


def whole(name: str, folder, prefix: str, kind: str, others: tuple[str, ...] = LANGUAGE):
    """The folder of a model that reads images and texts, around a tower."""
    shutil.copytree(FOLDER / name, folder)
    tensors = {prefix + key: x for key, x in load_file(folder / "model.safetensors").items()}
    tensors |= {other: np.zeros((4, 9)) for other in others}
    save_file(tensors, folder / "model.safetensors")
    tower = json.loads((folder / "config.json").read_text())
    tower = tower.get("vision_config", tower)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "vision_config": tower}))
    return folder


def refused(folder, change, words: str) -> None:
    """A changed config.json is refused with these words."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=words):
        navit.load(folder)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_tower_is_taken_out_of_the_whole_model(kind, tmp_path):
    """By the start of its names; what is left out is counted."""
    name, prefix, others = WHOLE[kind]
    model = navit.load(whole(name, tmp_path / "whole", prefix, kind, others))
    alone = navit.load(FOLDER / name)
    for got, want in zip(flatten(model).values(), flatten(alone).values(), strict=True):
        np.testing.assert_array_equal(got, want)
    counted = [sum(map(int, re.findall(r"(\d+) tensors", said.info.left_out))) for said in (model, alone)]
    assert counted[0] - counted[1] == len(others)


def test_every_family_has_been_loaded():
    """As its own project saves it, or taken out of a whole model, or as this project saves it."""
    configs = [json.loads(file.read_text()) for file in FOLDER.glob("*/config.json")]
    kinds = {c.get("model_type") for c in configs} | {c.get("vision_config", {}).get("model_type") for c in configs}
    unseen = {*FAMILIES} - kinds - {*WHOLE} - {"timm", "deepseek_vit", "npz"}  # golden towers, by another key
    assert unseen == {"moonvit", "kimi_k3_vision"}, "towers alone, which tests/test_pretrained.py saves and loads"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c["vision_config"].pop("hidden_act"), "hidden_act"),
        (lambda c: c["vision_config"].update(head_dim=4), "head_dim=4"),
        (lambda c: c["vision_config"].update(model_type="swin"), "'swin'"),
        (lambda c: c.update(vision_config=3), "vision_config=3"),
        (lambda c: c["vision_config"].update(rope_theta="wide"), "wide"),
    ],
)
def test_what_a_tower_cannot_be_read_without_is_named(change, words, tmp_path):
    folder = whole("pixtral", tmp_path / "whole", "vision_tower.", "llava")
    refused(folder, change, words)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.update(architecture="deepseek_vit_412m"), "is a classifier"),
        (lambda c: c["model_args"].update(attn_drop_rate=0.1), "attn_drop_rate"),
        (lambda c: c["model_args"].update(global_pool="avg"), "'avg' beside the weights of an aligner"),
        (lambda c: c["pretrained_cfg"].update(crop_mode="center"), "'center' of 1.0"),
        (lambda c: c["model_args"].update(num_heads=3), "heads=3"),
    ],
)
def test_what_is_no_encoder_of_deepseek_is_named(change, words, tmp_path):
    folder = shutil.copytree(FOLDER / "timm_deepseek_vit", tmp_path / "tower")
    refused(folder, change, words)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("qwen2_vl", lambda c: c["vision_config"].update(temporal_patch_size=4), "temporal_patch_size=4"),
        ("qwen3_vl", lambda c: c["vision_config"].update(deepstack_visual_indexes=[0, 4]), r"\[0, 4\] are no blocks"),
        ("qwen3_vl", lambda c: c["vision_config"].update(deepstack_visual_indexes=[1]), "deepstack_merger_list.1"),
        ("qwen2_5_vl", lambda c: c["vision_config"].update(window_size=2), "window=0 must be in"),
        ("qwen2_5_vl", lambda c: c["vision_config"].update(fullatt_block_indexes=[7]), "does not have"),
        ("qwen2_vl", lambda c: c["vision_config"].update(spatial_merge_size=1), "merger.mlp.0"),
    ],
)
def test_what_is_no_tower_of_qwen_is_named(name, change, words, tmp_path):
    folder = shutil.copytree(FOLDER / name, tmp_path / "tower")
    refused(folder, change, words)


def test_mistral_3_rounds_to_blocks(tmp_path):
    """Its processor multiplies the patch by the merge size."""
    folder = whole("pixtral", tmp_path / "whole", "vision_tower.", "mistral3")
    config = json.loads((folder / "config.json").read_text()) | {"spatial_merge_size": 2}
    (folder / "config.json").write_text(json.dumps(config))
    rule = navit.load(folder).info.preprocessing.size
    assert rule == LongestEdge(12, 2) and rule.grid((5, 3), (2, 2)) == (4, 2)


# size rules -----------------------------------------------------------------------------------------------------------


@given(size=st.tuples(sides, sides), side=st.integers(8, 600), block=st.integers(1, 3))
def test_the_longest_edge_bounds_and_never_enlarges(size, side, block):
    """Whole blocks, less than one block above the side of the image or of the limit."""
    grid = LongestEdge(side, block).grid(size, (4, 4))
    for n, patches in zip(size, grid):
        assert patches % block == 0 and patches >= block
        assert (patches - block) * 4 < min(n, side)
    assert np.prod(grid) <= LongestEdge(side, block).budget((4, 4))


@given(size=st.tuples(sides, sides), least=st.integers(64, 4000), room=st.integers(4, 40))
def test_blocks_keep_the_area_between_its_limits(size, least, room):
    """Up to the block that rounding adds; a size within the limits is rounded side by side."""
    rule = Blocks(least, least * room, 2)
    if max(size) > 200 * min(size):
        with pytest.raises(ImageError, match="200 to 1"):
            rule.grid(size, (4, 4))
        return
    rows, columns = rule.grid(size, (4, 4))
    assert rows % 2 == columns % 2 == 0 and min(rows, columns) >= 2
    nearest = [8 * round(n / 8) for n in size]
    if rule.least <= np.prod(nearest) <= rule.most:
        assert [4 * rows, 4 * columns] == nearest
    elif np.prod(nearest) < least:
        assert 16 * rows * columns >= least
    elif min(rows, columns) > 2:
        assert 16 * rows * columns <= rule.most


def test_a_rule_at_another_resolution():
    """As in `predict.py --resolution`: the longer side, or the side of a square of that area; blocks stay."""
    assert at_resolution(LongestEdge(9, 2), 30.0) == LongestEdge(30, 2)
    assert at_resolution(Blocks(1, 10, 3), 64.0) == Blocks(4096, 4096, 3)


def test_a_refused_image_is_named():
    how = Preprocessing(Blocks())
    with pytest.raises(ImageError, match="image 1: 401 x 2 pixels are more than 200 to 1"):
        pack([np.zeros((9, 9, 3), np.uint8), np.zeros((401, 2, 3), np.uint8)], preprocessing=how, patch=(14, 14))


# rotary frequencies ---------------------------------------------------------------------------------------------------


@given(share=st.integers(1, 9), axes=st.integers(1, 3), theta=st.sampled_from([10.0, 1e4]))
def test_interleaved_frequencies_are_one_series(share, axes, theta):
    """Axis by axis in turn, they fall geometrically from 1; with one axis they are the shared ones."""
    found = rotary_forms.interleaved(theta, share, axes)
    series = found.T.reshape(-1)
    assert series[0] == 1.0
    assert_close(series[1:] / series[:-1], np.full(len(series) - 1, theta ** (-1 / (share * axes))), EXACT)
    if axes == 1:
        np.testing.assert_array_equal(found, rotary_forms.shared(theta, share, axes))


@pytest.mark.parametrize("frequencies", rotary_forms.FREQUENCIES)
@pytest.mark.parametrize("coordinate", rotary_forms.PLACES)
def test_both_sides_rotate_by_the_same_angles(coordinate, frequencies):
    rope = Rope(12, 50.0, coordinate, frequencies)
    coords, grids = np.indices((3, 4)).reshape(2, -1).T, np.tile([3, 4], (12, 1))
    got = rope(jnp.asarray(coords), jnp.asarray(grids))
    assert_close(got, slow_rope.rope(to_reference(rope), coords, grids), EXACT)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("moonvit_v2", lambda c: c["vision_config"].update(attn_bias=True), "attn_bias=True"),
        ("moonvit_v2", lambda c: c["vision_config"].update(qkv_hidden_size=25), "25 is no multiple of 2 heads"),
        ("moonvit_v2", lambda c: c["vision_config"].update(qkv_hidden_size=16), "has shape .*, config.json makes it"),
        ("moonvit_v2", lambda c: c["vision_config"].update(pos_emb_interpolation_mode="nearest"), "'nearest'"),
        ("moonvit_v2", lambda c: c.update(model_type="kimi_k25"), "lacks vision_tower"),
        ("univitar", lambda c: c.update(hidden_act="gelu"), "hidden_act='gelu'"),
        ("univitar", lambda c: c.update(resolution_mode="wide"), "'wide' is neither native nor a side"),
        ("univitar", lambda c: c.update(qk_normalization=False), "which belongs to no part"),
    ],
)
def test_what_the_newest_towers_cannot_be_is_named(name, change, words, tmp_path):
    shutil.copytree(FOLDER / name, tmp_path / name)
    refused(tmp_path / name, change, words)


def test_a_square_of_univitar():
    """Its other modes resize to squares of so many pixels."""
    config = univitar.DEFAULTS | {"resolution_mode": "224"}
    assert univitar.size_rule(config, open_folder(FOLDER / "univitar")) == Fixed()


def test_a_bias_that_a_format_lacks_is_not_dropped(tmp_path):
    model = navit.load(FOLDER / "univitar")
    where = lambda m: m.backbone.encoder.blocks.attention.k_bias
    model = eqx.tree_at(where, model, where(model) + 1)
    with pytest.raises(ConfigError, match="attention: a bias that the other format does not have is not zero"):
        navit.save_pretrained(model, tmp_path / "saved", "hf")
