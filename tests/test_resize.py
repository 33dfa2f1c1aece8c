"""Resizing of images, kernels and patches: against peers, against each other, against the laws of FlexiViT."""

import dataclasses
import re
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx import resize as fast
from navit_eqx.config import Flexi
from reference import resize as slow
from reference.patches import normalize
from reference.resize import FLEXIVIT, RESIZES, TIMM, Interpolation
from reference.sampling.patch_sizes import best_base, check_gains, gain, reach
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, GAIN, POWER, assert_close

PAPER = (8, 10, 12, 15, 16, 20, 24, 30, 40, 48)
SQUARES = [((p, p), (q, q)) for p, q in product(PAPER, PAPER)]
RECTANGLES = [((8, 10), (10, 12)), ((8, 6), (9, 15)), ((8, 6), (15, 9)), ((3, 2), (5, 7)), ((1, 4), (3, 5))]
OBLONG = RECTANGLES + [(new, old) for old, new in RECTANGLES]
EVERY = [Interpolation(*fields) for fields in product(slow.METHODS, (False, True), slow.EDGES)]
every = pytest.mark.parametrize("how", EVERY, ids=lambda how: f"{how.method}-{how.antialias}-{how.edges}")


def pairs(how: Interpolation):
    """All sizes for the interpolations of published weights, a few rectangles for the others."""
    return OBLONG + SQUARES if how in (FLEXIVIT, TIMM) else OBLONG


def on_device(how: Interpolation) -> fast.Interpolation:
    return fast.Interpolation(**dataclasses.asdict(how))


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def drawn(base, size):
    """Patches of the base size, patches of the other size, a kernel: two channels, flattened."""
    p, q = (2 * s[0] * s[1] for s in (base, size))
    return numbers(0, 3, p), numbers(1, 3, q), numbers(2, p, 4)


def resized(patches, old, new, how):
    """Each patch resized by itself."""
    return np.stack([slow.resize_image(x.reshape(*old, -1), new, how).ravel() for x in patches])


# The laws: each takes the function on trial, and raises where it is broken.


def looks_the_same_enlarged(resize_kernel, base, size, how):
    """⟨resize(x), ŵ⟩ = ⟨x, w⟩ for every x."""
    x, _, w = drawn(base, size)
    assert_close(resized(x, base, size, how) @ resize_kernel(w, base, size, how), x @ w, EXACT)


def is_least_squares(resize_kernel, base, size, how):
    """The normal equations of min ‖B ŵ − w‖ for white x:   B is the adjoint of resizing an image."""
    w = drawn(base, size)[2]
    back = [slow.resize_matrix(p, q, how).T for p, q in zip(base, size)]
    error = slow.map_columns(resize_kernel(w, base, size, how), size, back) - w
    slope = slow.map_columns(error, base, [b.T for b in back])
    assert np.abs(slope).max() <= EXACT * np.abs(w).max()


def is_its_adjoint(map_patches, resize_kernel, base, size, how):
    """⟨x, ŵ⟩ = ⟨map(x), w⟩ for every x of the other size."""
    _, x, w = drawn(base, size)
    assert_close(map_patches(x, base, size, how) @ w, x @ resize_kernel(w, base, size, how), EXACT)


# The matrix of one axis.


def test_the_matrix_keeps_constants_and_mirrors_and_is_the_identity_at_its_own_size():
    for how, old, new in product(EVERY, (1, 5, 16), (1, 3, 7, 21)):
        r = slow.resize_matrix(old, new, how)
        assert_close(r.sum(1), np.ones(new), EXACT)
        assert_close(r[::-1, ::-1], r, EXACT)
    for how, n in product(EVERY, (1, 8, 15)):
        np.testing.assert_array_equal(slow.resize_matrix(n, n, how), np.eye(n))
        np.testing.assert_array_equal(slow.pi_matrix(n, n, how), np.eye(n))


def test_linear_interpolation_is_this_matrix():
    want = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_array_equal(slow.resize_matrix(2, 4), want)
    np.testing.assert_array_equal(slow.resize_matrix(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_array_equal(slow.resize_matrix(6, 2), [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]])  # no antialias


def test_both_sides_interpolate_alike_by_default():
    """The host maps patches, the device resizes kernels: by the same interpolation unless both are told otherwise."""
    assert vars(fast.FLEXIVIT) == vars(slow.FLEXIVIT) and Flexi((8, 16)).interpolation == fast.FLEXIVIT


# PI-resize, and its adjoint.


@every
def test_pi_resized_kernels_look_the_same_at_enlarged_patches(how):
    for base, size in pairs(how):
        if base[0] <= size[0] and base[1] <= size[1]:
            looks_the_same_enlarged(slow.pi_resize, base, size, how)


@every
def test_pi_resize_is_least_squares_when_shrinking(how):
    for base, size in pairs(how):
        if base[0] > size[0] and base[1] > size[1]:
            is_least_squares(slow.pi_resize, base, size, how)


@given(seed=seeds, base=st.tuples(st.integers(2, 6), st.integers(2, 6)), scale=st.sampled_from([1e-3, 0.1, 1.0]))
def test_no_other_kernel_is_better(seed, base, scale):
    """On white patches, whose expected error is ‖B ŵ − w‖²."""
    size = tuple(s - 1 for s in base)
    w, other = numbers(seed, base[0] * base[1], 1), numbers(seed + 1, size[0] * size[1], 1)
    back = [slow.resize_matrix(p, q).T for p, q in zip(base, size)]
    best = slow.pi_resize(w, base, size)
    errors = [np.linalg.norm(slow.map_columns(v, size, back) - w) for v in (best, best + scale * other)]
    assert errors[0] < errors[1]


@every
def test_mapped_patches_give_the_tokens_of_the_resized_kernel(how):
    for base, size in pairs(how):
        is_its_adjoint(slow.adjoint_patches, slow.pi_resize, base, size, how)


@pytest.mark.parametrize("base, size", OBLONG)
def test_pi_resize_is_the_dense_pseudo_inverse(base, size):
    """(Bᵀ)⁺ of the whole patch, B the Kronecker product over rows, columns and channels."""
    b = np.kron(np.kron(*(slow.resize_matrix(p, q) for p, q in zip(base, size))), np.eye(2))
    w = drawn(base, size)[2]
    assert_close(slow.pi_resize(w, base, size), np.linalg.pinv(b.T) @ w, EXACT)


def test_three_axes_work_alike():
    """Tubelets of a video: time, height, width."""
    base, size = (2, 3, 4), (3, 5, 6)
    x, w = numbers(0, *base, 3), numbers(1, 72, 5)
    assert_close(slow.resize_image(x, size).ravel() @ slow.pi_resize(w, base, size), x.ravel() @ w, EXACT)


def test_pi_resize_keeps_the_response_to_a_constant_when_enlarging():
    w = numbers(0, 64, 3)
    assert_close(slow.pi_resize(w, (8, 8), (11, 13)).sum(0), w.sum(0), EXACT)
    assert_close(slow.adjoint_patches(np.ones((1, 143)), (8, 8), (11, 13)), np.ones((1, 64)), EXACT)


# What is not true.


def test_pi_resizes_do_not_compose_when_one_shrinks():
    w = numbers(0, 256, 3)
    there_and_back = slow.pi_resize(slow.pi_resize(w, (16, 16), (8, 8)), (8, 8), (16, 16))
    assert np.linalg.norm(there_and_back - w) > 0.3 * np.linalg.norm(w)
    direct = slow.pi_resize(w, (16, 16), (12, 12))
    through = slow.pi_resize(slow.pi_resize(w, (16, 16), (8, 8)), (8, 8), (12, 12))
    assert np.linalg.norm(through - direct) > 0.3 * np.linalg.norm(direct)


def test_nor_when_both_enlarge():
    """Other samples are read on the way: 8 → 16 → 32 is another kernel than 8 → 32, though both are exact."""
    w = numbers(0, 64, 3)
    direct = slow.pi_resize(w, (8, 8), (32, 32))
    through = slow.pi_resize(slow.pi_resize(w, (8, 8), (16, 16)), (16, 16), (32, 32))
    assert np.linalg.norm(through - direct) > 0.01 * np.linalg.norm(direct)


def test_shrinking_loses_what_is_fine():
    """White patches do not keep their tokens, and a constant does not map to itself."""
    caught(looks_the_same_enlarged, slow.pi_resize, (16, 16), (8, 8), FLEXIVIT)
    mapped = slow.adjoint_patches(np.ones((1, 64)), (32, 32), (8, 8))
    assert mapped.min() == 0  # pixels of the base that no sample of the small patch reads
    mapped = slow.adjoint_patches(np.ones((1, 64)), (16, 16), (8, 8), TIMM)
    assert np.abs(mapped - 1).max() > 0.1


def test_normalising_after_the_map_is_wrong():
    """Right by luck when enlarging, wrong when shrinking."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64)).astype(np.uint8)
    for base, lucky in (((4, 4), True), ((32, 32), False)):
        right = slow.adjoint_patches(normalize(pixels), base, (8, 8))
        after = slow.adjoint_patches(pixels.astype(float), base, (8, 8)) / 127.5 - 1
        assert (np.abs(after - right).max() < EXACT) == lucky


# The heuristics it was compared with.


def test_heuristics_on_a_constant():
    """Twice the side: vanilla gives 4 times the token, area gives the token, norm half of 4 times it."""
    w, x = np.ones((64, 1)), np.ones((1, 256))
    tokens = {name: float((x @ f(w, (8, 8), (16, 16)))[0, 0]) / 64 for name, f in RESIZES.items()}
    assert tokens == pytest.approx({"pi": 1, "vanilla": 4, "area": 1, "norm": 2})


def test_norm_resize_keeps_the_norm_of_each_feature():
    w = numbers(0, 64, 5) * np.arange(5)
    got = slow.norm_resize(w, (8, 8), (6, 11))
    assert_close(np.linalg.norm(got, axis=0), np.linalg.norm(w, axis=0), EXACT)


# Which base.


def test_gains_are_operator_norms():
    """By power iteration on random kernels, without the matrix; and by the pixel that reaches farthest."""
    for base, size in (((16, 16), (15, 17)), ((32, 32), (30, 30))):
        w = numbers(0, base[0] * base[1], 1)
        for _ in range(200):
            w = slow.adjoint_patches(slow.pi_resize(w, base, size).T, base, size).T
            w /= np.linalg.norm(w)
        assert_close(np.linalg.norm(slow.pi_resize(w, base, size)), gain(base, size), POWER)
        units = slow.adjoint_patches(np.eye(size[0] * size[1]), base, size)
        assert_close(np.abs(units).sum(0).max(), reach(base, size), EXACT)


@pytest.mark.parametrize(
    "base, size, amplifies, reaches",
    [(16, 17, 8.5, 24.8), (32, 30, 8.04, 9.85), (16, 15, 8.04, 9.85), (16, 14, 4.08, 4.83), (16, 8, 2, 1)],
)
def test_gains_are_these(base, size, amplifies, reaches):
    assert gain((base, base), (size, size)) == pytest.approx(amplifies, rel=GAIN)
    assert reach((base, base), (size, size)) == pytest.approx(reaches, rel=GAIN)


def test_the_best_base_has_the_smallest_worst_gain():
    squares = [(p, p) for p in PAPER]
    assert best_base(squares, squares) == (8, 8)
    assert best_base(squares, [(16, 16), (32, 32), (24, 24), (40, 40)]) == (40, 40)
    assert best_base([(5, 7)], [(7, 5), (5, 7)]) == (5, 7)


def test_a_high_gain_is_warned_of():
    with pytest.warns(UserWarning, match=r"base patch size \(32, 32\) .* at \(30, 30\): 8.0: choose another base"):
        check_gains((32, 32), [(p, p) for p in PAPER])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_gains((40, 40), [(p, p) for p in PAPER])


# Reference and backend.


@every
def test_both_sides_have_the_same_matrices(how):
    for old, new in product((1, 2, 7, 16), (1, 3, 7, 15, 17)):
        for name in ("resize_matrix", "pi_matrix"):
            assert_close(getattr(fast, name)(old, new, on_device(how)), getattr(slow, name)(old, new, how), EXACT)


@pytest.mark.parametrize("how", [FLEXIVIT, TIMM])
def test_both_sides_agree(how):
    """Kernels, patches and images; and the gradient of PI-resize is the adjoint map. One axis grows, one shrinks."""
    base, size = (4, 6), (7, 5)
    x, y, w = drawn(base, size)
    image = x[0].reshape(*base, 2)

    @jax.jit
    def on_the_device(w, y, image):
        options = {"base": base, "size": size, "interpolation": on_device(how)}
        resized, transpose = jax.vjp(partial(fast.pi_resize, **options), w)
        mapped = fast.adjoint_patches(y, **options)
        return resized, mapped, transpose(jnp.tile(y[:1].T, 4))[0][:, 0], fast.resize_image(image, size, on_device(how))

    resized, mapped, gradient, picture = on_the_device(w, y, image)
    want = slow.adjoint_patches(y, base, size, how)
    assert_close(resized, slow.pi_resize(w, base, size, how), EXACT)
    assert_close(mapped, want, EXACT)
    assert_close(gradient, want[0], EXACT)
    assert_close(picture, slow.resize_image(image, size, how), EXACT)


@pytest.mark.parametrize("wrong", [{"method": "lanczos"}, {"edges": "wrap"}])
def test_unknown_interpolations_are_refused(wrong):
    for side in (slow, fast):
        with pytest.raises(
            ValueError, match="method is one of linear, cubic, cubic75, edges one of clamp, renormalize"
        ):
            side.Interpolation(**wrong)


def test_a_matrix_cannot_be_changed_by_who_asked_for_it():
    """Matrices may be shared: writing into one must not change the next resize."""
    for pi_matrix in (slow.pi_matrix, fast.pi_matrix):
        found = pi_matrix(4, 6)
        before = found.copy()
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1
        np.testing.assert_array_equal(pi_matrix(4, 6), before)


# The laws can fail.


def forgotten_pseudo_inverse(w, base, size, how):
    return slow.vanilla_resize(w, base, size, how)


def forgotten_transpose(w, base, size, how):
    """B⁺ in the place of (Bᵀ)⁺: it fits only when read the other way round."""
    return slow.map_columns(w, base, [np.linalg.pinv(slow.resize_matrix(q, p, how)) for p, q in zip(base, size)])


def from_the_previous_size(w, base, size, how):
    small = tuple(max(s // 2, 1) for s in base)
    return slow.pi_resize(slow.pi_resize(w, base, small, how), small, size, how)


def with_another_antialias(w, base, size, how):
    return slow.pi_resize(w, base, size, dataclasses.replace(how, antialias=not how.antialias))


def rows_and_columns_exchanged(w, base, size, how):
    return slow.map_columns(w, base, [slow.pi_matrix(p, q, how) for p, q in zip(base, size)][::-1])


def channels_first(w, base, size, how):
    matrices = [slow.pi_matrix(p, q, how) for p, q in zip(base, size)]
    kernel = np.moveaxis(w.reshape(2, *base, -1), 0, 2)
    return np.moveaxis(slow.along_axes(matrices, kernel), 2, 0).reshape(-1, w.shape[1])


@pytest.mark.parametrize(
    "sabotage", [forgotten_pseudo_inverse, forgotten_transpose, from_the_previous_size, channels_first]
)
def test_a_wrong_kernel(sabotage):
    looks_the_same_enlarged(slow.pi_resize, (4, 6), (5, 8), FLEXIVIT)
    caught(looks_the_same_enlarged, sabotage, (4, 6), (5, 8), FLEXIVIT)
    is_its_adjoint(slow.adjoint_patches, slow.pi_resize, (4, 6), (5, 8), FLEXIVIT)
    caught(is_its_adjoint, slow.adjoint_patches, sabotage, (4, 6), (5, 8), FLEXIVIT)


@pytest.mark.parametrize("sabotage", [forgotten_pseudo_inverse, with_another_antialias, from_the_previous_size])
def test_a_wrong_kernel_when_shrinking(sabotage):
    is_least_squares(slow.pi_resize, (6, 9), (4, 5), FLEXIVIT)
    caught(is_least_squares, sabotage, (6, 9), (4, 5), FLEXIVIT)


def test_another_antialias_between_images_and_kernels():
    """Antialias changes nothing when enlarging; the row of mixed sizes notices it on (1, 2)."""
    looks_the_same_enlarged(with_another_antialias, (4, 6), (5, 8), FLEXIVIT)
    caught(is_its_adjoint, slow.adjoint_patches, with_another_antialias, (6, 9), (4, 5), FLEXIVIT)


def test_rows_and_columns_exchanged():
    """Squares cannot tell; a rectangle with equal sides before resizing can."""
    looks_the_same_enlarged(rows_and_columns_exchanged, (5, 5), (8, 8), FLEXIVIT)
    caught(looks_the_same_enlarged, rows_and_columns_exchanged, (5, 5), (6, 8), FLEXIVIT)


# The page.

PAGE = Path(__file__).parent.parent / "docs" / "pi_resize.md"


def test_the_code_on_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})


def test_the_tests_named_on_the_page_exist():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) >= 5
    there = "".join(path.read_text() for path in Path(__file__).parent.glob("test_resize*.py"))
    assert named <= set(re.findall(r"^def (test_\w+)", there, re.MULTILINE))
