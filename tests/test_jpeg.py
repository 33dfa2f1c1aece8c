"""simplejpeg, where it is installed, gives the pixels of Pillow and refuses what Pillow refuses."""

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from data.errors import BadImage
from data.sources import jpeg
from data.sources.decode import decode
from tests.support.laws import caught
from tests.support.strategies import seeds


def saved(seed: int, height: int, width: int, mode: str, **options) -> bytes:
    """A smooth picture with noise as a JPEG."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse).astype(int) + rng.integers(-20, 20, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(data: bytes, shrink: int) -> np.ndarray | str:
    """Pixels, or why there are none."""
    try:
        return decode(data, shrink)
    except BadImage as error:
        return str(error)


def are_those_of_pillow(data: bytes, shrink: int) -> None:
    """To the bit, or the same refusal."""
    got = decoded(data, shrink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", None)
        want = decoded(data, shrink)
    assert type(got) is type(want) and np.array_equal(got, want)


@given(
    seed=seeds, sides=st.tuples(st.integers(1, 40), st.integers(1, 40)), mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 100), subsampling=st.integers(0, 2), progressive=st.booleans(),
    shrink=st.sampled_from([1, 2, 4, 8]), end=st.integers(0, 200),
)  # fmt: skip
@example(0, (7, 7), "RGB", 90, 0, False, 1, 0)
@example(0, (2, 2), "RGB", 90, 0, False, 2, 0)
@example(0, (33, 40), "RGB", 75, 2, True, 4, 150)
def test_pixels_are_those_of_pillow(seed, sides, mode, quality, subsampling, progressive, shrink, end):
    """Also of files that are cut off."""
    pytest.importorskip("simplejpeg", reason="the extra jpeg")
    data = saved(seed, sides[0], sides[1], mode, quality=quality, subsampling=subsampling, progressive=progressive)
    are_those_of_pillow(data[: len(data) - end], shrink)


@pytest.mark.parametrize("wrong", [{"fastdct": True}, {"fastupsample": True}])
def test_another_decoder_is_caught(wrong, monkeypatch):
    library = pytest.importorskip("simplejpeg", reason="the extra jpeg")

    class Other:
        @staticmethod
        def decode_jpeg(data, kind, **options):
            return library.decode_jpeg(data, kind, **options, **wrong)

    data = saved(3, 40, 40, "RGB", quality=90, subsampling=2)
    are_those_of_pillow(data, 1)
    monkeypatch.setattr(jpeg, "simplejpeg", Other)
    caught(are_those_of_pillow, data, 1)


def test_it_is_asked_first_and_pillow_where_it_cannot(monkeypatch):
    """With a decoder that is there or not, whatever is installed here."""
    data, asked = saved(1, 20, 30, "RGB"), []

    class Fails:
        @staticmethod
        def decode_jpeg(data, kind, **options):
            asked.append(options)
            raise ValueError("damaged")

    class White:
        @staticmethod
        def decode_jpeg(data, kind, **options):
            size = options.get("min_height", 20), options.get("min_width", 30)
            return np.full((*size, 3), 255, np.uint8)

    monkeypatch.setattr(jpeg, "simplejpeg", None)
    plain = decode(data, 2)
    monkeypatch.setattr(jpeg, "simplejpeg", Fails)
    np.testing.assert_array_equal(decode(data, 2), plain)
    assert asked == [{"strict": True, "min_height": 10, "min_width": 15, "min_factor": 1}]
    monkeypatch.setattr(jpeg, "simplejpeg", White)
    assert decode(data, 2).shape == (10, 15, 3) and (decode(data) == 255).all()
    assert not (decode(data, channels=1) == 255).all()  # gray is Pillow's
