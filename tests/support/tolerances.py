"""How close is equal: one table. Errors are relative to the largest entry of the array compared with.

A unit is the largest relative error of one rounding, 2⁻ᵖ for p significant bits; limits are so many roundings.
"""

import numpy as np

UNIT64, UNIT32, UNIT16 = 2.0**-53, 2.0**-24, 2.0**-8  # float64, float32, bfloat16
HALF = 2.0**-11  # patches rounded once to float16, as rows store them
STEP = 1e-5  # of a central difference

PIXEL = 1e-6  # sides and shares of images in pixels, by two formulas
LEVEL = 0.5 + 1e-3  # of a mixed pixel: a whole number, by a weight in float32
EXACT = 1e-12  # the same sums in float64, in another order
FLOAT64 = 1e-10  # two formulas in float64
GRADIENT64 = 1e-9  # their gradients
CANCELLED64 = 1e-8  # formulas that subtract numbers ten thousand times as large as the result
EPSILON = 1e-4  # what ε = 1e-6 may take from the norm of numbers of size one
FINITE_DIFFERENCE = 1e-6  # central differences
FLOAT16 = 5 * HALF  # forward from patches stored in float16
FLOAT32 = 64 * UNIT32  # forward in float32 against float64
PRODUCT32 = 8 * UNIT32  # of |A| |B|, a product of matrices in float32 on numbers of random sign
PRODUCT16 = 3 * UNIT16 + PRODUCT32  # the same in bfloat16: both inputs and the result rounded, the sum not
PEER64 = 1e-9  # an imported tower against the class of its own project, in float64
PEER32 = 1e-5  # where that class computes a part in float32
PILLOW = 16 * UNIT32  # resizing in float32, as Pillow does
BYTES = 1e-2  # what patches put back into bytes lose at least
PRINTED = 51e-5  # shares printed to a tenth of a per cent
GAIN = 2e-3  # numbers given to three digits
POWER = 1e-3  # a norm after 200 steps of power iteration
DECAY = 128 * UNIT32  # a decay in float32, relative to the learning rate
DEVICES64 = 128 * UNIT64  # the same step in float64 on another number of devices
DEVICES32 = 128 * UNIT32  # and in float32, after a few steps
BFLOAT16 = 10 * UNIT16  # forward in bfloat16 against float64
ATTENTION16 = 5 * UNIT16  # one attention in bfloat16, and its gradients
GRADIENT32 = 256 * UNIT32  # of each leaf, its norm relative to that of the leaf
GRADIENT16 = 20 * UNIT16  # the same in bfloat16


def assert_close(got, want, limit: float) -> None:
    """max |got − want| ≤ limit · max |want|, and shapes equal.   The message holds the ratio."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), f"{(~np.isfinite(got)).sum()} entries are not finite"
    error = np.abs(got - want).max(initial=0.0) / max(np.abs(want).max(initial=0.0), 1e-300)
    assert error <= limit, f"relative error {error:.3g}, limit {limit:.3g}"


def assert_rounded_once(got, want) -> None:
    """float32 rounded to bfloat16, entry by entry: |got − want| ≤ u |want|, and what float32 itself may lack."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    error = np.abs(got - want) - FLOAT32 * np.abs(want).max(initial=0.0)
    worst = (error / np.maximum(np.abs(want), 1e-300)).max(initial=0.0)
    assert worst <= UNIT16, f"the error is {worst / UNIT16:.3g} roundings to bfloat16"
