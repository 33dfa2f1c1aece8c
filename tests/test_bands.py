"""Images of any number of channels: files give the same pixels in training and at the front door, or are refused."""

import io

import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
from data.errors import BadImage
from data.sources.decode import decode, read_size, read_type
from data.sources.folder import Folder
from navit_eqx.pixels import ImageError, read_header, read_image
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify
from tests.support.strategies import random_model

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 30, 6), np.uint8)
WORDS = RNG.integers(0, 1 << 16, (20, 30, 6)).astype(np.uint16)
NUMBERS = RNG.normal(size=(20, 30, 6)).astype(np.float32)
KINDS = {"uint8": BYTES, "uint16": WORDS, "float32": NUMBERS, "float64": NUMBERS.astype(np.float64)}


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(*arrays, save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, *arrays)
    return file.getvalue()


def tiff(array, **options) -> bytes:
    """A page for each channel."""
    pages = [Image.fromarray(np.ascontiguousarray(array[..., c])) for c in range(array.shape[-1])]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


GOOD = {f"{kind}.npy": npy(array) for kind, array in KINDS.items()}
GOOD |= {f"{kind}.npz": npz(array, save=np.savez_compressed) for kind, array in KINDS.items()}
GOOD |= {f"{kind}.tif": tiff(KINDS[kind]) for kind in ("uint8", "uint16", "float32")}
GOOD |= {"deflated.tif": tiff(WORDS, compression="tiff_deflate"), "columns first.npy": npy(np.asfortranarray(NUMBERS))}
EXPECTED = {"deflated": WORDS, "columns first": NUMBERS} | KINDS


def scaled(array):
    """The values that a model reads."""
    if array.dtype == np.uint16:
        return array.astype(np.float32) / np.float32(32767.5) - 1
    return array if array.dtype == np.uint8 else array.astype(np.float32)


@pytest.mark.parametrize("name", GOOD)
def test_both_readers_give_these_values(name, tmp_path):
    want = scaled(EXPECTED[name.rpartition(".")[0]])
    (tmp_path / name).write_bytes(GOOD[name])
    for found in (decode(GOOD[name], channels=6), read_image(tmp_path / name, 6)):
        assert found.dtype == want.dtype
        np.testing.assert_array_equal(found, want)
    assert read_size(GOOD[name], 6) == read_header(tmp_path / name, 6).size == want.shape[:2]
    assert read_type(GOOD[name], 6) == read_header(tmp_path / name, 6).dtype == want.dtype


def test_words_span_minus_one_to_one():
    ends = np.array([0, 65535], np.uint16).reshape(1, 2, 1)
    assert decode(npy(ends), channels=1).ravel().tolist() == [-1, 1]


@pytest.mark.parametrize("channels, shape", [(1, (5, 7)), (1, (5, 7, 1)), (3, (5, 7, 3)), (4, (5, 7, 4))])
def test_numpy_files_of_common_channels(channels, shape, tmp_path):
    """As they are: no conversion, no white behind alpha."""
    array = RNG.integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "a.npy", array)
    for found in (decode(npy(array), channels=channels), read_image(tmp_path / "a.npy", channels)):
        np.testing.assert_array_equal(found, array.reshape(5, 7, channels))


def test_a_tiff_of_one_page_stays_a_picture(tmp_path):
    """Grey of 16 bits is scaled to 8, as in other formats."""
    file = tmp_path / "grey.tif"
    file.write_bytes(tiff(WORDS[..., :1]))
    want = (WORDS[..., :1] >> 8).astype(np.uint8)
    for found in (decode(file.read_bytes(), channels=1), read_image(file, 1)):
        np.testing.assert_array_equal(found, want)


BAD = {
    "cut.npy": (npy(NUMBERS)[:-100], "decoded|no NumPy file"),
    "header cut.npy": (npy(NUMBERS)[:20], "no NumPy file"),
    "cut.npz": (npz(NUMBERS)[:-100], "no NumPy file"),
    "two.npz": (npz(NUMBERS, NUMBERS), "holds 2 arrays: save one image"),
    "other channels.npy": (npy(NUMBERS[..., :5]), "an array of 20 x 30 x 5, the model reads height x width x 6"),
    "channels first.npy": (npy(NUMBERS.transpose(2, 0, 1)), "an array of 6 x 20 x 30"),
    "empty.npy": (npy(NUMBERS[:0]), "an array of 0 x 30 x 6"),
    "negative.npy": (npy(NUMBERS).replace(b"(20, 30, 6)", b"(-2, -3, 6)"), "an array of -2 x -3 x 6|no NumPy file"),
    "int64.npy": (npy(WORDS.astype(np.int64)), "int64, whose range is not known: convert it to uint8"),
    "objects.npy": (npy(np.full((2, 2, 6), None)), "object|no NumPy file"),
    "nan.npy": (npy(np.where(NUMBERS > 2, np.nan, NUMBERS)), "not finite"),
    "too large.npy": (npy(1e300 * NUMBERS.astype(np.float64)), "not finite"),
    "pages.tif": (tiff(BYTES[..., :3]), "has 3 pages, the model reads 6 channels: save one page per channel"),
    "cut.tif": (tiff(NUMBERS)[:2000], "."),
    "photo.png": (b"\x89PNG\r\n\x1a\n", "TIFF"),
}


@pytest.mark.parametrize("name", BAD)
def test_both_readers_refuse_it_with_the_reason(name, tmp_path):
    data, why = BAD[name]
    with pytest.raises(BadImage, match=why):
        read_size(data, 6)
        decode(data, channels=6)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=why):
        read_header(tmp_path / name, 6)
        read_image(tmp_path / name, 6)


def test_pages_of_colors_are_refused(tmp_path):
    pages = [Image.fromarray(BYTES[..., :3])] * 6
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadImage, match="pages of mode RGB"):
        read_size((tmp_path / "a.tif").read_bytes(), 6)
    with pytest.raises(ImageError, match="pages of mode RGB"):
        read_header(tmp_path / "a.tif", 6)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        read_header("nowhere.npy", 6)


def model_of(channels: int) -> navit.Model:
    """A fresh model that reads 8 x 8 patches of so many channels."""
    config = navit.ModelConfig((8, 8), channels=channels, width=16, depth=1, heads=2, mlp_width=16)
    info = navit.ModelInfo(("a", "b"), Preprocessing(Native(), channels=channels, row_tokens=32, row_images=4))
    return random_model(config, Classify(classes=2), info)


@pytest.mark.parametrize("name", ["uint8.npy", "uint16.npz", "float32.tif"])
def test_pack_reads_a_path_as_it_reads_the_array(name, tmp_path):
    (tmp_path / name).write_bytes(GOOD[name])
    from_path = navit.pack([tmp_path / name], model_of(6))
    from_array = navit.pack([EXPECTED[name.partition(".")[0]]], model_of(6))
    for a, b in zip(from_path, from_array):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(navit.features(model_of(6), [tmp_path / name])).all()


def test_refusal_names_the_file_and_the_channels(tmp_path):
    np.save(tmp_path / "a.npy", NUMBERS)
    why = navit.refusal(model_of(5), tmp_path / "a.npy")
    assert "a.npy" in why and "height x width x 5" in why
    assert navit.refusal(model_of(6), tmp_path / "a.npy") == ""


def test_a_folder_of_bands(tmp_path):
    """Images of the wrong kind are set aside by name."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            np.save(tmp_path / name / f"{i}.npy", NUMBERS + i)
        (tmp_path / name / "x.tif").write_bytes(GOOD["float32.tif"])
        (tmp_path / name / "z.npy").write_bytes(BAD["other channels.npy"][0])
    source = Folder().open(str(tmp_path), "all", channels=6)
    assert len(source.manifest) == 10 and source.manifest.dtype == "float32"
    assert [name for name, _ in source.manifest.set_aside] == ["a/z.npy", "b/z.npy"]
    np.testing.assert_array_equal(source.image(1), NUMBERS + 1)
