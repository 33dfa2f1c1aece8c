"""Does a model give each image of a batch what it gives that image alone? For anybody's model.

    python -m navit_eqx.isolation package.module:function [--examples 20] [--sides 16 64] [--step 16]
    python navit_eqx/isolation.py module:function              where there is no JAX: this file needs NumPy alone

`function` takes a list of images, float32 arrays h w C of any sizes in [−1, 1], and returns a vector for each. Sides
are multiples of `--step`. Where `function.gradient(images, n)` is there, it returns the gradients of the sum of the
n-th vector with respect to each image. What is checked, on random images:

    repeated    the same call gives the same
    alone       an image in company gives what it gives alone: padding and packing cannot be seen
    order       images in another order give the same vectors in that order
    company     other pixels in the other images, a thousand times as large, change nothing
    gradient    the gradient with respect to other images is zero, exactly

A failure is reported with the smallest images that still show it. Exit code 0: all hold; 1: one does not; 2: a wrong
call.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Images = list[np.ndarray]
Function = Callable[[Images], Any]
Case = tuple[list[tuple[int, int]], int]  # sizes, and a seed
LAWS = ("repeated", "alone", "order", "company", "gradient")


@dataclass(frozen=True)
class Domain:
    """The images that are drawn."""

    sides: tuple[int, int] = (16, 64)
    """Smallest and largest side in pixels."""
    step: int = 16
    """Sides are multiples of this, such as the patch."""
    channels: int = 3
    most: int = 4
    """Most images of a call."""

    def sizes(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Sizes of 2 to `most` images."""
        lo, hi = (max(1, side // self.step) for side in self.sides)
        count = int(rng.integers(2, self.most + 1))
        drawn = (rng.integers(lo, hi + 1, 2) * self.step for _ in range(count))
        return [(int(height), int(width)) for height, width in drawn]

    def images(self, sizes: Sequence[tuple[int, int]], seed: int) -> Images:
        """Random images of these sizes."""
        rng = np.random.default_rng(seed)
        return [rng.uniform(-1, 1, (*size, self.channels)).astype(np.float32) for size in sizes]


@dataclass
class Finding:
    """How a law held: how often it was tried, the worst error, and the smallest example that breaks it."""

    law: str
    tried: int = 0
    worst: float = 0.0
    example: str = ""
    """Empty: it held."""

    def __str__(self) -> str:
        said = f"BROKEN   {self.example}" if self.example else "holds" if self.tried else "not tried"
        return f"{self.law:10} {self.tried:4}   {self.worst:9.2g}   {said}"


@dataclass
class Report:
    """The findings of all laws."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether no law is broken."""
        return not any(finding.example for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(["law       tried   worst error", *map(str, self.findings)])


def check(
    function: Function, domain: Domain = Domain(), *, examples: int = 20, tolerance: float = 1e-4, seed: int = 0
) -> Report:
    """Try every law on random images.   Raises ValueError where `function` does not return a vector for each image."""
    report = Report()
    rng = np.random.default_rng(seed)
    drawn = [(domain.sizes(rng), int(rng.integers(2**31))) for _ in range(examples)]
    for law in LAWS:
        offered = law != "gradient" or hasattr(function, "gradient")
        limit = 0.0 if law == "gradient" else tolerance
        error = partial(error_of, function, law, domain)
        report.findings.append(tried(law, drawn if offered else [], error, limit, domain))
    return report


def error_of(function: Function, law: str, domain: Domain, sizes: list[tuple[int, int]], seed: int) -> float:
    """The error of a law on images of these sizes."""
    return broken(function, law, domain.images(sizes, seed), seed)


def tried(law: str, drawn: Sequence[Case], error: Callable[..., float], limit: float, domain: Domain) -> Finding:
    """A law on examples, up to the first that breaks it, which is made small."""
    finding = Finding(law)
    for case in drawn:
        found, finding.tried = error(*case), finding.tried + 1
        finding.worst = max(finding.worst, found)
        if not found <= limit:
            sizes, seed = smallest(*case, domain, lambda *smaller: not error(*smaller) <= limit)
            finding.example = described(sizes, seed, error)
            break
    return finding


def broken(function: Function, law: str, images: Images, seed: int) -> float:
    """The error of a law on these images, relative to the largest entry; infinite where results are not finite."""
    rng = np.random.default_rng(seed + 1)
    if law == "gradient":
        n = int(rng.integers(len(images)))
        gradients = function.gradient(images, n)  # pyright: ignore[reportFunctionMemberAccess]
        others = [np.abs(np.asarray(g)).max(initial=0.0) for i, g in enumerate(gradients) if i != n]
        return float(max(others, default=0.0))
    vectors = called(function, images)
    if law == "repeated":
        return distance(called(function, images), vectors)
    if law == "alone":
        return distance([called(function, [image])[0] for image in images], vectors)
    if law == "order":
        order = np.roll(np.arange(len(images)), 1 + int(rng.integers(max(1, len(images) - 1))))
        return distance(called(function, [images[i] for i in order]), [vectors[i] for i in order])
    n = int(rng.integers(len(images)))
    others = [image if i == n else 1e3 * np.sign(image) for i, image in enumerate(images)]
    return distance([called(function, others)[n]], [vectors[n]])


def called(function: Function, images: Images) -> list[np.ndarray]:
    """The vectors of images, as arrays.   Raises ValueError where there is not one for each, or one is not finite."""
    vectors = [np.asarray(vector, np.float64).ravel() for vector in function([image.copy() for image in images])]
    if len(vectors) != len(images):
        raise ValueError(f"the function returned {len(vectors)} vectors for {len(images)} images")
    if not all(np.isfinite(vector).all() for vector in vectors):
        raise ValueError(f"the function returned numbers that are not finite for sizes {sizes_of(images)}")
    return vectors


def distance(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """max |got − want| / max |want|; infinite where it is no number."""
    if any(a.shape != b.shape for a, b in zip(got, want, strict=True)):
        return float("inf")
    size = max((np.abs(b).max(initial=0.0) for b in want), default=0.0) or 1.0
    worst = max(float(np.abs(a - b).max(initial=0.0)) / size for a, b in zip(got, want))
    return worst if np.isfinite(worst) else float("inf")


def smallest(sizes: list[tuple[int, int]], seed: int, domain: Domain, fails: Callable[..., bool]) -> Any:
    """Fewer and smaller images, as long as they fail."""
    step, shrunk = domain.step, True
    while shrunk:
        fewer = [sizes[:n] + sizes[n + 1 :] for n in range(len(sizes))] if len(sizes) > 2 else []
        less = lambda side: sorted({step, side // 2 // step * step, side - step} - {0, side})
        smaller = [
            [*sizes[:n], size, *sizes[n + 1 :]]
            for n, (height, width) in enumerate(sizes)
            for size in [(side, width) for side in less(height)] + [(height, side) for side in less(width)]
            if min(size) >= step
        ]
        better = next((case for case in fewer + smaller if fails(case, seed)), None)
        shrunk, sizes = better is not None, better or sizes
    return sizes, seed


def described(sizes: list[tuple[int, int]], seed: int, error: Callable[..., float]) -> str:
    """A failing example in words."""
    return (
        f"{len(sizes)} images of {', '.join(f'{h}x{w}' for h, w in sizes)}, seed {seed}: error {error(sizes, seed):.2g}"
    )


def sizes_of(images: Images) -> list[tuple[int, ...]]:
    """Heights and widths."""
    return [image.shape[:2] for image in images]


def loaded(name: str) -> Function:
    """A function by `module:name`.   Raises ValueError where there is none."""
    module, _, inner = name.partition(":")
    if not inner:
        raise ValueError(f"{name!r} is not written as module:function")
    found: Any = importlib.import_module(module)
    for part in inner.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module {module} has no {inner}")
        found = getattr(found, part)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the function of the command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m navit_eqx.isolation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("function", help="module:function")
    parser.add_argument("--examples", type=int, default=20, help="calls of each law")
    parser.add_argument("--sides", type=int, nargs=2, default=(16, 64), help="smallest and largest side, in pixels")
    parser.add_argument("--step", type=int, default=16, help="sides are multiples of this, such as the patch")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--most", type=int, default=4, help="most images of a call")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative to the largest entry")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (
        not all(a <= b for a, b in pairwise((1, options.step, *options.sides)))
        or min(options.channels, options.examples) < 1
    ):
        parser.error("1 <= step <= sides in order, channels and examples at least 1")
    if options.most < 2:
        parser.error("--most is at least 2: an image needs company")
    sys.path.insert(0, os.getcwd())
    try:
        domain = Domain(tuple(options.sides), options.step, options.channels, options.most)
        function = loaded(options.function)
        report = check(function, domain, examples=options.examples, tolerance=options.tolerance, seed=options.seed)
    except (ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
