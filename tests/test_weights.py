"""Imported towers say what their own classes say, in packed rows beside others, and obey our own laws."""

import numpy as np
import pytest

import navit_eqx as navit
from navit_eqx.images import pack as pack_images
from navit_eqx.weights.bridge import to_reference
from reference import model as slow
from reference import tasks as slow_tasks
from tests.support import golden
from tests.support.golden import FAMILIES, FOLDER, GRIDS, PICTURES
from tests.support.tolerances import FLOAT64, PEER32, PEER64, assert_close

# Families of which a part is computed in float32 by their own classes, whatever they are given: an interpolated table,
# rotary angles.
IN_FLOAT32 = ("siglip2_naflex", "dinov3", "dinov3_gated")
families = pytest.mark.parametrize("name", FAMILIES)


def limit(name: str) -> float:
    """How close: float64, or what the peer computes in float32."""
    return PEER32 if name in IN_FLOAT32 else PEER64


def says_what_the_peer_says(said: golden.Said, peer: golden.Said, name: str) -> None:
    """Tokens and output of each image of the row, whatever its grid."""
    for n in range(len(GRIDS)):
        assert_close(said.tokens[n], peer.tokens[n], limit(name))
        assert_close(said.outputs[n], peer.outputs[n], limit(name))


@families
def test_a_packed_row_says_what_the_peer_says(name):
    says_what_the_peer_says(golden.ours(golden.loaded(name)), golden.theirs(name), name)


@families
def test_the_reference_says_the_same(name):
    """The switches of the family, on one image alone: `reference` is the definition."""
    model = golden.loaded(name)
    params, outputs = to_reference(model), golden.ours(model).outputs
    task = slow_tasks.TASKS[params["task"]["kind"]]
    for n in (1, 2):
        vector = slow.forward_image(params["backbone"], golden.tokens_of(GRIDS[n]))
        assert_close(outputs[n], task.predict(params["task"], vector[None])[0], FLOAT64)


@families
def test_preprocessing_is_equal_to_the_byte(name):
    model, stored = navit.load(FOLDER / name), golden.expected(name)
    how = model.info.preprocessing
    for size in PICTURES:
        row = pack_images([golden.picture(size)], preprocessing=how, patch=model.config.patch, row_tokens=32)
        rows, columns = row.grids[0, 0]
        found = row.patches[0, : rows * columns]
        want = stored["bytes_{}x{}".format(*size)]
        if want.ndim == 3:
            want = golden.patchify(want.transpose(1, 2, 0), model.config.patch)
        np.testing.assert_array_equal(found, want)
