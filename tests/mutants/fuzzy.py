"""Mistakes in fuzzy positions."""

from tests.mutants.kinds import one
from tests.support.mutation import replace

LAWS = "tests/test_fuzzy.py::test_"
MUTANTS = (
    one(
        "fuzzy: noise belongs to the slot, not to the image", "navit_eqx.fuzzy:fuzzy_row",
        replace("jnp.take_along_axis(row.image_ids, slot, axis=-1)", "slot"),
        LAWS + "packing_order_and_dropping_do_not_change_moves",
    ),
    one(
        "fuzzy: all tokens of an image have the same noise", "navit_eqx.fuzzy:sample_moves",
        replace("symmetric(jr.fold_in(noise, cell), 2)", "symmetric(noise, 2)"),
        LAWS + "noise_is_as_wide_as_said_and_stays_within_the_image",
    ),
    one(
        "fuzzy: noise moves to one side only", "navit_eqx.fuzzy:symmetric",
        replace("jr.uniform(key, (count,), jnp.float32, -1, 1)", "jr.uniform(key, (count,), jnp.float32, 0, 1)"),
        LAWS + "noise_is_as_wide_as_said_and_stays_within_the_image",
    ),
    one(
        "fuzzy: rescaling is about the corner of the image", "reference.fuzzy:move",
        replace("scale * (coords + 0.5 - half) + (1 + shift) * half", "scale * (coords + 0.5) + shift * half"),
        LAWS + "both_sides_move_alike",
    ),
    one(
        "fuzzy: every step draws the same", "navit_eqx.fuzzy:fuzzy_row",
        replace("jr.fold_in(key, 1)", "jr.key(1)"), LAWS + "training_sees_moves_and_evaluation_none",
    ),
)  # fmt: skip
