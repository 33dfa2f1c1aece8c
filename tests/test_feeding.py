"""What makes feeding cheap changes nothing that matters: shrunk decoding, memory, the cache of decoded images."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data import cache
from data.augment import crop_box
from data.checksums import checked_line, read_lines
from data.errors import BadImage, DataError, DataMissing
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.decode import ORIENTATION, Shrunk, Whole, decode, resize
from data.sources.folder import ImageFolder
from data.sources.memory import CachedInMemory
from data.sources.records import ABOUT, Cached, CachedImages, scaled
from data.sources.source import Arrays
from data.stream import Epochs
from harness.config import Config, DataConfig
from harness.run.loading import evaluation_rows
from navit_eqx.config import ModelConfig
from tests.support.strategies import seeds
from tests.support.tolerances import PIXEL

LEVELS = 3.0  # of 255: how far shrunk decoding may be from the truth, on average over an image


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """Waves of falling strength, as in photographs, and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(f * (x * np.cos(a) + y * np.sin(a)) + a) / f for f in (0.02, 0.05, 0.1, 0.3) for a in rng.random(3)]
    grey = 128 + 0.4 * np.sum(waves, 0)[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 4, (height, width, 3))
    return grey.clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of three photographs, one of them a PNG; two more to validate on."""
    root = tmp_path_factory.mktemp("photos")
    for k, name in enumerate(["train/cat", "train/dog", "val/cat", "val/dog"]):
        (root / name).mkdir(parents=True)
        for i in range(3 if k < 2 else 1):
            (root / name / f"{i}.jpg").write_bytes(jpeg(photo(10 * k + i, 150 + 20 * i, 201)))
    Image.fromarray(photo(0, 160, 120)).save(root / "train/dog/z.png")
    return root


def rows_of(source, decoding) -> PlannedRows:
    unplanned = Epochs(lambda block: pytest.fail("nothing is planned"))
    return PlannedRows(source, unplanned, 1, Pixels((4, 4)), 9, 0, None, decoding=decoding)


# shrunk decoding ------------------------------------------------------------------------------------------------


def is_near_the_truth(region, truth) -> None:
    """The mean difference of levels stays below a bound, and there is hardly a shift of brightness."""
    difference = region.astype(float) - truth
    assert np.abs(difference).mean() < LEVELS and abs(difference.mean()) < 0.5


@pytest.mark.parametrize("law", [None, Augment(crop=0.3, stretch=0.3)])
@given(seed=seeds)
def test_shrunk_decoding_shows_nearly_the_same(folder, law, seed):
    source, rng = ImageFolder(folder, "train"), np.random.default_rng(seed)
    small, whole = rows_of(source, Shrunk()), rows_of(source, Whole())
    index, size = int(rng.integers(7)), (int(rng.integers(8, 60)), int(rng.integers(8, 60)))
    box = whole.frame(index) if law is None else crop_box(rng, whole.frame(index), law)
    is_near_the_truth(small.region(index, box, size), whole.region(index, box, size))


def test_a_box_that_is_not_scaled_is_far_from_the_truth(folder):
    source = ImageFolder(folder, "train")
    whole = rows_of(source, Whole())
    truth = whole.region(0, (0, 0, 60, 60), (15, 15))
    is_near_the_truth(rows_of(source, Shrunk()).region(0, (0, 0, 60, 60), (15, 15)), truth)
    wrong = resize(source.image(0, 4), (15, 15), (0, 0, 50, 37))
    with pytest.raises(AssertionError):
        is_near_the_truth(wrong, truth)


@given(
    box=st.tuples(st.floats(0, 90), st.floats(0, 90), st.floats(100, 900), st.floats(100, 900)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    margin=st.floats(1, 3),
)
def test_no_more_is_left_out_than_may_be(box, size, margin):
    """What is decoded has `margin` pixels for each shown on both sides, and half of it would not."""
    shrink = Shrunk(margin).shrink(box, size)
    need = margin * size[1], margin * size[0]
    sides = box[2] - box[0], box[3] - box[1]
    assert shrink == 1 or all(s / shrink >= n - PIXEL for s, n in zip(sides, need))
    assert shrink == 8 or any(s / (2 * shrink) < n + PIXEL for s, n in zip(sides, need))
    assert Whole().shrink(box, size) == 1


@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize("size", [(150, 201), (160, 200), (1, 1), (7, 300), (16, 15)])
def test_a_shrunk_image_is_upright_and_rounds_up(shrink, orientation, size):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = jpeg(photo(1, *size), exif=exif.tobytes())
    full, small = decode(data), decode(data, shrink)
    if shrink > min(size) or (orientation > 1 and any(n % shrink for n in size)):
        np.testing.assert_array_equal(small, full)
        return
    assert small.shape[:2] == tuple(-(-n // shrink) for n in full.shape[:2])
    box = 0, 0, small.shape[1] * shrink, small.shape[0] * shrink
    framed = np.pad(full, [(0, box[3] - full.shape[0]), (0, box[2] - full.shape[1]), (0, 0)], mode="edge")
    is_near_the_truth(small, resize(framed, (small.shape[0], small.shape[1]), box))


def test_memory_gives_what_the_source_gives(folder):
    source = ImageFolder(folder, "train")
    memory = CachedInMemory(source, 10**9)
    for _ in range(2):
        for index in range(7):
            for shrink in (4, 1, 2):
                np.testing.assert_array_equal(memory.image(index, shrink), source.image(index, shrink))
    assert len(memory.kept) == 3 * 6 + 1, "a PNG is kept once"
    assert memory.bytes == sum(image.nbytes for image in memory.kept.values())


# the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(folder, tmp_path):
    assert cache.main([str(folder), str(tmp_path / "out"), "--longest-side", "100"]) == 0
    return tmp_path / "out"


@given(seed=seeds, side=st.integers(1, 500), longest=st.booleans())
def test_sizes_are_scaled_and_never_enlarged(seed, side, longest):
    sizes = np.random.default_rng(seed).integers(1, 1000, (20, 2)).astype(np.int32)
    small = scaled(sizes, side, longest)
    assert (1 <= small).all() and (small <= sizes).all()
    reference = (small.max(-1) if longest else small.min(-1)), (sizes.max(-1) if longest else sizes.min(-1))
    np.testing.assert_array_equal(reference[0], np.minimum(side, reference[1]))
    factor = np.minimum(1, side / reference[1])[:, None]
    assert (np.abs(small - sizes * factor) <= np.maximum(0.5, 1 - sizes * factor)).all()


def test_a_cache_gives_the_resized_images(folder, cached, monkeypatch):
    for split in ("train", "val"):
        source, copy = ImageFolder(folder, split), Cached().open(str(cached), split)
        assert copy.manifest.classes == source.manifest.classes
        np.testing.assert_array_equal(copy.manifest.names, source.manifest.names)
        np.testing.assert_array_equal(copy.manifest.labels, source.manifest.labels)
        np.testing.assert_array_equal(copy.manifest.sizes, scaled(source.manifest.sizes, 100, True))
        for i, (h, w) in enumerate(copy.manifest.sizes.tolist()):
            np.testing.assert_array_equal(copy.image(i), resize(source.image(i), (h, w)))
        again = pickle.loads(pickle.dumps(copy))
        assert again.manifest.digest == copy.manifest.digest and len(pickle.dumps(copy)) < 500, "tables travel"
        np.testing.assert_array_equal(again.image(0), copy.image(0))


def test_what_cannot_be_decoded_is_set_aside_by_name(folder, tmp_path):
    whole = jpeg(photo(5, 80, 90))
    files = {"cat/a": b"no image", "cat/b": whole[: -len(whole) // 8], "cat/c": whole, "dog/d": whole}
    for split in ("train", "val"):
        for name, content in files.items():
            (tmp_path / split / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / f"{name}.jpg").write_bytes(content)
    assert cache.main([str(tmp_path), str(tmp_path / "out"), "--shortest-side", "40"]) == 0
    manifest = CachedImages(tmp_path / "out/train").manifest
    assert [manifest.name(i) for i in range(2)] == ["cat/c.jpg", "dog/d.jpg"]
    assert manifest.sizes.tolist() == [[40, 45]] * 2
    reasons = dict(manifest.set_aside)
    assert "not an image" in reasons["cat/a.jpg"] and "cannot be decoded" in reasons["cat/b.jpg"]


def test_a_damaged_record_is_an_unreadable_image(cached):
    file = cached / "train/00000.array_record"
    content = bytearray(file.read_bytes())
    content[content.index(CachedImages(cached / "train").image(2).tobytes()[:64]) + 500] ^= 1
    file.write_bytes(content)
    source = CachedImages(cached / "train")
    with pytest.raises(BadImage, match="cannot be read from the cache"):
        source.image(2)
    assert source.image(0).any() and source.image(6).any()
    file.unlink()
    with pytest.raises(BadImage):
        CachedImages(cached / "train").image(0)


def test_a_damaged_table_is_named(cached):
    (cached / "val/sizes.npy").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="val/sizes.npy differs from what was written: remove .*val and run"):
        CachedImages(cached / "val")
    (about,), _ = read_lines(cached / "train" / ABOUT)
    (cached / "train" / ABOUT).write_text(checked_line(about | {"counts": [3]}))
    with pytest.raises(DataError, match="3 records, 7 names"):
        CachedImages(cached / "train")
    (cached / "train" / ABOUT).unlink()
    with pytest.raises(DataMissing, match="no finished cache"):
        CachedImages(cached / "train")


def test_the_command_says_what_is_wrong(folder, cached, tmp_path, capsys):
    assert cache.main([str(folder), str(cached), "--longest-side", "9"]) == 74
    assert "holds a cache already" in capsys.readouterr().err
    assert cache.main([str(tmp_path / "nowhere"), str(tmp_path / "x"), "--longest-side", "9"]) == 66


class Noted(Arrays):
    """Remembers at which fraction of its size an image was asked for."""

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        self.seen.add(shrink)
        return super().image(index)


def test_images_that_are_embedded_once_are_decoded_as_in_training():
    """As they are told to be; evaluation tells nothing, and reads all pixels."""
    model = ModelConfig((4, 4), width=8, depth=1, heads=1, mlp_width=8)
    config = Config(model=model, data=DataConfig(resolution=Sides(16, 16), packing=Packing(64, 8)), rows=2, steps=1)
    source = Noted([np.zeros((128, 96, 3), np.uint8)] * 3, np.zeros(3, np.int32), ("a",))
    for how, want in (({"decoding": Shrunk(2.0)}, {2, 4, 8}), ({}, {1})):
        source.seen = set()
        batches, _ = evaluation_rows(config, source, config.data.law, **how)
        assert sum(int((row.image_ids >= 0).sum()) for row in batches) == 3 and source.seen and source.seen <= want
