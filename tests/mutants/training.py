"""Mistakes in a training step, its optimizer and its checkpoints: navit_eqx/training/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

STEP = "navit_eqx.training.step:"
FOLLOWS = "tests/test_train.py::test_a_step_follows_the_mean_over_images"
ACCUMULATES = "tests/test_train.py::test_accumulation_changes_nothing"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "the loss is a mean of means of rows", STEP + "train_step.loss",
        replace("loss_of(__model, __part, __key)",
                "(lambda sums: (sum(s / jnp.maximum(n, 1).astype(s.dtype) for s, n, _ in sums)"
                " / len(sums) * sum(n for _, n, _ in sums).astype(sums[0][0].dtype),"
                " sum(n for _, n, _ in sums), jax.tree.map(lambda *x: sum(x), *(e for _, _, e in sums))))"
                "([__model.loss(jax.tree.map(lambda x, r=r: x[r : r + 1], __part), __key)"
                " for r in range(len(__part.row.segment_ids))])"),
        FOLLOWS,
    ),
    Mutant(
        "accumulation averages means",
        (
            (STEP + "train_step",
             replace("__g / jnp.maximum(__count, 1).astype(__g.dtype)", "__g / config.accumulate")),
            (STEP + "train_step.gradient",
             returns("(jax.tree.map(lambda g: g / jnp.maximum(__value[1][1], 1).astype(g.dtype), __value[0]),"
                     " __value[1])")),
        ),
        (ACCUMULATES,),
    ),
    one(
        "the number of images plus a little", STEP + "train_step",
        replace("jnp.maximum(__count, 1).astype(__dtype)", "(__count.astype(__dtype) + 1e-3)"), FOLLOWS,
    ),
    one(
        "each part of a batch is clipped", STEP + "train_step.gradient",
        returns("(lambda grads: jax.tree.map(lambda g: g * jnp.minimum(1.0, config.clip"
                " / (optax.tree.norm(grads) + 1e-9)), grads))(__value[0]), __value[1]"),
        ACCUMULATES,
    ),
    one(
        "counts start anew after a restore", "navit_eqx.training.checkpoints:load",
        returns("(jax.tree.map(lambda x: x * 0 if x.ndim == 0 and x.dtype == 'int32' else x, __value[0]), __value[1])"),
        "tests/test_resume.py::test_a_run_in_pieces_is_the_run_in_one",
    ),
    one(
        "every step draws the same", STEP + "train_step",
        replace("jr.fold_in(__key, state.step)", "jr.fold_in(__key, 0)"),
        "tests/test_resume.py::test_each_step_draws_anew",
    ),
    one(
        "the parameters are evaluated, not their average", STEP + "State.eval_params", returns("self.model"),
        "tests/test_train.py::test_the_average_is_what_is_evaluated_and_saved",
    ),
    one(
        "a leaf is not restored", "navit_eqx.training.checkpoints:load",
        returns("((lambda leaves, form: form.unflatten([*leaves[:-1], leaves[-1] * 0]))"
                "(*jax.tree.flatten(__value[0])), __value[1])"),
        "tests/test_checkpoints.py::test_every_bit_comes_back_on_another_sharding",
    ),
    one(
        "checksums are not compared", "navit_eqx.training.checkpoints:damage",
        replace("__found.get(__name) != __digest", "False"),
        "tests/test_checkpoints.py::test_damage_to_any_file_is_named_and_the_step_before_is_used",
    ),
    one(
        "what is not finite is learned", STEP + "train_step",
        replace("partial(jnp.where, __learn)", "partial(jnp.where, True)"),
        "tests/test_resume.py::test_what_is_not_finite_is_not_learned",
    ),
    one(
        "norms and biases decay", "navit_eqx.training.optim:decay_groups.group",
        replace("__name not in DECAYED", "False"), "tests/test_optim.py::test_every_parameter_and_its_group",
    ),
    one(
        "the average is that before the update", STEP + "train_step",
        replace("ema_update(state.ema, model, *__rest)", "ema_update(state.ema, state.model, *__rest)"),
        "tests/test_train.py::test_the_average_takes_the_parameters_after_the_update", survived=True,
    ),
)  # fmt: skip
