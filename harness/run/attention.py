"""Which program computes attention in a run: chosen once, on its device and rows, and kept when it goes on."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from data.plan import Plan
from navit_eqx.config import Auto, Backend, Dense, ModelConfig
from navit_eqx.serialize import decode, encode, read_json
from navit_eqx.training.attention_choice import choose
from navit_eqx.training.hosts import broadcast_from_main, is_main_process

from ..config import Config


def shape_for(config: Config, plan: Plan, folder: Path | None = None) -> tuple[ModelConfig, list[str]]:
    """The model's configuration with the backend that this run takes, and what was found, in words.

    The first process chooses for all, on rows as one device sees them. `Auto` takes again what the unfinished run in
    `folder` began with on such a device, so that it goes on with the same rounding.   Raises ConfigError where one that
    is named does not work.
    """
    backend, notes = broadcast_from_main(_chosen(config, plan, folder) if is_main_process() else None)
    return replace(config.model, attention=decode(Backend, backend)), notes


def _chosen(config: Config, plan: Plan, folder: Path | None) -> tuple[dict, list[str]]:
    model, (row_tokens, _) = config.model, config.data.packing.shape
    begun = began_with(folder) if folder and isinstance(model.attention, Auto) else None
    model = replace(model, attention=begun or model.attention)
    rows = max(1, config.rows // jax.device_count() // config.optim.accumulate)
    ids = segment_ids(plan, rows, row_tokens, model.registers)
    backend, notes = choose(model, ids, plan.kept.shape[1])
    quiet = isinstance(backend, Dense) and not notes
    return encode(backend), [] if quiet else [*notes, f"{backend}" + (", as the run began" if begun else "")]


def began_with(folder: Path) -> Backend | None:
    """What an unfinished run says that it computes attention with, on a device of the kind that is here."""
    if not (folder / "config.json").exists():
        return None
    saved = read_json(folder / "config.json")
    begun = saved.get("attention") if saved.get("device") == jax.devices()[0].device_kind else None
    return begun and decode(Backend, begun, f"{folder}/config.json: attention")


def segment_ids(plan: Plan, rows: int, row_tokens: int, registers: int) -> Int[np.ndarray, "B T"]:
    """Whose token stands where in the first rows of a plan, over and over; the registers of all slots follow."""
    slots = np.arange(1, plan.kept.shape[1] + 1, dtype=np.int32)
    ids = np.zeros((rows, row_tokens + len(slots) * registers), np.int32)
    for row, kept in zip(ids, np.resize(plan.kept, (rows, len(slots)))):
        row[: kept.sum()] = np.repeat(slots, kept)
        row[row_tokens:] = np.repeat(np.where(kept > 0, slots, 0), registers)
    return ids
