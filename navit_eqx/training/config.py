"""What a model learns from, and by which rule: frozen dataclasses, as in `config.py`."""

from dataclasses import dataclass

from ..errors import check_in


@dataclass(frozen=True)
class Cosine:
    """From the peak to 0 along half a cosine."""


@dataclass(frozen=True)
class Rsqrt:
    """Peak / √(1 + t / timescale), then a straight line to 0 over the last `cooldown` share of the run."""

    timescale: int = 10_000
    cooldown: float = 0.15
    """From 1 on, in steps."""

    def __post_init__(self):
        check_in("optim.schedule", "[1, 2147483647]", timescale=self.timescale)
        check_in("optim.schedule", "[0, 2147483647]", cooldown=self.cooldown)


@dataclass(frozen=True)
class AdamW:
    """Adam with decay apart from the gradient."""

    b1: float = 0.9
    b2: float = 0.99

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", b1=self.b1, b2=self.b2)


@dataclass(frozen=True)
class Adafactor:
    """Factored second moments and a first moment in bfloat16: an optimiser state of half the parameters' bytes."""

    b1: float = 0.9

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", b1=self.b1)


@dataclass(frozen=True)
class Muon:
    """Orthogonalised momentum for the matrices of blocks and pool, Adam for the rest.

    Steps are scaled to the size of Adam's [arXiv:2502.16982], so that rate and decay mean the same for all rules.
    """

    beta: float = 0.95
    b1: float = 0.9
    b2: float = 0.99

    def __post_init__(self):
        check_in("optim.rule", "[0, 1)", beta=self.beta, b1=self.b1, b2=self.b2)


@dataclass(frozen=True)
class Spikes:
    """Steps are refused, like those that are not finite, whose gradient norm is above `factor` times its running mean.

    Choice: the mean follows each norm, up to that limit, by 1 / window of the difference; none is refused before it has
    seen `window` norms. So a lone spike hardly moves it, and a lasting change is followed: it grows by
    1 + (factor − 1) / window a step.
    """

    factor: float = 10.0
    window: int = 100

    def __post_init__(self):
        check_in("optim.skip", "(1, inf)", factor=self.factor)
        check_in("optim.skip", "[1, 2147483647]", window=self.window)


@dataclass(frozen=True)
class OptimConfig:
    """An optimiser with warm-up, a schedule, decay, and clipping by the global norm."""

    rule: AdamW | Adafactor | Muon = AdamW()

    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Cosine | Rsqrt = Rsqrt()
    warmup: float = 0.05
    """Share of the run over which the rate rises from 0; from 1 on, in steps."""
    weight_decay: float = 0.05
    """Per step, lr · weight_decay · parameter, on matrices alone."""
    head_decay: float | None = None
    """The same for the head of the task; auto: weight_decay."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    skip: Spikes | None = None
    """Which finite steps are refused; none refuses none."""
    accumulate: int = 1
    """Parts into which a batch is cut, one after the other: less memory, the same gradient."""
    ema: float = 0.0
    """Decay of a moving average of the parameters, which is then evaluated and saved; 0 keeps none."""

    def __post_init__(self):
        check_in("optim", "[0, inf)", lr=self.lr, weight_decay=self.weight_decay, head_decay=self.head_decay)
        check_in("optim", "[0, 2147483647]", warmup=self.warmup)
        check_in("optim", "(0, inf)", clip=self.clip)
        check_in("optim", "[1, 2147483647]", accumulate=self.accumulate)
        check_in("optim", "[0, 1)", ema=self.ema)


@dataclass(frozen=True)
class DataParallel:
    """Every device holds all parameters and sees its share of the rows."""


@dataclass(frozen=True)
class FSDP:
    """Every device also holds its share of each large parameter, its average and its optimiser state.

    Arrays are split along the longest axis that the devices divide, and gathered when they are needed.
    [ZeRO stage 3, arXiv:1910.02054]
    """

    min_size: int = 2**16
    """Numbers in the smallest array that is split; smaller ones are on every device."""

    def __post_init__(self):
        check_in("parallelism", "[1, 2147483647]", min_size=self.min_size)
