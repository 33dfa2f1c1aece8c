"""Models saved for others: every layout gives the model back to the bit, or refuses it by name."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import navit_eqx as navit
from navit_eqx.config import Mean, ModelConfig, Table
from navit_eqx.errors import ConfigError
from navit_eqx.preprocessing import CeilBudget, Fixed, Preprocessing, TokenBudget
from navit_eqx.tasks.config import Classify, Embed, Sigmoid
from navit_eqx.tasks.model import abstract_model, is_shape
from navit_eqx.weights import pretrained, proposal
from navit_eqx.weights.bridge import flatten
from navit_eqx.weights.proposal import Proposal
from tests.support import golden
from tests.support.golden import FOLDER
from tests.support.laws import caught

# The layouts of others that can hold each golden tower; the layout of this project holds all.
HELD = {
    "big_vision_flexivit": ("big_vision",),
    "big_vision_naflex": ("hf", "timm", "big_vision"),
    "naflexvit_siglip": ("hf", "timm", "big_vision"),
    "siglip2_naflex": ("hf", "timm", "big_vision"),
} | {
    name: ("timm",) if name.startswith(("timm", "naflexvit")) else ("hf",)
    for name in golden.FAMILIES
    if not name.startswith("big_vision") and name not in ("naflexvit_siglip", "siglip2_naflex")
}
CARD = navit.Card("Tower", "glyphs", "mit", {"accuracy": 0.5}, "python train.py glyphs", ("It reads glyphs alone.",))


def comes_back(model: navit.Model, folder, layout) -> None:
    """Saved and loaded: the same parameters, and what decides how images are read."""
    navit.save_pretrained(model, folder, layout, CARD)
    again = navit.load(folder)
    assert pretrained.canonical(again.config) == pretrained.canonical(model.config)
    assert pretrained.asked(again.task.config) == pretrained.asked(model.task.config)
    one, other = again.info.preprocessing, model.info.preprocessing
    assert (one.size, one.filter, one.channels) == (other.size, other.filter, other.channels)
    for got, want in zip(flatten(again).items(), flatten(model).items(), strict=True):
        assert got[0] == want[0]
        np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("name", golden.FAMILIES)
def test_a_layout_holds_a_model_or_refuses_it(name, tmp_path):
    model = navit.load(FOLDER / name)
    for layout in pretrained.LAYOUTS:
        folder = tmp_path / layout
        if layout in HELD[name]:
            comes_back(model, folder, layout)
        else:
            with pytest.raises(ConfigError, match=f"layout '{layout}' cannot hold this model: "):
                navit.save_pretrained(model, folder, layout)
            assert not folder.exists()


def tower(**options) -> navit.Model:
    """A model that fits the layout of ViT, up to `options`."""
    fields = dict(patch=(4, 4), width=16, depth=2, heads=2, mlp_width=24, posembed=Table(3, "cubic"), registers=1)
    fields |= dict(pool=navit.config.Token(), qk_norm="none", biases=True, activation="gelu")
    info = navit.ModelInfo(("a", "b"), Preprocessing(options.pop("size", Fixed(12, 12))))
    task = options.pop("task", Classify(classes=2))
    rng, abstract = np.random.default_rng(0), abstract_model(ModelConfig(**fields | options), task, info)
    number = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), np.float32) if is_shape(leaf) else leaf
    return jax.tree.map(number, abstract)


def test_a_model_of_ours_is_saved_as_a_vit(tmp_path):
    """A model that never was of another project; its classes keep their names."""
    comes_back(tower(), tmp_path, "hf")
    assert navit.load(tmp_path).info.classes == ("a", "b")
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["architectures"] == ["ViTForImageClassification"] and said["id2label"] == {"0": "a", "1": "b"}
    assert tower().config.stochastic_depth == 0.0
    comes_back(tower(stochastic_depth=0.1, dtype="bfloat16", remat=True), tmp_path, "hf")  # of training alone


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(qk_norm="layer"), "q_norm"),
        (dict(eps=1e-3, posembed=Table(3, "linear")), "posembed would be"),
        (dict(size=TokenBudget(9)), "TokenBudget(tokens=9)"),
        (dict(size=CeilBudget(9), posembed=Table(3, "bucket")), "bucket"),
        (dict(patch=(4, 2)), "model.patch would be (4, 4), not (4, 2)"),
        (dict(pool=Mean()), "model.pool would be Token(), not Mean()"),
        (dict(task=Classify(Sigmoid(), classes=2)), "'sigmoid'"),
        (dict(norm="rms"), "model.norm"),
        (dict(logit_scale="one"), "model.logit_scale"),
        (dict(layer_scale=1.0, task=Embed()), "model.mlp_width would be 16, not 24"),
    ],
)
def test_what_does_not_fit_is_named(options, word, tmp_path):
    with pytest.raises(ConfigError) as raised:
        navit.save_pretrained(tower(**options), tmp_path / "saved", "hf")
    assert word in str(raised.value) and "'navit' can" in str(raised.value)
    assert not (tmp_path / "saved").exists()


def test_another_size_rule_can_be_given(tmp_path):
    """A model that was trained at native sizes, for a library that squashes."""
    model = tower(size=TokenBudget(9))
    navit.save_pretrained(model, tmp_path, "hf", preprocessing=Preprocessing(Fixed(12, 12)))
    assert navit.load(tmp_path).info.preprocessing.size == Fixed(12, 12)


def test_the_card_says_what_is_known(tmp_path):
    navit.save_pretrained(tower(), tmp_path / "known", "hf", CARD)
    text = (tmp_path / "known" / "README.md").read_text()
    for words in (
        "license: mit",
        "library_name: transformers",
        "# Tower",
        "glyphs",
        "| accuracy | 0.5 |",
        "2 classes: a, b",
    ):
        assert words in text
    for section in ("What", "Data", "Licence", "Metrics", "Command", "Limits"):
        assert f"## {section}\n" in text
    navit.save_pretrained(tower(), tmp_path / "unknown")
    assert (tmp_path / "unknown" / "README.md").read_text().count("Not said by whoever saved it.") == 4


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    navit.save_pretrained(tower(), tmp_path, "hf")
    navit.save_pretrained(tower(), tmp_path, "hf")  # its own files are replaced
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds model.safetensors.index.json"):
        navit.save_pretrained(tower(), tmp_path, "hf")


def test_the_ratio_of_widths_gives_the_width_back():
    """As the other project multiplies it out, also where the quotient is rounded down."""
    model = tower()
    for width in range(2, 200, 2):
        for mlp_width in range(width, 5 * width, 7):
            c = dataclasses.replace(model.config, width=width, mlp_width=mlp_width)
            assert int(width * proposal.ratio(c)) == mlp_width


MISTAKES = {
    "another epsilon": lambda p: p._replace(config=p.config | {"layer_norm_eps": 1e-5}),
    "another activation": lambda p: p._replace(config=p.config | {"hidden_act": "silu"}),
    "a block too many": lambda p: p._replace(config=p.config | {"num_hidden_layers": 3}),
    "other heads": lambda p: p._replace(config=p.config | {"num_attention_heads": 4}),
    "another size": lambda p: p._replace(preprocessor=p.preprocessor | {"size": {"height": 8, "width": 8}}),
    "another mean": lambda p: p._replace(preprocessor=p.preprocessor | {"image_mean": [0.4] * 3}),
    "a line left out": lambda p: p._replace(table=p.table[:-1]),
    "queries for keys": lambda p: p._replace(table=[swapped(line) for line in p.table]),
}


def swapped(line):
    names = {"query": "key", "key": "query"}
    head, _, last = line.theirs.rpartition(".")
    return line._replace(theirs=f"{head}.{names.get(last, last)}" if head else line.theirs)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_wrong_proposal_is_not_written(what, tmp_path, monkeypatch):
    """Reading it again shows the mistake."""
    right = pretrained.LAYOUTS["hf"][0]
    wrong = lambda *said: Proposal(*MISTAKES[what](right(*said)))
    monkeypatch.setitem(pretrained.LAYOUTS, "hf", (right,))
    comes_back(tower(), tmp_path / "right", "hf")
    monkeypatch.setitem(pretrained.LAYOUTS, "hf", (wrong,))
    with pytest.raises(ConfigError):
        navit.save_pretrained(tower(), tmp_path / "wrong", "hf")


def test_a_change_on_the_way_is_caught(tmp_path, monkeypatch):
    """The law of the round trip can fail."""
    write = pretrained.write_tensors
    half = lambda tensors, *rest: write({name: x / 2 for name, x in tensors.items()}, *rest)
    monkeypatch.setattr(pretrained, "write_tensors", half)
    caught(comes_back, tower(), tmp_path, "hf")
