"""Mistakes in the report of a run, in maps of attention, and in rows for other trainers."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

REPORT, MAPS = "tests/test_report.py::test_", "tests/test_attention_maps.py::test_"
SEQUENCES = "tests/test_interop.py::test_"
MADE, HTML, LOOKED = "harness.evaluation.report:", "harness.evaluation.html:", "reference.evaluation.attention_maps:"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "names in a report are not escaped", HTML + "escaped", replace("html.escape(__text)", "__text"),
        REPORT + "a_name_is_a_name",
    ),
    one(
        "invisible characters go into a report", HTML + "escaped", replace("plain(__text, None)", "__text"),
        REPORT + "a_name_is_a_name",
    ),
    one(
        "attributes are not escaped", HTML + "tag", replace("escaped(value)", "value"), REPORT + "a_name_is_a_name",
    ),
    one(
        "a study that was not possible is silent", MADE + "study_section", replace("found.impossible", "''", nth=1),
        REPORT + "all_that_was_written_is_in_it",
    ),
    one(
        "an evaluation shows the score of training", MADE + "lead",
        replace("__name is None or __a != __b", "__name is None"),
        REPORT + "an_evaluation_of_other_images_tells_of_them_alone",
    ),
    one(
        "a long table ends without a word", MADE + "table_of", replace("len(lines) > MOST", "False"),
        REPORT + "long_tables_are_folded_and_very_long_ones_go_on_in_their_file",
    ),
    one(
        "the class of a choice is no setting", "harness.settings:changed",
        replace("type(__a) is not type(__b)", "False"),
        REPORT + "settings_and_defaults_are_the_configuration",
    ),
    one(
        "studies replace what others left", "harness.evaluation.studies.findings:record",
        replace("published(folder) | __new", "__new"), REPORT + "all_that_was_written_is_in_it",
    ),
    one(
        "the first layer is rolled out last", LOOKED + "rollout",
        replace("(__a + __b) / 2 @ found", "found @ ((__a + __b) / 2)"), MAPS + "rollout",
    ),
    one(
        "nothing stays where it is", LOOKED + "rollout", replace("(__a + __b) / 2", "__a"), MAPS + "rollout",
    ),
    one(
        "maps are of patches in the order of the row", LOOKED + "attention_map",
        replace("tuple(image.coords.T)", "tuple(image.coords[::-1].T)"),
        MAPS + "a_map_shows_each_patch_at_its_place",
    ),
    one(
        "a large tubelet counts more in a map", LOOKED + "clip_map", replace("share / size.prod()", "share"),
        MAPS + "a_map_of_a_clip_spreads_shares_over_pixels",
    ),
    one(
        "tubelets are drawn from their centers on", LOOKED + "clip_map", replace("size / 2", "size / 4"),
        MAPS + "a_map_of_a_clip_spreads_shares_over_pixels",
    ),
    one(
        "distances are in patches", LOOKED + "attention_distance", replace("coords * __patch", "coords * 1.0"),
        MAPS + "distance_is_in_pixels_between_patches",
    ),
    one(
        "registers have a place", LOOKED + "attention_distance",
        replace("(inside * between).sum(-1) / inside.sum(-1)", "(inside * between).sum(-1)"),
        MAPS + "distance_is_in_pixels_between_patches",
    ),
    # rows for other trainers
    one(
        "borders of sequences begin with the first image's end", "navit_eqx.interop:to_sequences",
        replace("np.concatenate([[0], np.cumsum(lengths)])", "np.concatenate([np.cumsum(lengths), [0]])"),
        SEQUENCES + "sequences_hold_the_images_of_a_row",
    ),
    one(
        "blocks of a merger by columns", "navit_eqx.interop:block_order",
        replace("np.lexsort((x % merge, y % merge, x // merge, y // merge))",
                "np.lexsort((y % merge, x % merge, y // merge, x // merge))"),
        SEQUENCES + "blocks_are_those_of_a_merger",
    ),
    one(
        "blocks need not be whole", "navit_eqx.interop:to_sequences", replace("len(own) < grid.prod()", "False"),
        SEQUENCES + "broken_blocks_are_refused",
    ),
    one(
        "images that come back lie in the first row's slots", "navit_eqx.interop:from_sequences",
        replace("slot + 1", "1"), SEQUENCES + "a_model_says_the_same_of_images_that_come_back",
    ),
    one(
        "images set aside by their header are not counted", "harness.evaluation.studies.sweep:given",
        returns("len(manifest)"), "tests/test_evaluation.py::test_images_that_were_set_aside_count_as_given",
    ),
    one(
        "two images have one picture", "harness.evaluation.found_boxes:picture_files",
        replace("name in taken", "False"), "tests/test_detect_run.py::test_every_image_has_a_picture_of_its_own",
    ),
    one(
        "a picture takes the place of an image", "navit_eqx.files:check_overwrites_none",
        replace("os.path.realpath(path) not in read", "True"),
        "tests/test_detect_run.py::test_every_image_has_a_picture_of_its_own",
    ),
    one(
        "a pattern names no clip", "harness.evaluation.clip_predictions:clip_paths",
        replace("chain.from_iterable(map(matching, names))", "names"),
        "tests/test_clip_runs.py::test_files_of_every_kind_are_predicted_alike",
    ),
)  # fmt: skip
