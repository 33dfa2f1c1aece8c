"""Serving: each image gets what it gets alone, by one program; batches leave in time; what is unusable fails alone."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from navit_eqx import inference, serving
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.pixels import ImageError
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.serving import Options, Server, Shape, Waiting, chosen, is_due
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model, is_shape
from tests.support.laws import caught
from tests.support.tolerances import FLOAT32, assert_close

INFO = navit.ModelInfo(("a", "b", "c"), Preprocessing(Area(12), row_tokens=40, row_images=4))
CONFIG = ModelConfig((2, 2), width=16, depth=1, heads=2, mlp_width=24, posembed=Factorised(6, "fractional"))
SHAPE = Shape(2, 80, 4)
OPTIONS = Options(latency=0.05, rows=2, row_tokens=80)


def numbered() -> navit.Model:
    rng = np.random.default_rng(0)
    number = lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32) if is_shape(leaf) else leaf
    return jax.tree.map(number, abstract_model(CONFIG, Classify(classes=3), INFO))


MODEL = numbered()
sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12)


def images_of(drawn: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in drawn]


def alone(image: np.ndarray) -> np.ndarray:
    """What an image gets in a batch of its own, of the same shape."""
    batch = navit.pack([image], MODEL, rows=2, row_tokens=80)
    return navit.unpack(batch, inference.forward(MODEL, batch))[0]


def gives_each_its_own(images: list[np.ndarray], results: list[np.ndarray]) -> None:
    for image, result in zip(images, results, strict=True):
        assert_close(result, alone(image), FLOAT32)


@pytest.fixture(scope="module")
def server():
    with Server(MODEL, OPTIONS) as made:
        yield made


@settings(max_examples=5, deadline=None)
@given(drawn=sizes)
def test_each_image_gets_what_it_gets_alone(server, drawn):
    images = images_of(drawn)
    gives_each_its_own(images, [each.result() for each in [server.submit(image) for image in images]])


def test_exchanged_results_are_caught(server):
    images = images_of([(10, 20), (20, 10)])
    results = [each.result() for each in [server.submit(image) for image in images]]
    caught(gives_each_its_own, images, results[::-1])


def test_one_program_whatever_comes(monkeypatch):
    """Every batch has the same shape and type, so nothing is compiled again."""
    shapes = []
    with Server(MODEL, OPTIONS) as server:
        compute = server.compute
        monkeypatch.setattr(
            server, "compute", lambda rows: shapes.append([(x.shape, x.dtype) for x in rows]) or compute(rows)
        )
        for count in (1, 2, 9):
            [each.result() for each in [server.submit(image) for image in images_of([(5 + count, 9)] * count)]]
    assert len(shapes) >= 3 and all(shape == shapes[0] for shape in shapes)


def test_a_distribution_for_each_image():
    with Server(MODEL, Options(0.0, rows=2, row_tokens=80, output="probabilities")) as server:
        result = server.submit(images_of([(10, 20)])[0]).result()
    assert_close(result, navit.probabilities(MODEL, alone(images_of([(10, 20)])[0])), FLOAT32)


def test_what_is_unusable_fails_alone(server, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    good = images_of([(10, 20)])[0]
    wrong = [
        tmp_path / "broken.png",
        tmp_path / "none.png",
        np.zeros((8, 8, 3), np.float32),
        np.zeros((1, 9000, 3), np.uint8),
    ]
    waiting = [server.submit(image) for image in (good, *wrong, good)]
    gives_each_its_own([good, good], [waiting[0].result(), waiting[-1].result()])
    for each, words in zip(waiting[1:-1], ("broken.png", "none.png", "8 bits", "a row holds 80"), strict=True):
        with pytest.raises((ImageError, OSError), match=words):
            each.result()


def test_pixels_that_cannot_be_decoded_fail_alone(server, tmp_path):
    """The header is read when the image comes, the pixels later."""
    from tests.support.files import encoded

    good, data = images_of([(40, 40)])[0], encoded(images_of([(40, 40)])[0])
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    waiting = [server.submit(tmp_path / "half.png"), server.submit(good)]
    assert_close(waiting[1].result(), alone(good), FLOAT32)
    with pytest.raises(ImageError, match="half.png"):
        waiting[0].result()


def test_what_waits_is_answered_when_it_closes():
    """Long before its time; then nothing is taken."""
    server = Server(MODEL, Options(60.0, rows=2, row_tokens=80))
    images = images_of([(10, 20), (20, 10)])
    waiting = [server.submit(image) for image in images]
    server.close()
    gives_each_its_own(images, [each.result(timeout=0) for each in waiting])
    with pytest.raises(ConfigError, match="closed"):
        server.submit(images[0])


def test_an_error_reaches_those_who_wait(monkeypatch):
    with Server(MODEL, Options(0.0, rows=2, row_tokens=80)) as server:
        monkeypatch.setattr(server, "compute", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            server.submit(images_of([(10, 20)])[0]).result(timeout=60)
        monkeypatch.undo()
        assert_close(server.submit(images_of([(10, 20)])[0]).result(), alone(images_of([(10, 20)])[0]), FLOAT32)


def test_nobody_waits_for_a_result_that_is_given_up(server):
    image = images_of([(10, 20)])[0]
    gone, waiting = server.submit(image), server.submit(image)
    assert isinstance(gone, Future) and gone.cancel()
    assert_close(waiting.result(), alone(image), FLOAT32)


# which images leave, and when -----------------------------------------------------------------------------------------

lengths = st.lists(st.integers(1, 80), min_size=1, max_size=40)


def is_a_batch(rows: list[list[int]], waiting: list[int]) -> None:
    """The oldest leaves; rows hold what fits; nobody twice; a row is no emptier than first come, first served."""
    gone = [n for row in rows for n in row]
    assert gone and 0 in gone and len({*gone}) == len(gone) and 1 <= len(rows) <= SHAPE.rows
    assert all(sum(waiting[n] for n in row) <= SHAPE.tokens and 1 <= len(row) <= SHAPE.images for row in rows)
    served, total = 0, 0
    while served < min(len(waiting), SHAPE.images) and total + waiting[served] <= SHAPE.tokens:
        served, total = served + 1, total + waiting[served]
    assert sum(waiting[n] for n in rows[0]) >= total


@given(lengths)
def test_a_batch_is_the_oldest_and_what_fits(waiting):
    is_a_batch(chosen(waiting, SHAPE), waiting)


@pytest.mark.parametrize("rows", [[], [[1]], [[0, 0]], [[0, 1, 2, 3, 4]], [[0], [1], [2]], [[0], [2]]])
def test_other_batches_are_caught(rows):
    is_a_batch([[0, 2], [1, 3]], [40, 40, 40, 40, 30])
    caught(is_a_batch, rows, [40, 40, 40, 40, 30])


@given(lengths, st.floats(0, 1))
def test_a_batch_leaves_when_it_is_full_or_late(waiting, waited):
    full = sum(waiting) >= 160 or len(waiting) >= 8
    assert is_due(waiting, waited, 0.5, SHAPE) == (full or waited >= 0.5)
    assert not is_due([], 1.0, 0.5, SHAPE)


def test_the_oldest_image_decides_how_long_a_batch_waits(monkeypatch):
    """Those that come later do not put it off."""
    server = object.__new__(Server)
    server.options, server.shape, server.open, server.changed = Options(1.0), SHAPE, True, threading.Condition()
    monkeypatch.setattr(server.changed, "wait", lambda seconds: pytest.fail(f"waits {seconds} s"))
    ages = (2.0, 0.5, 0.0)
    server.queue = deque(Waiting(SimpleNamespace(tokens=4), time.monotonic() - age, Future()) for age in ages)
    assert [len(row) for row in server.take()] == [len(ages)] and not server.queue


def test_docstrings_are_true():
    import doctest

    assert doctest.testmod(serving).failed == 0
