"""Mistakes in serving, and in the tool that looks for leaks."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

SERVING, TOOL = "tests/test_serving.py", "tests/test_isolated.py"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a batch waits until it is full", "navit_eqx.serving:is_due",
        replace("__full or waited >= latency", "__full"), f"{SERVING}::test_a_batch_leaves_when_it_is_full_or_late",
    ),
    one(
        "a batch takes all rows that wait", "navit_eqx.serving:chosen",
        replace("__rows[: shape.rows]", "__rows"), f"{SERVING}::test_a_batch_is_the_oldest_and_what_fits",
    ),
    one(
        "an image that cannot be decoded gets numbers", "navit_eqx.serving:Server.answer",
        replace("n in reasons", "False"), f"{SERVING}::test_pixels_that_cannot_be_decoded_fail_alone",
    ),
    one(
        "a closed server takes images", "navit_eqx.serving:Server.submit",
        replace("check(self.open, __why)", "None"), f"{SERVING}::test_what_waits_is_answered_when_it_closes",
    ),
    one(
        "the tool never tries another order", "navit_eqx.isolation:broken",
        replace("1 + int(rng.integers(max(1, len(images) - 1)))", "0"), f"{TOOL}::test_each_leak_is_seen",
    ),
    one(
        "the tool forgives a small gradient", "navit_eqx.isolation:check",
        replace("0.0 if __gradient else tolerance", "tolerance"), f"{TOOL}::test_each_leak_is_seen",
    ),
    one(
        "the example of a failure is not made small", "navit_eqx.isolation:smallest",
        replace("next(__cases, None)", "None"), f"{TOOL}::test_the_example_is_the_smallest",
    ),
    one(
        "the newest image decides how long a batch waits", "navit_eqx.serving:Server.take",
        replace("self.queue[0].since", "self.queue[-1].since"),
        f"{SERVING}::test_the_oldest_image_decides_how_long_a_batch_waits", survived=True,
    ),
)  # fmt: skip
