"""k-shot linear probe: ridge regression on frozen features from a few labeled images per class.   [ViT, §4.1]"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Probe(NamedTuple):
    """Linear classifiers, one per l2 strength."""

    w: Float[np.ndarray, "R D Y"]
    b: Float[np.ndarray, "R Y"]


def ridge(
    features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], classes: int, l2: Float[np.ndarray, " R"]
) -> Probe:
    """argmin over w, b of Σ ‖xᵀw + b − t‖² + l2 ‖w‖², with t = +1 at the label and −1 elsewhere, in closed form.

    With X = U S Vᵀ and T centered: w = V · S / (S² + l2) · Uᵀ T, one SVD for all l2, and b = mean(t) − mean(x)ᵀ w.
    [ViT, §4.1: regularized least squares onto {−1, 1} targets]

    Choice: the bias is not penalized, so that predictions are invariant to a shift of the features; features are not
    standardized, so that they are invariant to a rotation. Raises ValueError unless l2 > 0: with fewer images than
    features the solution would not be unique.
    """
    if not (l2 > 0).all():
        raise ValueError(f"l2 must be positive, got {l2.min()}")
    targets = 2.0 * (labels[:, None] == np.arange(classes)) - 1
    mean, target_mean = features.mean(0), targets.mean(0)
    u, s, vt = np.linalg.svd(features - mean, full_matrices=False)
    shrunk = s / (s**2 + l2[:, None])
    w = np.einsum("kd,rk,ky->rdy", vt, shrunk, u.T @ (targets - target_mean), optimize=True)
    return Probe(w, target_mean - mean @ w)


def accuracy(
    probe: Probe, features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " R"]:
    """Share of images whose label has the highest xᵀw + b, for each l2 strength."""
    return (predictions(probe, features) == labels).mean(-1)


def predictions(probe: Probe, features: Float[np.ndarray, "N D"]) -> Int[np.ndarray, "R N"]:
    """The class with the highest xᵀw + b, for each l2 strength."""
    return (features @ probe.w + probe.b[:, None]).argmax(-1)


def sample_shots(
    rng: np.random.Generator, labels: Int[np.ndarray, " N"], classes: int, shots: int
) -> Int[np.ndarray, " n"]:
    """Indices of `shots` images of each class, drawn without replacement, grouped by class.

    Raises ValueError where a class has fewer images.
    """
    of_class = [np.flatnonzero(labels == c) for c in range(classes)]
    fewest = min(map(len, of_class))
    if fewest < shots:
        raise ValueError(f"shots={shots} images per class, but a class has {fewest}: lower shots or add images")
    return np.concatenate([rng.permutation(images)[:shots] for images in of_class])
