"""The law as a tool: it passes what keeps images apart, and says what leaks, with a small example."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import isolated
from navit_eqx import isolation
from navit_eqx.isolation import Domain, check

SMALL = Domain(sides=(2, 6), step=2)


def means(images):
    """Keeps images apart."""
    return [image.mean((0, 1)) for image in images]


def with_gradient(leak: float):
    """Means whose gradient reaches the other images by `leak`."""

    def function(images):
        return means(images)

    shares = lambda images, n: [np.full_like(x, 1.0 if i == n else leak) for i, x in enumerate(images)]
    function.gradient = shares
    return function


def noise(rng):
    return lambda images: [image.mean((0, 1)) + 0.01 * rng.normal() for image in images]


LEAKS = {
    "repeated": noise(np.random.default_rng(0)),
    "alone": isolated.padded,
    "order": lambda images: [image.mean((0, 1)) + n * (len(images) > 1) for n, image in enumerate(images)],
    "company": isolated.batch_normed,
    "gradient": with_gradient(1e-30),
}


def broken_laws(report) -> set[str]:
    return {finding.law for finding in report.findings if finding.example}


def test_what_keeps_images_apart_passes():
    for function in (means, with_gradient(0.0)):
        assert check(function, SMALL, examples=5).holds
    tried = {finding.law: finding.tried for finding in check(means, SMALL, examples=5).findings}
    assert tried == {"repeated": 5, "alone": 5, "order": 5, "company": 5, "gradient": 0}


@pytest.mark.parametrize("law", isolation.LAWS)
def test_each_leak_is_seen(law):
    assert law in broken_laws(check(LEAKS[law], SMALL, examples=8))


def test_the_example_is_the_smallest():
    """Two images that differ in one side by one step: with fewer or smaller ones nothing is padded."""
    report = check(isolated.padded, Domain(sides=(2, 32), step=2), examples=8)
    example = next(finding.example for finding in report.findings if finding.law == "alone")
    sizes = sorted(example.removeprefix("2 images of ").split(",")[:2])
    assert example.startswith("2 images of ") and " 2x2" in [f" {s.strip()}" for s in sizes], example
    assert {s.strip() for s in sizes} <= {"2x2", "2x4", "4x2"}


def test_a_wrong_function_is_refused():
    for wrong in (lambda images: [np.zeros(2)], lambda images: [x.mean((0, 1)) / 0 for x in images]):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="the function returned"):
            check(wrong, SMALL)
    for name in ("numpy", "numpy:no_such"):
        with pytest.raises(ValueError):
            isolation.loaded(name)


def test_the_command_says_what_leaks(capsys):
    """Exit codes 0, 1 and 2."""
    options = ["--examples", "3", "--sides", "2", "6", "--step", "2"]
    assert isolation.main(["tests.test_isolated:means", *options]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    assert isolation.main(["examples.isolated:padded", *options]) == 1
    assert "alone" in (said := capsys.readouterr().out) and "BROKEN   2 images of" in said
    assert isolation.main(["tests.test_isolated:nothing", *options]) == 2
    assert "has no nothing" in capsys.readouterr().err
    for wrong in (["--most", "1"], ["--step", "0"], ["--sides", "9", "3"]):
        with pytest.raises(SystemExit):
            isolation.main(["tests.test_isolated:means", *options, *wrong])


def test_it_needs_numpy_alone():
    """The file runs where there is no JAX."""
    code = "import sys; sys.modules['jax'] = None; import runpy; runpy.run_path(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(Path(isolation.__file__))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ours_keeps_images_apart():
    """Packed rows, gradients included."""
    report = check(isolated.ours, Domain(sides=(16, 64)))
    assert report.holds and all(finding.tried == 20 for finding in report.findings), str(report)
