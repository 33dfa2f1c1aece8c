"""Inference: one program for any stream of requests, rows of any number on any number of devices, nothing decided by
one image."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from navit_eqx import front, images, inference
from navit_eqx.config import Dense, Factorised, Loop, ModelConfig, Sinusoidal
from navit_eqx.images import pack, row_lengths
from navit_eqx.preprocessing import Area, Fixed, Native, NeverEnlarged, OneSquare, Preprocessing, Square, TokenBudget
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from tests.support.laws import caught
from tests.support.programs import compiled
from tests.support.strategies import filled
from tests.support.tolerances import FLOAT32, assert_close

SHAPE = ModelConfig((8, 8), width=8, depth=1, heads=1, mlp_width=8, posembed=Sinusoidal(), dtype="float32")
RULES = (Area(40), Native(), NeverEnlarged(Area(40)), Square(Area(40)), OneSquare(40), TokenBudget(25), Fixed(40, 24))


def model_with(rule, shape: ModelConfig = SHAPE, row_tokens: int = 64) -> navit.Model:
    info = navit.ModelInfo(("a", "b"), Preprocessing(rule, row_tokens=row_tokens, row_images=4))
    return filled(abstract_model(shape, Classify(classes=2), info), 0, "float32")


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)


# programs -----------------------------------------------------------------------------------------------

sides = st.integers(1, 60) | st.integers(60, 400)
requests = st.lists(st.lists(st.tuples(sides, st.integers(1, 90)), max_size=12), max_size=3)
MANY, THIN = [(40, 40)] * 45, (400, 4)


def needs_two_programs(model: navit.Model, examples: int) -> None:
    """Any number of images of any size, again and again: pack, forward, unpack and probabilities compile two."""

    @settings(max_examples=examples)
    @example([[(30, 30)], MANY, [*MANY, *MANY], [(400, 80), (9, 9)], []])
    @given(requests)
    def serve(stream):
        for sizes in stream:
            batch = navit.pack([picture(size) for size in sizes], model)
            p = navit.probabilities(model, navit.unpack(batch, navit.forward(model, batch)))
            assert p.shape == (len(sizes), 2) and np.isfinite(p).all()

    with compiled() as count:
        serve()
    assert count[0] <= 2, f"{count[0]} programs"


def test_any_stream_of_requests_needs_two_programs(monkeypatch):
    monkeypatch.setattr(images, "LONG", 576)  # 50 x 11 patches
    needs_two_programs(model_with(Native()), 10)
    monkeypatch.setattr(front.inference, "run", lambda model, batch: np.asarray(inference.forward(model, batch)))
    caught(needs_two_programs, model_with(Native(), replace(SHAPE, mlp_width=16)), 1)


def test_a_budget_and_positions_that_end_need_one_program():
    model = model_with(Area(40), replace(SHAPE, posembed=Factorised(40)))
    with compiled() as count:
        for sizes in ([(30, 30)], MANY, [(300, 9), (1, 39)]):
            navit.forward(model, navit.pack([picture(size) for size in sizes], model))
    assert count[0] == 1


@given(rule=st.sampled_from(RULES), size=st.tuples(sides, sides), row_tokens=st.integers(1, 60))
def test_an_ordinary_row_holds_every_image_within_the_budget(rule, size, row_tokens):
    patch = (8, 8)
    lengths = row_lengths(Preprocessing(rule, row_tokens=row_tokens), patch)
    grid = rule.grid(size, patch)
    assert lengths.ordinary >= row_tokens and lengths.long >= max(lengths.ordinary, images.LONG)
    if rule.budget(patch) is not None and min(grid) > 1:
        assert np.prod(grid) <= rule.budget(patch) <= lengths.ordinary


@given(side=st.floats(8, 64), size=st.tuples(sides, sides), longest=st.integers(8, 64))
def test_a_long_row_holds_every_image_that_has_positions(side, size, longest):
    rule = NeverEnlarged(Area(side))
    grid = rule.grid(size, (8, 8))
    if max(grid) <= longest:
        lengths = row_lengths(Preprocessing(rule, row_tokens=32), (8, 8), longest)
        assert np.prod(grid) <= lengths.long


# rows and devices ---------------------------------------------------------------------------------------


def batch_of(count: int) -> navit.Row:
    how = Preprocessing(Native(), row_tokens=300, row_images=3)
    return pack([picture((16 + 8 * (i % 5), 100)) for i in range(count)], preprocessing=how, patch=(8, 8), rows=count)


@pytest.mark.parametrize(
    "output, attention", [(inference.forward, Loop(2)), (inference.hidden_states, Dense())], ids=["loop", "dense"]
)
def test_groups_and_devices_change_nothing(output, attention):
    """To the bit: every device computes groups of the same shape, whatever the number of devices."""
    model, batch = model_with(Native(), replace(SHAPE, attention=attention)), batch_of(10)
    want = inference.run(model, batch, output)
    assert len(want) == len(batch.image_ids) > 3 * inference.rows_at_once(300)
    assert_close(want, np.asarray(output(model, navit.to_device(batch))), FLOAT32)
    assert len(jax.local_devices()) == 8
    ((same, got),) = inference.outputs(model, [batch], output)
    assert same is batch
    np.testing.assert_array_equal(got, want)


def test_all_devices_compute():
    runner = inference.Runner.on(model_with(Native()), inference.forward, jax.local_devices())
    (part,) = runner.started(batch_of(7))
    assert len(part.sharding.device_set) == 8 and not part.sharding.is_fully_replicated


# streams ------------------------------------------------------------------------------------------------

KINDS = {"sliver": (1, 32000), "wide": (10, 10_000), "three megapixels": (1500, 2000)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [Native(), Area(40), NeverEnlarged(Area(40))], ids=lambda rule: type(rule).__name__)
def test_no_image_decides_for_others(kind, rule, monkeypatch):
    """Where positions have no end, too: others have the rows that they would have without it, it has one or is
    refused by name, and memory has a bound."""
    model, reasons, made = model_with(rule), {}, []
    monkeypatch.setattr(images, "LONG", 512)
    monkeypatch.setattr(images, "filled", lambda *a, f=images.filled, **k: made.append(f(*a, **k)) or made[-1])
    few = [picture((30, 30)), picture((16, 40))]
    odd = np.broadcast_to(np.uint8(7), (*KINDS[kind], 3))
    want = list(navit.stream(model, few))
    ordinary = made[0]
    got = list(navit.stream(model, [few[0], odd, few[1]], report=reasons.__setitem__))
    assert_close(np.stack([got[0], got[2]]), np.stack(want), FLOAT32)
    assert made[1].patches.shape == ordinary.patches.shape == (16, 64, 192)
    tokens = np.prod(rule.grid(KINDS[kind], (8, 8)))
    assert max(batch.patches.shape[1] for batch in made) <= images.LONG
    assert np.isnan(got[1]).all() == (tokens > images.LONG) == (1 in reasons)
    assert all("image 1 has" in why and f"a row holds {images.LONG}" in why for why in reasons.values())


def is_answered_in_order(stream) -> None:
    """Every image has the output that it has alone, in order; what cannot be used has NaN and a reason."""
    model, rng = model_with(Native()), np.random.default_rng(0)
    sizes = [(int(h), int(w)) for h, w in rng.integers(8, 40, (150, 2))]
    given: list = [picture(size) for size in sizes]
    given[3], given[70], given[100] = given[3] / np.float32(255), picture((120, 80)), np.zeros((9, 9), bool)
    reasons = {}
    got = list(stream(model, iter(given), report=reasons.__setitem__))
    assert len(got) == len(given) and reasons.keys() == {100} and np.isnan(got[100]).all()
    for i in (0, 3, 63, 64, 70, 149):
        alone = navit.pack([given[i]], model)
        assert_close(got[i], navit.unpack(alone, navit.forward(model, alone))[0], FLOAT32)


def test_a_stream_is_answered_in_order(monkeypatch):
    monkeypatch.setattr(images, "LONG", 576)
    is_answered_in_order(navit.stream)
    late = lambda *args, **options: sorted(navit.stream(*args, **options), key=lambda x: x[0])
    caught(is_answered_in_order, late)


def test_a_stream_reads_no_further_than_it_must():
    """A batch is answered while the next one is read, so memory does not grow."""
    seen = []
    stream = navit.stream(model_with(Native()), (seen.append(i) or picture((16, 16)) for i in range(1000)))
    next(stream)
    assert len(seen) <= 2 * images.IMAGES
