"""Mistakes in what users call: packing, preprocessing, fine-tuning."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

MUTANTS: tuple[Mutant, ...] = (
    one(
        "pack exchanges rows and columns", "navit_eqx.images:_fill",
        replace("np.indices(__grid).reshape(2, -1).T", "np.indices(__grid).reshape(2, -1).T[:, ::-1]"),
        "tests/test_images.py::test_images_are_seen_as_in_training",
    ),
    one(
        "values come back in the order of the rows", "navit_eqx.images:unpack",
        replace("__found[np.argsort(__ids)]", "__found"),
        "tests/test_images.py::test_values_come_back_in_order",
    ),
    one(
        "rows of pack hold most images, not most tokens", "navit_eqx.images:_fullest",
        replace("__best[max(__best)]", "max(__best.values(), key=len)"),
        "tests/test_images.py::test_rows_are_filled_best",
    ),
    one(
        "sizes are rounded to the nearest patch", "navit_eqx.size_rules:_whole",
        replace("max(1, __patches)", "max(1, round(__patches))"), "tests/test_preprocessing.py::test_a_rule_is_its_law",
    ),
    one(
        "16 bits are read as -1 to 0", "navit_eqx.pixels:_scaled",
        replace("np.float32(32767.5)", "np.float32(65535)"),
        "tests/test_preprocessing.py::test_arrays_keep_their_depth",
    ),
    one(
        "fine-tuning leaves the backbone as it is", "navit_eqx.finetuning:start.step",
        replace("eqx.apply_updates(__model, __updates)",
                "eqx.tree_at(lambda m: m.backbone, eqx.apply_updates(__model, __updates), __model.backbone)"),
        "tests/test_finetuning.py::test_a_step_is_that_of_the_mean_loss",
    ),
    one(
        "fine-tuning descends along the sum", "navit_eqx.finetuning:start.step.mean_loss",
        replace("__total / jnp.maximum(__count, 1).astype(__dtype)", "__total"),
        "tests/test_finetuning.py::test_a_step_is_that_of_the_mean_loss",
    ),
    one(
        "fine-tuning keeps the old head", "navit_eqx.finetuning:start",
        replace("eqx.tree_at(lambda m: m.task, __model, __task)", "__model"),
        "tests/test_finetuning.py::test_a_configuration_gives_a_head_that_starts_anew",
    ),
    one(
        "an image that cannot be decoded has an answer", "navit_eqx.images:unpack", replace("empty.any()", "False"),
        "tests/test_images.py::test_an_image_that_cannot_be_decoded_has_no_answer",
    ),
    one(
        "JPEGs are read as small as their longer side allows", "navit_eqx.preprocessing:Preprocessing.shrink",
        replace("min(__ratios)", "max(__ratios)"),
        "tests/test_preprocessing.py::test_a_jpeg_is_read_no_smaller_than_it_is_shown", survived=True,
    ),
    one(
        "the checksum of a model is not compared", "navit_eqx.weights.saved:load_saved",
        replace('saved.get("sha256") in (None, found)', "True"), "tests/test_flipped_bytes.py::test_a_model",
    ),
    one(
        "all models have one digest", "navit_eqx.weights.saved:load_saved",
        replace("replace(info, digest=found)", "info"),
        "tests/test_saved.py::test_other_parameters_have_another_digest",
    ),
    one(
        "a product of matrices with its axes in the order of the array", "navit_eqx.plain:arranged",
        replace("[*batch, *contracted, *free]", "[*batch, *sorted([*contracted, *free])]"),
        "tests/test_export.py::test_every_sum_of_products_is_one_of_matrices",
    ),
    one(
        "a loop that runs backwards is unrolled forwards", "navit_eqx.plain:unrolled",
        replace("reversed(__order)", "__order"), "tests/test_export.py::test_a_loop_is_its_steps",
    ),
    one(
        "an exported row sees its neighbors", "navit_eqx.export:row_program.run",
        replace("Row(__p, __c, segment_ids, *__rest)", "Row(__p, __c, jnp.minimum(segment_ids, 1), *__rest)"),
        "tests/test_export.py::test_stablehlo_says_what_the_model_says",
    ),
    one(
        "a card without the results of the run", "export:card_of",
        replace('name.startswith("val_")', "False"),
        "tests/test_export.py::test_the_card_of_a_run_has_its_command_and_results",
    ),
    one(
        "features under the name of another file", "predict:features.found",
        replace("(paths[index], vector)", "(paths[0], vector)"),
        "tests/test_features.py::test_features_are_those_of_the_library",
    ),
    one(
        "an exported row is described with its mean as deviation", "navit_eqx.export:description",
        replace("model.config.std", "model.config.mean"),
        "tests/test_export.py::test_pixels_are_described_as_the_model_reads_them", survived=True,
    ),
)  # fmt: skip
