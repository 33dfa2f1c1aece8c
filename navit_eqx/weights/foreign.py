"""Models of other projects: find the family, check every name and shape, read, and build the model."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jax.tree_util import tree_leaves_with_path

from ..errors import ConfigError, check
from ..tasks.model import Model, abstract_model, is_shape
from . import big_vision, clip, deepseek, dino, moonvit, moonvit_v2, pixtral, qwen, timm, univitar, vit
from .bridge import from_reference, unflatten
from .family import Description, vision_config
from .folder import Folder, open_folder, tensor_files
from .names import expected, read

FAMILIES: dict[str, Callable[[Folder], Description]] = {
    "vit": vit.describe,
    "deit": vit.describe,
    "clip": clip.describe_clip,
    "clip_vision_model": clip.describe_clip,
    "siglip": clip.describe_siglip,
    "siglip_vision_model": clip.describe_siglip,
    "siglip2": clip.describe_siglip2,
    "siglip2_vision_model": clip.describe_siglip2,
    "idefics2": clip.describe_idefics,
    "idefics3": clip.describe_idefics,
    "idefics3_vision": clip.describe_idefics,
    "smolvlm": clip.describe_idefics,
    "dinov2": dino.describe_v2,
    "dinov2_with_registers": dino.describe_v2,
    "dinov3_vit": dino.describe_v3,
    "moonvit": moonvit.describe,
    "kimi_vl": moonvit.describe,
    "kimi_k25": moonvit.describe,
    "kimi_k3": moonvit_v2.describe,
    "kimi_k3_vision": moonvit_v2.describe,
    "pixtral": pixtral.describe,
    "qwen2_vl": qwen.describe_v2,
    "qwen2_vl_vision": qwen.describe_v2,
    "qwen2_5_vl": qwen.describe_v25,
    "qwen2_5_vl_vision": qwen.describe_v25,
    "qwen3_vl": qwen.describe_v3,
    "qwen3_vl_moe": qwen.describe_v3,
    "qwen3_vl_vision": qwen.describe_v3,
    "univitar": univitar.describe,
    "deepseek_vit": deepseek.describe,
    "timm": timm.describe,
    "npz": big_vision.describe,
}  # by `model_type` of config.json; timm's has an `architecture` instead, and an .npz has none
AROUND = ("llava", "mistral3")  # whole models with a tower of some family, which their vision_config names


def load_foreign(where: Path) -> Model:
    """A model of another project, from its folder.   Raises ConfigError, by name; nothing is half loaded."""
    folder = open_folder(where)
    said = described(folder)
    info = replace(said.info, trained_on=said.info.trained_on or str(where), digest=digest(where))
    info = replace(info, left_out=left_out(folder, said))
    try:
        abstract = abstract_model(said.config, said.task, info)
    except Exception as error:  # values within their ranges can still be inconsistent with each other
        raise ConfigError(f"{where}/config.json describes a model that cannot be built: {error}") from error
    leaves = [(path, leaf) for path, leaf in tree_leaves_with_path(abstract) if is_shape(leaf)]
    shapes = {".".join(key.name for key in path): leaf.shape for path, leaf in leaves}
    check_count(folder, shapes)
    check_names(folder, said, shapes)
    ours = read(said.table, said.config, lambda name: folder.tensor(located(folder, said, name)))
    return from_reference(unflatten(ours), abstract)


def described(folder: Folder) -> Description:
    """The family of a folder, by its configuration.   Raises ConfigError where it is not known."""
    kind: Any = "timm" if "architecture" in folder.config else folder.config.get("model_type")
    kind = "deepseek_vit" if str(folder.config.get("architecture")).startswith(deepseek.START) else kind
    kind = "npz" if not folder.config else kind
    kind = vision_config(folder).get("model_type") if kind in AROUND else kind
    check(
        isinstance(kind, str) and kind in FAMILIES,
        f"{folder.where}/config.json: model_type {kind!r} is none of {', '.join(FAMILIES)}",
    )
    try:
        return FAMILIES[kind](folder)
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{folder.where}/config.json is not that of a {kind}: {error!r}") from error


def located(folder: Folder, said: Description, name: str) -> str:
    """The full name of a tensor; a head stands outside of the prefix."""
    return said.prefix + name if said.prefix + name in folder.shapes else name


def check_count(folder: Folder, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ConfigError where the model would be far larger than the folder, before anything of that size is made.

    Ours may have more numbers than theirs: biases that are zero.
    """
    ours, theirs = (sum(map(math.prod, sizes.values())) for sizes in (shapes, folder.shapes))
    check(
        ours <= 2 * theirs,
        f"{folder.where}/config.json makes a model of {ours} parameters, its files hold {theirs}: fetch both again",
    )


def check_names(folder: Folder, said: Description, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ConfigError where a tensor is missing, left over, or has another shape or dtype."""
    wanted = expected(said.table, said.config, shapes)
    known = {located(folder, said, name): shape for name, shape in wanted.items()}
    for name in known.keys() - folder.shapes.keys():
        raise ConfigError(f"{folder.where} lacks {said.prefix}{name}, which its config.json asks for")
    for name in sorted(folder.shapes.keys() - known.keys()):
        inner = name.removeprefix(said.prefix)
        if not any(fnmatchcase(part, pattern) for pattern in said.unread for part in (name, inner)):
            raise ConfigError(f"{folder.origin(name)} holds {name!r}, which belongs to no part of the model")
    for name, shape in known.items():
        found = folder.shapes[name]
        check(found == shape, f"{folder.origin(name)}: {name!r} has shape {found}, config.json makes it {shape}")


def left_out(folder: Folder, said: Description) -> str:
    """What is not read of a folder, in words: number and size of tensors by the pattern that covers them."""
    found: dict[str, list[int]] = {}
    for name, shape in folder.shapes.items():
        patterns = [p for p in said.unread if any(fnmatchcase(n, p) for n in (name, name.removeprefix(said.prefix)))]
        if patterns:
            found.setdefault(patterns[0], []).append(math.prod(shape))
    return "; ".join(f"{p}: {len(sizes)} tensors of {sum(sizes):,} numbers" for p, sizes in sorted(found.items()))


def digest(where: Path) -> str:
    """SHA-256 of the files with tensors."""
    found = hashlib.sha256()
    for file in tensor_files(where):
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()
