"""What do the layers of a loaded tower know? A ridge probe on features of several layers, at several size rules.

    python examples/probe_layers.py dinov2-small DIR --classes 20 --shots 5 --val 10 --tokens 100
    python examples/probe_layers.py dinov2-small DIR --tokens 144 --merge-rates 0.25 0.5 0.75

DIR has train/<class>/* and val/<class>/*. The first classes by name, the first images of each by name. Every rule gives
an image about as many tokens: native aspect, squashed to the same number, and one fixed square. Features of a layer are
the mean over the patches of an image; `pooled` is what the pool of the tower gives, such as its class token. l2 is
chosen on one half of the validation images, the accuracy is that of the other, and the other way round: their mean.
With rates of merging, each is compared with a smaller image that has at least as many tokens in the mean.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import navit_eqx as navit
from navit_eqx import inference
from navit_eqx.images import unpack_tokens
from navit_eqx.preprocessing import Merge, OneSquare, Preprocessing, Square, TokenBudget
from reference.evaluation.probe import accuracy, ridge

L2 = 10.0 ** np.arange(-4, 5)
AT_ONCE, ROW = 16, 512  # images that are packed together; tokens of a row


def files(root: Path, classes: int, count: int) -> tuple[list[Path], np.ndarray]:
    """The first images of the first classes, and their labels."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())[:classes]
    chosen = [sorted(folder.iterdir())[:count] for folder in folders]
    return [path for part in chosen for path in part], np.repeat(np.arange(classes), [len(part) for part in chosen])


def features(
    model: navit.Model, paths: list[Path], how: Preprocessing, layers: list[int], count: int
) -> tuple[dict[str, np.ndarray], float]:
    """Features of each image by layer, `count` rows at once; tokens of an image in the mean."""
    found: dict[str, list] = {}
    tokens = 0
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        batch = navit.pack(part, model, preprocessing=how, row_tokens=ROW, row_images=AT_ONCE, rows=count)
        states = np.asarray(inference.hidden_states(model, batch))
        tokens += int((np.asarray(batch.segment_ids) > 0).sum())
        for layer in layers:
            means = [each.mean(0) for each in unpack_tokens(batch, states[:, layer])]
            found.setdefault(str(layer), []).extend(means)
        found.setdefault("pooled", []).extend(navit.unpack(batch, inference.pooled(model, batch)))
    return {name: np.array(values, float) for name, values in found.items()}, tokens / len(paths)


def probe(train: np.ndarray, labels: np.ndarray, val: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Accuracy of a ridge probe, l2 chosen on the other half."""
    scale = ((train - train.mean(0)) ** 2).sum()
    fitted = ridge(train, labels, classes, L2 * scale)
    odd = np.arange(len(truth)) % 2 == 1
    halves = [accuracy(fitted, val[half], truth[half]) for half in (odd, ~odd)]
    return float((halves[0][halves[1].argmax()] + halves[1][halves[0].argmax()]) / 2)


def rows(options: argparse.Namespace) -> Iterator[dict]:
    """One line for each size rule."""
    model = navit.load(options.folder)
    depth = model.config.depth
    layers = sorted({0, depth // 4, depth // 2, 3 * depth // 4, depth - 2, depth})
    count = math.ceil(AT_ONCE / (ROW // options.tokens))
    paths, labels = files(options.data / "train", options.classes, options.shots)
    others, truth = files(options.data / "val", options.classes, options.val)

    def row(name: str, how: Preprocessing) -> dict:
        train, _ = features(model, paths, how, layers, count)
        val, tokens = features(model, others, how, layers, count)
        scores = {key: round(probe(train[key], labels, val[key], truth, options.classes), 3) for key in train}
        counts = [len(labels), len(truth)]
        return {"size": name, "tokens": round(tokens, 1), "images": counts, "accuracy": scores}

    side = math.isqrt(options.tokens) * model.config.patch[0]
    whole = replace(model.info.preprocessing, size=TokenBudget(options.tokens))
    yield row("native aspect", whole)
    if not options.merge_rates:
        yield row("squashed", replace(whole, size=Square(TokenBudget(options.tokens))))
        yield row("fixed square", replace(whole, size=OneSquare(side)))
    for rate in options.merge_rates:
        merged = row(f"merged, rate {rate:g}", replace(whole, merge=Merge(rate)))
        yield merged
        yield row("smaller, as many tokens", replace(whole, size=as_many(others, merged["tokens"], model.config.patch)))


def as_many(paths: list[Path], tokens: float, patch: tuple[int, ...]) -> TokenBudget:
    """The least budget at which these images have at least so many tokens in the mean."""
    sizes = [(image.height, image.width) for image in map(Image.open, paths)]

    def mean(budget: int) -> float:
        return float(np.mean([math.prod(TokenBudget(budget).grid(size, (patch[0], patch[1]))) for size in sizes]))

    return TokenBudget(next(n for n in range(math.ceil(tokens), 10 * math.ceil(tokens)) if mean(n) >= tokens))


def main() -> None:
    """Print the lines as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    for name, default in (("classes", 20), ("shots", 5), ("val", 10), ("tokens", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--merge-rates", type=float, nargs="*", default=[])
    for row in rows(parser.parse_args()):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
