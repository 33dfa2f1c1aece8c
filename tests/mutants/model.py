"""Mistakes in what a model computes: navit_eqx/, without training, tasks and the front door."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

AGREES = "tests/test_agreement.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "mask: padding is an image", "navit_eqx.masks:same_image",
        replace("__ids > 0", "__ids >= 0"), AGREES + "masks",
    ),
    one(
        "masked logits are -1e4", "navit_eqx.layers:masked_softmax",
        replace("jnp.finfo(__dtype).min", "-1e4"), AGREES + "masked_softmax",
    ),
    one(
        "the mean divides by the row length", "navit_eqx.pooling:MeanPool.__call__",
        replace("jnp.maximum(__mask.sum(-1, keepdims=True), 1)",
                "jnp.full_like(__mask.sum(-1, keepdims=True), __mask.shape[-1])"),
        "tests/test_variants.py::test_agrees",
    ),
    one(
        "the pool of the first image takes padding", "navit_eqx.masks:slot_tokens",
        replace("__slot == __ids", "__slot == jnp.maximum(__ids, 1)"), AGREES + "masks",
    ),
    one(
        "position tables exchanged", "navit_eqx.posembed:Factorised.__call__",
        replace("zip(self.tables, *__axes, **__options)", "zip(self.tables[::-1], *__axes, **__options)"),
        "tests/test_posembed.py::test_both_sides_agree",
    ),
    one(
        "coordinates off by half a cell", "navit_eqx.posembed:locate",
        replace("__u - 0.5", "__u"), "tests/test_posembed.py::test_both_sides_agree",
    ),
    one(
        "positions from the place in the row", "navit_eqx.model:NaViT.embed_row",
        replace("jnp.where(__real, row.coords, 0)",
                "jnp.broadcast_to(jnp.arange(row.coords.shape[-2])[:, None] % 3, row.coords.shape).astype('int32')"),
        AGREES + "model",
    ),
    one(
        "PI-resize without the pseudo-inverse", "navit_eqx.resize:pi_matrix",
        replace("np.linalg.solve(__r.T @ __r, __r.T).T if __enlarging else __other", "__r.copy()"),
        "tests/test_resize.py::test_both_sides_have_the_same_matrices",
    ),
    one(
        "PI-resize from a kernel that was resized before", "navit_eqx.model:NaViT.patch_embedding_at",
        replace("pi_resize(__w, __base, __size, __how)",
                "pi_resize(pi_resize(__w, __base, tuple(2 * n for n in __base), __how),"
                " tuple(2 * n for n in __base), __size, __how)"),
        "tests/test_flexi.py::test_rows_of_one_size_a_step",
    ),
    one(
        "kernels antialiased, images not", "navit_eqx.resize:FLEXIVIT",
        replace("Interpolation()", "Interpolation(antialias=True)"),
        "tests/test_resize.py::test_both_sides_interpolate_alike_by_default",
    ),
    one(
        "variance as E[x²] − E[x]²", "navit_eqx.layers:LayerNorm.__call__",
        returns("(lambda y, mean: (lambda z: z if self.bias is None else z + expand(self.bias, z))"
                "(expand(self.scale, y) * (y - mean)"
                " * jax.lax.rsqrt((y**2).mean(-1, keepdims=True) - mean**2 + self.eps)))"
                "(full(x), full(x).mean(-1, keepdims=True)).astype(x.dtype)"),
        AGREES + "layer_norm", "tests/test_rounding.py::test_a_norm_far_from_zero",
    ),
    one(
        "GELU always by tanh", "navit_eqx.layers:Mlp.__call__",
        replace("ACTIVATIONS[self.activation]", "ACTIVATIONS['gelu_tanh']"), "tests/test_variants.py::test_agrees",
    ),
    one(
        "attention without its scale", "navit_eqx.attention:dot_product_attention_fwd",
        replace("__logits * scale", "__logits"), AGREES + "attention",
    ),
    one(
        "heads joined in the wrong order", "navit_eqx.attention:Attention.__call__",
        replace("heads_first(__mixed).reshape(*__shape)", "__mixed.reshape(*__shape)"), AGREES + "attention",
    ),
    one(
        "who stands in the window is attended to", "navit_eqx.kernels.loop:each_image.one",
        replace("__ids == __slot + 1", "__ids > 0"), "tests/test_attention_backends.py::test_packed_is_alone",
    ),
    one(
        "an empty slot holds an image", "navit_eqx.masks:used_slots", returns("jnp.ones_like(__value)"),
        AGREES + "masks",
    ),
    one(
        "softmax in bfloat16", "navit_eqx.layers:masked_softmax", replace("full(logits)", "logits"),
        "tests/test_rounding.py::test_sums_are_in_float32", survived=True,
    ),
    one(
        "norms in bfloat16", "navit_eqx.layers:LayerNorm.__call__", replace("full(x)", "x"),
        "tests/test_rounding.py::test_sums_are_in_float32", survived=True,
    ),
    one(
        "windows believe any row", "navit_eqx.kernels.windows:fits_windows",
        returns("jnp.ones(segment_ids.shape, bool)"),
        "tests/test_template.py::test_wrong_rows_give_nan_and_not_a_wrong_answer",
    ),
    one(
        "windows of one size are one window", "navit_eqx.kernels.windows:cut",
        replace("__part.reshape(*__part.shape[:-2], count, size, __part.shape[-1])",
                "__part.reshape(*__part.shape[:-2], 1, count * size, __part.shape[-1])"),
        "tests/test_template.py::test_windows_are_the_dense_mask",
    ),
)  # fmt: skip
