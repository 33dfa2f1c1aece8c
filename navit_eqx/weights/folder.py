"""A folder as it comes from a hub: JSON files, and tensors in safetensors (also sharded) or NumPy's `.npz`.

Nothing is unpickled. Headers are read first: names, shapes and dtypes are known before a tensor is read.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ConfigError, check
from ..serialize import read_json

KINDS = ("F64", "F32", "F16", "BF16")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in '
    "torch.load('{0}', weights_only=True).items()}}, '{1}')\""
)


class Folder(NamedTuple):
    """What a folder holds."""

    where: Path
    config: dict[str, Any]
    """config.json; empty where there is none, as beside an `.npz`."""
    preprocessor: dict[str, Any] | None
    """preprocessor_config.json."""
    shapes: dict[str, tuple[int, ...]]
    """Shape of each tensor by name."""
    tensor: Callable[[str], np.ndarray]
    """A tensor by name, in at least float32."""
    origin: Callable[[str], Path]
    """The file that holds a tensor."""


def is_foreign(folder: Path) -> bool:
    """Whether a folder is that of another project: by its config.json, or by its tensors where it has none."""
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        return not config.keys() & {"model", "config"} and bool(config.keys() & {"model_type", "architecture"})
    return folder.suffix == ".npz" or bool([*folder.glob("*.npz"), *pickles(folder)])


def open_folder(folder: Path) -> Folder:
    """Read headers and JSON files.   Raises ConfigError, by name, where a file is missing or damaged."""
    files = tensor_files(folder)
    beside = folder.parent if folder.is_file() else folder
    archive = any(file.suffix == ".npz" for file in files)
    config = read_json(beside / "config.json") if (beside / "config.json").is_file() and not archive else {}
    processor = beside / "preprocessor_config.json"
    if not files:
        refuse_without_weights(folder)
    opened = [open_npz(file) if file.suffix == ".npz" else open_safetensors(file) for file in files]
    places: dict[str, Path] = {}
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file, entries in zip(files, opened, strict=True):
        for name, (shape, get) in entries.items():
            check(name not in shapes, f"{file} holds {name!r}, and so does {places.get(name)}: keep one")
            shapes[name], tensors[name], places[name] = shape, get, file
    check_index(folder, places)
    return Folder(
        folder,
        config,
        read_json(processor) if processor.is_file() else None,
        shapes,
        lambda name: at_least_float32(tensors[name](), name, places[name]),
        lambda name: places[name],
    )


def tensor_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, or its one `.npz`.   Raises ConfigError where there are several `.npz`."""
    if folder.is_file():
        return [folder]
    found = sorted(folder.glob("*.safetensors"))
    whole = [file for file in found if file.name == "model.safetensors"]
    if found:
        return whole if whole and not (folder / "model.safetensors.index.json").is_file() else found
    archives = sorted(folder.glob("*.npz"))
    check(len(archives) < 2, f"{folder} holds {len(archives)} .npz files: keep the one to load")
    return archives


def pickles(folder: Path) -> list[Path]:
    """Files of a folder that only unpickling could read."""
    return [file for file in sorted(folder.iterdir()) if file.suffix in PICKLED] if folder.is_dir() else []


def refuse_without_weights(folder: Path) -> None:
    """Raises ConfigError: no weights, or only such as could run code."""
    for file in pickles(folder):
        command = CONVERT.format(file, folder / "model.safetensors")
        raise ConfigError(
            f"{file} is a pickle, which can run code and is not read. Convert it once, in PyTorch: {command}"
        )
    raise ConfigError(f"no weights in {folder}: it holds neither *.safetensors nor *.npz")


def check_index(folder: Path, places: dict[str, Path]) -> None:
    """Raises ConfigError where a sharded model's index names a tensor that is not in its file."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    wanted = read_json(index).get("weight_map", {})
    check(isinstance(wanted, dict), f"{index} has no weight_map: fetch it again")
    for name, file in wanted.items():
        check(
            name in places and places[name].name == file, f"{index}: {name!r} is not in {file}: fetch that file again"
        )
    for name in places.keys() - wanted.keys():
        raise ConfigError(f"{places[name]} holds {name!r}, which {index.name} does not name: fetch the folder again")


Entries = dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]


def open_safetensors(file: Path) -> Entries:
    """Name → shape, and a function that reads the tensor.   Raises ConfigError where the file is damaged."""
    try:
        stored = safe_open(file, framework="np")
        found: Entries = {}
        for name in stored.keys():
            part = stored.get_slice(name)
            kind = part.get_dtype()
            if kind not in KINDS and not kind.startswith(("I", "U", "BOOL")):
                raise ConfigError(f"{file}: {name!r} holds {kind}, not one of {', '.join(KINDS)}")
            found[name] = tuple(part.get_shape()), lambda name=name: stored.get_tensor(name)
        return found
    except SafetensorError as error:
        raise ConfigError(f"{file} is damaged, {error}: fetch it again") from None


def open_npz(file: Path) -> Entries:
    """Name → shape, and a function that reads the tensor.   Raises ConfigError where the file is damaged.

    bfloat16 of big_vision comes back as two bytes without a type.
    """
    try:
        found: Entries = {}
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            for name in stored.files:
                with stored.zip.open(f"{name}.npy") as array:
                    version = np.lib.format.read_magic(array)
                    header = np.lib.format.read_array_header_1_0
                    header = header if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, _, dtype = header(array)
                check(not dtype.hasobject, f"{file}: {name!r} is pickled, which can run code and is not read")
                found[name] = shape, lambda name=name: read_npz(file, name)
        return found
    except (ValueError, KeyError, OSError, BadZipFile, EOFError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file} is damaged, {error}: fetch it again") from None


def read_npz(file: Path, name: str) -> np.ndarray:
    """One array of an archive."""
    with np.load(file, allow_pickle=False) as stored:
        return stored[name]


def at_least_float32(array: np.ndarray, name: str, file: Path) -> np.ndarray:
    """The tensor in float32, or float64 where it is.   Raises ConfigError where it is not finite."""
    if array.dtype == np.dtype("V2"):
        array = array.view(jnp.bfloat16)
    check(
        jnp.issubdtype(array.dtype, jnp.floating), f"{file}: {name!r} holds {array.dtype}, not floating-point numbers"
    )
    array = array if array.dtype == np.float64 else array.astype(np.float32)
    check(bool(np.isfinite(array).all()), f"{file}: {name!r} holds numbers that are not finite: fetch it again")
    return array


def number(config: dict[str, Any], key: str, where: Path, default: Any = None) -> int:
    """A positive integer of a configuration; of a pair of equal ones, the one.   Raises ConfigError."""
    value: Any = config.get(key, default)
    if isinstance(value, list) and len({*value}) == 1:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
        return value
    raise ConfigError(f"{where}/config.json: {key}={value!r} must be a positive integer")


def square_root(count: int, name: str, where: Path) -> int:
    """The side of a square table of so many entries.   Raises ConfigError where it is not square."""
    side = math.isqrt(count)
    check(side * side == count, f"{where}: {name!r} has {count} positions, which are no square table: not supported")
    return side
