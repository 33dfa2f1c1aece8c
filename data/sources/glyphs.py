"""Glyph field: one to four equal shapes on a canvas of any aspect ratio, drawn from a table of facts."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("small", "medium", "large")
POSITIONS = ("middle", "left", "right", "top", "bottom")
COUNTS = ("one", "two", "three", "four")
BACKGROUNDS = ("white", "gray", "black")
FACTS = (SHAPES, COLORS, TEXTURES, SIZES, POSITIONS, COUNTS, BACKGROUNDS)
RGB = np.array([[215, 40, 40], [40, 160, 60], [50, 80, 215], [235, 215, 50], [145, 55, 190], [240, 135, 30]])
GRAY = np.array([235, 128, 20])
DIAMETERS = (0.16, 0.23, 0.32)  # of a shape, in short sides of the canvas: four large ones fit
SHORT_SIDE = (36.0, 72.0)  # pixels, log-uniform
ASPECT = 0.35, 3.0  # standard deviation of the logarithm of width / height, and its limit
GAP = 1.3  # between middles of shapes, in diameters
JITTER, NOISE = 12.0, 4.0  # of a color, and of each pixel
SHADE = 0.25  # brightness of stripes and dots
TILT = 0.25  # radians, largest rotation either way
COVERED = 0.5  # share of a pixel from which on it belongs to a shape


class Glyphs(NamedTuple):
    """The facts of an image, each by its place in FACTS."""

    shape: int
    color: int
    texture: int
    size: int
    position: int
    count: int
    background: int


def canvas(draw: Float[np.ndarray, "N 2"]) -> Int[np.ndarray, "N 2"]:
    """Height and width from uniform and normal numbers."""
    low, high = np.log(SHORT_SIDE)
    short = np.exp(low + (high - low) * draw[:, 0])
    aspect = np.exp(np.clip(ASPECT[0] * draw[:, 1], -np.log(ASPECT[1]), np.log(ASPECT[1])))
    sides = np.stack([short * np.maximum(1 / aspect, 1), short * np.maximum(aspect, 1)], -1)
    return sides.round().astype(np.int32)


def draw_glyphs(rng: np.random.Generator, facts: Glyphs, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the shapes of an image, all alike."""
    return painted(rng, facts, size)[0]


def painted(
    rng: np.random.Generator, facts: Glyphs, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """An image, and the share of each pixel that its shapes cover."""
    short, count = min(size), facts.count + 1
    diameter = DIAMETERS[facts.size] * short
    middles = arrange(rng, count, diameter, facts.position, size)
    base = np.clip(GRAY[facts.background] + JITTER / 2 * rng.uniform(-1, 1), 0, 255)
    color = np.clip(RGB[facts.color] + JITTER * rng.uniform(-1, 1, 3), 0, 255)
    image, covered = np.full((*size, 3), base, np.float32), np.zeros(size)
    span = int(np.ceil(diameter)) + 3
    corners = np.floor(middles - span / 2).astype(int) + 1
    grid = np.arange(span) + 0.5
    y = (corners[:, 0, None] + grid - middles[:, 0, None])[:, :, None] * (2 / diameter)
    x = (corners[:, 1, None] + grid - middles[:, 1, None])[:, None, :] * (2 / diameter)
    angle = rng.uniform(-TILT, TILT, (count, 1, 1))
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    cover = np.clip(inside(facts.shape, y, x) * diameter / 2 + 0.5, 0, 1)[..., None]
    ink = color * shading(facts.texture, y, x)[..., None]
    for (top, left), alpha, paint in zip(corners.tolist(), cover, ink):
        rows, columns = slice(max(top, 0), top + span), slice(max(left, 0), left + span)
        under = image[rows, columns]
        alpha, paint = (a[max(-top, 0) :, max(-left, 0) :][: len(under), : under.shape[1]] for a in (alpha, paint))
        under += alpha * (paint - under)
        covered[rows, columns] = np.maximum(covered[rows, columns], alpha[..., 0])
    image += rng.normal(0, NOISE, size)[..., None]
    return image.round().clip(0, 255).astype(np.uint8), covered


def arrange(
    rng: np.random.Generator, count: int, diameter: float, position: int, size: tuple[int, int]
) -> Float[np.ndarray, "K 2"]:
    """Middles of the shapes: a group of at most two rows and columns, at its side of the canvas."""
    cells = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[[0, 3] if count == 2 and rng.random() < 0.2 else range(count)]
    if count in (2, 3) and rng.random() < 0.5:
        cells = cells[:, ::-1]
    middles = (cells - cells.max(0) / 2) * GAP * diameter
    room = (np.array(size) - (cells.max(0) * GAP + 1) * diameter) / 2 - 1
    side = np.array([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]])[position]
    spread = np.where(side == 0, 0.15, 0.1) * room
    shift = side * (room - spread) + spread * rng.uniform(-1, 1, 2)
    return np.array(size) / 2 + shift + middles


def inside(shape: int, y: Float[np.ndarray, "*N"], x: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Distance to the outline of a shape of radius 1, about; positive inside."""
    name, r = SHAPES[shape], np.hypot(y, x)
    if name == "circle":
        return 1 - r
    if name == "square":
        return 0.78 - np.maximum(abs(y), abs(x))
    if name == "triangle":
        return 0.5 - np.maximum(y, abs(x) * 0.866 - y * 0.5)
    if name == "ring":
        return np.minimum(1 - r, r - 0.55)
    if name == "cross":
        return np.maximum(np.minimum(0.32 - abs(y), 1 - abs(x)), np.minimum(0.32 - abs(x), 1 - abs(y)))
    fifth = 2 * np.pi / 5
    angle = abs((np.arctan2(y, x) + np.pi / 2) % fifth - fifth / 2)
    return 0.328 - r * (0.821 * np.cos(angle) - 0.571 * np.sin(angle))


def shading(texture: int, y: Float[np.ndarray, "*N"], x: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Brightness of the paint: two dark stripes, or dark dots, across a shape."""
    if texture == 0:
        return np.ones(np.broadcast_shapes(y.shape, x.shape))
    wave = 2.5 * np.pi
    dark = np.cos(wave * y) > 0.2 if texture == 1 else np.cos(wave * y) + np.cos(wave * x) > 0.9
    return np.where(dark, SHADE, 1.0)
