"""Would the tests notice? Mistakes are made in a copy of the code, one at a time, and the tests that should see it run.

    python -m tests.mutants            all of them, about half a minute each
    python -m tests.mutants 7 24       some, by number
    python -m tests.mutants --check    whether each can still be made; no test runs

The table in `docs/mutants.md` says which test failed. One that survives is a missing test. The tests are first run on
the code as it is: one that fails there says nothing about a mistake.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support.mutation import Change, DoesNotApply, file_of, mutated, replace, returns, starts_with

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "mutants.md"
HEAD = "| mistake | place | | seen by | seconds |\n| --- | --- | --- | --- | --- |\n"
PARTS = (
    *("reference", "navit_eqx", "data", "harness", "examples", "tests"),
    *("train.py", "evaluate.py", "predict.py", "README.md", "pyproject.toml"),
)


class Mutant(NamedTuple):
    """A mistake: changes at places of the code, and the tests that must see it."""

    what: str
    changes: tuple[tuple[str, Change], ...]
    tests: tuple[str, ...]


def one(what: str, place: str, change: Change, *tests: str) -> Mutant:
    """A mistake in one place."""
    return Mutant(what, ((place, change),), tests)


AGREES, STEP = "tests/test_agreement.py::test_", "navit_eqx.training.step:"
FOLLOWS, ACCUMULATES = (
    "tests/test_train.py::test_a_step_follows_the_mean_over_images",
    ("tests/test_train.py::test_accumulation_changes_nothing"),
)
MUTANTS = {
    # masks, layers, pools, positions
    1: one(
        "mask: padding is an image", "navit_eqx.masks:same_image",
        replace("__ids > 0", "__ids >= 0"), AGREES + "masks",
    ),
    2: one(
        "mask: padding attends to padding, in the reference", "reference.masks:same_image",
        replace("__same & __real[:, None] & __real[None, :]", "__same"), AGREES + "mask_is_this_picture",
    ),
    3: one(
        "masked logits are -1e4", "navit_eqx.layers:masked_softmax",
        replace("jnp.finfo(__dtype).min", "-1e4"), AGREES + "masked_softmax",
    ),
    4: one(
        "the mean divides by the row length", "navit_eqx.pooling:MeanPool.__call__",
        replace("jnp.maximum(__mask.sum(-1, keepdims=True), 1)",
                "jnp.full_like(__mask.sum(-1, keepdims=True), __mask.shape[-1])"),
        "tests/test_variants.py::test_agrees",
    ),
    5: one(
        "the pool of the first image takes padding", "navit_eqx.masks:slot_tokens",
        replace("__slot == __ids", "__slot == jnp.maximum(__ids, 1)"), AGREES + "masks",
    ),
    6: one(
        "position tables exchanged", "navit_eqx.posembed:Factorised.__call__",
        replace("zip(self.tables, *__axes, **__options)", "zip(self.tables[::-1], *__axes, **__options)"),
        "tests/test_posembed.py::test_both_sides_agree",
    ),
    7: one(
        "coordinates off by half a cell", "navit_eqx.posembed:locate",
        replace("__u - 0.5", "__u"), "tests/test_posembed.py::test_both_sides_agree",
    ),
    8: one(
        "positions from the place in the row", "navit_eqx.model:NaViT.embed_row",
        replace("jnp.where(__real, row.coords, 0)",
                "jnp.broadcast_to(jnp.arange(row.coords.shape[-2])[:, None] % 3, row.coords.shape).astype('int32')"),
        AGREES + "model",
    ),
    # patch sizes
    9: one(
        "PI-resize without the pseudo-inverse", "navit_eqx.resize:pi_matrix",
        replace("np.linalg.solve(__r.T @ __r, __r.T).T if __enlarging else __other", "__r.copy()"),
        "tests/test_resize.py::test_both_sides_have_the_same_matrices",
    ),
    10: one(
        "PI-resize from a kernel that was resized before", "navit_eqx.model:NaViT.patch_embedding_at",
        replace("pi_resize(__w, __base, __size, __how)",
                "pi_resize(pi_resize(__w, __base, tuple(2 * n for n in __base), __how),"
                " tuple(2 * n for n in __base), __size, __how)"),
        "tests/test_flexi.py::test_rows_of_one_size_a_step",
    ),
    11: one(
        "kernels antialiased, images not", "navit_eqx.resize:FLEXIVIT",
        replace("Interpolation()", "Interpolation(antialias=True)"),
        "tests/test_resize.py::test_both_sides_interpolate_alike_by_default",
    ),
    # rows and plans
    12: one(
        "labels one slot further", "data.tasks.classify:Classify.targets",
        replace("in_slots(__labels, *__rest)", "in_slots([*__labels[-1:], *__labels[:-1]], *__rest)", nth=0),
        "tests/test_pipeline.py::test_digit_strips_keep_their_labels",
    ),
    13: one(
        "the last row is lost", "data.exact_fit:exact_fit", returns("__value[:-1] or __value"),
        "tests/test_packing.py::test_every_image_once",
    ),
    14: one(
        "an image twice at the end of an epoch", "data.exact_fit:exact_fit",
        returns("[*__value, __value[0][:1]] if __value else __value"), "tests/test_packing.py::test_every_image_once",
    ),
    15: Mutant(
        "dropped tokens drawn by row, not by image",
        (
            ("data.rows:PlannedRows.load",
             starts_with("self.shared = generator(Purpose.IMAGE, self.seed, epoch, int(image_ids[0]) + 1)")),
            ("data.rows:PlannedRows.tokens", replace("generator(Purpose.IMAGE, *__rest)", "self.shared")),
        ),
        ("tests/test_pipeline.py::test_tokens_do_not_depend_on_row_or_neighbours",),
    ),
    16: one(
        "an image may lose all tokens", "reference.sampling.dropping:kept_tokens",
        replace("np.clip(__tokens, 1, __most)", "np.clip(__tokens, 0, __most)"),
        "tests/test_drop_rates.py::test_rate_0_is_the_identity_and_rate_1_keeps_one",
    ),
    # the training step
    17: one(
        "the loss is a mean of means of rows", STEP + "train_step.loss",
        replace("__model.loss(__part, __key)",
                "(lambda sums: (sum(s / jnp.maximum(n, 1).astype(s.dtype) for s, n, _ in sums)"
                " / len(sums) * sum(n for _, n, _ in sums).astype(sums[0][0].dtype),"
                " sum(n for _, n, _ in sums), jax.tree.map(lambda *x: sum(x), *(e for _, _, e in sums))))"
                "([__model.loss(jax.tree.map(lambda x, r=r: x[r : r + 1], __part), __key)"
                " for r in range(len(__part.row.segment_ids))])"),
        FOLLOWS,
    ),
    18: Mutant(
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
    19: one(
        "the number of images plus a little", STEP + "train_step",
        replace("jnp.maximum(__count, 1).astype(__dtype)", "(__count.astype(__dtype) + 1e-3)"), FOLLOWS,
    ),
    20: one(
        "each part of a batch is clipped", STEP + "train_step.gradient",
        returns("(lambda grads: jax.tree.map(lambda g: g * jnp.minimum(1.0, config.clip"
                " / (optax.tree.norm(grads) + 1e-9)), grads))(__value[0]), __value[1]"),
        ACCUMULATES,
    ),
    21: one(
        "counts start anew after a restore", "navit_eqx.training.checkpoints:load",
        returns("(jax.tree.map(lambda x: x * 0 if x.ndim == 0 and x.dtype == 'int32' else x, __value[0]), __value[1])"),
        "tests/test_resume.py::test_a_run_in_pieces_is_the_run_in_one",
    ),
    22: one(
        "every step draws the same", STEP + "train_step",
        replace("jr.fold_in(__key, state.step)", "jr.fold_in(__key, 0)"),
        "tests/test_resume.py::test_each_step_draws_anew",
    ),
    23: one(
        "a continued run skips a batch", "data.pipeline:batches",
        replace("__start * (__batch // __hosts)", "(__start + (__start > 0)) * (__batch // __hosts)"),
        "tests/test_pipeline.py::test_to_start_at_a_batch_is_to_skip_those_before",
    ),
    24: one(
        "every epoch has the same order", "data.plan:epoch_order",
        replace("generator(Purpose.ORDER, __seed, __epoch)", "generator(Purpose.ORDER, __seed, 0)"),
        "tests/test_plan.py::test_another_epoch_or_seed_is_another_order",
    ),
    25: one(
        "the parameters are evaluated, not their average", STEP + "State.eval_params", returns("self.model"),
        "tests/test_train.py::test_the_average_is_what_is_evaluated_and_saved",
    ),
    # arithmetic
    26: one(
        "variance as E[x²] − E[x]²", "navit_eqx.layers:LayerNorm.__call__",
        returns("(lambda y, mean: (lambda z: z if self.bias is None else z + expand(self.bias, z))"
                "(expand(self.scale, y) * (y - mean)"
                " * jax.lax.rsqrt((y**2).mean(-1, keepdims=True) - mean**2 + EPSILON)))"
                "(full(x), full(x).mean(-1, keepdims=True)).astype(x.dtype)"),
        AGREES + "layer_norm", "tests/test_rounding.py::test_a_norm_far_from_zero",
    ),
    27: one(
        "GELU always by tanh", "navit_eqx.layers:Mlp.__call__",
        replace("self.gelu == 'tanh'", "True"), "tests/test_variants.py::test_agrees",
    ),
    28: one(
        "attention without its scale", "navit_eqx.attention:dot_product_attention_fwd",
        replace("__logits * scale", "__logits"), AGREES + "attention",
    ),
    29: one(
        "heads joined in the wrong order", "navit_eqx.attention:Attention.__call__",
        replace("heads_first(__mixed).reshape(*__shape)", "__mixed.reshape(*__shape)"), AGREES + "attention",
    ),
    # saving and going on
    32: one(
        "a leaf is not restored", "navit_eqx.training.checkpoints:load",
        returns("((lambda leaves, form: form.unflatten([*leaves[:-1], leaves[-1] * 0]))"
                "(*jax.tree.flatten(__value[0])), __value[1])"),
        "tests/test_checkpoints.py::test_every_bit_comes_back_on_another_sharding",
    ),
    33: one(
        "checksums are not compared", "navit_eqx.training.checkpoints:damage",
        replace("__found.get(__name) != __digest", "False"),
        "tests/test_checkpoints.py::test_damage_to_any_file_is_named_and_the_step_before_is_used",
    ),
    34: one(
        "what is not finite is learned", STEP + "train_step",
        replace("partial(jnp.where, __learn)", "partial(jnp.where, True)"),
        "tests/test_resume.py::test_what_is_not_finite_is_not_learned",
    ),
    35: one(
        "norms and biases decay", "navit_eqx.training.optim:decay_groups.group",
        replace("__name not in DECAYED", "False"), "tests/test_optim.py::test_every_parameter_and_its_group",
    ),
    36: one(
        "a block without rows is not passed over", "data.stream:Epochs.locate",
        replace("bisect.bisect_right(*__where) - 1", "max(0, bisect.bisect_left(*__where) - 1)"),
        "tests/test_blocks.py::test_a_block_without_rows_is_passed_over",
    ),
    37: one(
        "counts of other plans are believed", "data.stream:BlockCounts.rows",
        replace("__key == self.key", "True"), "tests/test_blocks.py::test_counts_of_other_plans_say_nothing",
    ),
    38: one(
        "who stands in the window is attended to", "navit_eqx.kernels.loop:each_image.one",
        replace("__ids == __slot + 1", "__ids > 0"), "tests/test_attention_backends.py::test_packed_is_alone",
    ),
    # tasks
    39: one(
        "an empty slot holds an image", "navit_eqx.masks:used_slots", returns("jnp.ones_like(__value)"),
        AGREES + "masks",
    ),
    40: one(
        "the partner of a mixed picture is forgotten", "navit_eqx.tasks.classify:soft_labels",
        replace("__own + __weight * (__other - __own)", "__own"), "tests/test_losses.py::test_agrees_row_by_row",
    ),
    41: one(
        "empty slots have a loss", "navit_eqx.tasks.classify:sum_over_real",
        replace("jnp.where(__real, __loss, 0)", "__loss"), "tests/test_losses.py::test_agrees_row_by_row",
    ),
    42: one(
        "only the first label of a set counts", "navit_eqx.tasks.multi_label:multi_hot",
        replace("__hits.any(-2)", "__hits[..., 0, :]"), "tests/test_losses.py::test_soft_label_sets",
    ),
    43: one(
        "label sets are mixed the other way round", "navit_eqx.tasks.multi_label:soft_label_sets",
        replace("__own + __weight * (__other - __own)", "__other + __weight * (__own - __other)"),
        "tests/test_losses.py::test_soft_label_sets",
    ),
    44: one(
        "images without a label are left out", "navit_eqx.tasks.multi_label:MultiLabel.loss",
        replace("used_slots(*__row)", "used_slots(*__row) & (batch.targets.label_sets >= 0).any(-1)"), AGREES + "tasks",
    ),
    45: one(
        "the divergence from the student, not from the teacher", "navit_eqx.tasks.distill:kl_divergence",
        replace("jnp.exp(__p) * (__p - __q)", "jnp.exp(__q) * (__q - __p)"),
        "tests/test_distill.py::test_the_reference_says_the_same_of_a_row",
    ),
    46: one(
        "the budget forgets the teacher", "data.tasks.distill:TeacherBudget.tokens",
        replace("np.maximum(__kept, __taken)", "__kept"),
        "tests/test_distill.py::test_what_shares_a_row_fits_the_row_of_the_teacher",
    ),
    47: one(
        "the budget is rounded down", "data.tasks.distill:TeacherBudget.tokens",
        replace("-(-__tokens * __row // __other)", "__tokens * __row // __other"),
        "tests/test_distill.py::test_what_shares_a_row_fits_the_row_of_the_teacher",
    ),
    48: one(
        "label sets one slot further", "data.tasks.multi_label:MultiLabel.targets",
        replace("in_slots(__sets, *__rest)", "in_slots([*__sets[-1:], *__sets[:-1]], *__rest)", nth=0),
        "tests/test_data_tasks.py::test_label_sets_stand_in_the_slots_of_their_images",
    ),
    # the front door
    49: one(
        "pack exchanges rows and columns", "navit_eqx.images:_fill",
        replace("np.indices(__grid).reshape(2, -1).T", "np.indices(__grid).reshape(2, -1).T[:, ::-1]"),
        "tests/test_images.py::test_images_are_seen_as_in_training",
    ),
    50: one(
        "values come back in the order of the rows", "navit_eqx.images:unpack",
        replace("__found[np.argsort(__ids)]", "__found"),
        "tests/test_images.py::test_values_come_back_in_order",
    ),
    51: one(
        "rows of pack hold most images, not most tokens", "navit_eqx.images:_fullest",
        replace("__best[max(__best)]", "max(__best.values(), key=len)"),
        "tests/test_images.py::test_rows_are_filled_best",
    ),
    52: one(
        "sizes are rounded to the nearest patch", "navit_eqx.preprocessing:_whole",
        replace("max(1, __patches)", "max(1, round(__patches))"), "tests/test_preprocessing.py::test_a_rule_is_its_law",
    ),
    53: one(
        "16 bits are read as 0 to 2", "navit_eqx.pixels:_scaled",
        replace("__pixels / np.float32(32767.5) - 1", "__pixels / np.float32(32767.5)"),
        "tests/test_preprocessing.py::test_arrays_keep_their_depth",
    ),
    54: one(
        "fine-tuning leaves the backbone as it is", "navit_eqx.finetuning:start.step",
        replace("eqx.apply_updates(__model, __updates)",
                "eqx.tree_at(lambda m: m.backbone, eqx.apply_updates(__model, __updates), __model.backbone)"),
        "tests/test_finetuning.py::test_a_step_is_that_of_the_mean_loss",
    ),
    55: one(
        "fine-tuning descends along the sum", "navit_eqx.finetuning:start.step.mean_loss",
        replace("__total / jnp.maximum(__count, 1).astype(__dtype)", "__total"),
        "tests/test_finetuning.py::test_a_step_is_that_of_the_mean_loss",
    ),
    56: one(
        "fine-tuning keeps the old head", "navit_eqx.finetuning:start",
        replace("eqx.tree_at(lambda m: m.task, __model, __task)", "__model"),
        "tests/test_finetuning.py::test_a_configuration_gives_a_head_that_starts_anew",
    ),
    # metrics
    57: one(
        "top 5 is top 4", "reference.evaluation.metrics:in_top",
        replace("__above < __k", "__above < __k - 1"),
        "tests/test_data_tasks.py::test_accuracy_and_top_5_are_those_of_scikit_learn",
    ),
    58: one(
        "equal scores have an order", "reference.evaluation.metrics:average_precision",
        replace("np.append(__different, True)", "np.ones(len(__different) + 1, bool)"),
        "tests/test_data_tasks.py::test_average_precision_is_that_of_scikit_learn",
    ),
    59: one(
        "hits of empty slots count", "navit_eqx.tasks.multi_label:hits_at_1",
        replace("__hit & __real", "__hit"),
        "tests/test_losses.py::test_hits_at_1_counts_images_with_a_class_of_theirs_at_the_top",
    ),
}  # fmt: skip


def sources(mutant: Mutant, root: Path = ROOT) -> dict[Path, str]:
    """The files of a mistake, made.   Raises DoesNotApply, naming it, where the code has moved on."""
    made: dict[Path, str] = {}
    for place, change in mutant.changes:
        file = file_of(root, place)
        try:
            text = made.get(file) or file.read_text()
            made[file] = mutated(text, place, change)
            compile(made[file], str(file), "exec")
        except (OSError, DoesNotApply, SyntaxError) as error:
            raise DoesNotApply(f"{mutant.what!r} cannot be made any more: {error}") from None
    return made


def not_made() -> list[str]:
    """Why mistakes cannot be made any more, each with its number."""
    wrong = []
    for number, mutant in MUTANTS.items():
        try:
            sources(mutant)
        except DoesNotApply as error:
            wrong.append(f"{number}. {error}")
    return wrong


def run(tests: Iterable[str], made: dict[Path, str]) -> tuple[int, list[str], str]:
    """Exit code of pytest on a copy of the code with these files changed, the tests that failed, and what it said."""
    with tempfile.TemporaryDirectory() as inside:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(inside) / part)
        for file, text in made.items():
            (Path(inside) / file.relative_to(ROOT)).write_text(text)
        stop = ["-x"] if made else []
        command = [sys.executable, "-m", "pytest", "-n", "0", *stop, "-q", "--tb=no", "-p", "no:cacheprovider"]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([inside, os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run([*command, *tests], cwd=inside, env=env, capture_output=True, text=True)
    failed = re.findall(r"^(?:FAILED|ERROR) ([^\s\[]+)", done.stdout, re.M)
    return done.returncode, list(dict.fromkeys(failed)), done.stdout[-300:]


def outcome(mutant: Mutant) -> tuple[str, str, int]:
    """("seen", the test that failed, seconds), or ("survived" or "broken", what pytest said, seconds)."""
    start = time.monotonic()
    code, failed, said = run(mutant.tests, sources(mutant))
    seconds = round(time.monotonic() - start)
    if code == 1 and failed:
        return "seen", f"`{failed[0]}`", seconds
    return ("survived", "", seconds) if code == 0 else ("broken", said, seconds)


def recorded() -> dict[int, str]:
    """Lines of the table so far, by number."""
    lines = PAGE.read_text().splitlines() if PAGE.exists() else []
    return {int(line.split()[1].rstrip(".")): line for line in lines if re.match(r"\| \d+\. ", line)}


def row(number: int, found: str) -> str:
    """A line of the table, as far as its first cells if nothing was found yet."""
    mutant = MUTANTS[number]
    return f"| {number}. {mutant.what} | `{mutant.changes[0][0]}` | {found}"


def write(lines: dict[int, str]) -> None:
    """The page, with the mistakes of the list alone, as they are called and placed today."""
    lines = {n: line for n, line in lines.items() if n in MUTANTS and line.startswith(row(n, ""))}
    seen = sum(" | seen | " in line for line in lines.values())
    PAGE.write_text(
        "# Would the tests notice?\n\n"
        f"{len(lines)} of {len(MUTANTS)} mistakes were made so far, one at a time in a copy of the code, and the\n"
        f"tests meant to see them were run: {seen} were seen. `python -m tests.mutants` makes them again; the list is\n"
        "in `tests/mutants.py`. Seconds are those of a busy machine.\n\n"
        f"{HEAD}" + "\n".join(lines[n] for n in sorted(lines)) + "\n"
    )


def main(arguments: list[str]) -> None:
    if "--check" in arguments:
        wrong = not_made()
        sys.exit("\n".join(wrong) or print(f"all {len(MUTANTS)} mistakes can be made"))
    numbers = [int(word) for word in arguments] or sorted(MUTANTS)
    _, failing, _ = run(dict.fromkeys(test for n in numbers for test in MUTANTS[n].tests), {})
    for number in numbers:
        mutant = MUTANTS[number]
        already = [test for test in mutant.tests if test in failing]
        how, said, seconds = ("broken", f"{already[0]} fails without it", 0) if already else outcome(mutant)
        print(f"{number}. {mutant.what}: {how} {said} {seconds} s", flush=True)
        if how != "broken":
            write(recorded() | {number: row(number, f"{how} | {said} | {seconds} |")})


if __name__ == "__main__":
    main(sys.argv[1:])
