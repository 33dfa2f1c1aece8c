"""Would the tests notice? Mistakes are made in a copy of the code, one at a time, and the tests that should see it run.

    python -m tests.mutants            all of them, about half a minute each
    python -m tests.mutants 7 24       some, by number

The table in `docs/mutants.md` says which test failed. One that survives is a missing test.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "mutants.md"
HEAD = "| mutant | file | | seen by | seconds |\n| --- | --- | --- | --- | --- |\n"
PARTS = ("reference", "navit_eqx", "data", "harness", "tests", "train.py", "pyproject.toml")


class Mutant(NamedTuple):
    """A mistake: in these files, what stands there and what stands there instead; and the tests to run."""

    what: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


def one(what: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mistake in one place."""
    return Mutant(what, ((file, old, new),), tests)


AGREES = "tests/test_agreement.py::test_"
MUTANTS = {
    1: one(
        "mask: padding is an image", "navit_eqx/masks.py",
        "real = segment_ids > 0\n    same", "real = segment_ids >= 0\n    same", AGREES + "masks",
    ),
    2: one(
        "mask: padding looks at padding, in the reference", "reference/masks.py",
        " & real[:, None] & real[None, :]", "", AGREES + "mask_is_this_picture",
    ),
    3: one(
        "masked logits are -1e4", "navit_eqx/layers.py",
        "jnp.where(mask, x, jnp.finfo(x.dtype).min)", "jnp.where(mask, x, -1e4)", AGREES + "masked_softmax",
    ),
    4: one(
        "the mean divides by the row length", "navit_eqx/pooling.py",
        "count = jnp.maximum(mask.sum(-1, keepdims=True), 1)",
        "count = jnp.full_like(mask.sum(-1, keepdims=True), mask.shape[-1])", "tests/test_variants.py::test_agrees",
    ),
    5: one(
        "the pool of the first image takes padding", "navit_eqx/masks.py",
        "slot[:, None] == segment_ids[..., None, :]", "slot[:, None] == jnp.maximum(segment_ids, 1)[..., None, :]",
        AGREES + "masks",
    ),
    6: one(
        "position tables exchanged", "navit_eqx/posembed.py",
        "zip(self.tables, by_axis(u)", "zip(self.tables[::-1], by_axis(u)",
        "tests/test_posembed.py::test_both_sides_agree",
    ),
    7: one(
        "coordinates off by half a cell", "navit_eqx/posembed.py",
        "* step - 0.5, step", "* step, step", "tests/test_posembed.py::test_both_sides_agree",
    ),
    8: one(
        "positions from the place in the row", "navit_eqx/model.py",
        "coords = jnp.where(real, row.coords, 0)",
        "coords = jnp.broadcast_to(jnp.arange(row.coords.shape[-2])[:, None] % 3, row.coords.shape).astype('int32')",
        AGREES + "model",
    ),
    9: one(
        "PI-resize without the pseudo-inverse", "navit_eqx/resize.py",
        "matrix = np.linalg.solve(r.T @ r, r.T).T if new >= old else np.linalg.solve(r @ r.T, r)", "matrix = r.copy()",
        "tests/test_resize.py::test_both_sides_have_the_same_matrices",
    ),
    10: one(
        "PI-resize from a kernel that was resized before", "navit_eqx/model.py",
        "kernel = pi_resize(self.patch_embedding.w, (self.patch_size,) * 2, (size,) * 2, self.interpolation)",
        "before = (2 * self.patch_size,) * 2\n"
        "        kernel = pi_resize(self.patch_embedding.w, (self.patch_size,) * 2, before, self.interpolation)\n"
        "        kernel = pi_resize(kernel, before, (size,) * 2, self.interpolation)",
        "tests/test_flexi.py::test_rows_of_one_size_a_step",
    ),
    11: one(
        "kernels antialiased, images not", "navit_eqx/resize.py",
        "FLEXIVIT = Interpolation()", "FLEXIVIT = Interpolation(antialias=True)",
        "tests/test_resize.py::test_both_sides_interpolate_alike_by_default",
    ),
    12: one(
        "labels one slot further", "reference/packing.py",
        "row.labels[: len(images)] = labels", "row.labels[: len(images)] = np.roll(labels, 1)",
        "tests/test_pipeline.py::test_digit_strips_keep_their_labels",
    ),
    13: one(
        "the last row is lost", "reference/packing.py",
        "        tokens += [lengths[i] for i in new]\n    return rows\n",
        "        tokens += [lengths[i] for i in new]\n    return rows[:-1] or rows\n",
        "tests/test_packing.py::test_every_image_once",
    ),
    14: one(
        "an image twice at the end of an epoch", "reference/packing.py",
        "        tokens += [lengths[i] for i in new]\n    return rows\n",
        "        tokens += [lengths[i] for i in new]\n    return [*rows, rows[0][:1]] if rows else rows\n",
        "tests/test_packing.py::test_every_image_once",
    ),
    15: Mutant(
        "dropped tokens drawn by row, not by image",
        (
            ("data/rows.py", "good, bad, tokens, pictures = [], [], [], []\n",
             "good, bad, tokens, pictures = [], [], [], []\n"
             "        self.shared = generator(Purpose.IMAGE, self.seed, epoch, int(image_ids[0]) + 1)\n"),
            ("data/rows.py", "rng = generator(Purpose.IMAGE, self.seed, epoch, image_id)", "rng = self.shared"),
        ),
        ("tests/test_pipeline.py::test_tokens_do_not_depend_on_row_or_neighbours",),
    ),
    16: one(
        "an image may lose all tokens", "reference/sampling/dropping.py",
        "+ 1e-9), 1, np.iinfo", "+ 1e-9), 0, np.iinfo",
        "tests/test_drop_rates.py::test_rate_0_is_the_identity_and_rate_1_keeps_one",
    ),
    17: one(
        "the loss is a mean of means of rows", "navit_eqx/training/step.py",
        "        return total / jnp.maximum(images, 1).astype(total.dtype), (total",
        "        parts = [loss_sum(loss, logits[r], jax.tree.map(lambda x: x[r], part)) for r in range(len(logits))]\n"
        "        mean = sum(s / jnp.maximum(n, 1).astype(s.dtype) for s, n in parts) / len(parts)\n"
        "        return mean, (total",
        "tests/test_train.py::test_a_step_follows_the_mean_over_images",
    ),
    18: one(
        "accumulation averages means", "navit_eqx/training/step.py",
        "return total / jnp.maximum(images, 1).astype(total.dtype), (total",
        "return total / jnp.maximum((part.labels >= 0).sum(), 1).astype(total.dtype) / config.accumulate, (total",
        "tests/test_train.py::test_accumulation_changes_nothing",
    ),
    19: one(
        "the number of images plus a little", "navit_eqx/training/step.py",
        "jnp.maximum(images, 1).astype(total.dtype), (total", "(images.astype(total.dtype) + 1e-3), (total",
        "tests/test_train.py::test_a_step_follows_the_mean_over_images",
    ),
    20: one(
        "each part of a batch is clipped", "navit_eqx/training/step.py",
        "        return grads, sums\n",
        "        norm = optax.tree.norm(grads)\n"
        "        return jax.tree.map(lambda g: g * jnp.minimum(1.0, config.clip / (norm + 1e-9)), grads), sums\n",
        "tests/test_train.py::test_accumulation_changes_nothing",
    ),
    21: one(
        "counts start anew after a restore", "navit_eqx/training/checkpoints.py",
        "    state = ocp.load(str(path), abstract_state)\n",
        "    state = ocp.load(str(path), abstract_state)\n"
        "    state = jax.tree.map(lambda x: x * 0 if x.ndim == 0 and x.dtype == 'int32' else x, state)\n",
        "tests/test_resume.py::test_a_run_in_pieces_is_the_run_in_one",
    ),
    22: one(
        "every step draws the same", "navit_eqx/training/step.py",
        "key = jr.fold_in(jr.key(seed), state.step)", "key = jr.fold_in(jr.key(seed), 0)",
        "tests/test_resume.py::test_each_step_draws_anew",
    ),
    23: one(
        "a continued run skips a batch", "data/pipeline.py",
        "[start * (batch // hosts) :]", "[(start + (start > 0)) * (batch // hosts) :]",
        "tests/test_pipeline.py::test_to_start_at_a_batch_is_to_skip_those_before",
    ),
    24: one(
        "every epoch has the same order", "data/plan.py",
        "generator(Purpose.ORDER, seed, epoch)", "generator(Purpose.ORDER, seed, 0)",
        "tests/test_plan.py::test_another_epoch_or_seed_is_another_order",
    ),
    25: one(
        "the parameters are evaluated, not their average", "navit_eqx/training/step.py",
        "return self.model if self.average is None else self.average", "return self.model",
        "tests/test_train.py::test_the_average_is_what_is_evaluated_and_saved",
    ),
    26: one(
        "variance as E[x²] − E[x]²", "navit_eqx/layers.py",
        "        return scaled(self, y - y.mean(-1, keepdims=True)).astype(x.dtype)",
        "        mean = y.mean(-1, keepdims=True)\n"
        "        spread = jax.lax.rsqrt((y**2).mean(-1, keepdims=True) - mean**2 + EPSILON)\n"
        "        z = self.scale.astype(y.dtype) * (y - mean) * spread\n"
        "        return (z if self.bias is None else z + self.bias.astype(y.dtype)).astype(x.dtype)",
        AGREES + "layer_norm", "tests/test_rounding.py::test_a_norm_far_from_zero",
    ),
    27: one(
        "GELU always by tanh", "navit_eqx/layers.py",
        'approximate=self.gelu == "tanh"', "approximate=True", "tests/test_variants.py::test_agrees",
    ),
    28: one(
        "attention without its scale", "navit_eqx/attention.py",
        ' q, k) * scale, mask)', " q, k), mask)", AGREES + "attention",
    ),
    29: one(
        "heads joined in the wrong order", "navit_eqx/attention.py",
        "flat = heads_first(mixed).reshape(", "flat = mixed.reshape(", AGREES + "attention",
    ),
    32: one(
        "a leaf is not restored", "navit_eqx/training/checkpoints.py",
        "    state = ocp.load(str(path), abstract_state)\n",
        "    leaves, form = jax.tree.flatten(ocp.load(str(path), abstract_state))\n"
        "    state = form.unflatten([*leaves[:-1], jnp.zeros_like(leaves[-1])])\n",
        "tests/test_saver.py::test_every_bit_comes_back_on_another_sharding",
    ),
    33: one(
        "checksums are not compared", "navit_eqx/training/checkpoints.py",
        "if found.get(name) != digest:", "if False:",
        "tests/test_saver.py::test_damage_to_any_file_is_named_and_the_step_before_is_used",
    ),
    34: one(
        "what is not finite is learned", "navit_eqx/training/step.py",
        "partial(jnp.where, learn)", "partial(jnp.where, True)",
        "tests/test_resume.py::test_what_is_not_finite_is_not_learned",
    ),
    35: one(
        "norms and biases decay", "navit_eqx/training/optim.py",
        "if path[-1].name not in DECAYED:", "if False:", "tests/test_optim.py::test_every_parameter_and_its_group",
    ),
    36: one(
        "a block without rows is not passed over", "data/rows.py",
        "bisect.bisect_right(self.firsts, index) - 1", "max(0, bisect.bisect_left(self.firsts, index) - 1)",
        "tests/test_blocks.py::test_a_block_without_rows_is_passed_over",
    ),
    37: one(
        "counts of other plans are believed", "data/stream.py",
        "if key == self.key else {}", "if key else {}",
        "tests/test_blocks.py::test_a_ledger_of_other_plans_says_nothing",
    ),
    38: one(
        "who stands in the window is looked at", "navit_eqx/kernels/loop.py",
        "(1, size))[0] == slot + 1", "(1, size))[0] > 0",
        "tests/test_attention_backends.py::test_packed_is_alone",
    ),
}  # fmt: skip


def mutated(tree: Path, mutant: Mutant) -> None:
    """Make the mistake in a copy of the code.   Raises ValueError where the code has moved on."""
    for file, old, new in mutant.edits:
        text = (tree / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file} holds {text.count(old)} times, not once: {old!r}")
        (tree / file).write_text(text.replace(old, new))


def outcome(mutant: Mutant) -> tuple[str, str, int]:
    """("killed", the test that failed, seconds), or ("survived" or "broken", nothing, seconds)."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as inside:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(inside) / part)
        mutated(Path(inside), mutant)
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        path = os.pathsep.join([inside, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*command, *mutant.tests], cwd=inside, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
    failed = re.search(r"FAILED ([^\s\[]+)", done.stdout)
    seconds = round(time.monotonic() - began)
    if done.returncode == 1 and failed:
        return "killed", f"`{failed[1]}`", seconds
    return "survived" if done.returncode == 0 else "broken", done.stdout[-300:] * (done.returncode > 1), seconds


def recorded() -> dict[int, str]:
    """Lines of the table so far, by number."""
    lines = PAGE.read_text().splitlines() if PAGE.exists() else []
    return {int(line.split()[1].rstrip(".")): line for line in lines if re.match(r"\| \d+\. ", line)}


def write(lines: dict[int, str]) -> None:
    """The page."""
    killed = sum(" killed " in line for line in lines.values())
    PAGE.write_text(
        "# Would the tests notice?\n\n"
        f"{len(lines)} of {len(MUTANTS)} mistakes were made so far, one at a time in a copy of the code, and the\n"
        f"tests meant to see them were run: {killed} were seen. `python -m tests.mutants` makes them again; its list\n"
        "is in `tests/mutants.py`. Seconds are those of a busy machine.\n\n"
        f"{HEAD}" + "\n".join(lines[n] for n in sorted(lines)) + "\n"
    )


def main(numbers: list[int]) -> None:
    for number in numbers or sorted(MUTANTS):
        mutant = MUTANTS[number]
        how, test, seconds = outcome(mutant)
        print(f"{number}. {mutant.what}: {how} {test} {seconds} s", flush=True)
        if how != "broken":
            file = mutant.edits[0][0]
            write(recorded() | {number: f"| {number}. {mutant.what} | `{file}` | {how} | {test} | {seconds} |"})


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
