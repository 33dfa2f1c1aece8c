"""Files as they are after an accident or an attack."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

several = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


# What a length, an offset or a count is set to.
EXTREMES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\1\0\0", b"\0\0\x40\x1f"]


@st.composite
def damaged(draw, originals: list[bytes]) -> bytes:
    """A file with bytes flipped, numbers made extreme, cut, or continued by a part of another file."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)) | st.integers(0, min(200, max(len(data) - 1, 0))))
        kind = draw(st.sampled_from(["flip", "extreme", "cut", "splice"]))
        if kind == "flip":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "extreme":
            data[at : at + 4] = draw(st.sampled_from(EXTREMES))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 100) | st.just(len(data)))]
        else:
            other = draw(st.sampled_from(originals))
            data[at:at] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)
