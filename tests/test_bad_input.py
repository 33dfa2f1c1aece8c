"""Damaged and hostile input of every kind: documented errors, nothing else.

`HYPOTHESIS_PROFILE=deep pytest tests/test_bad_input.py` tries thousands of each.
"""

import json
import os
import pickle
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from data.errors import BadImage, DataError, DataMissing
from data.plan import plan_epoch
from data.sampling.dropping import Beta, Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native, Sides, Square
from data.sources import measured
from data.sources.folder import ImageFolder
from data.sources.parquet import Parquet
from harness.exit_codes import run
from navit_eqx import load_model
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode
from tests.support.damage import damaged, several
from tests.support.files import decoded_or_refused, encoded, put, write

# ---- images


@lru_cache
def images() -> list[bytes]:
    """Small valid files: every format, and the variants that take another way through its decoder."""
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    grey, deep = color.convert("L"), Image.fromarray(rng.integers(0, 65536, (9, 12), np.uint16))
    palette, clear = color.quantize(16), color.convert("RGBA")
    clear.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [grey.convert("RGB")]}
    files = [encoded(color, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "TGA")]
    files += [
        encoded(color, "JPEG2000"),
        encoded(deep, "JPEG2000"),
        encoded(grey, "JPEG", progressive=True, exif=exif),
    ]
    files += [encoded(color.convert("CMYK"), "JPEG"), encoded(clear, "WEBP", lossless=True, exif=exif)]
    files += [encoded(image, "PNG", exif=exif) for image in (grey, deep, palette, clear, grey.convert("1"))]
    files += [encoded(grey, "PNG", transparency=3), encoded(palette, "GIF", transparency=1)]
    files += [encoded(color, kind, **frames) for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO")]
    files += [encoded(color, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    files += [encoded(grey.convert("1"), "TIFF", compression="group4"), encoded(deep, "TIFF"), encoded(deep, "PPM")]
    files += [encoded(palette, "BMP"), encoded(clear, "TGA", compression="tga_rle"), encoded(color, "AVIF", exif=exif)]
    return files


@given(data=st.deferred(lambda: damaged(images())))
def test_a_damaged_image_is_read_or_refused(data):
    decoded_or_refused(data)


# ---- the cache of sizes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder of images, and the file in which their sizes are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for k, name in enumerate(["train/cat/0", "train/dog/1", "train/dog/9", "val/cat/0", "val/dog/1"]):
        put(tmp_path / "photos" / f"{name}.png", k)
    (tmp_path / "photos" / "train" / "cat" / "1.png").write_bytes(b"")
    before = ImageFolder(tmp_path / "photos", "train").manifest
    (file,) = (tmp_path / "cache" / "navit").iterdir()
    return tmp_path / "photos", file, file.read_bytes(), before


@several
@given(data=st.data())
def test_a_damaged_cache_changes_nothing(cache, data):
    folder, file, stored, before = cache
    file.write_bytes(data.draw(damaged([stored])))
    after = ImageFolder(folder, "train").manifest
    assert after.digest == before.digest and after.set_aside == before.set_aside


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": np.ones((1, 2), np.int32)},
        {"sizes": np.ones((4, 2), np.float32)},
        {"sizes": np.int32(1)},
        {"reasons": np.array(["a", "b", "c", "d"])},
        {"reasons": np.array("a")},
        {"reasons": np.array([None])},
        {"sizes": None},
    ],
)
def test_a_cache_of_other_arrays_is_measured_again(cache, wrong):
    folder, file, _, before = cache
    with np.load(file) as stored:
        arrays = {**stored, **wrong}
    np.savez(file, **arrays)
    after = ImageFolder(folder, "train").manifest
    assert after.digest == before.digest and after.set_aside == before.set_aside
    assert "sizes" in np.load(file) and measured._stored(file, len(before) + 1) is not None


class Trap:
    """Unpickled, it shows."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_no_pickle_is_opened(cache, tmp_path, monkeypatch):
    folder, file, _, before = cache
    monkeypatch.chdir(tmp_path)
    for content in ("npz", "pickle"):
        if content == "npz":
            np.savez(file, sizes=np.array([Trap()], dtype=object), reasons=np.array([Trap()], dtype=object))
        else:
            file.write_bytes(pickle.dumps(Trap()))
        assert ImageFolder(folder, "train").manifest.digest == before.digest
        assert not (tmp_path / "unpickled").exists()
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "config.json").write_text(
        json.dumps({"model": encode(ModelConfig((2, 2), width=4, depth=1, heads=1, mlp_width=4))})
    )
    with pytest.raises(ConfigError):
        load_model(tmp_path)
    assert not (tmp_path / "unpickled").exists()


# ---- parquet


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    files = []
    for i, options in enumerate([{"struct": True}, {"struct": False, "stored_names": ["x", "y"]}]):
        write(folder / f"train-{i}.parquet", [0, 1, 0], **options)
        files.append((folder / f"train-{i}.parquet").read_bytes())
        (folder / f"train-{i}.parquet").unlink()
    return folder, files


@given(data=st.data())
def test_a_damaged_parquet_file_is_read_or_refused(parquet, data):
    folder, files = parquet
    (folder / "train.parquet").write_bytes(data.draw(damaged(files)))
    try:
        source = Parquet().open(str(folder), "train")
    except DataError as error:
        assert str(error)
        return
    for i in range(len(source.manifest)):
        try:
            assert source.image(i).shape[:2] == tuple(source.manifest.sizes[i])
        except BadImage as error:
            assert str(error)


PICTURE = encoded(np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize(
    "column, values, words",
    [
        ("label", [0, None], "train.parquet:1 has label None: labels are all integers or all strings"),
        ("label", [0.5, 1.0], "train.parquet:0 has label 0.5"),
        ("label", [True, False], "train.parquet:0 has label True"),
        ("label", [[0], None], "train.parquet:1 has label None"),
        ("label", [[0], [0.5]], r"train.parquet:0 has label \[0.0\]"),
        ("label", [[0], [1, -1]], r"train.parquet:1 has label \[1, -1\]: integer labels run from 0"),
        ("label", [0, 2**40], "train.parquet:1 has label 1099511627776: integer labels run from 0 to below 1000000"),
        ("label", [0, -1], "train.parquet:1 has label -1"),
        ("image", ["a.png", "b.png"], "column 'image' holds string, not bytes"),
        ("image", [{"path": "a.png"}, {"path": "b.png"}], "not bytes or a struct with bytes"),
        ("image", [[PICTURE], [PICTURE]], "not bytes or a struct with bytes"),
    ],
)
def test_wrong_columns_are_named(tmp_path, column, values, words):
    table = {"image": [PICTURE] * 2, "label": [0, 1]} | {column: values}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=words):
        Parquet().open(str(tmp_path), "train")


def test_files_must_agree_on_what_a_label_is(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "val.parquet", ["a", "b"])
    with pytest.raises(DataError, match="integers in one file and names in another"):
        Parquet().open(str(tmp_path), "val")


def test_what_is_no_parquet_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="train.parquet cannot be read as parquet.*download it again"):
        Parquet().open(str(tmp_path), "train")


@pytest.mark.parametrize("stored", [b"{", b"[]", b'{"info": {"features": {"label": {"names": [1, 2]}}}}', b"[" * 10**5])
def test_names_that_make_no_sense_are_not_used(tmp_path, stored):
    table = pa.table({"image": [PICTURE] * 2, "label": [0, 1]}).replace_schema_metadata({"huggingface": stored})
    pq.write_table(table, tmp_path / "train.parquet")
    assert Parquet().open(str(tmp_path), "train").manifest.classes == ("0", "1")


# ---- plans


sides = st.integers(1, 100) | st.sampled_from([1, 100_000, 32_768, 2**31 - 1]) | st.integers(1, 2**31 - 1)
laws = st.sampled_from([Sides(64, 256), Sides(1, 1), Sides(1e9, 1e9), Native(), Native(1e-6, 1e3), Square(Native())])


@given(
    sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=8),
    law=laws,
    dropping=st.sampled_from([Constant(0.0), Constant(0.9), Beta(0.5, 0.9)]),
    row_tokens=st.sampled_from([1, 64, 1024]),
    row_images=st.sampled_from([1, 4]),
)
@example([(1, 100_000)], Native(), Constant(0.0), 64, 4)
@example([(1, 2**31 - 1)], Native(1e-6, 1e3), Constant(0.0), 64, 4)
@example([(2**31 - 1, 2**31 - 1)], Native(), Constant(0.0), 64, 4)
def test_images_of_any_size_are_planned_or_left_out(sizes, law, dropping, row_tokens, row_images):
    try:
        plan = plan_epoch(
            np.array(sizes, np.int32).reshape(-1, 2),
            seed=0,
            epoch=0,
            patch_size=(16, 16),
            resolution=law,
            dropping=dropping,
            packing=Packing(row_tokens, row_images),
            longest_side=64,
        )
    except DataError as error:
        assert str(error)
        return
    used = plan.image_ids[plan.image_ids >= 0].tolist()
    assert sorted(used + [i for i, _ in plan.left_out]) == list(range(len(sizes)))
    assert plan.kept.sum(-1).max() <= row_tokens and plan.grids.min() >= 0


# ---- exit codes


@pytest.mark.parametrize(
    "error, code",
    [
        (DataMissing(""), 66),
        (DataError(""), 65),
        (ConfigError(""), 78),
        (OSError(), 74),
        (ZeroDivisionError("mine"), 70),
    ],
)
def test_every_error_has_its_code(error, code, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        run(main)
    assert left.value.code == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 70)
