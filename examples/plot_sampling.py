"""Draw the distributions of sampling: drop rates, schedules, token counts.

    python examples/plot_sampling.py [FOLDER]

Writes `drop_rates.png` and `resolutions.png` into FOLDER, by default docs/img.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from data.sampling.dropping import Beta, ByResolution, Constant, Schedule
from data.sampling.resolution import Areas, Sides, TruncatedNormal, Uniform

COUNT, PATCH = 400_000, 16
SQUARE = np.full((COUNT, 2), 1_000, np.int32)
FINE = 100  # patches are this many times finer, so that rounding to whole patches does not hide the distribution
COLORS = ["tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple"]


def main(folder: Path) -> None:
    draw_drop_rates(folder / "drop_rates.png")
    draw_resolutions(folder / "resolutions.png")


def draw_drop_rates(path: Path) -> None:
    """Draw Beta distributions with three ranges, rates by resolution, and schedules."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axis, (highest, means) in zip(
        axes[0], {0.4: (0.1, 0.25, 0.35), 0.7: (0.1, 0.25, 0.5, 0.65), 0.9: (0.1, 0.25, 0.5, 0.7, 0.85)}.items()
    ):
        for color, mean in zip(COLORS, means):
            rates = Beta(mean, highest).rates(rng(), SQUARE[:, 0], SQUARE[:, 0])
            label = f"mean {mean:g}: {np.mean(rates < 0.1):.1%} below 0.1"
            density(axis, rates, np.linspace(0, 1, 101), color, label)
        axis.axvline(0.1, color="gray", linewidth=0.8, linestyle=":")
        axis.set(title=f"Beta(mean, highest={highest:g})", xlabel="drop rate", xlim=(0, 1), ylim=(0, 6))
        legend(axis, "upper right" if highest < 0.5 else "upper center")
    axes[0, 0].set_ylabel("density")
    draw_by_resolution(axes[1, 0], axes[1, 1])
    draw_schedules(axes[1, 2])
    save(figure, path, "Share of tokens dropped from an image")


def draw_by_resolution(against_tokens, densities) -> None:
    tokens = token_counts(Sides(64 * FINE, 384 * FINE)).astype(int)
    for color, (lo, hi) in zip(COLORS, [(0.1, 0.9), (0.25, 0.75), (0.4, 0.6)]):
        rates = ByResolution(lo, hi, 16, 576).rates(rng(), tokens, tokens)
        label = f"lo={lo:g}, hi={hi:g}: mean {rates.mean():.2f}"
        against_tokens.plot(tokens[:3_000], rates[:3_000], ".", color=color, markersize=1.5, alpha=0.4)
        density(densities, rates, np.linspace(0, 1, 101), color, label)
    against_tokens.set(xlabel="tokens of the image", ylabel="drop rate", ylim=(0, 1))
    against_tokens.set_title("ByResolution(lo, hi): linear in tokens, ± 0.04")
    densities.set(title="the same as densities, sides ~ U(64, 384)", xlabel="drop rate", xlim=(0, 1), ylim=(0, 9))
    legend(densities, "upper right")


def draw_schedules(axis) -> None:
    images_seen = np.linspace(0, 1.15 * COUNT, 400).astype(int)
    settings = {"falls fast": (0.5, -0.1), "falls slowly": (2 / 3, -0.2), "rises": (0.5, 0.1)}
    for color, (name, (middle, width)) in zip(COLORS, settings.items()):
        schedule = Schedule(Constant(), images=COUNT, middle=middle, width=width)
        rates = schedule.rates(rng(), images_seen, images_seen)
        axis.plot(images_seen / COUNT, rates, color=color, label=f"{name}: {middle:.2g}, {width:g}")
    axis.axhline(0.5, color="gray", linewidth=0.8, linestyle=":", label="Constant(0.5)")
    axis.set(
        title="Schedule of the mean rate: middle, width",
        xlabel="images seen / N",
        ylabel="mean drop rate",
        ylim=(0, 1.2),
    )
    legend(axis, "upper center", ncols=2)


def draw_resolutions(path: Path) -> None:
    """Draw token counts of square images, with the side or the area sampled."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    draws = [Uniform(), TruncatedNormal(-0.5), TruncatedNormal(0.0), TruncatedNormal(0.5)]
    for axis, kind in zip(axes, (Sides, Areas)):
        for color, draw in zip(COLORS, draws):
            tokens = token_counts(kind(64 * FINE, 384 * FINE, draw))
            density(axis, tokens, np.linspace(16, 576, 57), color, f"{draw}: mean {tokens.mean():.0f}")
        axis.set(title=f"{kind.__name__}(64, 384, draw)", xlabel="tokens of a square image, patches of 16 pixels")
        legend(axis, "upper right")
    axes[0].set_ylabel("density")
    save(figure, path, "Sampling the side gives more small images than sampling the area")


def token_counts(sampling: Sides | Areas) -> np.ndarray:
    return sampling.grids(rng(), SQUARE, PATCH).prod(-1) / FINE**2


def density(axis, values: np.ndarray, edges: np.ndarray, color: str, label: str) -> None:
    heights, _ = np.histogram(values, edges, density=True)
    axis.stairs(heights, edges, color=color, linewidth=1.4, label=label)


def legend(axis, place: str, ncols: int = 1) -> None:
    """Add a legend on a white background."""
    axis.legend(fontsize=8, loc=place, ncols=ncols, framealpha=1, edgecolor="white")


def save(figure, path: Path, title: str) -> None:
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(path)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent.parent / "docs" / "img")
