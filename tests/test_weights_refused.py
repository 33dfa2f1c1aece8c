"""Folders that are not as they should be are refused by name, with what is wrong, and nothing is half loaded."""

import json
import shutil
import struct

import equinox as eqx
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import navit_eqx as navit
from harness.exit_codes import code_of
from navit_eqx.errors import ConfigError
from tests.support.golden import FOLDER
from tests.support.tolerances import FLOAT64, assert_close

NORM = "vit.encoder.layer.0.layernorm_before.weight"


@pytest.fixture
def vit(tmp_path):
    """A copy of a ViT of Hugging Face."""
    return shutil.copytree(FOLDER / "vit", tmp_path / "vit")


def refuses(folder, *words: str) -> None:
    """`load` raises ConfigError, exit code 78, with these words."""
    with pytest.raises(ConfigError) as raised:
        navit.load(folder)
    assert code_of(raised.value) == 78
    for word in words:
        assert word in str(raised.value), str(raised.value)


def rewrite(file, change) -> None:
    """Change a JSON file."""
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))


def retensor(folder, change) -> None:
    """Change the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_truncated_file(vit):
    file = vit / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refuses(vit, "model.safetensors is damaged")


def test_a_header_that_lies(vit):
    """Another shape in the header than the bytes have."""
    file = vit / "model.safetensors"
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header[NORM]["shape"] = [32]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    refuses(vit, "model.safetensors is damaged")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop(NORM), ("lacks", NORM)),
        (lambda t: t.update({"vit.more": np.zeros(3)}), ("'vit.more'", "belongs to no part")),
        (lambda t: t.update({NORM: np.ones(17)}), (NORM, "(17,)", "(16,)")),
        (lambda t: t.update({NORM: np.full(16, np.nan)}), (NORM, "not finite")),
        (lambda t: t.update({NORM: np.ones(16, np.int64)}), (NORM, "int64")),
        (lambda t: t.update({"vit.embeddings.position_embeddings": np.zeros((1, 13, 16))}), ("no square table",)),
    ],
)
def test_tensors(vit, change, words):
    retensor(vit, change)
    refuses(vit, *words)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("model_type", "vitamin", ("vitamin", "dinov2")),
        ("model_type", None, ("None",)),
        ("hidden_size", "16", ("hidden_size='16'", "positive integer")),
        ("hidden_size", 2**20, ("parameters", "files hold")),
        ("num_hidden_layers", 4096, ("parameters", "files hold")),
        ("num_hidden_layers", 3, ("lacks", "layer.2")),
        ("num_hidden_layers", 1, ("layer.1", "belongs to no part")),
        ("num_attention_heads", 3, ("heads",)),
        ("hidden_act", "relu", ("relu", "quick_gelu")),
        ("layer_norm_eps", -1.0, ("eps",)),
        ("qkv_bias", False, ("key.bias", "belongs to no part")),
        ("id2label", {"0": "a", "1": "a", "2": "b"}, ("twice",)),
    ],
)
def test_configurations(vit, key, value, words):
    rewrite(vit / "config.json", lambda said: said.update({key: value}))
    refuses(vit, *words)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda said: said.update(rescale_factor=1.0), ("rescale_factor",)),
        (lambda said: said.update(size={"longest_edge": 8}), ("longest_edge", "no size rule")),
        (lambda said: said.pop("size"), ("size",)),
        (lambda said: said.update(resample=9), ("resample=9",)),
        (lambda said: said.pop("image_mean"), ("image_mean",)),
        (lambda said: said.update(image_std=[0.5, 0.5]), ("std", "3 channels")),
        (lambda said: said.update(patch_size=16), ("patch_size=16", "(2, 2)")),
        (lambda said: said.update(patch_size=True), ("patch_size=True",)),
        (lambda said: said.update(max_num_patches=[9]), ("max_num_patches=[9]", "positive integer")),
    ],
)
def test_preprocessing(vit, change, words):
    rewrite(vit / "preprocessor_config.json", change)
    refuses(vit, *words)


def test_missing_preprocessing(vit):
    (vit / "preprocessor_config.json").unlink()
    refuses(vit, "preprocessor_config.json", "fetch it too")


def test_a_pickle_is_not_read(vit):
    (vit / "model.safetensors").rename(vit / "pytorch_model.bin")
    refuses(vit, "pytorch_model.bin", "can run code", "weights_only=True", "model.safetensors")


def test_no_weights(vit):
    (vit / "model.safetensors").unlink()
    refuses(vit, "neither *.safetensors nor *.npz")


def test_a_configuration_that_is_no_json(vit):
    (vit / "config.json").write_text("{")
    refuses(vit, "config.json is damaged")


def shard(folder) -> dict[str, str]:
    """The same tensors in two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + k % 2}-of-00002.safetensors" for k, name in enumerate(names)}
    for file in {*places.values()}:
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


def test_shards_are_one_model(vit):
    shard(vit)
    for got, want in zip(*(leaves(navit.load(folder)) for folder in (vit, FOLDER / "vit")), strict=True):
        assert_close(got, want, FLOAT64)


def leaves(model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


def test_a_missing_shard(vit):
    places = shard(vit)
    (vit / places[NORM]).unlink()
    refuses(vit, places[NORM], "is not in")


def test_a_tensor_in_two_shards(vit):
    places = shard(vit)
    other = next(file for file in places.values() if file != places[NORM])
    tensors = load_file(vit / other)
    save_file(tensors | {NORM: np.ones(16)}, vit / other)
    refuses(vit, NORM, "keep one")


@pytest.fixture
def flexivit(tmp_path):
    """A copy of a FlexiViT of big_vision."""
    return shutil.copytree(FOLDER / "big_vision_flexivit", tmp_path / "flexivit")


def test_archives(flexivit):
    file = flexivit / "flexivit.npz"
    assert navit.load(file).config == navit.load(flexivit).config
    (flexivit / "preprocessor_config.json").unlink()
    refuses(flexivit, "preprocessor_config.json", "fetch it too")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refuses(flexivit, "flexivit.npz is damaged")


def test_an_archive_with_a_pickle(flexivit):
    np.savez(flexivit / "flexivit.npz", kernel=np.array([{}], object))
    refuses(flexivit, "pickled")


def test_timm_arguments_that_are_not_known(tmp_path):
    folder = shutil.copytree(FOLDER / "timm_vit", tmp_path / "timm")
    rewrite(folder / "config.json", lambda said: said["model_args"].update(qk_norm=True))
    refuses(folder, "model_args.qk_norm")
    rewrite(folder / "config.json", lambda said: said.update(architecture="resnet50"))
    refuses(folder, "resnet50", "naflexvit")
