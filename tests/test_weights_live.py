"""The golden models made again by the classes of the peers: NAVIT_PARITY names a Python with torch and the peers."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from navit_eqx import load_model, save_pretrained
from navit_eqx.weights.bridge import to_reference
from tests.support import golden
from tests.support.golden import FAMILIES, FOLDER
from tests.support.tolerances import PEER32, PEER64, assert_close
from tests.test_pretrained import HELD
from tests.test_weights import IN_FLOAT32, by_reference, says_the_same, says_what_the_peer_says

PEER = os.environ.get("NAVIT_PARITY", "")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder that the peers made now."""
    if not PEER:
        pytest.skip("NAVIT_PARITY is not set: no Python with torch, transformers and timm")
    folder = tmp_path_factory.mktemp("golden")
    done = subprocess.run([PEER, FOLDER / "make.py", folder], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("name", FAMILIES)
def test_the_peers_say_the_same_today(made, name):
    """Their bytes and outputs are the committed ones, and ours are theirs."""
    then, now = golden.expected(name), golden.expected(name, made)
    assert then.keys() == now.keys()
    for key, value in now.items():
        np.testing.assert_allclose(value, then[key], rtol=0, atol=1e-6 * max(1, np.abs(then[key]).max()))
    model = golden.in_float64(load_model(made / name))
    says_what_the_peer_says(golden.ours(model), golden.theirs(name, made), name)


WITHOUT_CLASS = ("moonvit", "moonvit_v2", "univitar")  # in transformers: these towers alone
SAVED = [(name, layout) for name in FAMILIES for layout in HELD[name] if name not in WITHOUT_CLASS]


@pytest.fixture(scope="module")
def said_again(tmp_path_factory) -> Path:
    """What the peers say of the golden towers after this project saved them in their layouts."""
    if not PEER:
        pytest.skip("NAVIT_PARITY is not set: no Python with torch, transformers and timm")
    root, out = tmp_path_factory.mktemp("saved"), tmp_path_factory.mktemp("said")
    for name, layout in SAVED:
        save_pretrained(load_model(FOLDER / name), root / f"{name}-{layout}", layout)
    done = subprocess.run([PEER, FOLDER / "again.py", root, out], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.mark.parity
@pytest.mark.parametrize("name, layout", SAVED)
def test_the_peers_say_the_same_of_what_was_saved(said_again, name, layout):
    """Tokens, outputs and processed bytes of a saved tower, by the class of the layout, are those of the original."""
    before, after = golden.expected(name), golden.expected(f"{name}-{layout}", said_again)
    # timm makes its models in float32 before they are read; SigLIP 2 of transformers reads its table in float32.
    rounded = name in IN_FLOAT32 or layout != "hf" or "naflex" in name
    said = golden.theirs(f"{name}-{layout}", said_again)
    says_the_same(said, golden.theirs(name), PEER32 if rounded else PEER64)
    for key in before.keys() & after.keys():
        if key.startswith("bytes") and before[key].ndim == after[key].ndim:  # NaFlex of timm hands on no patches
            np.testing.assert_array_equal(after[key], before[key])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Whole models of images and texts, as the peers save them."""
    if not PEER:
        pytest.skip("NAVIT_PARITY is not set: no Python with torch, transformers and timm")
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run([PEER, FOLDER / "whole.py", folder], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2", "idefics2", "idefics3", "smolvlm"])
def test_the_tower_of_a_whole_model_says_what_it_said(whole, name):
    """The folder of a whole model gives the tokens of its vision tower."""
    model = golden.in_float64(load_model(whole / name))
    said = np.load(whole / f"{name}.npz")
    tokens = by_reference(to_reference(model)).tokens
    for grid, got in zip(golden.GRIDS, tokens, strict=True):
        assert_close(got, said["{}x{}".format(*grid)], PEER32 if name == "siglip2" else PEER64)
