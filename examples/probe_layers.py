"""What do the layers of a loaded tower know? A ridge probe on features of several layers, at several size rules.

    python examples/probe_layers.py dinov2-small DIR --classes 20 --shots 5 --val 10 --tokens 100

DIR has train/<class>/* and val/<class>/*. The first classes by name, the first images of each by name. Every rule gives
an image about as many tokens: native aspect, squashed to the same number, and one fixed square. Features of a layer are
the mean over the patches of an image; `pooled` is what the pool of the tower gives, such as its class token. l2 is
chosen on one half of the validation images, the accuracy is that of the other, and the other way round: their mean.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import navit_eqx as navit
from navit_eqx import inference
from navit_eqx.images import unpack_tokens
from navit_eqx.preprocessing import OneSquare, Square, TokenBudget
from reference.evaluation.probe import accuracy, ridge

L2 = 10.0 ** np.arange(-4, 5)
AT_ONCE = 16


def files(root: Path, classes: int, count: int) -> tuple[list[Path], np.ndarray]:
    """The first images of the first classes, and their labels."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())[:classes]
    chosen = [sorted(folder.iterdir())[:count] for folder in folders]
    return [path for part in chosen for path in part], np.repeat(np.arange(classes), [len(part) for part in chosen])


def features(model: navit.Model, paths: list[Path], how, layers: list[int]) -> dict[str, np.ndarray]:
    """Features of each image by layer."""
    found: dict[str, list] = {}
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        batch = navit.pack(part, model, preprocessing=how, row_tokens=512, row_images=16, rows=4)
        states = np.asarray(inference.hidden_states(model, batch))
        for layer in layers:
            means = [tokens.mean(0) for tokens in unpack_tokens(batch, states[layer])]
            found.setdefault(str(layer), []).extend(means)
        found.setdefault("pooled", []).extend(navit.unpack(batch, inference.pooled(model, batch)))
    return {name: np.array(values, float) for name, values in found.items()}


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
    side = math.isqrt(options.tokens) * model.config.patch[0]
    budget = TokenBudget(options.tokens)
    for name, rule in (("native aspect", budget), ("squashed", Square(budget)), ("fixed square", OneSquare(side))):
        how = replace(model.info.preprocessing, size=rule)
        parts = {}
        for split, count in (("train", options.shots), ("val", options.val)):
            paths, labels = files(options.data / split, options.classes, count)
            parts[split] = features(model, paths, how, layers), labels
        (train, labels), (val, truth) = parts["train"], parts["val"]
        scores = {key: round(probe(train[key], labels, val[key], truth, options.classes), 3) for key in train}
        yield {"size": name, "images": [len(labels), len(truth)], "accuracy": scores}


def main() -> None:
    """Print the lines as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    for name, default in (("classes", 20), ("shots", 5), ("val", 10), ("tokens", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for row in rows(parser.parse_args()):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
