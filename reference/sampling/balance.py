"""Classes of unequal size: repeated images, or weights of classes."""

import numpy as np
from jaxtyping import Float, Int


def repeat_factors(label_sets: Int[np.ndarray, "N M"], power: float) -> Float[np.ndarray, " N"]:
    """r_i = max over the classes c of image i of (n_max / n_c)^power, for n_c images of class c; 1 without a class.

    With power 1 and one class per image all classes have equally many images.   [LVIS, arXiv:1908.03195, power 1/2]
    """
    return factors_of(label_sets, power).max(-1)


def factors_of(label_sets: Int[np.ndarray, "N M"], power: float) -> Float[np.ndarray, "N M"]:
    """(n_max / n_c)^power of every class of every image; 1 where there is none."""
    counts = class_counts(label_sets)
    factors = np.append((counts.max(initial=1) / np.maximum(counts, 1)) ** power, 1.0)
    return factors[label_sets]


def repeats(label_sets: Int[np.ndarray, "N M"], power: float, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Times that each image stands in an epoch: r_i, rounded up or down at random.

    Choice: class by class, at random within a class, such that the sum over the first k images is Σ r_i rounded down,
    for every k. So classes keep their sizes, and images of a class differ by one at most.
    """
    factors = factors_of(label_sets, power)
    rarest = np.take_along_axis(label_sets, factors.argmax(-1)[:, None], -1)[:, 0]
    order = np.lexsort((rng.permutation(len(rarest)), rarest))
    total = np.floor(np.cumsum(factors.max(-1)[order]) + 1e-6).astype(int)
    found = np.empty(len(order), int)
    found[order] = np.diff(total, prepend=0)
    return found


def class_weights(counts: Int[np.ndarray, " Y"], power: float) -> Float[np.ndarray, " Y"]:
    """w_c = N n_c^−power / Σ_k n_k^(1−power), for n_c of N images: the mean over images is 1. A class without an image
    has weight 0.

    A sum of losses weighted with power 1 is that over images repeated so that all classes are equally large, up to a
    factor.
    """
    known = counts > 0
    inverse = np.where(known, np.maximum(counts, 1.0) ** -power, 0.0)
    return counts.sum() * inverse / (counts * inverse).sum()


def class_counts(label_sets: Int[np.ndarray, "N M"]) -> Int[np.ndarray, " Y"]:
    """Number of images of each class; a set that names a class twice counts once, −1 is no class."""
    labels = np.sort(label_sets, axis=-1)
    again = np.zeros(labels.shape, bool)
    again[:, 1:] = labels[:, 1:] == labels[:, :-1]
    return np.bincount(labels[~again & (labels >= 0)])
