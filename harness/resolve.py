"""Fill automatic config values from dataset statistics.

Each resolver takes the configuration and the images, and returns the configuration with one more option resolved, and
notes to print.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from data.manifest import Manifest
from data.plan import round_up
from data.sampling.dropping import ByResolution, Dropping, Schedule
from data.sampling.kinds import Patch
from data.sampling.packing import Packing, Template
from data.sampling.patch_size import CoarseToFine, OneSize
from data.sampling.resolution import Areas, Clips, NeverEnlarged, Resolution, Sides, Square, WholeBlocks
from data.tasks import DataTask
from navit_eqx.errors import ConfigError, check
from navit_eqx.resize import Interpolation as ModelInterpolation
from navit_eqx.tasks import TASKS
from reference.resize import Interpolation
from reference.sampling.patch_sizes import check_gains
from reference.template import windows_of

from .adaptive import fuzzy, merging, stages
from .config import Config, with_data
from .content import content
from .embedded import embedded
from .lengths import (
    Images,
    TokenLengths,
    enough,
    expected_lengths,
    expected_tokens,
    images_per_step,
    mean_length,
    patch_sampling,
    sizes_in,
    stride,
    usable,
)

FAR = 32.0  # times beyond the resolutions of training, from where on a number is in another unit
EPOCHS = 60  # passes over the images by default
EPOCHS_IN_TIME = 200  # passes at most, where minutes are given
FEWEST_IMAGES = 50_000  # images of a run by default, at least


Resolver = Callable[[Config, Images], tuple[Config, list[str]]]


def resolve(config: Config, manifest: Manifest, task: DataTask) -> tuple[Config, list[str]]:
    """The configuration with all automatic options resolved, and a note on each.

    Raises ConfigError where options do not fit each other or the data.
    """
    notes = []
    for resolver in RESOLVERS:
        try:
            config, more = resolver(config, Images(manifest, task))
        except ConfigError as error:
            raise with_start(error, config.start) from None
        notes += more
    return config, notes


def with_start(error: Exception, start: str) -> Exception:
    """The error; where it asks for another shape of a model that is started from, it says whose shape it is."""
    if not start or "model." not in str(error):
        return error
    return type(error)(f"{error}. But the shape is that of the model in {start}: start from another one, or from none")


def channels(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Raise ConfigError where images and model differ in channels."""
    found, wanted = images.manifest.channels, config.model.channels
    if found != wanted:
        raise ConfigError(
            f"{images.manifest.where} has images of {found} channels, the model reads {wanted}: "
            f"--model.channels {found}"
        )
    return config, []


def resolution(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the range of sides from the median side of the images."""
    sampling, notes = sides_from(config.data.resolution, images.manifest, config.model.spatial_patch)
    return with_data(config, resolution=sampling), notes


def clips(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the tubelets of clips from the model.

    Raises ConfigError where data and model do not both have clips, or options are for images alone.
    """
    model, law, where = config.model, config.data.resolution, images.manifest.where
    if images.manifest.has_clips != isinstance(law, Clips):
        raise ConfigError(
            f"{where} has clips: --data.resolution clips"
            if images.manifest.has_clips
            else f"data.resolution samples clips, and {where} has images: choose a law of images, such as sides"
        )
    if not isinstance(law, Clips):
        check(model.tubelets is None, f"{where} has images, and model.tubelets read clips: --model.tubelets none")
        return config, []
    check(model.tubelets is not None, f"{where} has clips: --model.patch 2 16 16 --model.tubelets tubelets")
    augment = config.data.augment
    check(augment.mix is None, "data.augment.mix: clips are not mixed; --data.augment.mix none")
    check(not augment.quarter_turns, "data.augment.quarter_turns: clips are not turned; set it to False")
    check(config.data.packing.fill != "resolution", "data.packing.fill=resolution: clips are not enlarged; choose rate")
    check(not TASKS[type(config.task)].has_teacher, "task: clips have no teacher; train with --task classify")
    longest = max(law.frames) // model.patch[0]
    check(
        longest <= model.tubelets.longest,  # pyright: ignore[reportOptionalMemberAccess]
        f"data.resolution.frames={law.frames}: time ends at {model.patch[0]} x model.tubelets.size frames; raise it",
    )
    known = {"base": model.patch, "shapes": model.tubelet_shapes, "strides": model.tubelet_strides}
    notes = []
    for name, value in known.items():
        given = getattr(law, name)
        check(given in ((), value), f"data.resolution.{name}={given}, and the model has {value}: leave it empty")
        if not given:
            notes.append(f"data.resolution.{name} = {' '.join(map(str, value))}: that of the model")
    return with_data(config, resolution=replace(law, **known)), notes


def patch_sizes(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve patch sizes from the model; warns of sizes that amplify noise."""
    sampling = patch_sampling(config)
    base = config.model.spatial_patch
    patches = sizes_in(sampling)
    check_gains(base, patches, host_interpolation(config.model.interpolation))
    if sampling == config.data.patch_sizes:
        return config, []
    config = with_data(config, patch_sizes=sampling)
    if isinstance(sampling, OneSize):
        return config, [f"data.patch_sizes.size = {base[0]} x {base[1]}: the patch size of the model"]
    key = "data.patch_sizes.sampling.sizes" if isinstance(sampling, CoarseToFine) else "data.patch_sizes.sizes"
    how = "mapped to its size, one compiled program" if sampling.per == "image" else "one compiled program for each"
    sides = ", ".join(str(height) for height, _ in patches)
    kernel = f"one per {sampling.per}, with a kernel of {base[0]} x {base[1]}, {how}"
    return config, [f"{key} = {sides}: the sizes of the model, {kernel}"]


def dropping(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the range of tokens over which drop rates grow."""
    tokens = expected_tokens(config, images.manifest)[1][usable(config, images.manifest)]
    sampling, notes = lengths_from(config.data.dropping, tokens)
    return with_data(config, dropping=sampling), notes


def packing(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the row length and the number of image slots, from the images that are used."""
    lengths, used = expected_lengths(config, images.manifest), usable(config, images.manifest)
    mean = mean_length(config, images.manifest, lengths)
    if isinstance(config.data.packing.rule, Template):
        return template(
            config, config.data.packing.rule, lengths[used], expected_tokens(config, images.manifest)[1][used]
        )
    found = packing_for(config.data.packing, lengths[used], mean)
    if found == config.data.packing:
        return config, []
    notes = []
    if config.data.packing.row_tokens is None:
        longest = images.manifest.name(int(np.where(used, lengths, 0).argmax()) * stride(images.manifest))
        why = f"at least the longest image, {longest}, and 4 times the mean of {mean:.0f} tokens per image"
        first = int(np.where(used, 0, expected_tokens(config, images.manifest)[1]).argmax()) * stride(images.manifest)
        why += "" if used.all() else f", without {(~used).sum()} far longer, {images.manifest.name(first)} the longest"
        notes += [f"data.packing.row_tokens = {found.row_tokens}: {why}"]
    if config.data.packing.row_images is None:
        why = "2.5 times the mean number of images in a row, at least 4"
        notes += [f"data.packing.row_images = {found.row_images}: {why}"]
    return with_data(config, packing=found), notes


def task(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the options of the task."""
    fields, notes = images.task.resolve(TokenLengths(config, images.manifest))
    options: Any = config.task
    return replace(config, task=replace(options, **fields)), notes


def check_unit(config: Config) -> None:
    """Raise ConfigError where resolutions of evaluation are in another unit than those of training, as those of a
    preset are where its law is exchanged: factors of the native size, sides in pixels, or tokens."""
    law = config.data.resolution
    lo, hi = map(number, law.spread)
    for value in (config.data.reported_at, *config.data.eval_resolutions):
        check(
            in_unit(law, value),
            f"resolution {value:g} of evaluation is in another unit than those of training, {lo} to {hi}: "
            f"--data.val-resolution {hi} --data.eval-resolutions {hi}",
        )


def in_unit(law: Resolution, value: float) -> bool:
    """Whether a value can be a resolution of this law: at most FAR times beyond those of training."""
    lo, hi = law.spread
    try:
        law.at(value)
    except ValueError:
        return False
    return lo / FAR < value < FAR * hi


def val_resolution(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the validation resolution: the largest in training."""
    if config.data.val_resolution is not None:
        return config, []
    largest = config.data.resolution.spread[1]
    return with_data(config, val_resolution=largest), [
        f"data.val_resolution = {number(largest)}: the largest in training"
    ]


def eval_resolutions(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the evaluation resolutions: five, from the smallest in training to 1.25 times the largest."""
    if config.data.eval_resolutions:
        return config, []
    lo, hi = config.data.resolution.spread
    sweep = sorted({float(f"{x:.4g}") for x in np.linspace(lo, 1.25 * hi, 5)})
    values = " ".join(map(number, sweep))
    note = f"data.eval_resolutions = {values}: from the smallest in training to a quarter beyond the largest"
    return with_data(config, eval_resolutions=tuple(sweep)), [note]


def steps(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the number of steps: EPOCHS passes, and at least FEWEST_IMAGES images; EPOCHS_IN_TIME passes where
    `minutes` limit the run (`harness/run/budget.py`)."""
    if config.steps is not None:
        return config, []
    count = len(images.manifest)
    wanted = max(EPOCHS * count, FEWEST_IMAGES) if config.minutes is None else EPOCHS_IN_TIME * count
    config = replace(config, steps=int(np.ceil(wanted / images_per_step(config, images))))
    return config, [f"steps = {config.steps}: {wanted / count:.0f} passes over {count} images"]


def schedules(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Resolve the number of images of the run, for schedules of drop rates and patch sizes."""
    notes = []
    total = float(round(config.total_steps * images_per_step(config, images)))
    for name, kind in (("dropping", Schedule), ("patch_sizes", CoarseToFine)):
        sampling = getattr(config.data, name)
        if isinstance(sampling, kind) and sampling.images is None:
            config = with_data(config, **{name: replace(sampling, images=total)})
            notes.append(f"data.{name}.images = {number(total)}: images of the whole run, approximately")
    return config, notes


RESOLVERS: tuple[Resolver, ...] = (
    channels,
    clips,
    merging,
    content,
    stages,
    fuzzy,
    resolution,
    patch_sizes,
    dropping,
    packing,
    embedded,
    task,
    val_resolution,
    eval_resolutions,
    steps,
    schedules,
)


# parts of resolvers -----------------------------------------------------------------------------------


def host_interpolation(interpolation: ModelInterpolation) -> Interpolation:
    """The interpolation of the model as the type of the reference."""
    return Interpolation(interpolation.method, interpolation.antialias, interpolation.edges)


def number(x: float) -> str:
    """A number in full, exactly the value in the configuration."""
    return str(int(x)) if x == int(x) else repr(float(x))


def sides_from(
    sampling: Resolution, manifest: Manifest, patch: Patch, key: str = "data.resolution"
) -> tuple[Resolution, list[str]]:
    """The sampling with resolved sides, and a note on each."""
    if isinstance(sampling, Square | NeverEnlarged | Clips | WholeBlocks):
        inner, notes = sides_from(sampling.sampling, manifest, patch, f"{key}.sampling")
        return replace(sampling, sampling=inner), notes
    if not isinstance(sampling, Sides | Areas):
        return sampling, []
    pixels, lo, hi, notes = float(np.sqrt(np.prod(patch))), sampling.lo, sampling.hi, []
    if hi is None:
        median = float(np.median(np.sqrt(enough(manifest)[:, -2:].prod(-1, dtype=float))))
        hi = max(lo or 0.0, pixels * int(np.clip(round(median / pixels), 4, sampling.most)))
        notes += [f"{key}.hi = {number(hi)}: the median image side, 4 to {sampling.most} patches, and not below lo"]
    if lo is None:
        lo = min(hi, pixels * max(2, round(hi / 2 / pixels)))
        notes += [f"{key}.lo = {number(lo)}: half of hi, at least 2 patches, and not above hi"]
    return replace(sampling, lo=lo, hi=hi), notes


def lengths_from(
    sampling: Dropping, tokens: Int[np.ndarray, " n"], key: str = "data.dropping"
) -> tuple[Dropping, list[str]]:
    """The sampling with resolved lengths, from the shortest and longest image, and a note on each."""
    if isinstance(sampling, Schedule):
        inner, notes = lengths_from(sampling.sampling, tokens, f"{key}.sampling")
        return replace(sampling, sampling=inner), notes
    if not isinstance(sampling, ByResolution):
        return sampling, []
    shortest, longest, notes = sampling.shortest, sampling.longest, []
    if shortest is None:
        shortest = int(tokens.min()) if longest is None else min(int(tokens.min()), longest - 1)
        notes += [f"{key}.shortest = {shortest}: tokens of the shortest image, below longest"]
    if longest is None:
        longest = max(shortest + 1, int(tokens.max()))
        notes += [f"{key}.longest = {longest}: tokens of the longest image, above shortest"]
    return replace(sampling, shortest=shortest, longest=longest), notes


def packing_for(packing: Packing, lengths: np.ndarray, mean: float) -> Packing:
    """`packing` with resolved row length and image slots."""
    tokens = packing.row_tokens or round_up(max(int(lengths.max()), int(4 * mean)))
    images = packing.row_images or max(4, int(np.ceil(2.5 * tokens / mean)))
    return replace(packing, row_tokens=tokens, row_images=images)


def template(
    config: Config, rule: Template, lengths: Int[np.ndarray, " n"], tokens: Int[np.ndarray, " n"]
) -> tuple[Config, list[str]]:
    """The configuration with the windows of its rows, from the tokens that images would keep and have."""
    packing = config.data.packing
    given = rule.windows and (packing.row_tokens, packing.row_images) == (sum(rule.windows), len(rule.windows))
    if packing.fill != "none" or not (given or packing.row_tokens is packing.row_images is None):
        raise ConfigError(
            "rows of data.packing.rule=Template are full, and as long as its windows: --data.packing.row-tokens auto "
            "--data.packing.row-images auto --data.packing.fill none"
        )
    windows = rule.windows or windows_of(lengths, tokens, min(rule.count, len(lengths)))
    packing = Packing(sum(windows), len(windows), replace(rule, windows=windows))
    why = "the mean tokens that equal parts of the images keep"
    notes = [] if rule.windows else [f"data.packing.rule.windows = {' '.join(map(str, windows))}: {why}"]
    return with_data(config, packing=packing), notes
