"""What a configuration leaves open is filled in from the data: every resolver, its note, and what was given already."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.manifest import Manifest
from data.plan import plan_epoch
from data.sampling.dropping import Beta, ByResolution, Constant, Schedule
from data.sampling.packing import Packing, far_longer
from data.sampling.patch_size import AtBudget, CoarseToFine, OneSize, PerImage, PerStep
from data.sampling.resolution import Areas, Native, NeverEnlarged, OneSquare, Sides, Square, TokenBudget
from data.tasks import TASKS
from harness import resolve
from harness.config import Config
from harness.lengths import Images, expected_lengths, expected_tokens, images_per_step, usable
from harness.presets import photographs
from harness.resolve import RESOLVERS
from navit_eqx.config import Flexi, Fourier, NoPositions
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode
from navit_eqx.tasks.config import Classify, Distill
from tests.support.laws import caught
from tests.support.sampling import photo_sizes

COUNT = 500
TEACHER = {"patch": (8, 8), "longest_side": 99, "sizes": {"patch_dim": 192, "width": 32, "depth": 2, "mlp_width": 64}}
FLEXI = Flexi((4, 8, 32))


def manifest_of(sizes: np.ndarray) -> Manifest:
    return Manifest(np.array([b"x"] * len(sizes)), sizes, np.zeros(len(sizes), np.int32), ("a",), "memory")


MANIFEST = manifest_of(photo_sizes(COUNT) // 5)


def images_for(config: Config, manifest: Manifest = MANIFEST) -> Images:
    """What resolvers look at, with a teacher where the task has one."""
    if not isinstance(config.task, Distill):
        return Images(manifest, TASKS["Classify"]())
    sizes = TEACHER["sizes"] | {"classes": 1}
    known = TEACHER | {"sizes": sizes, "row_tokens": config.task.row_tokens, "mean": (0.5,), "std": (0.5,)}
    return Images(manifest, TASKS["Distill"](**known))


def config_of(flexi: Flexi | None = None, task=None, steps: int | None = None, **data) -> Config:
    base = photographs()
    model = replace(base.model, flexi=flexi)
    return replace(base, model=model, task=task or Classify(classes=1), steps=steps, data=replace(base.data, **data))


def flat(tree, prefix: str = "") -> dict:
    """Nested dicts as one with dotted keys."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def text_of(value) -> set[str]:
    """How a note may write a value."""
    if isinstance(value, list):
        return {sep.join(f"{x:g}" for x in value) for sep in (" ", ", ", " x ")}
    return {repr(value), f"{value:.0f}" if value == round(value) else repr(value)}


def fills_in_what_is_open(resolver, config: Config) -> Config:
    """What was given stays; what was open and is filled in has one note, which says key and value; no other note."""
    images = images_for(config)
    after, notes = resolver(config, images)
    before, now = flat(encode(config)), flat(encode(after))
    assert before.keys() == now.keys()
    changed = [key for key in now if now[key] != before[key]]
    assert all(before[key] in (None, []) for key in changed), "a value that was given is another one"
    told = [note.partition(": ")[0].partition(" = ") for note in notes]
    assert sorted(key for key, _, _ in told) == sorted(changed)
    for key, _, value in told:
        assert value in text_of(now[key]), f"{key} = {now[key]}, the note says {value}"
    assert resolver(after, images) == (after, []), "filled in twice"
    return after


FIVE = (0.5, 0.75, 1.0, 1.25, 1.5)
OPEN = [
    config_of(),
    config_of(resolution=Square(NeverEnlarged(Areas()))),
    config_of(resolution=Sides(lo=50.0)),
    config_of(resolution=Sides(lo=999.0)),
    config_of(resolution=Areas(hi=20.0)),
    config_of(FLEXI, resolution=TokenBudget(60), patch_sizes=PerImage()),
    config_of(FLEXI, patch_sizes=CoarseToFine(PerStep())),
    config_of(FLEXI, patch_sizes=AtBudget(60), steps=9),
    config_of(dropping=Schedule(ByResolution(0.3, 0.7))),
    config_of(dropping=ByResolution(0.3, 0.7, shortest=9_000)),
    config_of(dropping=ByResolution(0.3, 0.7, longest=3)),
    config_of(packing=Packing(row_images=7)),
    config_of(packing=Packing(row_tokens=20)),
    config_of(task=Distill("a run", classes=1)),
    config_of(resolution=Native(0.31, 0.77), eval_resolutions=FIVE),
]
SHUT = [
    config_of(
        steps=7, resolution=Sides(32, 72), patch_sizes=OneSize((16, 16)), packing=Packing(64, 9),
        val_resolution=64, eval_resolutions=FIVE,
    ),
    config_of(
        FLEXI, steps=7, resolution=OneSquare(64), patch_sizes=CoarseToFine(PerImage((8, 16)), images=50.0),
        dropping=Schedule(Constant(0.1), images=90.0), packing=Packing(64, 9), val_resolution=64, eval_resolutions=FIVE,
        task=Distill("a run", row_tokens=900, classes=1),
    ),
    config_of(
        steps=7, resolution=NeverEnlarged(Areas(32, 72)), patch_sizes=OneSize((16, 16)), packing=Packing(64, 9),
        dropping=ByResolution(0.3, 0.7, 3, 9), val_resolution=64, eval_resolutions=FIVE,
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", OPEN, ids=range(len(OPEN)))
def test_every_resolver_says_what_it_fills_in(config):
    for resolver in RESOLVERS:
        config = fills_in_what_is_open(resolver, config)
    assert not [key for key, value in flat(encode(config)).items() if value is None and key in MAY_BE_OPEN]


MAY_BE_OPEN = {
    *("steps", "data.val_resolution", "data.packing.row_tokens", "data.packing.row_images", "task.row_tokens"),
    *(f"data.resolution.{inner}{end}" for inner in ("", "sampling.", "sampling.sampling.") for end in ("lo", "hi")),
    *(f"data.dropping.{inner}{end}" for inner in ("", "sampling.") for end in ("shortest", "longest", "images")),
    *("data.patch_sizes.size", "data.patch_sizes.images"),
}


def test_every_value_that_may_be_open_is_filled_in_by_one_of_these():
    filled = set()
    for config in OPEN:
        before = flat(encode(config))
        for resolver in RESOLVERS:
            config, _ = resolver(config, images_for(config))
        now = flat(encode(config))
        filled |= {key for key, value in now.items() if before[key] in (None, []) and value not in (None, [])}
    sizes = {"data.patch_sizes.sizes", "data.patch_sizes.sampling.sizes", "data.eval_resolutions"}
    assert filled >= sizes | {key for key in MAY_BE_OPEN if "sampling" not in key}


@pytest.mark.parametrize("config", SHUT, ids=range(len(SHUT)))
@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: resolver.__name__)
def test_what_is_given_stays_and_needs_no_note(resolver, config):
    assert resolver(config, images_for(config)) == (config, [])


def test_a_resolver_that_changes_what_was_given_is_caught():
    def greedy(config, images):
        return replace(config, steps=9), ["steps = 9: always"]

    def silent(config, images):
        return replace(config, steps=config.steps or 9), []

    def wrong(config, images):
        return replace(config, steps=config.steps or 9), [] if config.steps else ["steps = 8: about nine"]

    def chatty(config, images):
        return config, [f"steps = {config.steps}: as given"]

    caught(fills_in_what_is_open, greedy, config_of(steps=3))
    caught(fills_in_what_is_open, chatty, config_of(steps=3))
    for resolver in (silent, wrong):
        caught(fills_in_what_is_open, resolver, config_of())


# what the notes claim ---------------------------------------------------------------------------------


sizes = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(10, 900, (60, 2)).astype(np.int32)
)


@given(sizes=sizes)
def test_sides_are_those_of_the_images(sizes):
    config = resolve.resolution(config_of(), images_for(config_of(), manifest_of(sizes)))[0]
    lo, hi = config.data.resolution.spread
    median = np.median(np.sqrt(sizes.prod(-1, dtype=float)))
    assert 64 <= hi <= 256 and (abs(hi - median) <= 8 or hi in (64, 256)) and 32 <= lo <= hi
    assert abs(lo - hi / 2) <= 8


@given(sizes=sizes)
def test_rows_hold_the_longest_image_and_four_of_the_mean(sizes):
    images = images_for(config_of(), manifest_of(sizes))
    config = config_of()
    for resolver in RESOLVERS[: RESOLVERS.index(resolve.packing) + 1]:
        config = resolver(config, images)[0]
    lengths = expected_lengths(config, images.manifest)
    lengths = lengths[usable(config, images.manifest)]  # the others have sides without positions
    row_tokens, row_images = config.data.packing.shape
    assert row_tokens >= max(lengths.max(), int(4 * lengths.mean()))
    assert row_images == max(4, int(np.ceil(2.5 * row_tokens / lengths.mean())))


def test_lengths_are_those_of_the_shortest_and_longest_image():
    config = config_of(resolution=Sides(32, 72), dropping=ByResolution(0.3, 0.7))
    found = resolve.dropping(config, images_for(config))[0].data.dropping
    tokens = expected_tokens(config, MANIFEST)[1]
    assert (found.shortest, found.longest) == (tokens.min(), tokens.max())


def test_steps_are_as_many_passes_as_the_note_says():
    """60 passes over many images, 50,000 images of few."""
    for count, passes in ((5_000, 60), (500, 100)):
        config = config_of(resolution=Sides(32, 72), packing=Packing(64, 9))
        images = images_for(config, manifest_of(photo_sizes(count) // 5))
        after, (note,) = resolve.steps(config, images)
        assert note == f"steps = {after.steps}: {passes} passes over {count} images"
        seen = after.steps * images_per_step(config, images)
        assert passes * count <= seen < passes * count + images_per_step(config, images)


def test_schedules_run_over_the_images_of_the_run():
    """The images that a plan holds in so many steps, to a tenth."""
    config = config_of(resolution=Sides(32, 72), dropping=Schedule(Beta(0.35, 0.7), hi=0.6))
    for resolver in RESOLVERS:
        config, _ = resolver(config, images_for(config))
    plans = [
        plan_epoch(
            MANIFEST.sizes, seed=0, epoch=epoch, patch_size=config.model.patch, resolution=config.data.resolution,
            dropping=config.data.dropping, packing=config.data.packing, longest_side=64,
        )
        for epoch in (0, 50, 99)
    ]  # fmt: skip
    rows = np.mean([len(plan.kept) for plan in plans])
    assert 0.9 < config.total_steps * config.rows / (rows * config.data.dropping.images / COUNT) < 1.1


def test_evaluation_goes_from_the_smallest_to_a_quarter_beyond_the_largest():
    config = config_of(resolution=Sides(40, 80))
    sweep = resolve.eval_resolutions(config, images_for(config))[0].data.eval_resolutions
    assert (sweep[0], sweep[-1], len(sweep)) == (40, 100, 5)
    assert resolve.val_resolution(config, images_for(config))[0].data.val_resolution == 80


def test_a_teacher_reads_rows_that_hold_its_longest_image():
    config = config_of(task=Distill("a run", classes=1), resolution=Sides(32, 72), packing=Packing(96, 9))
    images = images_for(config)
    after, (note,) = resolve.task(config, images)
    grids = Sides(72, 72).grids(np.random.default_rng(0), MANIFEST.sizes, TEACHER["patch"])
    assert after.task.row_tokens >= grids.prod(-1).max() and "8 x 8" in note
    assert images.task.budget.row_tokens == after.task.row_tokens, "the data know it too"


# what makes no sense ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, words",
    [
        (config_of(patch_sizes=PerImage()), "set model.flexi"),
        (config_of(Flexi(), patch_sizes=PerImage()), "set model.flexi.sizes"),
        (config_of(dropping=Schedule(Beta(0.5, 0.7))), "data.dropping = Schedule"),
        (replace(config_of(), model=replace(photographs().model, channels=4)), "--model.channels 3"),
    ],
    ids=["no sizes", "empty sizes", "rates", "channels"],
)
def test_what_makes_no_sense_is_refused_with_the_key(config, words):
    """And, where the shape of a model is that of a start, with the start: `--model.` beside it would be refused."""
    images = images_for(config)
    for start in ("", "a run"):
        with pytest.raises(ConfigError, match=words) as error:
            resolve.resolve(replace(config, start=start), images.manifest, images.task)
        assert ("the model in a run: start from another one" in str(error.value)) == bool(start and "model." in words)


@pytest.mark.parametrize(
    "law, at, wrong",
    [(Sides(32, 72), 64, 0.8), (TokenBudget(16), 16, 0.8), (Native(0.5, 1.0), 0.8, 48), (OneSquare(64), 64, 1.2)],
)
def test_evaluation_is_in_the_unit_of_training(law, at, wrong):
    """That of a preset stays where its law is exchanged, and would be pixels instead of factors."""
    resolve.check_unit(config_of(resolution=law, val_resolution=at, eval_resolutions=(at, 2 * at)))
    for values in ((wrong, (at,)), (at, (at, wrong))):
        config = config_of(resolution=law, val_resolution=values[0], eval_resolutions=values[1])
        with pytest.raises(ConfigError, match=f"{wrong} of evaluation is in another unit .* --data.val-resolution"):
            resolve.check_unit(config)


# one image decides nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("sliver", [(1, 32_000), (32_000, 1), (20, 32_000), (9_000, 11_000), (200, 200)])
@pytest.mark.parametrize("posembed", [Fourier(), NoPositions()], ids=["fourier", "none"])
def test_one_image_decides_nothing_for_the_others(sliver, posembed):
    """Where positions have no end, too: every automatic value is that of the images without it, and it is named."""
    base = config_of(
        task=Distill("a run", classes=1), steps=7, resolution=Native(1.0, 1.0), dropping=ByResolution(0.3, 0.7)
    )
    config = replace(base, model=replace(base.model, patch=(8, 8), posembed=posembed))
    ordinary = np.random.default_rng(0).integers(20, 60, (60, 2)).astype(np.int32)
    without, of_all = manifest_of(ordinary), manifest_of(np.concatenate([ordinary, [sliver]]).astype(np.int32))
    of_all.names[-1] = b"y"
    (want, _), (found, notes) = (resolve.resolve(config, m, images_for(config, m).task) for m in (without, of_all))
    assert found == want
    assert any("without 1 far longer, y the longest" in note for note in notes)


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=300).map(np.array))
def test_few_images_are_far_longer(lengths):
    """A hundredth or one image; none of few, none within twice of what the others need, none alone by its order."""
    far = far_longer(lengths)
    assert far.sum() <= max(1, len(lengths) // 100) and not far.any() or len(lengths) >= 20
    assert not far.any() or lengths[far].min() > 2 * max(lengths[~far].max(), 4 * lengths[~far].mean())
    np.testing.assert_array_equal(far_longer(lengths[::-1]), far[::-1])
