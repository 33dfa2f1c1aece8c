"""Mistakes in the code to be studied: reference/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

AGREES = "tests/test_agreement.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "mask: padding attends to padding, in the reference", "reference.masks:same_image",
        replace("__same & __real[:, None] & __real[None, :]", "__same"), AGREES + "mask_is_this_picture",
    ),
    one(
        "an image may lose all tokens", "reference.sampling.dropping:kept_tokens",
        replace("np.clip(__tokens, 1, __most)", "np.clip(__tokens, 0, __most)"),
        "tests/test_drop_rates.py::test_rate_0_is_the_identity_and_rate_1_keeps_one",
    ),
    one(
        "top 5 is top 4", "reference.evaluation.metrics:in_top",
        replace("__above < __k", "__above < __k - 1"),
        "tests/test_data_tasks.py::test_accuracy_and_top_5_are_those_of_scikit_learn",
    ),
    one(
        "equal scores have an order", "reference.evaluation.metrics:average_precision",
        replace("np.append(__different, True)", "np.ones(len(__different) + 1, bool)"),
        "tests/test_data_tasks.py::test_average_precision_is_that_of_scikit_learn",
    ),
    one(
        "a template forgets the drawn counts", "reference.template:template_rows",
        replace("-kept[waiting]", "0 * kept[waiting]"), "tests/test_template.py::test_rows",
    ),
    one(
        "a window takes images that are smaller", "reference.template:template_rows",
        replace("np.maximum(__window - tokens[waiting], 0)", "0 * tokens[waiting]"),
        "tests/test_template.py::test_rows",
    ),
)  # fmt: skip
