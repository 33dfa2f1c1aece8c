"""The best parameters by validation, and early stopping: a function of the scores in order, however a run is cut."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import Best, Config, Last
from harness.run import selection
from harness.run.selection import Selection, Standing
from navit_eqx.errors import ConfigError
from navit_eqx.training.step import State
from tests.support.laws import caught

SCORES = st.lists(st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.1, 0.2, 0.3, 0.4])), max_size=12)


def ends(scores: list, patience: int | None, cut: int) -> tuple[int, Selection, State]:
    """Steps trained, and what is selected, where step n has the parameter n and a run is resumed after `cut` steps."""
    chosen, state = Selection(Best(patience), None), State(jnp.zeros(1), None, None, jnp.zeros(()), best=jnp.zeros(1))
    for step, score in enumerate(scores, 1):
        if chosen.enough:
            return step - 1, chosen, state
        state = chosen.see(state._replace(model=jnp.full(1, float(step))), score, step)
        if step == cut:
            chosen = Selection(Best(patience), json.loads(json.dumps(chosen.position())))
    return len(scores), chosen, state


def is_the_best(scores: list, patience: int | None, cut: int) -> None:
    """The first of the best scores is selected; training stops once `patience` scores in a row are no better."""
    steps, chosen, state = ends(scores, patience, cut)
    known = {n: s for n, s in enumerate(scores[:steps], 1) if s is not None and not math.isnan(s)}
    best = min(known, key=lambda n: (-known[n], n)) if known else 0
    assert chosen.standing == Standing(known.get(best), best, steps - best)
    params = np.asarray(chosen.params(state))
    assert params == (best if known else steps) and np.asarray(state.best) == best
    waits = [
        n - max((m for m in known if m <= n and known[m] > max_before(known, m)), default=0) for n in range(steps + 1)
    ]
    assert all(wait < (patience or math.inf) for wait in waits[:-1])
    assert steps == len(scores) or waits[-1] == patience


def max_before(known: dict[int, float], step: int) -> float:
    return max((s for n, s in known.items() if n < step), default=-math.inf)


@given(scores=SCORES, patience=st.one_of(st.none(), st.integers(1, 4)), cut=st.integers(0, 12))
def test_the_first_of_the_best_is_selected_and_training_stops_in_time(scores, patience, cut):
    is_the_best(scores, patience, cut)


@pytest.mark.parametrize("sabotage", ["last", "forgets", "late"])
def test_other_selections_are_caught(monkeypatch, sabotage):
    class Wrong(Selection):
        def __init__(self, rule, standing):
            super().__init__(rule, None if sabotage == "forgets" else standing)

        def params(self, state):
            return state.model if sabotage == "last" else super().params(state)

        @property
        def enough(self):
            return self.rule.patience is not None and self.standing.since > self.rule.patience - (sabotage != "late")

    monkeypatch.setitem(globals(), "Selection", Wrong)
    caught(is_the_best, [0.1, 0.3, 0.2, 0.2, 0.2, 0.2], 2, 3)


def test_the_last_parameters_are_those_of_the_state():
    state = State(jnp.ones(1), jnp.zeros(1), None, jnp.zeros(()))
    chosen = Selection(Last(), None)
    assert chosen.see(state, 0.5, 1) is state and chosen.params(state) is state.ema and not chosen.enough
    assert chosen.summary() == {}


def test_best_needs_evaluations():
    with pytest.raises(ConfigError, match="eval-every"):
        selection.check_selection(Config(select=Best()))
    selection.check_selection(Config(select=Best(), eval_every=5))


def test_kept_parameters_are_a_copy():
    params = {"w": jnp.arange(3.0)}
    kept = selection.copied(params)["w"]
    assert kept.unsafe_buffer_pointer() != params["w"].unsafe_buffer_pointer()
