"""Selection of parameters by their validation score, and early stopping."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from navit_eqx.errors import check

from ..config import Best, Config, Last


@dataclass(frozen=True)
class Standing:
    """The best validation score so far, as a function of all scores in order; saved with every checkpoint."""

    score: float | None = None
    """None: no evaluation so far had a score."""
    step: int = 0
    """Step of the best score; the first one of equal scores."""
    since: int = 0
    """Evaluations since then."""

    def after(self, score: float | None, step: int) -> "Standing":
        """The standing after one more evaluation; a score that is missing or NaN is no gain."""
        if score is not None and (score > self.score if self.score is not None else score == score):
            return Standing(score, step)
        return replace(self, since=self.since + 1)


def check_selection(config: Config) -> None:
    """Raises ConfigError where the best of evaluations is asked for, and there are none on the way."""
    check(
        config.eval_every > 0 or isinstance(config.select, Last),
        "select=best compares the evaluations on the way: set --eval-every to a number of steps",
    )


class Selection:
    """Keeps the best parameters in `state.best`, and says when it is enough."""

    def __init__(self, rule: Last | Best, standing: dict[str, Any] | None):
        self.rule = rule
        self.standing = Standing(**(standing or {}))

    def position(self) -> dict[str, Any]:
        """The standing for a resumed run."""
        return asdict(self.standing)

    def see(self, state: Any, score: float | None, step: int) -> Any:
        """The state after an evaluation: with its own parameters as the best ones, where they are."""
        if isinstance(self.rule, Last):
            return state
        self.standing = self.standing.after(score, step)
        return state if self.standing.since else state._replace(best=copied(state.eval_params))

    @property
    def wanted(self) -> bool:
        """Whether the best parameters are selected."""
        return isinstance(self.rule, Best)

    @property
    def enough(self) -> bool:
        """Whether to stop early."""
        patience = self.rule.patience if isinstance(self.rule, Best) else None
        return patience is not None and self.standing.since >= patience

    def params(self, state: Any) -> Any:
        """The parameters to evaluate at the end and to save."""
        return state.eval_params if self.standing.score is None else state.best

    def summary(self) -> dict[str, Any]:
        """The selected step and whether training stopped early; nothing where the last parameters are taken."""
        if self.standing.score is None:
            return {}
        return {"selected_step": self.standing.step, "stopped_early": self.enough}


@jax.jit
def copied(params: Any) -> Any:
    """Arrays of their own: the training step overwrites its input."""
    return jax.tree.map(jnp.copy, params)
