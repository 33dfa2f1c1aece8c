"""The configuration for evaluating a model that was loaded without a run, saved alone or of another project; and the
options of a run as a saved model has them."""

from math import prod
from pathlib import Path
from typing import Any

from data.sampling import resolution as sampling
from data.sampling.merge import Merge, MergeByContent, MergeByThreshold
from data.sampling.packing import Packing
from data.sampling.resolution import Resolution
from navit_eqx import load_model
from navit_eqx import preprocessing as rules
from navit_eqx.front import info_of, pair
from navit_eqx.serialize import read_json

from ..config import Config, DataConfig
from ..run.folder import read_config

WRAPPERS = rules.NeverEnlarged | rules.Square | rules.Frames | rules.WholeBlocks


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "config.json").is_file() and "config" in read_json(folder / "config.json")


def config_of(folder: Path) -> Config:
    """The configuration of the run of a model; or one made of its preprocessing, on a folder of images."""
    if is_run(folder):
        return read_config(folder)
    model = load_model(folder)
    how = info_of(model).preprocessing
    law = sampling_of(how.size, pair(model.config.spatial_patch))
    data = DataConfig(
        resolution=law,
        packing=Packing(row_tokens=max(how.row_tokens, 512), row_images=how.row_images),
        val_resolution=law.spread[1],
        eval_resolutions=(law.spread[1],),
    )
    return Config(model=model.config, data=data, task=model.task.config, name=folder.name)


def sampling_of(rule: rules.SizeRule, patch: tuple[int, int]) -> Resolution:
    """A size rule as a sampling of resolutions that draws nothing at random.

    A tower that reads one size is evaluated at native aspect ratio with as many tokens as it has at that size; its own
    size is `--data.resolution onesquare`.
    """
    inner: Any = sampling_of(rule.rule, patch) if isinstance(rule, WRAPPERS) else None
    match rule:
        case rules.Area():
            return sampling.Sides(rule.side, rule.side)
        case rules.Native():
            return sampling.Native(rule.factor, rule.factor)
        case rules.OneSquare():
            return sampling.OneSquare(rule.side)
        case rules.NeverEnlarged():
            return sampling.NeverEnlarged(inner)
        case rules.Frames():
            return sampling.Clips(inner, (rule.frames,), rule.stride)
        case rules.WholeBlocks():
            return sampling.WholeBlocks(inner, rule.merges)
        case rules.Square():
            return sampling.Square(inner)
        case rules.TokenBudget() | rules.CeilBudget():
            return sampling.TokenBudget(rule.tokens)
        case rules.LongestEdge() | rules.Blocks():
            return sampling.NeverEnlarged(sampling.TokenBudget(rule.budget(patch)))
        case rules.Fixed() | rules.CenterCrop():
            return sampling.TokenBudget(prod(rule.grid((rule.height, rule.width), patch)))


def merging_of(merge: Merge | MergeByThreshold | None) -> rules.Merge | None:
    """Merging of a run as the preprocessing of a saved model; none is trained with thresholds."""
    if not isinstance(merge, Merge):
        return None
    how: Any = {"rate": merge.rate, "scales": merge.scales, "rule": merge.rule}
    if not isinstance(merge, MergeByContent):
        return rules.Merge(**how)
    return rules.MergeByContent(**how, spread=merge.spread, quantiles=merge.quantiles)
