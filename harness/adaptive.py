"""Merged patches, hierarchies and moved coordinates: what goes with them, and what follows from them."""

from data.sampling.dropping import Constant
from data.sampling.merge import MergeByThreshold
from data.sampling.resolution import Clips, WholeBlocks
from data.sampling.token_selection import ByContrast
from navit_eqx.config_local import check_whole_blocks
from navit_eqx.errors import ConfigError, check
from navit_eqx.tasks import TASKS

from .config import Config, with_data
from .lengths import Images, patch_sampling


def merging(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Raise ConfigError where merging does not go with the other options."""
    merge, data = config.data.merge, config.data
    if merge is None:
        return config, []
    check(
        data.packing.fill != "resolution", "data.packing.fill=resolution: merged images are not enlarged; choose rate"
    )
    check(not TASKS[type(config.task)].has_teacher, "task: merged images have no teacher; train with --task classify")
    check(
        not isinstance(merge, MergeByThreshold),
        "data.merge=MergeByThreshold counts tokens of images as they are evaluated, and training crops and resizes "
        "them anew: train with --data.merge merge",
    )
    may_merge(config, merge.scales)
    by_content = isinstance(data.token_selection, ByContrast)
    check(not by_content, "data.token_selection=ByContrast compares patches of one size: choose AtRandom or Spread")
    per_step = patch_sampling(config).per == "step"
    check(
        not (per_step and merge.rule == "pi"),
        "data.merge.rule=pi maps patches to one size, and data.patch_sizes draws one per step: --data.merge.rule area",
    )
    for name in ("levels", "detail"):
        scales = getattr(getattr(config.model, name), "scales", merge.scales)
        check(
            scales >= merge.scales,
            f"data.merge.scales={merge.scales}, but model.{name} has {scales}: make them equal",
        )
    check(
        config.model.detail is None or data.dropping == Constant(0.0),
        "model.detail reads the parts of all merged patches, and data.dropping leaves some out: --data.dropping.rate 0",
    )
    return config, []


def may_merge(config: Config, scales: int) -> None:
    """Raises ConfigError where windows would cut blocks."""
    if config.model.local:
        check_whole_blocks(config.model.local.window, scales)


def stages(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve grids of whole blocks from the stages of the model.   Raises ConfigError where other options do not go
    with stages."""
    found, data = config.model.stages, config.data
    law = data.resolution
    if found is None:
        check(not isinstance(law, WholeBlocks), "data.resolution=WholeBlocks is for a hierarchy: set model.stages")
        return config, []
    name = type(config.task).__name__
    staged = " and ".join(each.__name__ for each in TASKS.values() if each.in_stages)
    check(TASKS[type(config.task)].in_stages, f"model.stages are for the tasks {staged}, not for {name}")
    check(patch_sampling(config).per != "step", "model.stages: data.patch_sizes draws one per step; draw one per image")
    check(config.optim.layers is None, "optim.layers decays rates over the blocks of one stage: none with model.stages")
    last_n = getattr(config.optim.frozen, "last_n", 0)
    check(not last_n, "optim.frozen.last_n counts the blocks of one stage: 0 with model.stages")
    if isinstance(law, WholeBlocks):
        check(
            law.merges == found.merges,
            f"data.resolution.merges={law.merges}, and model.stages have {found.merges} merges: make them equal",
        )
        return config, []
    if isinstance(law, Clips):
        raise ConfigError("model.stages are of images, and data.resolution samples clips")
    block = 2**found.merges
    note = f"data.resolution = WholeBlocks: grids are multiples of {block} x {block} patches, for model.stages"
    return with_data(config, resolution=WholeBlocks(law, found.merges)), [note]


def fuzzy(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Raise ConfigError where moved coordinates do not go with the other options."""
    if config.model.fuzzy is None:
        return config, []
    check(config.data.merge is None, "model.fuzzy moves coordinates of patches of one size: --data.merge none")
    name = type(config.task).__name__
    check(not TASKS[type(config.task)].every_patch, f"task {name} reads the place of every patch: --model.fuzzy none")
    return config, []
