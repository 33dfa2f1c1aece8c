"""Classes of unequal size."""

from dataclasses import dataclass

from ..errors import check_in


@dataclass(frozen=True)
class ByClass:
    """Images of small classes stand several times in an epoch: each (n_max / n)^power times, for n images of its class;
    of several classes the rarest decides.   [LVIS, arXiv:1908.03195, repeat factors]"""

    power: float = 1.0
    """1: classes as large as the largest one; 0.5: the repeat factors of LVIS; 0: no repetition."""

    def __post_init__(self):
        check_in("[0, 1]", power=self.power)
