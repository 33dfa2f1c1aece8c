"""The model card: README.md beside a saved model, in the form that hubs show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import jax
from equinox import filter as filter_leaves
from equinox import is_array

from ..info import ModelInfo
from ..tasks.model import Model

UNKNOWN = "Not said by whoever saved it."
USE = {
    "navit": """```python
import navit_eqx as navit

model = navit.load("FOLDER")
vectors = navit.features(model, images)  # images of any size, packed
```""",
    "hf": """```python
from transformers import AutoImageProcessor, AutoModel

model, processor = AutoModel.from_pretrained("FOLDER"), AutoImageProcessor.from_pretrained("FOLDER")
```

`navit_eqx.load("FOLDER")` reads it too, and packs images of any size.""",
    "timm": """```python
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True)
```

`navit_eqx.load("FOLDER")` reads it too, and packs images of any size.""",
    "big_vision": """Parameters are under the names of big_vision, in `model.npz`.

`navit_eqx.load("FOLDER")` reads it too, and packs images of any size.""",
}
LIBRARIES = {"navit": "navit_eqx", "hf": "transformers", "timm": "timm", "big_vision": "big_vision"}


@dataclass(frozen=True)
class Card:
    """What a model card says that no file knows. What is not given is said to be unknown."""

    name: str = "NaViT"
    """Title."""
    data: str = ""
    """What it was trained on."""
    licence: str = ""
    """Licence of the parameters, by its identifier, such as apache-2.0."""
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    """Measured results, by name."""
    command: str = ""
    """The command that made it."""
    limits: tuple[str, ...] = ()
    """What it is not good for."""


def card_text(model: Model, info: ModelInfo, layout: str, card: Card) -> str:
    """README.md: what, data, licence, metrics, command, limits."""
    kind = "image-classification" if info.classes else "image-feature-extraction"
    metrics = [f"| {name} | {value} |" for name, value in card.metrics.items()]
    sections = {
        "What": f"{what(model, info)}\n\n{USE[layout]}",
        "Data": card.data or info.trained_on or UNKNOWN,
        "Licence": card.licence or UNKNOWN,
        "Metrics": "\n".join(["| metric | value |", "| --- | --- |", *metrics]) if metrics else UNKNOWN,
        "Command": f"    {card.command}" if card.command else UNKNOWN,
        "Limits": "\n".join(f"- {limit}" for limit in (*card.limits, *limits(model, info))),
    }
    head = f"---\nlicense: {card.licence or 'unknown'}\nlibrary_name: {LIBRARIES[layout]}\npipeline_tag: {kind}\n---\n"
    return f"{head}\n# {card.name}\n\n" + "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items()) + "\n"


def what(model: Model, info: ModelInfo) -> str:
    """The model in a sentence, and its classes."""
    c = model.config
    count = sum(prod(leaf.shape) for leaf in jax.tree.leaves(filter_leaves(model, is_array)))
    text = (
        f"A Vision Transformer of {count:,} parameters: {c.depth} blocks of width {c.width} with {c.heads} heads, "
        f"patches of {' x '.join(map(str, c.patch))} pixels, {c.channels} channels, positions by "
        f"{type(c.posembed).__name__}, "
        f"pooling by {type(c.pool).__name__}. Images are resized by `{info.preprocessing.size}`, "
        f"{info.preprocessing.filter}."
    )
    names = ", ".join(name.replace("\n", " ") for name in info.classes)
    return text + (f"\n\n{len(info.classes)} classes: {names}." if names else "")


def limits(model: Model, info: ModelInfo) -> tuple[str, ...]:
    """Limits that follow from the configuration."""
    longest = model.config.posembed.longest_side
    ends = (f"Positions end at {longest} patches a side.",) if longest < 1 << 20 else ()
    made = f"Sizes far from those of `{info.preprocessing.size}` were not seen while it was made."
    return (*ends, made, "Nothing is known of fairness, or of images unlike those that it was trained on.")
