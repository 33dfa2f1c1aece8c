"""Mistakes in the tasks of a model: navit_eqx/tasks/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

AGREES = "tests/test_agreement.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "the partner of a mixed picture is forgotten", "navit_eqx.tasks.classify:soft_labels",
        replace("__own + __weight * (__other - __own)", "__own"), "tests/test_losses.py::test_agrees_row_by_row",
    ),
    one(
        "empty slots have a loss", "navit_eqx.tasks.classify:sum_over_real",
        replace("jnp.where(__real, __loss, 0)", "__loss"), "tests/test_losses.py::test_agrees_row_by_row",
    ),
    one(
        "only the first label of a set counts", "navit_eqx.tasks.multi_label:multi_hot",
        replace("__hits.any(-2)", "__hits[..., 0, :]"), "tests/test_losses.py::test_soft_label_sets",
    ),
    one(
        "label sets are mixed the other way round", "navit_eqx.tasks.multi_label:soft_label_sets",
        replace("__own + __weight * (__other - __own)", "__other + __weight * (__own - __other)"),
        "tests/test_losses.py::test_soft_label_sets",
    ),
    one(
        "images without a label are left out", "navit_eqx.tasks.multi_label:MultiLabel.loss",
        replace("used_slots(*__row)", "used_slots(*__row) & (batch.targets.label_sets >= 0).any(-1)"), AGREES + "tasks",
    ),
    one(
        "the divergence from the student, not from the teacher", "navit_eqx.tasks.distill:kl_divergence",
        replace("jnp.exp(__p) * (__p - __q)", "jnp.exp(__q) * (__q - __p)"),
        "tests/test_distill.py::test_the_reference_says_the_same_of_a_row",
    ),
    one(
        "hits of empty slots count", "navit_eqx.tasks.multi_label:hits_at_1",
        replace("__hit & __real", "__hit"),
        "tests/test_losses.py::test_hits_at_1_counts_images_with_a_class_of_theirs_at_the_top",
    ),
    one(
        "a mixed image weighs as its label alone", "navit_eqx.tasks.classify:image_weights",
        replace("__own + targets.weights * (__other - __own)", "__own"),
        "tests/test_balance.py::test_a_mixed_image_weighs_as_its_parts",
    ),
    one(
        "weights of classes are not read", "navit_eqx.tasks.classify:Classify.loss",
        replace("CROSS_ENTROPIES[self.link](__a, __b, __c, __w)", "CROSS_ENTROPIES[self.link](__a, __b, __c)"),
        AGREES + "tasks",
    ),
    one(
        "the sum is weighted, its mean is not one", "reference.sampling.balance:class_weights",
        replace("(counts * inverse).sum()", "inverse.sum()"),
        "tests/test_balance.py::test_the_mean_image_weighs_one",
    ),
    one(
        "a head of other classes is kept", "navit_eqx.tasks.task:AbstractTask.started_from",
        replace("same_classes and __b", "__b"), "tests/test_new_task.py::test_a_new_task_is_asked_what_it_can_do",
    ),
    one(
        "a start reads the saved task that nothing is taken from", "navit_eqx.tasks.config_detect:Detect.started_from",
        replace("not isinstance(self.head, ByText)", "saved() is None"),
        "tests/test_text_classes.py::test_the_tower_is_that_of_the_start",
    ),
)  # fmt: skip
