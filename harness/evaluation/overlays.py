"""Masks and boxes drawn on photographs at their own pixels, and sheets of truth beside prediction."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, Num, UInt8
from PIL import Image, ImageDraw, ImageFont

from navit_eqx.files import replacing

IGNORE = 255  # label of pixels without a class
GOLDEN = 0.618034  # share of the color circle between two classes: any number of them differ
STRENGTH = 0.45  # of the color of a class over the photograph; its outline is drawn in full
LEAST, MOST = 192, 640  # pixels, longest side of a panel of a sheet
BACKGROUND = ("background", "ground", "nothing")
MARGIN, LINE, FONT = 8, 16, 12  # pixels of a sheet

Color = tuple[int, int, int]


class Panel(NamedTuple):
    """A picture of a sheet, and the line above it."""

    title: str
    picture: UInt8[np.ndarray, "h w 3"]


def class_color(number: int) -> Color:
    """The color of a class, the same in every picture."""
    lightness = (0.55, 0.42, 0.68)[number // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1.0, lightness, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_mask(
    image: UInt8[np.ndarray, "h w 3"], mask: Integer[np.ndarray, "h w"], plain: Sequence[int] = ()
) -> UInt8[np.ndarray, "h w 3"]:
    """The photograph under the colors of its classes, with outlines; classes of `plain`, such as the background, and
    pixels without a class stay as they are."""
    table = np.array([class_color(c) for c in range(IGNORE + 1)], float)
    hidden = np.isin(mask, [IGNORE, *plain])
    picture = image.astype(float)
    strength = np.where(outline(mask), 1.0, STRENGTH)[..., None]
    colored = (1 - strength) * picture + strength * table[mask]
    return np.where(hidden[..., None], picture, colored).round().astype(np.uint8)


def plain_classes(classes: Sequence[str]) -> list[int]:
    """Classes that pictures leave uncolored: the background, if it is the first."""
    return [0] if classes and classes[0].lower() in BACKGROUND else []


def outline(mask: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels with a neighbor of another class above, below, left or right."""
    framed = np.pad(mask, 1, mode="edge")
    center = framed[1:-1, 1:-1]
    others = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    return np.any([center != other for other in others], axis=0)


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "N 4"],
    classes: Sequence[int],
    captions: Sequence[str] = (),
) -> UInt8[np.ndarray, "h w 3"]:
    """Boxes (left, top, right, bottom, in pixels) on the photograph, in the colors of their classes, with captions.

    The first lie on top: their lines are drawn last, and a caption that would cover an earlier one is left out.
    """
    canvas = Image.fromarray(image)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    corners = []
    for box in np.asarray(boxes, float).tolist():
        left, top = max(0.0, box[0]), max(0.0, box[1])
        right, bottom = max(left, min(box[2], canvas.width) - 1), max(top, min(box[3], canvas.height) - 1)
        corners.append((left, top, right, bottom))
    colors = [class_color(number) for number in classes]
    for corner, color in reversed([*zip(corners, colors)]):
        draw.rectangle(corner, outline=color, width=max(1, max(canvas.size) // 320))
    written: list[tuple[float, float, float, float]] = []
    for (left, top, *_), color, caption in zip(corners, colors, captions):
        above = max(0, top - FONT - 2)
        place = draw.textbbox((left + 2, above), caption, font=font)
        if caption and not any(overlap(place, other) for other in written):
            written.append(place)
            draw.rectangle(place, fill=color)
            draw.text((place[0], above), caption, fill=text_color(color), font=font)
    return np.asarray(canvas)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two rectangles (left, top, right, bottom) share a pixel."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def text_color(background: Color) -> Color:
    """Black or white, whichever is read better."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def draw_sheet(rows: Sequence[Sequence[Panel]], path: Path, legend: Sequence[tuple[str, int]] = ()) -> None:
    """Write rows of pictures side by side as PNG, with a legend of class names and their numbers at the bottom.

    Small pictures are enlarged by a whole factor, large ones reduced, for the eye alone.
    """
    font = ImageFont.load_default(FONT)
    sized = [[(panel.title, fitted(panel.picture)) for panel in row] for row in rows]
    widths = [sum(max(p.width, title_width(t, font)) + MARGIN for t, p in row) for row in sized] or [LEAST]
    heights = [max(p.height for _, p in row) + LINE + MARGIN for row in sized]
    width = max(*widths, LEAST) + MARGIN
    lines = legend_lines(legend, width, font)
    sheet = Image.new("RGB", (width, sum(heights) + MARGIN + LINE * len(lines)), "white")
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for row, height in zip(sized, heights):
        left = MARGIN
        for title, picture in row:
            draw.text((left, top), title, fill="black", font=font)
            sheet.paste(picture, (left, top + LINE))
            left += max(picture.width, title_width(title, font)) + MARGIN
        top += height
    for line in lines:
        for left, name, number in line:
            draw.rectangle((left, top + 2, left + FONT, top + 2 + FONT), fill=class_color(number))
            draw.text((left + FONT + 4, top), name, fill="black", font=font)
        top += LINE
    write_png(np.asarray(sheet), path)


def fitted(picture: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """A picture with its longest side between LEAST and MOST; pixels stay sharp where it is enlarged."""
    image, longest = Image.fromarray(picture), max(picture.shape[:2])
    if longest > MOST:
        image.thumbnail((MOST, MOST))
        return image
    factor = max(1, round(LEAST / longest))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def shortened(name: str, most: int = 24) -> str:
    """The end of a long name of an image: names differ there."""
    return name if len(name) <= most else "…" + name[1 - most :]


def title_width(title: str, font) -> int:
    """Pixels that a title takes."""
    return int(font.getlength(title))


def legend_lines(legend: Sequence[tuple[str, int]], width: int, font) -> list[list[tuple[int, str, int]]]:
    """Left end, name and number of each class, in lines no wider than `width`."""
    lines: list[list[tuple[int, str, int]]] = []
    left = width
    for name, number in legend:
        needed = FONT + 4 + title_width(name, font) + 2 * MARGIN
        if left + needed > width:
            lines.append([])
            left = MARGIN
        lines[-1].append((left, name, number))
        left += needed
    return lines


def write_png(picture: Num[np.ndarray, "h w *C"], path: Path) -> None:
    """Write pixels as PNG.   Raises NotWritten with file and remedy."""
    with replacing(path) as draft:
        Image.fromarray(np.ascontiguousarray(picture)).save(draft, format="PNG")
