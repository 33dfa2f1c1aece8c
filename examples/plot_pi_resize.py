"""Draw PI-resize of a learned kernel at all patch sizes, its gain, and the error of the tokens.

    python examples/plot_pi_resize.py    # seconds, no download; writes docs/img/pi_resize.png

The kernels are 16 x 16 filters learned by independent component analysis from the two photographs that come with
scikit-learn. Images and kernels are resized together, as in figure 4 of FlexiViT.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.decomposition import FastICA

from reference.resize import FLEXIVIT, RESIZES, TIMM, resize_image
from reference.sampling.patch_sizes import WARN_ABOVE, gain

PICTURE = Path(__file__).parent.parent / "docs" / "img" / "pi_resize.png"
BASE = (16, 16)
SHOWN = (6, 8, 10, 12, 14, 15, 16, 17, 18, 20, 24, 32, 48)
KERNEL = 14  # index of the drawn kernel: an oblique edge


def photo_patches(count: int, rng: np.random.Generator) -> np.ndarray:
    """Gray patches of the base size at random places, centered and flattened."""
    photos = [photo.mean(-1) / 127.5 - 1 for photo in load_sample_images().images]
    height, width = BASE

    def sample() -> np.ndarray:
        photo = photos[rng.integers(len(photos))]
        y, x = (rng.integers(n - side + 1) for n, side in zip(photo.shape, BASE))
        patch = photo[y : y + height, x : x + width].ravel()
        return patch - patch.mean()

    return np.stack([sample() for _ in range(count)])


def learned_kernels(patches: np.ndarray, features: int = 16) -> np.ndarray:
    """Filters (P D) of independent component analysis, sorted by kurtosis."""
    ica = FastICA(features, whiten_solver="eigh", random_state=0, tol=1e-3).fit(patches)
    filters = ica.components_.T
    peaked = np.mean((patches @ filters) ** 4, axis=0)
    return filters[:, np.argsort(-peaked)]


def token_error(name: str, patches: np.ndarray, w: np.ndarray, side: int) -> float:
    """Relative error of the tokens when patches and kernel are both resized to `side`."""
    size = (side, side)
    resized = resize_image(patches.T.reshape(*BASE, -1), size).reshape(side * side, -1).T
    tokens = patches @ w
    return float(np.linalg.norm(resized @ RESIZES[name](w, BASE, size) - tokens) / np.linalg.norm(tokens))


def draw_kernels(axes, w: np.ndarray) -> None:
    """Draw the kernel at every size, PI-resized above, resized as an image below, each with its own gray scale."""
    for row, name in zip(axes, ("pi", "vanilla")):
        for axis, side in zip(row, SHOWN):
            kernel = RESIZES[name](w, BASE, (side, side)).reshape(side, side)
            top = np.abs(kernel).max()
            axis.imshow(kernel, cmap="gray", vmin=-top, vmax=top, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{side}" if name == "pi" else f"±{top:.2g}", fontsize=9)
            if name == "pi":
                axis.set_xlabel(f"±{top:.2g}", fontsize=9)
        row[0].set_ylabel("PI-resize" if name == "pi" else "as an image", fontsize=10)


def main() -> None:
    patches = photo_patches(4000, np.random.default_rng(0))
    w = learned_kernels(patches)
    figure = plt.figure(figsize=(13, 7.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.45))
    draw_kernels(top.subplots(2, len(SHOWN)), w[:, KERNEL : KERNEL + 1])
    top.suptitle("One kernel learned at 16 x 16, at every patch size (± largest weight)", fontsize=12)
    left, right = bottom.subplots(1, 2)
    sides = np.arange(4, 49)
    for label, how in (("linear (FlexiViT)", FLEXIVIT), ("cubic, antialias (timm)", TIMM)):
        left.plot(sides, [gain(BASE, (s, s), how) for s in sides], ".-", label=label)
    left.axhline(WARN_ABOVE, color="gray", linestyle="--", linewidth=1)
    left.text(48, WARN_ABOVE * 1.05, "warned above", ha="right", color="gray", fontsize=9)
    left.set(xlabel="patch size", ylabel="gain", yscale="log", title="Gain of PI-resize from the base size 16")
    left.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    left.minorticks_off()
    for name in RESIZES:
        errors = [np.nan if s == BASE[0] else token_error(name, patches[:200], w, s) for s in sides]
        right.plot(sides, errors, ".-", label=name)
    right.set(xlabel="patch size", ylabel="relative error of tokens", yscale="log")
    right.set_title("Photographs: tokens after resizing image and kernel")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
