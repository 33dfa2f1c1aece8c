"""The golden models made again by the classes of the peers: NAVIT_PARITY names a Python with torch and the peers."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from navit_eqx import load_model
from tests.support import golden
from tests.support.golden import FAMILIES, FOLDER
from tests.test_weights import says_what_the_peer_says

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
