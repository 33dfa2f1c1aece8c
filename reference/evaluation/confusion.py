"""Segmentation metrics from a confusion matrix: pixels of each class (rows) by predicted class (columns).

Matrices of images are added over the whole set before anything is divided: the mean of the IoU of single images is
another number, and is named so.
"""

import numpy as np
from jaxtyping import Float, Int, Integer

IGNORE = 255  # label of pixels that do not count


def confusion(
    truth: Integer[np.ndarray, "*n"], predicted: Integer[np.ndarray, "*n"], classes: int
) -> Int[np.ndarray, "Y Y"]:
    """Number of labeled pixels by class and predicted class."""
    counted = truth != IGNORE
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(confusion: Int[np.ndarray, "*N Y Y"]) -> Float[np.ndarray, "*N Y"]:
    """Intersection over union of each class; NaN for a class that neither occurs nor is predicted."""
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - both
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)


def mean_iou(confusion: Int[np.ndarray, "*N Y Y"]) -> Float[np.ndarray, "*N"]:
    """mIoU: mean over the classes with a union; NaN without a labeled pixel."""
    iou = class_iou(confusion)
    known = ~np.isnan(iou)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, iou, 0).sum(-1) / np.maximum(count, 1), np.nan)


def pixel_accuracy(confusion: Int[np.ndarray, "*N Y Y"]) -> Float[np.ndarray, "*N"]:
    """Share of the labeled pixels whose class is predicted."""
    total = confusion.sum((-2, -1))
    return np.where(total > 0, np.trace(confusion, axis1=-2, axis2=-1) / np.maximum(total, 1), np.nan)
