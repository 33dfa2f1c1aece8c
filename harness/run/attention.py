"""Choice of the attention backend, once per run, on its device and rows; a resumed run keeps it."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from data.plan import Plan
from data.sampling.packing import Template
from navit_eqx.config import Auto, Backend, Dense, ModelConfig, Windows
from navit_eqx.errors import check
from navit_eqx.serialize import decode, encode
from navit_eqx.training.attention_choice import choose
from navit_eqx.training.hosts import broadcast_from_main, is_main_process

from ..config import Config
from .folder import read_saved


def shape_for(config: Config, plan: Plan, folder: Path | None = None) -> tuple[ModelConfig, list[str]]:
    """The model configuration with the attention backend of this run, and notes on the choice.

    The main process chooses for all, on the rows of one device. `Auto` keeps the backend of the unfinished run in
    `folder` on the same kind of device, so that rounding stays the same.   Raises ConfigError where the configured
    backend does not work.
    """
    backend, notes = broadcast_from_main(_chosen(config, plan, folder) if is_main_process() else None)
    return replace(config.model, attention=decode(Backend, backend)), notes


def _chosen(config: Config, plan: Plan, folder: Path | None) -> tuple[dict, list[str]]:
    model, (row_tokens, _), rule = config.model, config.data.packing.shape, config.data.packing.rule
    if isinstance(rule, Template) and isinstance(model.attention, Auto):
        assert rule.windows
        return encode(Windows(rule.windows)), [f"one dense product for each of {len(rule.windows)} windows, no mask"]
    check(
        not isinstance(model.attention, Windows),
        "model.attention=Windows is chosen by data.packing.rule=Template, for its rows: set it to auto",
    )
    saved = saved_backend(folder) if folder and isinstance(model.attention, Auto) else None
    model = replace(model, attention=saved or model.attention)
    rows = max(1, config.rows // jax.device_count() // config.optim.accumulate)
    ids = segment_ids(plan, rows, row_tokens, model.registers)
    backend, notes = choose(model, ids, plan.kept.shape[1])
    quiet = isinstance(backend, Dense) and not notes
    return encode(backend), [] if quiet else [*notes, f"{backend}" + (", as before in this run" if saved else "")]


def saved_backend(folder: Path) -> Backend | None:
    """The attention backend of an unfinished run, if its device is of the same kind."""
    if not (folder / "config.json").exists():
        return None
    saved = read_saved(folder)
    backend = saved.get("attention") if saved.get("device") == jax.devices()[0].device_kind else None
    return backend and decode(Backend, backend, f"{folder}/config.json: attention")


def segment_ids(plan: Plan, rows: int, row_tokens: int, registers: int) -> Int[np.ndarray, "B T"]:
    """Segment ids of the first rows of a plan, repeated to `rows`; the registers of all slots follow the tokens."""
    slots = np.arange(1, plan.kept.shape[1] + 1, dtype=np.int32)
    ids = np.zeros((rows, row_tokens + len(slots) * registers), np.int32)
    for row, kept in zip(ids, np.resize(plan.kept, (rows, len(slots)))):
        row[: kept.sum()] = np.repeat(slots, kept)
        row[row_tokens:] = np.repeat(np.where(kept > 0, slots, 0), registers)
    return ids
