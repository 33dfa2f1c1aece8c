"""Optimizer, schedule and parallelism: frozen dataclasses, as in `navit_eqx/config.py`."""

from dataclasses import dataclass

from ..errors import check_in


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the peak to 0."""


@dataclass(frozen=True)
class Rsqrt:
    """peak / √(1 + t / timescale), t steps after warm-up, and a linear cooldown to 0.

    [Scaling ViT, Zhai et al., arXiv:2106.04560]
    """

    timescale: int = 10_000
    """Steps after which the rate has fallen to 1/√2 of the peak."""
    cooldown: float = 0.15
    """Share of the run; values ≥ 1 are steps."""

    def __post_init__(self):
        check_in("optim.schedule", "[1, 2147483647]", timescale=self.timescale)
        check_in("optim.schedule", "[0, 2147483647]", cooldown=self.cooldown)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.   [Loshchilov & Hutter, arXiv:1711.05101]"""

    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.99
    """Decay of the second moment."""

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", b1=self.b1, b2=self.b2)


@dataclass(frozen=True)
class Adafactor:
    """Factored second moments and a first moment in bfloat16: optimizer state of half the bytes of the parameters."""

    b1: float = 0.9
    """Decay of the first moment."""

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", b1=self.b1)


@dataclass(frozen=True)
class Muon:
    """Orthogonalized momentum for the matrices of blocks and pool, Adam for other parameters.

    Updates are scaled to the RMS of Adam's [arXiv:2502.16982], so that learning rate and weight decay have the same
    meaning for all optimizers.
    """

    beta: float = 0.95
    """Decay of the momentum of the matrices."""
    b1: float = 0.9
    """Decay of the first moment of Adam, for the other parameters."""
    b2: float = 0.99
    """Decay of the second moment of Adam, for the other parameters."""

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", beta=self.beta, b1=self.b1, b2=self.b2)


@dataclass(frozen=True)
class Spikes:
    """Skip updates whose gradient norm is above `factor` times its moving average; non-finite ones are always skipped.

    Choice: each norm, clipped to that limit, enters the moving average with weight 1 / window; none is skipped in the
    first `window` steps. A single spike hardly changes the average, and a lasting increase is followed: the average
    grows by up to 1 + (factor − 1) / window per step.
    """

    factor: float = 10.0
    """Gradient norm, in multiples of its moving average, above which a step is skipped."""
    window: int = 100
    """Steps of the moving average."""

    def __post_init__(self):
        check_in("optim.skip", "(1, inf)", factor=self.factor)
        check_in("optim.skip", "[1, 2147483647]", window=self.window)


@dataclass(frozen=True)
class Backbone:
    """Freeze the backbone; with `last_n`, all but its last blocks and what follows them. 0: a linear probe."""

    last_n: int = 0
    """Blocks at the end that are trained, with the norm and the pool after them; 0: the head of the task alone."""

    def __post_init__(self):
        check_in("optim.frozen", "[0, 2147483647]", last_n=self.last_n)


@dataclass(frozen=True)
class Parts:
    """Freeze parts of the model by name, as in locked towers.   [LiT, Zhai et al., arXiv:2111.07991]"""

    names: tuple[str, ...] = ("backbone",)
    """Dotted names, such as backbone.patch_embedding or task.text; a name includes everything below it."""
    last_n: int = 0
    """Blocks at the end of each named tower that are trained, with the norm and the pool after them."""

    def __post_init__(self):
        check_in("optim.frozen", "[0, 2147483647]", last_n=self.last_n)


@dataclass(frozen=True)
class LayerDecay:
    """Smaller learning rates for earlier layers.   [BEiT, arXiv:2106.08254; ELECTRA, arXiv:2003.10555]"""

    decay: float = 0.75
    """Rate of a layer over that of the next one."""

    def __post_init__(self):
        check_in("optim.layers", "(0, 1]", decay=self.decay)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer with warm-up, learning rate schedule, weight decay, and clipping by the global norm."""

    rule: AdamW | Adafactor | Muon = AdamW()
    """Direction of an update from the gradients."""

    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Cosine | Rsqrt = Rsqrt()
    """Learning rate over the steps after warm-up."""
    warmup: float = 0.05
    """Share of the run with a linear increase from 0; values ≥ 1 are steps."""
    weight_decay: float = 0.05
    """Each step subtracts lr · weight_decay · parameter, for matrices only."""
    head_decay: float | None = None
    """Weight decay of the head of the task; auto: weight_decay."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    skip: Spikes | None = None
    """Skip updates with a spike of the gradient norm; none: skip only non-finite ones."""
    frozen: Backbone | Parts | None = None
    """Parameters that stay as they are: no gradient, optimizer state or decay; none: all are trained."""
    layers: LayerDecay | None = None
    """Learning rate by layer; none: the same for all."""
    accumulate: int = 1
    """Gradient accumulation: sequential parts of a batch. Less memory, the same gradient."""
    ema: float = 0.0
    """Decay of the moving average of the parameters, which is evaluated and saved instead; 0: no average."""

    def __post_init__(self):
        check_in("optim", "[0, inf)", lr=self.lr, weight_decay=self.weight_decay, head_decay=self.head_decay)
        check_in("optim", "[0, 2147483647]", warmup=self.warmup)
        check_in("optim", "(0, inf)", clip=self.clip)
        check_in("optim", "[1, 2147483647]", accumulate=self.accumulate)
        check_in("optim", "[0, 1)", ema=self.ema)


@dataclass(frozen=True)
class DataParallel:
    """Parameters are replicated on every device; rows are sharded."""


@dataclass(frozen=True)
class FSDP:
    """Rows are sharded, and so are large parameters, their moving average and their optimizer state.

    Arrays are sharded along the longest axis that the devices divide, and gathered when they are needed.
    [ZeRO stage 3, arXiv:1910.02054]
    """

    min_size: int = 2**16
    """Elements of the smallest array that is sharded; smaller ones are replicated."""

    def __post_init__(self):
        check_in("parallelism", "[1, 2147483647]", min_size=self.min_size)
