"""Corruptions: what each keeps and what it takes away, at every size; the same for every model, subset and severity."""

import sys
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from data.boxes import boxes_of
from data.errors import DataError
from data.sources.corrupted import Corrupted, changes
from data.sources.glyph_captions import GlyphField
from data.sources.source import Arrays, Chosen, mask_of, with_classes
from evaluate import on_same_images
from harness.evaluation.predictions import Predictions
from harness.evaluation.studies.corruptions import corruptions, part_of, predictions_of
from harness.evaluation.studies.corruptions import row as columns_of
from navit_eqx.errors import ConfigError
from reference.evaluation import corruptions as c
from reference.evaluation.corruptions import CORRUPTIONS, corrupt
from reference.evaluation.metrics import error_consistency
from tests.support.laws import caught
from tests.support.segment import painted
from tests.support.strategies import seeds
from tests.support.studies import context, saved_run
from tests.support.tolerances import EXACT, FLOAT64, assert_close

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))
rng = np.random.default_rng


def image_of(seed: int, size: tuple[int, ...]) -> np.ndarray:
    return rng(seed).random(size)


IDENTITY = {
    "grayscale": 1.0,
    "opponent colors": 1.0,
    "rotation": 0.0,
    "contrast": 1.0,
    "low-pass": 0.0,
    "equal power": 0.0,
    "phase": 0.0,
    "eidolon 1": 0.0,
    "eidolon 0.3": 0.0,
    "eidolon 0": 0.0,
    "edges": 0.0,
    "silhouette": 0.0,
}


# what each corruption means -------------------------------------------------------------------------


@given(seed=seeds, size=sizes)
def test_no_strength_is_the_image(seed, size):
    """Where a corruption has a strength that does nothing; noise starts from a pale image, high-pass from none."""
    x = image_of(seed, size)
    assert {*CORRUPTIONS} - {*IDENTITY} == {"noise", "high-pass"}
    for name, strength in IDENTITY.items():
        given = (x, x[..., 0] > 0.5) if CORRUPTIONS[name].things else (x,)
        assert_close(CORRUPTIONS[name].apply(*given, strength, rng(0)), x, FLOAT64)


@given(seed=seeds, size=sizes, name=st.sampled_from([*CORRUPTIONS]))
def test_every_size_and_severity_gives_an_image(seed, size, name):
    x = image_of(seed, size)
    for severity in (0, 1, len(CORRUPTIONS[name].strengths)):
        y = corrupt(x, name, severity, rng(1), x[..., 0] > 0.5)
        assert y.shape == (x.shape if not (name == "rotation" and severity % 2) else (size[1], size[0], size[2]))
        assert np.isfinite(y).all() and y.min() >= 0 and y.max() <= 1
        np.testing.assert_array_equal(y, corrupt(x, name, severity, rng(1), x[..., 0] > 0.5))
        if severity == 0:
            np.testing.assert_array_equal(y, x)


@given(seed=seeds, size=sizes)
def test_twice_is_once_or_nothing(seed, size):
    x = image_of(seed, size)
    opposite = c.saturate(x, -1.0, rng(0))
    assert_close(c.saturate(opposite, -1.0, rng(0)), x, FLOAT64)
    assert_close(c.luma(opposite), c.luma(x), FLOAT64)
    gray = c.saturate(x, 0.0, rng(0))
    assert_close(gray, np.broadcast_to(c.luma(x), x.shape), FLOAT64)
    half = c.rotate(x, 180, rng(0))
    np.testing.assert_array_equal(half, x[::-1, ::-1])
    np.testing.assert_array_equal(c.rotate(c.rotate(x, 90, rng(0)), 270, rng(0)), x)


def keeps_the_mean(apply, x) -> None:
    assert_close(apply(x).mean((0, 1)), x.mean((0, 1)), FLOAT64)


@given(seed=seeds, size=sizes, sigma=st.floats(0, 300))
def test_filters_keep_the_mean(seed, size, sigma):
    x = image_of(seed, size)
    for law in (c.low_pass, c.high_pass):
        keeps_the_mean(lambda x, law=law: law(x, sigma, rng(0)), x)
    keeps_the_mean(lambda x: c.equalize_power(x, 1.0, rng(0)), x)
    keeps_the_mean(lambda x: c.scramble_phases(x, 180.0, rng(0)), x)


@given(seed=seeds, size=sizes, one=st.floats(0, 4), other=st.floats(0, 4))
def test_blurs_add_up(seed, size, one, other):
    """G_σ G_τ = G_√(σ² + τ²); σ = ∞ leaves the mean alone."""
    x = image_of(seed, size)
    assert_close(c.blur(c.blur(x, one), other), c.blur(x, np.hypot(one, other)), FLOAT64)
    assert_close(c.blur(x, 1e6), np.broadcast_to(x.mean((0, 1)), x.shape), FLOAT64)


def test_a_blur_is_a_gaussian():
    """Far from the edges: its weights are those of the density."""
    x = np.zeros((41, 41, 1))
    x[20, 20] = 1
    y = np.arange(-20, 21)
    density = np.exp(-0.5 * (y / 2.0) ** 2) / (2.0 * np.sqrt(2 * np.pi))
    assert_close(c.blur(x, 2.0)[..., 0], density[:, None] * density, 1e-7)


def test_lengths_are_shares_of_the_image():
    """An image of twice the side, blurred alike, looks alike."""
    y, x = (np.mgrid[:64, :64] + 0.5) / 64
    small, large = (
        np.sin(6 * f(y)) * np.cos(5 * f(x)) for f in (lambda u: u, lambda u: np.repeat(u, 2, 0).repeat(2, 1))
    )
    one, two = c.low_pass(small[..., None], 10.0, rng(0)), c.low_pass(large[..., None], 10.0, rng(0))
    assert_close(two[::2, ::2], one, 0.03)
    assert np.abs(c.blur(large[..., None], 10.0 * c.scale(small[..., None]))[::2, ::2] - one).max() > 0.09


def test_a_high_pass_keeps_pixels():
    """However small the image, neighbors that differ still differ."""
    x = np.indices((8, 8)).sum(0)[..., None] % 2 * 1.0
    for sigma in CORRUPTIONS["high-pass"].strengths[:3]:
        assert np.ptp(c.high_pass(x, sigma, rng(0))) > 0.9


def keeps_amplitudes(apply, x) -> None:
    """Parseval, frequency by frequency."""
    before, after = (np.abs(np.fft.fft2(image, axes=(0, 1))) for image in (x, apply(x)))
    assert_close(after, before, FLOAT64)


@given(seed=seeds, size=sizes)
def test_scrambled_phases_keep_amplitudes(seed, size):
    x = image_of(seed, size)
    keeps_amplitudes(lambda x: c.scramble_phases(x, 180.0, rng(seed)), x)


def test_phases_that_are_not_opposite_are_caught():
    def without_symmetry(x):
        phase = rng(0).uniform(-np.pi, np.pi, x.shape[:2])[..., None]
        return np.fft.ifft2(np.fft.fft2(x, axes=(0, 1)) * np.exp(1j * phase), axes=(0, 1)).real

    caught(keeps_amplitudes, without_symmetry, image_of(0, (6, 7, 3)))


@given(seed=seeds, size=sizes)
def test_equal_power_is_one_over_frequency_at_the_same_contrast(seed, size):
    x = image_of(seed, size)
    y = c.equalize_power(x, 1.0, rng(0))
    assert_close(y.std((0, 1)), x.std((0, 1)), FLOAT64)
    strong = np.abs(np.fft.fft2(y - y.mean((0, 1)), axes=(0, 1)))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1]))[..., None]
    for waves in np.moveaxis(strong * frequency, -1, 0):
        known = waves[waves > 1e-6 * max(waves.max(), 1e-6)]
        assert len(known) == 0 or np.ptp(known) < 1e-6 * known.max()
    assert_close(c.equalize_power(y, 1.0, rng(0)), y, FLOAT64)


def test_noise_is_uniform_on_a_pale_image():
    x = image_of(0, (200, 200, 3))
    noise = c.add_noise(x, 0.2, rng(1)) - c.add_noise(x, 0.0, rng(1))
    assert np.ptp(noise, -1).max() < EXACT and np.abs(noise).max() <= 0.2
    assert abs(noise.std() - 0.2 / np.sqrt(3)) < 1e-3 and abs(noise.mean()) < 2e-3
    assert_close(c.add_noise(x, 0.0, rng(1)) - 0.5, 0.3 * (c.luma(x) - 0.5) + 0 * x, FLOAT64)


def test_edges_are_where_brightness_changes():
    x = np.zeros((8, 8, 3))
    x[:, 4:] = 1
    dark = c.edges(x, 1.0, rng(0))
    assert (dark[:, 3:5] == 0).all() and (np.delete(dark, [3, 4], 1) == 1).all()
    assert (c.edges(np.full((3, 3, 1), 0.2), 1.0, rng(0)) == 1).all()


def test_a_silhouette_is_black_where_things_are():
    """Of each image its own, whatever the classes are called; black and white are all its values."""
    fields = GlyphField("val", 6, 0)
    for source in (fields, Chosen(fields, [4, 1]), with_classes(fields, (*fields.manifest.classes, "another"))):
        for k in range(2):
            dark = Corrupted(source, "silhouette", 1).image(k)
            np.testing.assert_array_equal(dark == 0, np.repeat(mask_of(source, k)[..., None] > 0, 3, -1))
            assert {*np.unique(dark).tolist()} == {0, 255}
            np.testing.assert_array_equal(Corrupted(source, "silhouette", 0).image(k), source.image(k))


def test_silhouettes_need_masks():
    assert all(changes(GlyphField("val", 3, 0), name) for name in CORRUPTIONS)
    for source in (arrays(), Chosen(arrays(), [2])):
        assert [name for name in CORRUPTIONS if not changes(source, name)] == ["silhouette"]
    assert [n for n in CORRUPTIONS if not changes(arrays(1), n)] == ["grayscale", "opponent colors", "silhouette"]
    with pytest.raises(DataError, match="has no masks"):
        Corrupted(arrays(), "silhouette", 1).image(0)


@given(seed=seeds, size=sizes, unit=st.floats(0.01, 5))
def test_octaves_add_up(seed, size, unit):
    x = image_of(seed, size)
    assert_close(np.sum(c.octaves(x, unit), 0), x, FLOAT64)
    assert_close(c.spline(np.ones(size), 3), np.ones(size), FLOAT64)


def test_displacements_are_normal_everywhere_and_smooth():
    fields = np.stack([c.smooth_field(rng(seed), (20, 30), 5.0) for seed in range(400)])
    assert np.abs(fields.std(0) - 1).max() < 0.25 and abs(fields.std() - 1) < 0.02
    assert np.abs(np.diff(fields, axis=2)).std() < 0.2


def test_coherent_octaves_bend_the_image():
    """At coherence 1 every octave goes the same way, which is moving the image; at 0 each goes its own."""
    x = c.blur(image_of(0, (40, 40, 1)), 1.0)
    generator = rng(3)
    common = c.smooth_field(generator, (40, 40), c.GRAIN * c.scale(x))
    bent = c.moved(x, 20.0 * c.scale(x) * common)
    assert_close(CORRUPTIONS["eidolon 1"].apply(x, 20.0, rng(3)), bent, FLOAT64)
    assert np.abs(CORRUPTIONS["eidolon 0"].apply(x, 20.0, rng(3)) - bent).max() > 0.05


def test_a_whole_shift_reads_pixels():
    x = image_of(0, (5, 6, 2))
    shift = np.broadcast_to(np.array([1.0, -2.0])[:, None, None], (2, 5, 6))
    np.testing.assert_array_equal(c.moved(x, shift)[:-1, 2:], x[1:, :-2])
    np.testing.assert_array_equal(c.moved(x, shift)[-1, :2], x[-1, [0, 0]])


# consistency of errors ------------------------------------------------------------------------------


@given(seed=seeds, count=st.integers(1, 30))
def test_consistency_is_that_of_scikit_learn(seed, count):
    one, other = rng(seed).random((2, count)) < rng(seed + 1).random((2, 1))
    got = error_consistency(one, other)
    if len({*one, *other}) == 1:
        assert np.isnan(got)
    else:
        assert abs(got - cohen_kappa_score(one, other)) < FLOAT64
    np.testing.assert_allclose(error_consistency(other, one), got, atol=EXACT)


# the source -----------------------------------------------------------------------------------------


def arrays(channels: int = 3) -> Arrays:
    images = [rng(k).integers(0, 256, (3 + k, 9, channels)).astype(np.uint8) for k in range(4)]
    return Arrays(images, np.arange(4) % 2, ("a", "b"))


def follows_the_name(make) -> None:
    """The same image in any subset and order, and at any severity the same noise."""
    source = arrays()
    part = Chosen(source, [3, 1])
    np.testing.assert_array_equal(make(part, 8).image(0), make(source, 8).image(3))
    mild, strong = (make(source, k).image(1)[..., 0].astype(float) for k in (5, 6))
    pale = make(source, 1).image(1)[..., 0].astype(float)
    inside = (mild > 0) & (mild < 255) & (strong > 0) & (strong < 255)
    assert np.abs((strong - pale) - 1.75 * (mild - pale))[inside].max() < 3
    assert (make(source, 8).image(1)[:3] != make(source, 8).image(2)[:3]).any()


def test_a_corruption_follows_the_name_of_an_image():
    follows_the_name(lambda source, severity: Corrupted(source, "noise", severity))


def test_a_corruption_by_place_is_caught():
    class ByPlace(Corrupted):
        def image(self, index, shrink=1):
            return np.rint(255 * corrupt(self.source.image(index) / 255, self.name, self.severity, rng(index))).astype(
                "u1"
            )

    caught(follows_the_name, lambda source, severity: ByPlace(source, "noise", severity))


def test_sizes_are_those_of_the_images():
    """A quarter turn exchanges height and width in the manifest, before a plan is made."""
    for name, severity in (("rotation", 1), ("rotation", 2), ("contrast", 1)):
        source = Corrupted(arrays(), name, severity)
        for index, size in enumerate(source.manifest.sizes):
            assert source.image(index).shape[:2] == tuple(size)
    np.testing.assert_array_equal(Corrupted(arrays(), "contrast", 0).image(2), arrays().image(2))


@given(seed=seeds, severity=st.sampled_from([0, 1, 2, 3]))
def test_masks_and_boxes_turn_with_their_image(seed, severity):
    """A mask says what the pixels say; a box holds the pixels that it held before."""
    source = painted(seed, 3, 4)
    low, side = rng(seed).integers(0, 2, (2, 3, 1, 2)) + [[[[0]]], [[[1]]]]
    corners = np.concatenate([low, low + side], -1)  # of a box in each image
    source.manifest = replace(
        source.manifest, boxes=boxes_of([[(*box, 0) for box in some] for some in corners.tolist()])
    )
    turned = Corrupted(source, "rotation", severity)
    assert turned.manifest.boxes is not None
    for index, ((left, top, right, bottom),) in enumerate(corners.tolist()):
        np.testing.assert_array_equal(mask_of(turned, index), turned.image(index)[..., 0])
        inside = np.zeros(source.manifest.sizes[index])
        inside[top:bottom, left:right] = 1
        l, t, r, b = turned.manifest.boxes.of(index).corners.astype(int)[0]
        shown = np.zeros_like(np.rot90(inside, severity))
        shown[t:b, l:r] = 1
        np.testing.assert_array_equal(shown, np.rot90(inside, severity))


def test_places_are_not_moved_and_not_given_away():
    """With masks or boxes: no eidolons and phases, no silhouettes, which are the answer."""
    left = {*CORRUPTIONS} - {name for name in CORRUPTIONS if changes(painted(0, 3, 2), name)}
    assert left == {"phase", "silhouette", *(name for name in CORRUPTIONS if name.startswith("eidolon"))}
    with pytest.raises(DataError, match="'phase' moves pixels, but neither masks nor boxes"):
        Corrupted(painted(0, 3, 2), "phase", 1)


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(DataError, match="bytes, gray or RGB"):
        Corrupted(arrays(4), "contrast", 1)
    with pytest.raises(DataError, match="bytes, gray or RGB"):
        Corrupted(Arrays([np.zeros((2, 2, 3), np.float32)], np.zeros(1, np.int32), ("a",)), "contrast", 1)


# the study ------------------------------------------------------------------------------------------


FEW = {"rotation": (90.0,), "contrast": (0.5, 0.01)}
FEW = {name: CORRUPTIONS[name]._replace(strengths=strengths) for name, strengths in FEW.items()}


def test_the_study(monkeypatch, tmp_path):
    """Severity 0 is the sweep; a model beside itself errs alike, at every severity."""
    monkeypatch.setattr(sys.modules["harness.evaluation.studies.corruptions"], "CORRUPTIONS", FEW)
    plain = corruptions(context())
    assert plain.rows[0]["score"] == context().predict(context().sampling_at(0.8)).score[0]
    assert len(plain.rows) == sum(1 + len(each.strengths) for each in FEW.values())
    beside = corruptions(replace(context(), other=context()))
    for row, alone in zip(beside.rows, plain.rows):
        assert row["other_score"] == row["score"] == alone["score"] and row["kappa"] in (None, 1.0)
    assert "κ 1.000" in beside.summary and "κ" not in plain.summary
    last = [row for row in plain.rows if row["corruption"] == "contrast"][-1]
    direct = predictions_of(context(), Corrupted(context().source, "contrast", 2, context().config.seed))
    assert last["score"] == direct.scores.mean() and last["strength"] == 0.01
    beside.draw(tmp_path / "corruptions.png")


def test_errors_are_compared_where_images_are_right_or_wrong():
    scores = np.array([1.0, 0.0, 1.0])
    simple = Predictions(np.arange(3), scores, scores, scores.astype(int), scores, np.nan, 0, 0, {})
    joint = simple._replace(together=lambda outputs, image_ids: (0.3, 0.1))
    assert columns_of("contrast", 1, 0.5, [simple, simple])["kappa"] == 1
    found = columns_of("contrast", 1, 0.5, [joint, joint])
    assert (found["score"], found["score_se"], found["other_score"], found["kappa"]) == (0.3, 0.1, 0.3, None)


def test_another_model_is_read_with_its_own_classes(tmp_path):
    """Its classes stand in another order: labels go by name."""
    turned = context()
    head: Any = turned.model.task.head  # pyright: ignore[reportAttributeAccessIssue]
    order = np.arange(10)[::-1]
    model = eqx.tree_at(lambda m: (m.task.head.w, m.task.head.b), turned.model, (head.w[:, order], head.b[order]))
    source = with_classes(turned.source, tuple("9876543210"))
    folder = saved_run(tmp_path, replace(turned, model=model, source=source))
    other = on_same_images(folder, turned.source, "accuracy")
    assert other.source.manifest.classes == tuple("9876543210")
    got, want = (predictions_of(each, turned.source).scores for each in (other, turned))
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ConfigError, match="reads 3 channels, the images have 1"):
        on_same_images(folder, arrays(1), "accuracy")
    with pytest.raises(ConfigError, match="is measured by accuracy, the model here by mean_iou"):
        on_same_images(folder, turned.source, "mean_iou")


def test_few_images_of_many_pixels():
    """Between 100 and 1,000, as many as have 20 million pixels together; the same ones for every model."""
    source = context().source
    assert len(part_of(source).manifest) == 60
    assert part_of(source).manifest.names.tolist() == source.manifest.names.tolist()
