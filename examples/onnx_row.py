"""Run an exported packed row with NumPy and onnxruntime alone: images of any size, several in a row.

    python export.py runs/folder out --to onnx
    python examples/onnx_row.py out photo.npy other.npy
    python examples/onnx_row.py out photo.jpg            # where Pillow is installed

Nothing of this project is imported: `row.json` says how images are resized, cut into patches and packed. Images are
arrays h w C of uint8.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np


def grid_of(size: tuple[int, int], rule: dict, patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches, by the size rule of row.json; others than these few are written here."""
    whole = lambda n: max(1, math.floor(n + 1e-9))
    match rule:
        case {"kind": "Fixed", "height": height, "width": width}:
            return height // patch[0], width // patch[1]
        case {"kind": "Area", "side": side}:
            scale = side / math.sqrt(size[0] * size[1])
        case {"kind": "Native", "factor": scale}:
            pass
        case {"kind": "TokenBudget", "tokens": budget}:
            height, width = size[0] * patch[1], size[1] * patch[0]
            fits = lambda k, side, other: k == 1 or k * max(1, k * other // side) <= budget
            most = lambda side, other: max(k for k in range(1, budget + 1) if fits(k, side, other))
            return most(height, width), most(width, height)
        case {"kind": "NeverEnlarged", "rule": inner}:
            rows, columns = grid_of(size, inner, patch)
            return min(rows, whole(size[0] // patch[0])), min(columns, whole(size[1] // patch[1]))
        case {"kind": kind}:
            raise SystemExit(f"size rule {kind}: write it into grid_of")
    return whole(scale * size[0] / patch[0]), whole(scale * size[1] / patch[1])


KERNELS = {"bilinear": lambda x: np.maximum(0, 1 - x)}


BITS = 22  # of a weight, as in Pillow


def resize_matrix(n: int, m: int, filter: str) -> np.ndarray:
    """m x n weights of an antialiased resize, in units of 2^-22, as Pillow rounds them."""
    if filter not in KERNELS:
        raise SystemExit(f"filter {filter}: write it into KERNELS")
    centers = (np.arange(m)[:, None] + 0.5) * (n / m)
    weights = KERNELS[filter](np.abs(np.arange(n) - centers + 0.5) * (1 / max(n / m, 1.0)))
    total = weights.cumsum(1)[:, -1:]  # in the order of Pillow
    return np.floor(weights * (1 / total) * (1 << BITS) + 0.5).astype(np.int64)


def resized(image: np.ndarray, height: int, width: int, filter: str) -> np.ndarray:
    """The image in another size: columns, then rows, each rounded to bytes as Pillow does.

    For some sizes Pillow takes rows first; then values can be one level apart.
    """
    as_bytes = lambda x: np.clip((x + (1 << (BITS - 1))) >> BITS, 0, 255).astype(np.uint8)
    if width != image.shape[1]:
        weights = resize_matrix(image.shape[1], width, filter)
        image = as_bytes(np.einsum("hwc,vw->hvc", image.astype(np.int64), weights))
    if height != image.shape[0]:
        weights = resize_matrix(image.shape[0], height, filter)
        image = as_bytes(np.einsum("hwc,uh->uwc", image.astype(np.int64), weights))
    return image


def pack(images: list[np.ndarray], said: dict) -> tuple[dict[str, np.ndarray], list[tuple[int, int]]]:
    """The inputs of the program, and (row, slot) of each image: each goes to the first row with room."""
    inputs, (height, width) = said["inputs"], said["patch"]
    tokens, slots = inputs["segment_ids"][1], inputs["grids"][1]
    rows: list[list[int]] = []
    grids = [grid_of(image.shape[:2], said["size"], (height, width)) for image in images]
    used: list[int] = []
    for n, (y, x) in enumerate(grids):
        if images[n].shape[2] != said["channels"]:
            raise SystemExit(f"image {n} has {images[n].shape[2]} channels, the model reads {said['channels']}")
        if said["longest_side"] and max(y, x) > said["longest_side"]:
            side = said["longest_side"]
            raise SystemExit(f"image {n} has {y} x {x} patches, and the model no place beyond {side}: scale it down")
        if y * x > tokens:
            raise SystemExit(f"image {n} has {y} x {x} patches, a row holds {tokens}: export with --row.row-tokens")
        r = next((r for r, row in enumerate(rows) if used[r] + y * x <= tokens and len(row) < slots), len(rows))
        if r == len(rows):
            rows.append([]), used.append(0)
        rows[r].append(n)
        used[r] += y * x
    count = max(len(rows), inputs["patches"][0] or 1)
    made = {k: np.zeros((count, *shape[1:]), np.uint8 if k == "patches" else np.int32) for k, shape in inputs.items()}
    places = {}
    for r, row in enumerate(rows):
        end = 0
        for slot, n in enumerate(row):
            y, x = grids[n]
            image = resized(images[n], y * height, x * width, said["filter"])
            start, end = end, end + y * x
            cut = image.reshape(y, height, x, width, -1).swapaxes(1, 2).reshape(y * x, -1)
            made["patches"][r, start:end] = cut
            made["coords"][r, start:end] = np.indices((y, x)).reshape(2, -1).T
            made["segment_ids"][r, start:end] = slot + 1
            made["grids"][r, slot] = y, x
            places[n] = r, slot
    return made, [places[n] for n in range(len(images))]


def read(path: str, channels: int) -> np.ndarray:
    """An image h w C: an array, or by Pillow a photograph."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path)).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    return np.asarray(image).reshape(image.height, image.width, channels)


def main(folder: str, *paths: str) -> np.ndarray:
    """The output of each image; for a classifier its most probable class is printed."""
    import onnxruntime

    said = json.loads((Path(folder) / "row.json").read_text())
    session = onnxruntime.InferenceSession(Path(folder) / "row.onnx", providers=["CPUExecutionProvider"])
    inputs, places = pack([read(path, said["channels"]) for path in paths], said)
    step = said["inputs"]["patches"][0] or len(inputs["patches"])  # rows at once
    groups = range(0, len(inputs["patches"]), step)
    found = [session.run(None, {k: x[n : n + step] for k, x in inputs.items()})[0] for n in groups]
    values = np.concatenate(found)[tuple(zip(*places))]
    for path, value in zip(paths, values):
        print(path, said["classes"][int(value.argmax())] if said["classes"] else value[:4])
    return values


if __name__ == "__main__":
    main(*sys.argv[1:])
