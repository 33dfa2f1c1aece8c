"""The optimizer, its schedule, which parameters decay, and rates by layer."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from .config import Adafactor, AdamW, Cosine, LayerDecay, Muon, OptimConfig, Rsqrt
from .frozen import part_at

BEFORE_BLOCKS = {"patch_embedding", "posembed", "time", "levels", "detail", "registers"}
DECAYED = {"w", "q", "k", "v", "o"}  # matrices; not biases, scales, position tables or the probe


def schedule(config: OptimConfig, steps: int) -> Callable[[Any], Any]:
    """Learning rate as a function of the number t of completed steps, so that a resumed run continues it.

    Warm-up is (t + 1) / warmup, so that the first step has a positive rate; the rate is 0 only after the last step.
    """
    warmup = span(config.warmup, steps)
    match config.schedule:
        case Cosine():
            first = config.lr / warmup
            return optax.warmup_cosine_decay_schedule(first, config.lr, max(warmup - 1, 0), max(steps, warmup + 1))
        case Rsqrt(timescale, cooldown):
            cool = span(cooldown, steps)

            def rate(step):
                shape = jax.lax.rsqrt(1 + jnp.maximum(step + 1 - warmup, 0) / timescale)
                return config.lr * shape * jnp.clip(jnp.minimum((step + 1) / warmup, (steps - step) / cool), 0, 1)

            return rate


def span(length: float, steps: int) -> int:
    """A length in steps: `length` is a share of the run below 1, else a number of steps."""
    return max(1, round(length if length >= 1 else length * steps))


def decay_groups(model: Any) -> Any:
    """The decay group of each parameter of a `Model`: "head" (task), "body" (a tower), or "none" (no decay)."""

    def group(path, leaf):
        if path[-1].name not in DECAYED:
            return "none"
        return "body" if tower_part(path) else "head"

    return jax.tree_util.tree_map_with_path(group, eqx.filter(model, eqx.is_inexact_array))


def tower_part(path: Sequence[Any]) -> str:
    """The part of a tower (the backbone, or a tower of the task) that holds a parameter; empty for heads."""
    names = [key.name for key in path]
    towers = {("backbone",): 1, ("task", "text"): 2, ("task", "class_head", "text"): 3}
    return next((names[n] for tower, n in towers.items() if tuple(names[:n]) == tower), "")


def matrices(model: Any) -> Any:
    """Input and output axes of each matrix of blocks and pool, for Muon; None for other parameters."""

    def axes(path, _):
        name, part = path[-1].name, tower_part(path)
        if part not in ("encoder", "pool") or name not in DECAYED:
            return None
        if name == "w":
            return MuonDimensionNumbers(-2, -1)
        return MuonDimensionNumbers((-3, -2), -1) if name == "o" else MuonDimensionNumbers(-3, (-2, -1))

    return jax.tree_util.tree_map_with_path(axes, model)


def layer_rates(model: Any, decay: float) -> Any:
    """Factor of the learning rate of each parameter: decay^(L + 1 − l) in layer l.

    Layer 0 is all before the blocks, layers 1 to L are the blocks, and layer L + 1 is all after them; `model` may have
    the last blocks alone.   [BEiT, arXiv:2106.08254; mirror of `reference/layer_decay.py`]
    """

    def factor(path, leaf):
        names = [key.name for key in path]
        if "blocks" in names:
            left = jnp.arange(len(leaf), 0, -1, dtype=leaf.dtype)  # blocks from here to the end
            return jnp.power(decay, left).reshape(-1, *(1,) * (leaf.ndim - 1))
        early = next((i for i, name in enumerate(names) if name in BEFORE_BLOCKS), None)
        return 1.0 if early is None else decay ** (part_at(model, names[:early]).encoder.depth + 1)

    return jax.tree_util.tree_map_with_path(factor, model)


def scale_by_layer(layers: LayerDecay) -> optax.GradientTransformation:
    """Updates times the factor of their layer, weight decay included."""

    def scale(updates, params):
        return jax.tree.map(lambda u, f: u * jnp.asarray(f, u.dtype), updates, layer_rates(params, layers.decay))

    return optax.stateless(scale)


def direction(rule: AdamW | Adafactor | Muon) -> optax.GradientTransformation:
    """The update before weight decay and learning rate."""
    match rule:
        case AdamW(b1, b2):
            return optax.scale_by_adam(b1, b2)
        case Adafactor(b1):
            # Scaling ViT (arXiv:2106.04560), without its cap on the decay of second moments, which optax lacks.
            second = optax.scale_by_factored_rms(min_dim_size_to_factor=32)
            return optax.chain(second, optax.ema(b1, debias=False, accumulator_dtype="bfloat16"))
        case Muon(beta, b1, b2):
            return muon(
                -1.0,  # the sign of the gradient, as in the others
                beta=beta,
                adam_b1=b1,
                adam_b2=b2,
                muon_weight_dimension_numbers=matrices,  # pyright: ignore[reportArgumentType]
                consistent_rms=0.2,
            )


def optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, direction of the update, weight decay, rate of the layer, learning rate.

    It reads the trained parameters alone (`frozen.partition`).
    """

    def decay(group: str, rate: float) -> optax.GradientTransformation:
        mask = lambda model: jax.tree.map(lambda g: g == group, decay_groups(model))
        return optax.add_decayed_weights(rate, mask)

    head = config.weight_decay if config.head_decay is None else config.head_decay
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        direction(config.rule),
        decay("body", config.weight_decay),
        decay("head", head),
        optax.identity() if config.layers is None else scale_by_layer(config.layers),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )
