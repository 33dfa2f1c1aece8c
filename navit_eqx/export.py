"""One packed row as a program for others: static shapes, images of any size, no resizing, no dynamic axis but rows.

The program reads what `pack` makes (patches, coords, segment ids, grids) and gives one output per image slot.
Positions are products of matrices, so a size that was never seen needs no other program. Pixels are normalized inside.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.export import export, symbolic_shape
from jaxtyping import Array

from .config import UNLIMITED, Dense
from .errors import ConfigError, check, check_in
from .files import make_folder, replacing
from .front import info_of, packing_options
from .images import row_lengths
from .plain import plain
from .rows import Row
from .serialize import encode
from .tasks.model import Model, reconfigured

Format = Literal["stablehlo", "onnx"]
Output = Literal["output", "pooled", "tokens"]
PLATFORMS = ("cpu", "cuda", "tpu")
FIELDS = ("patches", "coords", "segment_ids", "grids")
OUTPUTS = {
    "output": lambda model, row: model(row),
    "pooled": lambda model, row: model.backbone(row),
    "tokens": lambda model, row: model.backbone.tokens(row),
}


@dataclass(frozen=True)
class RowShape:
    """The static shape of a row."""

    row_tokens: int | None = None
    """Tokens of a row, T; auto: enough for any image within the budget of the size rule."""
    row_images: int | None = None
    """Image slots of a row, I; auto: as in training."""
    rows: int | None = None
    """Rows of a batch; auto: any number, the one dynamic axis, in StableHLO, and 1 in ONNX."""
    pixels: Literal["uint8", "float32"] = "uint8"
    """uint8 patches, which the program normalizes; float32 patches are normalized already."""

    def __post_init__(self):
        check_in("row", "[1, 1048576]", row_tokens=self.row_tokens, row_images=self.row_images, rows=self.rows)

    def of(self, model: Model) -> "RowShape":
        """The shape with what was left open, by the preprocessing of the model."""
        check(
            model.config.tubelets is None,
            "a program reads one packed row of images, and this model reads clips: export it as a folder, --to navit",
        )
        how, options = info_of(model).preprocessing, packing_options(model, {})
        tokens = row_lengths(how, options["patch"], options["longest_side"]).ordinary
        return replace(
            self, row_tokens=self.row_tokens or tokens, row_images=self.row_images or min(how.row_images, tokens)
        )

    def shapes(self, model: Model, rows: Any) -> list[jax.ShapeDtypeStruct]:
        """Shapes of the inputs, in the order of `FIELDS`."""
        tokens, images = self.row_tokens, self.row_images
        sizes = {"patches": (tokens, model.config.patch_dim), "coords": (tokens, 2), "segment_ids": (tokens,)}
        sizes |= {"grids": (images, 2)}
        kinds = {"patches": np.dtype(self.pixels)}
        return [jax.ShapeDtypeStruct((rows, *sizes[name]), kinds.get(name, np.dtype(np.int32))) for name in FIELDS]


def row_program(model: Model, output: Output = "output") -> Any:
    """(patches, coords, segment_ids, grids) → the output of each image slot, or of each token.

    Dense attention, in float32: rows of a request are short, and no other backend is of plain operations.
    """
    model = reconfigured(model, replace(model.config, attention=Dense(), dtype="float32", remat=False))
    model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if eqx.is_array(x) else x, model)

    def run(patches: Array, coords: Array, segment_ids: Array, grids: Array) -> Array:
        row = Row(patches, coords, segment_ids, grids, jnp.zeros(grids.shape[:-1], jnp.int32))
        return OUTPUTS[output](model, row)

    return jax.vmap(run)  # row by row, so that their number may stay open


def to_stablehlo(model: Model, shape: RowShape = RowShape(), output: Output = "output") -> bytes:
    """A StableHLO program with its parameters, as `jax.export` serializes it; for CPU, CUDA and TPU.

    `jax.export.deserialize(program).call(patches, coords, segment_ids, grids)` runs it, without this project.
    """
    shape = shape.of(model)
    with jax.enable_x64(False):
        shapes = shape.shapes(model, shape.rows or symbolic_shape("rows")[0])
        return bytes(export(jax.jit(row_program(model, output)), platforms=PLATFORMS)(*shapes).serialize())


def to_onnx(model: Model, shape: RowShape = RowShape(), output: Output = "output") -> bytes:
    """An ONNX model with its parameters, by jax2onnx, of static shapes alone.

    Choice: the number of rows is fixed, too: left open, jax2onnx 0.17.1 makes attention pooling fail in ONNX Runtime.
    Raises ConfigError where jax2onnx is not installed.
    """
    try:
        from jax2onnx import to_onnx as convert  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"ONNX needs jax2onnx ({error}): see docs/export.md, or export to stablehlo") from None

    shape = shape.of(model)
    with jax.enable_x64(False):
        shapes = shape.shapes(model, shape.rows or 1)
        program = plain(row_program(model, output), *shapes)
        found: Any = convert(program, shapes, return_mode="proto", input_names=list(FIELDS), output_names=[output])
    return found.SerializeToString()


FORMATS = {"stablehlo": to_stablehlo, "onnx": to_onnx}


def save_exported(
    model: Model, folder: Path | str, format: Format, shape: RowShape = RowShape(), output: Output = "output"
) -> None:
    """Write `row.stablehlo` or `row.onnx`, and `row.json`: all that a caller must know to pack rows.

    Raises ConfigError where the model reads no images, or the output is none of output, pooled, tokens.
    """
    check(output in OUTPUTS, f"output={output!r} is none of {', '.join(OUTPUTS)}")
    folder, shape = Path(folder), shape.of(model)
    shape = replace(shape, rows=shape.rows or (1 if format == "onnx" else None))
    program, said = FORMATS[format](model, shape, output), description(model, shape, output)
    make_folder(folder)
    with replacing(folder / f"row.{format}") as file, replacing(folder / "row.json") as beside:
        file.write_bytes(program)
        beside.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def description(model: Model, shape: RowShape, output: Output) -> dict[str, Any]:
    """What a caller must know: shapes, size rule, filter, mean and deviation, classes, link function."""
    info = info_of(model)
    longest = packing_options(model, {})["longest_side"]
    return {
        "inputs": {name: [shape.rows, *x.shape[1:]] for name, x in zip(FIELDS, shape.shapes(model, 1))},
        "pixels": shape.pixels,
        "output": output,
        "patch": list(model.config.patch),
        "channels": model.config.channels,
        "size": encode(info.preprocessing.size),
        "longest_side": longest if longest < UNLIMITED else None,
        "filter": info.preprocessing.filter,
        "mean": list(model.config.mean),
        "std": list(model.config.std),
        "classes": list(info.classes),
        "link": getattr(model.task.config, "link", None),
        "digest": info.digest,
    }
