"""Mistakes in contrastive losses: navit_eqx/tasks/pair_losses.py and reference/tasks/contrast.py."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

LOSSES, TESTS = "navit_eqx.tasks.pair_losses:", "tests/test_pair_losses.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "positives are pairs with the same slot number", LOSSES + "pairs",
        replace("__a == __b", "jnp.arange(__a.shape[0])[:, None] == jnp.arange(__b.shape[1])[None]"), TESTS + "agrees",
    ),
    one(
        "texts travel, their keys stay", LOSSES + "visit_ring.lap.hop",
        replace("jax.lax.ppermute((__sums, __texts), *__rest)",
                "(lambda sums, moved: (sums, jax.tree.map(lambda new, old: old if old.dtype == 'int32' else new,"
                " moved, __texts)))(*jax.lax.ppermute((__sums, __texts), *__rest))"),
        TESTS + "agrees",
    ),
    one(
        "texts travel, what they have collected stays", LOSSES + "visit_ring.lap.hop",
        replace("jax.lax.ppermute((__sums, __texts), *__rest)", "(__sums, jax.lax.ppermute(__texts, *__rest))"),
        TESTS + "agrees",
    ),
    one(
        "a lap ends one device early", LOSSES + "visit_ring.lap",
        replace("jax.lax.scan(__hop, __start, length=devices)", "jax.lax.scan(__hop, __start, length=devices - 1)"),
        TESTS + "agrees",
    ),
    one(
        "every device adds the gradient of all", LOSSES + "_backward",
        replace("rows['bias']", "rows['bias'] * (walk.mesh.size if walk.mesh else 2)"), TESTS + "agrees",
    ),
    one(
        "images of the first half are counted", LOSSES + "sigmoid_total",
        replace("images.keys", "images.keys[: len(images.keys) // 2]"), TESTS + "agrees",
    ),
    one(
        "texts without an image are asked for one", LOSSES + "softmax_total.asked",
        replace("sums['positives'] > 0", "sums['lse'] > -jnp.inf"), TESTS + "agrees",
    ),
    one(
        "empty slots are answers", LOSSES + "softmax_sums",
        replace("jnp.where(counts, s, -jnp.inf)", "s"), TESTS + "agrees",
    ),
    one(
        "what an empty slot holds is read", LOSSES + "cleared",
        replace("jnp.where(__real, __vectors, 0)", "__vectors"), TESTS + "agrees",
    ),
    one(
        "logarithms of sums are added", LOSSES + "merged",
        replace("jnp.logaddexp if __lse else jnp.add", "jnp.add"), TESTS + "agrees",
    ),
    one(
        "duplicates that are to be ignored are negatives", LOSSES + "weigh",
        replace("real & (own | ~same)", "real"), TESTS + "both_sides_weigh_alike",
    ),
    one(
        "the scale is clipped within the loss", LOSSES + "contrastive_loss",
        replace("jnp.exp(__scale)", "jnp.exp(clip_log_scale(__scale))"), TESTS + "a_scale_above_the_limit_comes_back",
    ),
    one(
        "similarities have the precision of the towers", LOSSES + "cleared",
        replace("full(__vectors)", "__vectors"), TESTS + "similarities_are_exact_whatever_the_towers_compute_in",
    ),
    one(
        "the norm of nothing has no gradient", LOSSES + "unit",
        returns("x / (jnp.sqrt(square) + 1e-8)"), TESTS + "a_unit_vector_of_nothing_is_nothing",
    ),
    one(
        "embeddings stand in the order of the parts", LOSSES + "embed_twice",
        replace("__leaf.swapaxes(0, 1)", "__leaf"), TESTS + "embedded_in_parts_is_embedded_at_once",
    ),
    one(
        "what a part computes is stored", LOSSES + "embed_twice",
        replace("jax.checkpoint(__embed, **__options)", "__embed"), TESTS + "a_part_stores_its_input_alone",
    ),
    one(
        "a scan over blocks that JAX differentiates", LOSSES + "contrastive_loss",
        replace("sums_of_slots(__walk, *__sides)",
                "visit_all(__walk, lambda walk, i, t: (lambda s, w: (lambda rows, columns: (rows | dict(positive="
                "jnp.where(w[1], s, 0).sum(1), positives=w[1].sum(1, dtype=s.dtype), negative=s.sum(1),"
                " negatives=s.sum(1)), columns))(*SUMS[walk.kind](s, i[1], *w)))(product(i[0].vectors, t[0].vectors.T),"
                " weigh(i[0], t[0], walk.duplicates)), (scaled, biases), (texts,))"),
        "tests/test_pair_losses_devices.py::test_a_device_stores_few_blocks",
    ),
    one(
        "the reference divides by the number of texts", "reference.tasks.contrast:sigmoid_loss",
        replace("images.keys >= 0", "texts.keys >= 0"), TESTS + "agrees",
    ),
    one(
        "the reference takes one positive of several", "reference.tasks.contrast:loss_of_rows",
        replace("x[p].mean()", "x[p][0]"), TESTS + "gradients_are_finite_differences",
    ),
    one(
        "the bias starts at -log N", "navit_eqx.tasks.pair_losses:bias_init",
        replace("pairs - 1", "pairs"), TESTS + "loss_of_the_start",
    ),
)  # fmt: skip
