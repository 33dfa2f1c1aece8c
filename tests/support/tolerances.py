"""How close is equal: one table. Errors are relative to the largest entry of the array compared with."""

import numpy as np

FLOAT64 = 1e-10  # two formulas in float64
GRADIENT64 = 1e-9  # their gradients
FINITE_DIFFERENCE = 1e-6  # central differences with step 1e-5
FLOAT32 = 32 * 2**-23  # forward in float32 against float64
DEVICES64 = 64 * 2**-52  # the same step in float64 on another number of devices
DEVICES32 = 64 * 2**-23  # and in float32, after a few steps
BFLOAT16 = 4e-2  # forward in bfloat16 against float64
GRADIENT32 = 128 * 2**-23  # of each leaf, its norm relative to that of the leaf
GRADIENT16 = 8e-2  # the same in bfloat16


def assert_close(got, want, limit: float) -> None:
    """max |got − want| ≤ limit · max |want|, and shapes equal.   The message holds the ratio."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), f"{(~np.isfinite(got)).sum()} entries are not finite"
    error = np.abs(got - want).max(initial=0.0) / max(np.abs(want).max(initial=0.0), 1e-300)
    assert error <= limit, f"relative error {error:.3g}, limit {limit:.3g}"
