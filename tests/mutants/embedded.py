"""Mistakes in images that are embedded once: data/embedded.py, harness/embedded.py, harness/run/embedded.py."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

SEEN = "tests/test_embedded.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "vectors: those of the first images", "data.embedded:EmbeddedRows.load",
        replace("self.vectors[good]", "self.vectors[:len(good)]"),
        SEEN + "rows_of_vectors_hold_the_images_that_were_planned",
    ),
    one(
        "vectors: an image that cannot be read keeps its slot", "data.embedded:EmbeddedRows.load",
        replace("np.isfinite(self.vectors[planned]).all(-1)", "np.ones(len(planned), bool)"),
        SEEN + "rows_of_vectors_hold_the_images_that_were_planned",
    ),
    one(
        "vectors: the grid is no part of the key", "data.embedded:digests",
        replace("(__a, __b, rows.grids[r, slot])", "(__a, __b)"),
        SEEN + "whatever_a_model_reads_of_an_image_changes_its_key_and_no_other",
    ),
    one(
        "vectors: places are no part of the key", "data.embedded:digests",
        replace("(__a, rows.coords[r][mine], __b)", "(__a, __b)"),
        SEEN + "whatever_a_model_reads_of_an_image_changes_its_key_and_no_other",
    ),
    one(
        "vectors: those of another program are kept", "harness.run.embedded:vectors_of",
        replace("agree(__a, __b)", "True"), SEEN + "each_vector_is_computed_once",
    ),
    one(
        "vectors: all are computed in every run", "harness.run.embedded:unknown",
        replace("__a >= __b", "False"), SEEN + "each_vector_is_computed_once",
    ),
    one(
        "vectors: parameters are no part of the key of a tower", "harness.run.embedded:backbone_digest",
        replace("jax.tree.leaves(__a)", "[]"), SEEN + "another_tower_has_vectors_of_its_own",
    ),
    one(
        "vectors: of a tower whose last block is trained", "harness.embedded:check_frozen",
        replace("__a and not __b", "__a"), SEEN + "what_has_no_single_vector_is_refused_by_name",
    ),
    one(
        "vectors: of a task that reads tokens too", "harness.embedded:check_frozen",
        replace("TASKS[type(config.task)].pooled", "True"),
        "tests/test_new_task.py::test_a_new_task_is_asked_what_it_can_do",
    ),
    one(
        "vectors: what an empty slot holds is read", "navit_eqx.training.embedded:Given.__call__",
        replace("jnp.where(__a, __b, 0)", "__b"), SEEN + "an_empty_slot_has_the_vector_of_a_backbone",
    ),
    one(
        "vectors: a preset augments what is embedded once", "harness.presets:undrawn",
        replace("'--data.embedded' not in words", "True"),
        SEEN + "images_that_are_embedded_once_are_not_augmented_by_a_preset",
    ),
    one(
        "vectors: they are of images that are decoded as in evaluation", "harness.run.loading:_batches",
        replace("{'decoding': decoding}", "{'decoding': WHOLE}"),
        "tests/test_feeding.py::test_images_that_are_embedded_once_are_decoded_as_in_training", survived=True,
    ),
)  # fmt: skip
