"""AdamW, its schedule, and which parameters decay."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax

from .config import Cosine, OptimConfig, Rsqrt
from .model import NaViT

DECAYED = {"w", "q", "k", "v", "o"}  # matrices; not biases, scales, position tables or the probe


def schedule(config: OptimConfig, steps: int) -> Callable[[Any], Any]:
    """Learning rate as a function of the step alone, so that a resumed run continues it."""
    warmup = max(1, round(config.warmup * steps))
    match config.schedule:
        case Cosine():
            return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, max(steps, warmup + 1))
        case Rsqrt(timescale, cooldown):
            cool = max(1, round(cooldown * steps))

            def rate(step):
                jnp = jax.numpy
                shape = jax.lax.rsqrt(1 + jnp.maximum(step - warmup, 0) / timescale)
                return config.lr * shape * jnp.clip(jnp.minimum(step / warmup, (steps - step) / cool), 0, 1)

            return rate


def decay_mask(model: NaViT) -> NaViT:
    """True for the parameters that decay."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: path[-1].name in DECAYED, eqx.filter(model, eqx.is_inexact_array)
    )


def optimiser(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, then AdamW."""
    adamw = optax.adamw(schedule(config, steps), b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask)
    return optax.chain(optax.clip_by_global_norm(config.clip), adamw)
