"""`pack` and `unpack`: every image once, seen as training sees it, its values back in order, in few shapes."""

import doctest
from itertools import pairwise
from math import prod

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from data.evaluation_plan import plan_evaluation
from data.plan import Plan
from data.rows import Pixels, PlannedRows
from data.sampling.packing import Packing
from data.sampling.resolution import Areas, Native, NeverEnlarged, OneSquare, Sides, Square, TokenBudget
from data.sources.decode import Shrunk, decode
from data.sources.decode import resize as training_resize
from data.sources.source import Arrays
from data.stream import Epochs
from navit_eqx import images as front
from navit_eqx import pixels
from navit_eqx.images import pack, pack_lengths, unpack, unpack_tokens
from navit_eqx.pixels import ImageError
from navit_eqx.preprocessing import Area, Fixed, Preprocessing, size_rule
from navit_eqx.preprocessing import Native as AsItIs
from navit_eqx.serialize import encode
from reference.packing import exact_fit
from tests.support import laws

SIDES = st.floats(4, 40)
LAWS = (Sides(8, 40), Areas(8, 40), Native(0.3, 2.0), NeverEnlarged(Sides(8, 40)), Square(Sides(8, 40)), OneSquare())
LAWS_AT = st.one_of(
    st.builds(lambda law, side: law.at(side), st.sampled_from([law for law in LAWS if law != Native(0.3, 2.0)]), SIDES),
    st.floats(0.2, 1.5).map(Native(0.3, 2.0).at),
    st.integers(1, 40).map(TokenBudget),
    st.integers(1, 40).map(TokenBudget).map(NeverEnlarged),
)
SMALL = Preprocessing(Area(24), row_tokens=48, row_images=5)

seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=9)


def pictures(sizes, seed: int = 0, channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, channels), np.uint8) for size in sizes]


def each(batch) -> dict[int, tuple[np.ndarray, ...]]:
    """Patches, coordinates and grid of every image, by its id."""
    found = {}
    for r, slot in np.argwhere(batch.image_ids >= 0):
        own = batch.segment_ids[r] == slot + 1
        assert batch.image_ids[r, slot] not in found
        found[int(batch.image_ids[r, slot])] = batch.patches[r, own], batch.coords[r, own], batch.grids[r, slot]
    return found


def as_evaluated(photos, law, patch) -> dict[int, tuple[np.ndarray, ...]]:
    """The same, from the rows of an evaluation as `data` plans and reads them."""
    source = Arrays(photos, np.zeros(len(photos), np.int32), ("a",))
    longest = int(law.grids(np.random.default_rng(0), source.manifest.sizes, patch).prod(-1).max())
    packing = Packing(row_tokens=longest, row_images=4)
    plan: Plan = plan_evaluation(
        source.manifest.sizes, patch_size=patch, resolution=law, packing=packing, longest_side=10**6
    ).complete()
    count, pixels = len(plan.image_ids), Pixels(patch, source.manifest.channels)
    rows = PlannedRows(source, Epochs(lambda place: plan), count, pixels, longest, 0, None)
    return each(type(rows[0])(*(np.stack(leaf) for leaf in zip(*(rows[r] for r in range(count))))))


def is_seen_as_in_training(photos, law, patch):
    """Every image has the patches, coordinates and grid that the rows of `data` give it, to the bit."""
    how = Preprocessing(size_rule(encode(law)), channels=photos[0].shape[2], row_tokens=64)
    got, want = each(pack(photos, preprocessing=how, patch=patch)), as_evaluated(photos, law, patch)
    assert got.keys() == want.keys() == set(range(len(photos)))
    for i in want:
        for ours, theirs in zip(got[i], want[i]):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


@given(
    sizes=sizes,
    law=LAWS_AT,
    patch=st.sampled_from([(1, 1), (2, 2), (5, 5), (8, 8), (3, 7), (8, 2)]),
    channels=st.sampled_from([1, 3, 4, 6]),
    as_floats=st.booleans(),
    seed=seeds,
)
def test_images_are_seen_as_in_training(sizes, law, patch, channels, as_floats, seed):
    photos = pictures(sizes, seed, channels)
    photos = [(photo / 127.5 - 1).astype(np.float32) for photo in photos] if as_floats else photos
    is_seen_as_in_training(photos, law, patch)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("patchify", lambda image, patch: pixels.patchify(image.swapaxes(0, 1), patch)),
        ("patchify", lambda image, patch: pixels.patchify(image[..., ::-1], patch)),
        ("resize", lambda image, size, filter, box: pixels.resize(image, size, "bicubic", box)),
        ("resize", lambda image, size, filter, box: pixels.resize(image[:-1], size, filter, box)),
        ("resize", lambda image, size, filter, box: pixels.resize(image / 1.0, size, filter, box)),
        ("read_image", lambda *args: pixels.read_image(*args)[::-1]),
    ],
    ids=["columns first", "BGR", "another filter", "a line lost", "floats rounded", "upside down"],
)
def test_another_view_is_caught(monkeypatch, name, wrong):
    photos = pictures([(30, 20), (9, 39)])
    is_seen_as_in_training(photos, Sides(24, 24), (8, 8))
    monkeypatch.setattr(front, name, wrong)
    with pytest.raises(AssertionError):
        is_seen_as_in_training(photos, Sides(24, 24), (8, 8))


def gives_back_in_order(batch, unpack, count, seed):
    """The values of image i, marked by its id, come back as the i-th."""
    marks = np.random.default_rng(seed).normal(size=(count, 2, 3))
    values = np.where(batch.image_ids[..., None, None] >= 0, marks[batch.image_ids], np.nan)
    np.testing.assert_array_equal(unpack(batch, values), marks)
    np.testing.assert_array_equal(unpack(batch, jnp.asarray(values)), marks)


@given(sizes=sizes, seed=seeds)
def test_values_come_back_in_order(sizes, seed):
    batch = pack(pictures(sizes), preprocessing=SMALL, patch=(8, 8))
    gives_back_in_order(batch, unpack, len(sizes), seed)


def test_another_order_is_caught():
    sizes = [(32, 32), (32, 32), (8, 16), (8, 24)]
    batch = pack(pictures(sizes), preprocessing=Preprocessing(AsItIs(), row_tokens=21), patch=(8, 8))
    assert batch.image_ids[batch.image_ids >= 0].tolist() == [0, 2, 3, 1]
    gives_back_in_order(batch, unpack, 4, 0)
    by_row = lambda batch, values: np.asarray(values)[batch.image_ids >= 0]
    twice = lambda batch, values: np.asarray(values)[batch.image_ids >= 0][batch.image_ids[batch.image_ids >= 0]]
    for wrong in (by_row, twice):
        with pytest.raises(AssertionError):
            gives_back_in_order(batch, wrong, 4, 0)


@given(sizes=sizes, seed=seeds)
def test_tokens_come_back_in_raster_order(sizes, seed):
    """Whatever the order of tokens in the row; each image's patches are those that it has alone."""
    photos = pictures(sizes, seed)
    batch = pack(photos, preprocessing=SMALL, patch=(4, 8))
    order = np.random.default_rng(seed).permutation(batch.patches.shape[1])
    shuffled = batch._replace(**{k: getattr(batch, k)[:, order] for k in ("patches", "coords", "segment_ids")})
    found = unpack_tokens(shuffled, shuffled.patches)
    assert len(found) == len(photos)
    for photo, tokens in zip(photos, found):
        alone = pack([photo], preprocessing=SMALL, patch=(4, 8))
        np.testing.assert_array_equal(tokens, each(alone)[0][0])


def is_well_formed(batch, count, patch):
    """Every image whole and once; padding and empty slots hold zeros, and −1."""
    found = each(batch)
    assert sorted(found) == list(range(count))
    for patches, coords, grid in found.values():
        np.testing.assert_array_equal(coords, np.argwhere(np.ones(grid)))
        assert len(patches) == grid.prod() >= 1
    padding = batch.segment_ids == 0
    assert (~padding).sum() == sum(len(patches) for patches, _, _ in found.values())
    assert not batch.patches[padding].any() and not batch.coords[padding].any()
    assert not batch.grids[batch.image_ids < 0].any() and (batch.image_ids >= -1).all()
    assert batch.patches.shape[2] % prod(patch) == 0


@given(sizes=sizes, patch=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@example(sizes=[(1, 1)] * 9, patch=(9, 1))
def test_every_image_once(sizes, patch):
    batch = pack(pictures(sizes), preprocessing=Preprocessing(AsItIs(), row_images=2), patch=patch)
    is_well_formed(batch, len(sizes), patch)


@pytest.mark.parametrize("field", ["image_ids", "segment_ids", "coords", "patches", "grids"])
def test_a_damaged_batch_is_caught(field):
    sizes = [(24, 40), (16, 9), (40, 8)]
    batch = pack(pictures(sizes), preprocessing=SMALL, patch=(8, 8))
    is_well_formed(batch, 3, (8, 8))
    wrong = getattr(batch, field).copy()
    wrong[-1, -1] = 1
    with pytest.raises(AssertionError):
        is_well_formed(batch._replace(**{field: wrong}), 3, (8, 8))


lengths = st.lists(st.integers(1, 30), max_size=40)


@given(lengths=lengths, row_images=st.integers(1, 6))
def test_rows_are_filled_best(lengths, row_images):
    """Every image in one row, the oldest first, and every row as full as by the rule that trains."""
    rows = pack_lengths(lengths, 30, row_images)
    laws.packs_everything_once(rows, lengths, 30, row_images)
    assert all(a[0] < b[0] for a, b in pairwise(rows))
    left = list(range(len(lengths)))
    for row in rows:
        window = [lengths[i] for i in left[: front.WINDOW]]
        best = exact_fit(window, 30, row_images, front.WINDOW)[0]
        assert row[0] == left[0] and sum(lengths[i] for i in row) == sum(window[k] for k in best)
        left = [i for i in left if i not in row]


def has_few_shapes(pack):
    """200 requests of 1 to 20 photos of any size: one row length, and rows in steps of about 1,024 tokens."""
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(200):
        photos = [np.zeros((*size, 1), np.uint8) for size in rng.integers(20, 300, (rng.integers(1, 21), 2))]
        shapes.add(pack(photos).patches.shape)
    assert shapes == {(10, 96, 64), (20, 96, 64)}


def test_requests_share_few_shapes():
    how = Preprocessing(Area(64), channels=1, row_tokens=96, row_images=6)
    has_few_shapes(lambda photos: pack(photos, preprocessing=how, patch=(8, 8)))
    with pytest.raises(AssertionError):
        has_few_shapes(lambda photos: pack(photos, preprocessing=how, patch=(8, 8), rows=len(photos)))


def test_a_row_has_one_of_two_lengths():
    """The longer one where an image needs it, or the length that was asked for."""
    photos = pictures([(40, 40), (80, 65), (8, 8)])
    shape = lambda **options: pack(photos, preprocessing=how, patch=(8, 8), **options).segment_ids.shape
    how = Preprocessing(AsItIs(), row_tokens=50)
    assert shape() == (1, 4096)  # 80 tokens
    assert shape(row_tokens=81) == (12, 81)
    assert shape(row_tokens=80, rows=5) == (5, 80)
    how = Preprocessing(AsItIs(), row_tokens=130, row_images=1)
    assert shape() == (7, 130)
    with pytest.raises(ImageError, match="image 0 has 70 x 70 patches, a row holds 4096"):
        pack(pictures([(560, 560)]), preprocessing=how, patch=(8, 8))


def test_no_image_is_a_row_of_padding():
    batch = pack([], preprocessing=SMALL, patch=(8, 8))
    is_well_formed(batch, 0, (8, 8))
    assert batch.segment_ids.shape == (21, 48) and unpack(batch, batch.grids).shape == (0, 2)
    assert unpack_tokens(batch, batch.patches) == []


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_channels_are_resized_each_for_itself(filter):
    """Three at once, four with alpha among them, or any number: a channel is seen as it is alone."""
    for channels in (1, 3, 4, 6):
        (image,) = pictures([(30, 41)], channels=channels)
        for pixels_ in (image, image.astype(np.float32)):
            seen = pixels.resize(pixels_, (17, 50), filter)
            assert seen.dtype == pixels_.dtype and seen.shape == (17, 50, channels)
            for c in range(channels):
                alone = Image.fromarray(pixels_[..., c]).resize((50, 17), Image.Resampling[filter.upper()])
                np.testing.assert_array_equal(seen[..., c], alone)


@pytest.mark.parametrize("channels, dtype", [(1, np.uint8), (4, np.uint8), (6, np.float32), (6, np.uint16)])
def test_any_number_of_channels(channels, dtype):
    photos = [(photo.astype(np.float64) * 200).astype(dtype) for photo in pictures([(30, 20), (7, 33)], 0, channels)]
    how = Preprocessing(AsItIs(), channels=channels)
    batch = pack(photos, preprocessing=how, patch=(5, 10))
    assert batch.patches.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert batch.patches.shape == (4, 256, 50 * channels)
    grid = batch.grids[0, 0]
    first = each(batch)[0][0].reshape(*grid, 5, 10, channels).swapaxes(1, 2).reshape(30, 20, channels)
    want = photos[0] / np.float32(32767.5) - 1 if dtype == np.uint16 else photos[0]
    np.testing.assert_array_equal(first, want)


def test_paths_pil_images_and_arrays_are_the_same(tmp_path):
    photos = pictures([(30, 20), (7, 33), (16, 16)])
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, photo in zip(paths, photos):
        Image.fromarray(photo).save(path)
    sources = [
        photos,
        [Image.fromarray(photo) for photo in photos],
        paths,
        [str(paths[0]), Image.open(paths[1]), jnp.asarray(photos[2])],
    ]
    batches = [pack(source, preprocessing=SMALL, patch=(8, 8)) for source in sources]
    for batch in batches[1:]:
        for ours, theirs in zip(batch, batches[0]):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("orientation, margin", [(1, 1.0), (1, 2.0), (6, 1.0), (1, 0.0)])
def test_a_jpeg_is_seen_as_in_training(tmp_path, orientation, margin):
    """Decoded at an eighth, a quarter or whole, and resized from there."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(pictures([(160, 322)])[0]).resize((322, 160)).save(path, exif=exif)
    how = Preprocessing(Fixed(32, 16) if orientation == 6 else Fixed(16, 32), decode_margin=margin)
    ((tokens, _, grid),) = each(pack([path], preprocessing=how, patch=(8, 8))).values()
    height, width = decode(path.read_bytes()).shape[:2]
    size = int(grid[0]) * 8, int(grid[1]) * 8
    shrink = Shrunk(margin).shrink((0, 0, width, height), size) if margin else 1
    image = decode(path.read_bytes(), shrink)
    box = (0, 0, width, height) if image.shape[:2] == (height, width) else (0, 0, width / shrink, height / shrink)
    want = training_resize(image, size, box)
    np.testing.assert_array_equal(tokens, pixels.patchify(want, (8, 8)))
    assert orientation == 6 or shrink == {0.0: 1, 1.0: 8, 2.0: 4}[margin]


def test_what_does_not_fit_is_refused_by_name_before_any_pixel_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(front, "read_image", lambda *_: pytest.fail("a pixel was read"))
    path = tmp_path / "wide.png"
    Image.new("RGB", (80, 8)).save(path)
    small, how = np.zeros((8, 8, 3), np.uint8), Preprocessing(AsItIs())

    def refused(images, message, kind=ImageError, **options):
        with pytest.raises(kind, match=message):
            pack(images, preprocessing=how, patch=(8, 8), **options)

    refused([small, path], r"image 1 \(.*wide.png\) has 1 x 10 patches, positions end at 9", longest_side=9)
    refused([small, path], r"image 1 \(.*wide.png\) has 1 x 10 patches, a row holds 8", row_tokens=8)
    refused([small] * 3, "3 images fill 3 rows, not 2", ValueError, row_images=1, rows=2)
    refused([small, small / 255], "image 0 of uint8 beside image 1 of float32")
    refused([small, small[..., :2]], "image 1 is an array of 8 x 8 x 2")
    refused(str(path), "got a single one", ValueError)
    path.write_bytes(b"nothing")
    refused([small, path], r"image 1 \(.*wide.png\) is not an image")


def test_an_image_that_is_damaged_behind_its_header_is_named(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(pictures([(40, 40)])[0]).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"image 0 \(.*cut.png\) cannot be decoded"):
        pack([path], preprocessing=SMALL, patch=(8, 8))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(number):
    """In a row they would spoil the images beside them; with `report` the others are read."""
    good, bad = (np.full((16, 16, 3), value, np.float32) for value in (0.5, number))
    options = dict(preprocessing=Preprocessing(Area(16)), patch=(8, 8))
    with pytest.raises(ImageError, match="image 1 holds numbers that are not finite"):
        pack([good, bad], **options)
    reasons = {}
    batch = pack([good, bad], **options, report=reasons.__setitem__)
    assert list(reasons) == [1] and np.isfinite(batch.patches).all()


def test_an_image_that_cannot_be_decoded_has_no_answer(tmp_path):
    """With a report its neighbors are packed; in its place stand NaN, whatever its slot holds."""
    whole, path, said = pictures([(40, 40)])[0], tmp_path / "cut.png", []
    Image.fromarray(whole).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    batch = pack([whole, path, whole], preprocessing=SMALL, patch=(8, 8), report=lambda *what: said.append(what))
    values = unpack(batch, np.ones((*batch.image_ids.shape, 2), np.float32))
    assert [index for index, _ in said] == [1] and len(values) == 3
    np.testing.assert_array_equal(np.isnan(values).any(-1), [False, True, False])


def test_docstrings_are_true():
    tried = doctest.testmod(front)
    assert tried.attempted and not tried.failed
