"""A budget for an image, ways to read images, and the choice among them that is stored with a model."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from navit_eqx.errors import ConfigError
from navit_eqx.preprocessing import Merge, Preprocessing, at_resolution
from navit_eqx.serialize import decode, encode

from ..run.folder import read_sealed, write_sealed

FILE = "choice.json"
SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
FLOPS = {"FLOP": 1.0, "kFLOP": 1e3, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12}
UNITS = SECONDS | FLOPS


@dataclass(frozen=True)
class Budget:
    """What an image may cost in the mean: time or forward FLOPs."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """The budget of a text such as 5ms or 2GFLOP.   Raises ConfigError.

        >>> Budget.parse("2 gflops")
        Budget(amount=2.0, unit='GFLOP')
        """
        found = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ]+)\s*", text)
        names = {name.lower(): name for name in UNITS} | {f"{name.lower()}s": name for name in FLOPS}
        unit = names.get(found[2].lower()) if found else None
        try:
            amount = float(found[1]) if found else 0.0
        except ValueError:
            amount = 0.0
        if unit is None or not 0 < amount < float("inf"):
            raise ConfigError(
                f"budget={text!r} must be a positive time or number of operations for an image, such as 5ms or 2GFLOP; "
                f"units: {', '.join(UNITS)}"
            )
        return cls(amount, unit)

    @property
    def is_time(self) -> bool:
        """Whether it is a time."""
        return self.unit in SECONDS

    @property
    def limit(self) -> float:
        """Seconds, or FLOPs."""
        return self.amount * self.scale

    @property
    def scale(self) -> float:
        """Seconds or FLOPs of one unit."""
        return UNITS[self.unit]

    def words(self, cost: float) -> str:
        """A cost in seconds or FLOPs, to three digits, rounded up: as a budget, it is enough.

        >>> Budget(5.0, "ms").words(0.0012301)
        '1.24 ms'
        """
        units = SECONDS if self.is_time else FLOPS
        unit = max(
            (u for u in units if cost >= units[u]), key=lambda u: units[u], default=min(units, key=lambda u: units[u])
        )
        digit = 10.0 ** (math.floor(math.log10(cost / units[unit])) - 2)
        return f"{math.ceil(cost / units[unit] / digit * (1 - 1e-9)) * digit:.3g} {unit}"

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True)
class Reading:
    """How an image is read: a value on each axis of the trade-off."""

    resolution: float | None = None
    """In the unit of the sampling of the run; None: that of validation."""
    patch_size: int | None = None
    """Side of the patches in pixels; None: the patch of the model."""
    merge: float | None = None
    """Share of the possible merges of patches; None: as the model was trained."""

    def options(self, preprocessing: Preprocessing) -> dict[str, Any]:
        """The arguments of `navit.pack`."""
        how: dict[str, Any] = {}
        if self.resolution:
            preprocessing = replace(preprocessing, size=at_resolution(preprocessing.size, self.resolution))
        if self.merge is not None:
            merge = replace(preprocessing.merge or Merge(), rate=self.merge) if self.merge else None
            preprocessing = replace(preprocessing, merge=merge)
        if self.resolution or self.merge is not None:
            how["preprocessing"] = preprocessing
        if self.patch_size:
            how["patch"] = (self.patch_size, self.patch_size)
        return how

    def words(self) -> str:
        """For people."""
        patches = f" in patches of {self.patch_size}" if self.patch_size else ""
        merge = "" if self.merge is None else f", merged at rate {self.merge:g}" if self.merge else ", nothing merged"
        return f"resolution {self.resolution:g}{patches}{merge}"


@dataclass(frozen=True)
class Choice:
    """The best way to read images within a budget, by the images of an evaluation."""

    budget: str
    first: Reading
    then: Reading | None
    """Images whose first prediction has a confidence below the threshold are read again; None: no image is."""
    threshold: float
    cost: float
    """Mean cost of an image, in seconds or FLOPs."""
    metric: str
    score: float
    """On the half of the images that did not choose."""
    device: str
    parameters: str
    """Digest of the parameters: a model that is trained again has no choice yet."""

    def words(self) -> str:
        """For people."""
        again = f", then {self.then.words()} where confidence is below {self.threshold:.3f}" if self.then else ""
        return f"{self.first.words()}{again}"


def place(folder: Path) -> Path:
    """The file of the choice: beside the parameters of a run or of a saved model."""
    return (folder / "model" if (folder / "model" / "config.json").is_file() else folder) / FILE


def store(choice: Choice, folder: Path) -> Path:
    """Write the choice for the model in a folder.   Raises OSError where it cannot be written."""
    write_sealed(place(folder), encode(choice))
    return place(folder)


def stored(folder: Path, digest: str) -> Choice | None:
    """The choice for the parameters with this digest; None where there is none.   Raises ConfigError for a damaged
    file."""
    file = place(folder)
    if not file.is_file():
        return None
    choice = decode(Choice, read_sealed(file), f"{file}")
    return choice if choice.parameters == digest else None
