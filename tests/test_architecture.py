"""The rules of the house: names on both sides. Who may import whom: tests/test_imports.py.

Each rule is a function of modules, so that a small test can show that it fails.
"""

import importlib
import inspect
from pathlib import Path

import pytest

from tests.support.laws import caught

ROOT = Path(__file__).parent.parent

MIRRORED = tuple(
    str(path.relative_to(ROOT / "reference").with_suffix("")).replace("/", ".")
    for path in sorted((ROOT / "reference").rglob("*.py"))
    if (ROOT / "navit_eqx" / path.relative_to(ROOT / "reference")).exists() and path.name != "__init__.py"
)
HOST = "works on the images of the host"
CLASS = "a class is chosen instead of a name"
METHOD = "a method of the module: "
FRESH = "makes fresh parameters; the reference has init.py"
SPEED = "a part of its own for speed or precision"
# Functions that one side has, or has with other arguments, and why.
WALKS = "the backend walks over blocks of similarities, and its gradients are part of it: pair_losses.py"
EXCEPTIONS = {
    "tasks.class_heads.with_texts": "takes over saved parameters",
    "attention.project": "the reference reads its arrays by name",
    "attention.directions": "project, then `rotated`",
    "attention.rotated": "the end of `directions`",
    "attention.attend": "chooses a kernel",
    "attention.attention_weights": "pictures read them from the reference; kernels do not keep them",
    "attention.dot_product_attention": SPEED,
    "attention.dot_product_attention_fwd": SPEED,
    "attention.dot_product_attention_bwd": SPEED,
    "attention.plus": "a bias that may be None",
    "attention.heads_first": SPEED,
    "encoder.hidden_states": METHOD + "Encoder.hidden_states",
    "encoder.take": "the backend scans over layers",
    "encoder.one": "the backend scans over layers",
    "encoder.sample_gates": "the backend draws from a key and the numbers of the images",
    "layers.norm": CLASS,
    "layers.gelu_tanh": "jax.nn.gelu",
    "layers.gelu_exact": "jax.nn.gelu",
    "layers.normal": FRESH,
    "layers.make_norm": FRESH,
    "layers.make_mlp": FRESH,
    "layers.full": SPEED,
    "layers.matmul": SPEED,
    "layers.expand": "axes are added explicitly in the backend",
    "layers.scaled": SPEED,
    "layers.normalize": "in patches.py of the reference, beside the other functions of patches",
    "layers.compute_dtype": "precision is a matter of the backend",
    "masks.spans": "kernels read where images begin and end",
    "model.embed_patches": METHOD + "NaViT.embed_patches",
    "model.at_patch_size": METHOD + "NaViT.patch_embedding_at",
    "model.rotary_angles": METHOD + "NaViT.embed_row",
    "model.registers_of": METHOD + "NaViT.embed_row",
    "model.embed_row": METHOD + "NaViT.embed_row",
    "model.embedded": METHOD + "NaViT.embedded",
    "model.encode": METHOD + "NaViT.encode",
    "local.mask_of": "BlockMasks.of, within the scan",
    "local.plus": "the backend has a mask in every block",
    "local.make_local": FRESH,
    "model.forward": METHOD + "NaViT.__call__",
    "model.forward_image": "the meaning, which only the reference has",
    "model.image_hidden_states": "the meaning, which only the reference has",
    "pooling.pool": CLASS,
    "pooling.make_pool": FRESH,
    "pooling.probes": SPEED,
    "posembed.posembed": CLASS,
    "posembed.make_posembed": FRESH,
    "resize.base_patches": HOST,
    "resize.vanilla_resize": "compared with in the reference, and not used",
    "resize.area_resize": "compared with in the reference, and not used",
    "resize.norm_resize": "compared with in the reference, and not used",
    "rope.make_rope": FRESH,
    "rows.pack": HOST,
    "rows.check_fits": HOST,
    "rows.unpack": HOST,
    "rows.to_device": "the reference stays on the host",
    "rows.row_of": "the reference stays on the host",
    "rows.micro_batches": "to accumulate is a matter of memory",
    "tables.triangle": "the reference has it in resize.py",
    "tables.keys": "the reference has it in resize.py",
    "tables.weights_of": METHOD + "Table.weights_of",
    "tasks.classify.predict": METHOD + "Classify.predict",
    "tasks.classify.loss": METHOD + "Classify.loss",
    "tasks.classify.zero_head": FRESH,
    "tasks.classify.logits_of": "the reference has it in predict",
    "tasks.classify.sum_over_real": "the reference sums in each formula",
    "tasks.classify.correct": "in evaluation/metrics.py of the reference",
    "tasks.embed.predict": METHOD + "Embed.predict",
    "tasks.embed.merged": METHOD + "Embed.merged",
    "tasks.segment.predict": METHOD + "Segment.predict",
    "tasks.segment.loss": METHOD + "Segment.loss",
    "tasks.segment.pixel_logits": METHOD + "Segment.pixel_logits",
    "tasks.segment.neighbors": HOST,
    "tasks.segment.most_cells": HOST,
    "tasks.segment.cells_of": HOST,
    "tasks.segment.cell_outputs": METHOD + "Segment.cell_outputs",
    "tasks.segment.native_logits": METHOD + "Segment.native_logits",
    "tasks.distill.loss": METHOD + "Distill.loss",
    "tasks.distill.agreements": "in evaluation/metrics.py of the reference, as `correct`",
    "tasks.detect.sigmoid": "jax.nn.sigmoid",
    "tasks.detect.propose": METHOD + "Detect.propose",
    "tasks.detect.predict": METHOD + "Detect.predict",
    "tasks.detect.loss": METHOD + "Detect.loss",
    "tasks.detect.match": METHOD + "Detect.match",
    "tasks.detect.hungarian": "the backend says where it is computed",
    "tasks.detect.over_rows": "the reference has one row",
    "tasks.detect.token_grids": "the reference has it in each place",
    "tasks.detect.box_units": "the reference has it in loss",
    "tasks.detect.class_logits": METHOD + "Detect.scorer",
    "tasks.detect.class_head": FRESH,
    "tasks.class_heads.class_vectors": METHOD + "TextHead.class_vectors",
    "tasks.class_heads.elu": "jax.nn.elu",
    "tasks.contrast.device_targets": "the reference stays on the host",
    "tasks.contrast.slots": "the reference takes the slots of all rows",
    "tasks.contrast.pairs": WALKS,
    "tasks.contrast.weigh": WALKS,
    "tasks.contrast.similarities": WALKS,
    "tasks.contrast.vectors": WALKS,
    "tasks.contrast.sigmoid_loss": WALKS,
    "tasks.contrast.sigmoid_gradients": WALKS,
    "tasks.contrast.softmax_loss": WALKS,
    "tasks.contrast.loss_of_rows": WALKS,
    "tasks.contrast.softmax_gradients": WALKS,
    "tasks.contrast.slope_of_rows": WALKS,
    "tasks.contrast.chain": WALKS,
    "tasks.contrast.bias_init": WALKS,
    "tasks.contrast.start_loss": WALKS,
    "tasks.contrast.clip_log_scale": WALKS,
    "text.encode": METHOD + "Bytes.encode",
    "text.decode": "only the reference reads ids back",
    "text.tokens_of": HOST,
    "text.one_hot": "the backend looks ids up: embed_ids",
    "text.with_one_hot": "the backend looks ids up: embed_ids",
    "text.token_embedding": FRESH,
    "text.embed_ids": SPEED,
    "tubelets.time_weights": METHOD + "TimeEmbedding.__call__",
    "tubelets.in_space": "NaViT.in_space; the reference reads time and shape as entries of a patch",
    "tubelets.forward": "NaViT.__call__",
    "tubelets.forward_clip": "the meaning, which only the reference has",
    "tubelets.make_time": FRESH,
    "adaptive.block_sums": "the backend adds up four neighbors at a time: pooled",
    "adaptive.pooled": "the reference adds up each block: block_sums",
    "adaptive.in_cells": "the reference adds up each block: block_sums",
    "adaptive.block": "the backend has it in cut_by_budget",
    "adaptive.by_pi": "the backend has it in merged",
    "adaptive.by_area": "the backend has it in reduced",
    "adaptive.by_apt": "the backend has it in reduced",
    "adaptive.reduced": "the reference has a function for each rule",
    "adaptive.room_of": HOST,
    "adaptive.copies": "the backend weighs keys and means instead: areas.py",
    "detail.detail": METHOD + "Detail.__call__",
    "detail.blocks_of": "the backend has a list of cells",
    "detail.in_quads": "the backend has the order of a hierarchy: block_order",
    "detail.first_parts": "the reference counts the parts of one image after the other",
    "detail.make_detail": FRESH,
    "adaptive.levels_by_threshold": HOST,
    "adaptive.owner_map": "the backend has no dense output of merged patches",
    "adaptive.in_plane": METHOD + "LevelEmbedding.__call__",
    "adaptive.forward": "NaViT.__call__",
    "adaptive.forward_merged": "the meaning, which only the reference has",
    "adaptive.make_levels": FRESH,
    "adaptive.cut": HOST,
    "fuzzy.sample_moves": "the reference draws for one image, the backend for the tokens of a row by their keys",
    "fuzzy.symmetric": "the reference draws from NumPy",
    "fuzzy.fuzzy_row": "the reference moves the coordinates of one image: move",
    "hierarchy.in_blocks": "data/hierarchy.py uses that of the reference; `images.pack` orders its own tokens",
    "hierarchy.quads_of": "the meaning, which only the reference has",
    "hierarchy.forward_image": "the meaning, which only the reference has",
    "hierarchy.encode": METHOD + "Hierarchy.__call__",
    "hierarchy.forward": "NaViT.__call__",
    "hierarchy.last_level": "the row that the reference returns beside its tokens",
    "hierarchy.stage_configs": FRESH,
    "hierarchy.make_encoder": FRESH,
    "tasks.multi_label.loss": METHOD + "MultiLabel.loss",
    "tasks.multi_label.hits_at_1": "in evaluation/metrics.py of the reference, as `precision_at_1`",
}


def functions_of(module) -> dict[str, object]:
    """Public functions that a module defines; below their decorators."""
    found = {name: inspect.unwrap(f) for name, f in vars(module).items() if callable(f) and not name.startswith("_")}
    return {name: f for name, f in found.items() if inspect.isfunction(f) and f.__module__ == module.__name__}


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def mirrors(slow, fast, exceptions: set[str]) -> None:
    """Each public function of one side is on the other, with the same arguments: as a function, or, where the
    reference takes `params`, as a class. Methods that an exception names exist."""
    ours, theirs = functions_of(slow), functions_of(fast)
    for name in (ours.keys() | theirs.keys()) - exceptions:
        if name in ours and name not in theirs:
            assert hasattr(fast, camel(name)), f"{name} is not in {fast.__name__}"
            got = list(inspect.signature(getattr(fast, camel(name)).__call__).parameters)[1:]
            assert got == list(inspect.signature(ours[name]).parameters)[1:], name
        else:
            assert name in ours, f"{name} is not in {slow.__name__}"
            got, want = (list(inspect.signature(side[name]).parameters) for side in (theirs, ours))
            assert got == want, f"{name}: {got} and {want}"


def sides_of(name: str) -> list:
    return [importlib.import_module(f"{side}.{name}") for side in ("reference", "navit_eqx")]


@pytest.mark.parametrize("name", MIRRORED)
def test_both_sides_use_the_same_names(name):
    slow, fast = sides_of(name)
    exceptions = {key.rpartition(".")[2]: why for key, why in EXCEPTIONS.items() if key.rpartition(".")[0] == name}
    mirrors(slow, fast, set(exceptions))
    for function, why in exceptions.items():
        assert function in functions_of(slow).keys() | functions_of(fast).keys(), f"{function} is no exception any more"
        if why.startswith(METHOD):
            kind, method = why.removeprefix(METHOD).split(".")
            assert callable(getattr(getattr(fast, kind), method)), why


def test_every_exception_is_of_a_mirrored_file():
    assert {key.rpartition(".")[0] for key in EXCEPTIONS} <= set(MIRRORED)
    core = {"attention", "encoder", "layers", "masks", "model", "pooling", "posembed", "resize", "rope", "rows"}
    assert core | {f"tasks.{task}" for task in ("classify", "multi_label", "distill")} <= set(MIRRORED)


def test_other_names_and_arguments_are_caught(monkeypatch):
    slow, fast = sides_of("masks")
    mirrors(slow, fast, {"spans"})
    caught(mirrors, slow, fast, set())
    renamed = lambda ids, slots: fast.slot_tokens(ids, slots)
    renamed.__module__ = fast.__name__
    monkeypatch.setattr(fast, "used_slots", renamed)
    caught(mirrors, slow, fast, {"spans"})


def test_rows_batches_and_targets_have_the_same_fields():
    slow, fast = sides_of("rows")
    for name in ("Row", "Batch"):
        assert getattr(slow, name)._fields == getattr(fast, name)._fields
    for task in ("classify", "multi_label", "distill"):
        slow, fast = sides_of(f"tasks.{task}")
        assert slow.Targets._fields == fast.Targets._fields
