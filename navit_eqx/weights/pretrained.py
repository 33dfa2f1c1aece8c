"""Save a model in the layout of this project, or of another one, with its preprocessing and a model card.

What another layout cannot say is found by reading: the files are made in memory, read by the importer of that family,
and compared with the model. Nothing is written unless the same model comes back, equal to the bit.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from ..config import Auto, ModelConfig
from ..errors import ConfigError, check
from ..files import make_folder, replacing
from ..info import ModelInfo
from ..preprocessing import Blocks, CeilBudget, Fixed, LongestEdge, NeverEnlarged, Preprocessing, TokenBudget
from ..tasks.config import Embed, Task
from ..tasks.model import Model
from . import big_vision, clip, deepseek, dino, moonvit, moonvit_v2, pixtral, qwen, timm, univitar, vit
from .bridge import flatten
from .card import Card, card_text
from .family import Description
from .folder import Folder
from .foreign import check_names, described, located
from .names import ours_of, read, write
from .proposal import Proposal, per_channel, table_side
from .saved import save_model

Layout = Literal["navit", "hf", "timm", "big_vision"]
Propose = Callable[[ModelConfig, Task, ModelInfo], Proposal]
LAYOUTS: dict[str, tuple[Propose, ...]] = {
    "hf": (
        *(vit.propose, clip.propose_clip, clip.propose_siglip, clip.propose_siglip2, clip.propose_idefics),
        *(dino.propose_v2, dino.propose_v3, moonvit.propose, pixtral.propose, qwen.propose_v2, qwen.propose_v25),
        *(qwen.propose_v3, moonvit_v2.propose, univitar.propose),
    ),
    "timm": (timm.propose_vit, timm.propose_naflexvit, deepseek.propose),
    "big_vision": (big_vision.propose,),
}
WEIGHTS = {"hf": "model.safetensors", "timm": "model.safetensors", "big_vision": "model.npz"}
SHOWN = 6  # reasons
OTHER_RULES = (CeilBudget(), NeverEnlarged(TokenBudget()), LongestEdge(), Blocks())
OF_TRAINING = dict(dtype="auto", attention=Auto(), remat=False, unroll=1, stochastic_depth=0.0)  # not what it computes


def save_pretrained(
    model: Model,
    folder: Path | str,
    layout: Layout = "navit",
    card: Card | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Save a model for others: parameters, configuration, preprocessing and a model card (README.md).

    layout         navit, or that of Hugging Face transformers (hf), timm, or big_vision
    card           what only you know of it: data, licence, metrics, command, limits
    preprocessing  instead of `model.info.preprocessing`, where the other project lacks its size rule

    Raises ConfigError, with what does not fit, where the layout cannot express the model, and where the folder holds
    other files; then nothing is written.

        navit.save_pretrained(model, "vit-fine-tuned", layout="hf", card=navit.Card(licence="mit"))
    """
    folder, info = Path(folder), model.info
    check(info is not None, "this model has no info: give it one, Model(config, task, ModelInfo(...))")
    check(layout == "navit" or layout in LAYOUTS, f"layout={layout!r} is none of navit, {', '.join(LAYOUTS)}")
    info = replace(info or ModelInfo(), **({"preprocessing": preprocessing} if preprocessing else {}))
    text = card_text(model, info, layout, card or Card())
    if layout == "navit":
        check_empty(folder, {"config.json", "model.safetensors", "README.md"})
        save_model(folder, model, info)
        with replacing(folder / "README.md") as readme:
            readme.write_text(text, encoding="utf-8")
        return
    proposal, tensors = expressed(model, info, layout)
    files = {"README.md": text} | {
        name: json.dumps(said, indent=2) + "\n"
        for name, said in (("config.json", proposal.config), ("preprocessor_config.json", proposal.preprocessor))
        if said
    }
    check_empty(folder, {*files, WEIGHTS[layout]})
    make_folder(folder)
    with ExitStack() as stack:
        drafts = {name: stack.enter_context(replacing(folder / name)) for name in (*files, WEIGHTS[layout])}
        for name, content in files.items():
            drafts[name].write_text(content, encoding="utf-8")
        write_tensors(tensors, drafts[WEIGHTS[layout]], layout)


def check_empty(folder: Path, files: set[str]) -> None:
    """Raises ConfigError where the folder holds anything but the files of an earlier save, which are replaced."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(there - files):
        raise ConfigError(f"{folder} holds {name}, which does not belong to the saved model: choose another folder")


def write_tensors(tensors: Mapping[str, np.ndarray], file: Path, layout: Layout) -> None:
    """An archive for big_vision, safetensors for others."""
    arrays: Any = dict(tensors)
    if layout == "big_vision":
        with file.open("wb") as stream:
            np.savez(stream, **arrays)
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file, metadata={"format": "pt"})


def expressed(model: Model, info: ModelInfo, layout: Layout) -> tuple[Proposal, dict[str, np.ndarray]]:
    """Files of the first family of a layout that can hold the model, and its tensors.

    Raises ConfigError with the reasons of the family that comes closest.
    """
    nearest: tuple[str, ...] = ()
    for propose in LAYOUTS[layout]:
        proposal, reasons = proposed(propose, model, info)
        if proposal is None:
            nearest = nearest or (*reasons,)
            continue
        tensors, more = attempt(proposal, model, info)
        reasons += more
        if not reasons:
            return proposal, tensors
        if not nearest or len(reasons) < len(nearest):
            nearest = (*reasons,)
    more = f"; and {len(nearest) - SHOWN} more" if len(nearest) > SHOWN else ""
    raise ConfigError(f"layout {layout!r} cannot hold this model: {'; '.join(nearest[:SHOWN])}{more}. 'navit' can")


def proposed(propose: Propose, model: Model, info: ModelInfo) -> tuple[Proposal | None, list[str]]:
    """What a family proposes; where it lacks the size rule, that reason, and what it proposes for one that it has.

    None where it has nothing to propose whatever the size rule.
    """
    side = table_side(model.config) * model.config.patch[0]
    rules = (
        info.preprocessing.size,
        Fixed(side, side),
        CeilBudget(),
        NeverEnlarged(TokenBudget()),
        LongestEdge(),
        Blocks(),
    )
    reasons: list[str] = []
    for rule in rules:
        how = replace(info.preprocessing, size=rule)
        try:
            return propose(model.config, model.task.config, replace(info, preprocessing=how)), reasons[:1]
        except ConfigError as error:
            reasons.append(str(error))
    return None, reasons[:1]


def attempt(proposal: Proposal, model: Model, info: ModelInfo) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors of a proposal, and the reasons why its family would read another model from them."""
    ours, table = flatten(model), (*proposal.table, *proposal.outside)
    named = {name for line in table for name in ours_of(line)}
    reasons = [f"it has no place for {name}" for name in sorted(ours.keys() - named)]
    reasons += [f"it needs {name}, which the model lacks" for name in sorted(named - ours.keys())]
    if reasons:
        return {}, reasons
    try:
        inside = write(proposal.table, model.config, ours)
        tensors = {proposal.prefix + name: x for name, x in inside.items()}
        tensors |= write(proposal.outside, model.config, ours)
        shapes = {name: x.shape for name, x in tensors.items()}
        origin = Path(proposal.config.get("model_type", "file"))
        folder = Folder(
            origin, proposal.config, proposal.preprocessor, shapes, tensors.__getitem__, lambda name: origin
        )
        said = described(folder)
        reasons = differences(said, model, info)
        if not reasons:
            check_names(folder, said, {name: x.shape for name, x in ours.items()})
            back = read(said.table, said.config, lambda name: tensors[located(folder, said, name)])
            changed = [n for n, x in ours.items() if back[n].dtype != x.dtype or not np.array_equal(back[n], x)]
            reasons = [f"{name} would come back changed" for name in changed]
    except ConfigError as error:
        return {}, [str(error)]
    return tensors, reasons


def differences(said: Description, model: Model, info: ModelInfo) -> list[str]:
    """Where a description differs from a model, in words; what matters in training alone is left out."""
    there, here = canonical(said.config), canonical(model.config)
    found = [
        f"model.{f.name} would be {getattr(there, f.name)!r}, not {getattr(here, f.name)!r}"
        for f in fields(ModelConfig)
        if getattr(there, f.name) != getattr(here, f.name)
    ]
    task, wanted = asked(said.task), asked(model.task.config)
    found += [f"the task would be {task}, not {wanted}"] if task != wanted else []
    hows = said.info.preprocessing, info.preprocessing
    for name in ("size", "filter", "channels"):
        one, other = (getattr(how, name) for how in hows)
        found += [f"info.preprocessing.{name} would be {one}, not {other}"] if one != other else []
    return found


def canonical(c: ModelConfig) -> ModelConfig:
    """The configuration without what matters in training alone."""
    pixels = {name: per_channel(getattr(c, name), c.channels) for name in ("mean", "std")}
    return replace(c, **OF_TRAINING, **pixels, layer_scale=float(c.layer_scale != 0))


def asked(task: Task) -> tuple[Any, ...]:
    """What a task makes of an image: kind, size or merger, link function."""
    size = (task.size, task.merger) if isinstance(task, Embed) else task.classes
    return type(task).__name__, size, getattr(task, "link", None)
