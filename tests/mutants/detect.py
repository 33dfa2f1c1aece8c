"""Mistakes in detection: heads, matching, loss, boxes of a row, average precision."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

FAST, SLOW, DATA = "navit_eqx.tasks.detect:", "reference.tasks.detect:", "data.tasks.detect:"
TESTS, ROWS = "tests/test_detect.py::test_", "tests/test_detect_data.py::test_"
FILES = "tests/test_boxed.py::test_"
COCO = "tests/test_average_precision.py::test_it_is_that_of_coco"
ODD = "tests/test_odd_annotations.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a cell is as high as it is wide", SLOW + "cells",
        replace("1.0 / grids[:, :-3:-1]", "1.0 / grids[:, [1, 1]]"), TESTS + "a_token_starts_from_its_own_cell",
    ),
    one(
        "a token starts from the corner of its cell", SLOW + "cells",
        replace("coords[:, :-3:-1] + 0.5", "coords[:, :-3:-1] + 1.0"), TESTS + "a_token_starts_from_its_own_cell",
    ),
    one(
        "rows and columns are exchanged in the cell of a token", FAST + "cells",
        replace("coords[:, :-3:-1].astype(float)", "coords.astype(float)"), TESTS + "loss_and_detections_agree",
    ),
    one(
        "boxes are matched with tokens of other images", FAST + "hungarian",
        replace("jnp.where(there, FAR, 0.0)", "jnp.where(there, 0.0, 0.0)"),
        TESTS + "boxes_are_matched_within_their_image_at_the_least_cost",
    ),
    one(
        "pairs are read in the order in which they come", "navit_eqx.training.matching:on_device",
        replace("jnp.zeros(cost.shape[1], jnp.int32).at[boxes].set(tokens.astype(jnp.int32))",
                "tokens.astype(jnp.int32)"),
        TESTS + "boxes_are_matched_within_their_image_at_the_least_cost",
    ),
    one(
        "a cost that is not finite is free", FAST + "hungarian",
        replace("jnp.where(jnp.isfinite(cost), __known, DEAREST)", "jnp.where(jnp.isfinite(cost), __known, -DEAREST)"),
        TESTS + "a_cost_that_is_not_finite_is_the_dearest",
    ),
    one(
        "the largest box chooses first", FAST + "centre",
        replace("width * height", "-width * height"), TESTS + "centre_takes_the_nearest_free_token",
    ),
    one(
        "the loss is counted by images", FAST + "Detect.loss",
        replace("(targets.box_segment_ids > 0).sum(dtype=jnp.int32)",
                "(row.image_ids >= 0).sum(dtype=jnp.int32)"),
        TESTS + "loss_and_detections_agree",
    ),
    one(
        "padding has a loss", FAST + "Detect.loss_of_row",
        replace("jnp.where((row.segment_ids > 0)[:, None], __loss, 0)", "__loss"), TESTS + "loss_and_detections_agree",
    ),
    one(
        "the best tokens are chosen before the classes", FAST + "detections",
        replace("jnp.where(__mine, scores[None], -1)",
                "jnp.where(__mine & (scores == scores.max(-1, keepdims=True))[None], scores[None], -1)"),
        TESTS + "a_token_may_be_found_with_several_classes",
    ),
    one(
        "detections of other images are found", FAST + "detections",
        replace("jnp.where(__mine, scores[None], -1)", "jnp.where(__mine, scores[None], scores[None] / 9)"),
        TESTS + "packed_is_alone",
    ),
    one(
        "padding reaches the heads of detection", FAST + "Detect.propose",
        replace("jnp.where(real, tokens, 0)", "tokens"), TESTS + "nothing_in_padding_reaches_the_heads",
        survived=True,
    ),
    one(
        "distances are in units of the shorter side", FAST + "units",
        replace("sides.max(-1, keepdims=True)", "sides.min(-1, keepdims=True)"), TESTS + "loss_and_detections_agree",
    ),
    one(
        "a hull is no larger than the union", "navit_eqx.boxes:giou",
        replace("(hull - union) / __most", "0.0 * (hull - union) / __most"), TESTS + "overlaps",
    ),
    # the data
    one(
        "boxes stay where they were", DATA + "shown",
        replace("geometry.of_boxes(boxes.corners)", "boxes.corners.astype(float)"), ROWS + "boxes_follow_pixels",
    ),
    one(
        "boxes are in units of a square", DATA + "shown",
        replace("middles(__clipped, (height, width))", "middles(__clipped, (width, width))"),
        ROWS + "boxes_follow_pixels",
    ),
    one(
        "crowds are targets", DATA + "shown",
        replace("boxes.only(boxes.kinds == COUNTS)", "boxes"), ROWS + "a_box_that_is_cut_off_is_gone",
    ),
    one(
        "the plan forgets the boxes", DATA + "BoxBudget.tokens",
        replace("np.maximum(kept, __taken)", "kept"), ROWS + "a_row_has_places_for_its_boxes",
    ),
    one(
        "images with more boxes than tokens are trained on", DATA + "BoxBudget.tokens",
        replace("np.minimum(kept, self.row_boxes)", "self.row_boxes"), ROWS + "a_row_has_places_for_its_boxes",
    ),
    one(
        "width and height of an image are exchanged", "data.boxes:corners_of",
        replace("np.array([size[1], size[0]], float)", "np.array([size[0], size[1]], float)"),
        ROWS + "corners_and_middles",
    ),
    # files of boxes
    one(
        "pixels of VOC are counted from 0", "data.sources.box_files:voc_box",
        replace("[left - 1, top - 1, right, bottom]", "[left, top, right, bottom]"),
        FILES + "every_layout_says_the_same",
    ),
    one(
        "the middle of a YOLO box is its corner", "data.sources.box_files:yolo_boxes",
        replace("[x - width / 2, y - height / 2, x + width / 2, y + height / 2]", "[x, y, x + width, y + height]"),
        FILES + "every_layout_says_the_same",
    ),
    one(
        "categories are numbered as they stand", "data.sources.box_json:categories_in",
        replace("sorted(__categories, key=__key)", "list(__categories)"), FILES + "every_layout_says_the_same",
    ),
    one(
        "an image may have the id of another", "data.sources.box_json:read_coco",
        replace("first_repeated(ids) if __bad is None else __bad", "__bad"),
        ODD + "an_image_under_the_id_of_another_is_refused",
    ),
    one(
        "a large COCO file is known by its start alone", "data.sources.box_json:begin",
        replace("first + __rest", "first"), ODD + "a_large_file_shows_what_it_is_at_its_end",
    ),
    one(
        "boxes without a mark are lost", "data.sources.box_json:parquet_table",
        replace("len(crowd) != len(mine)", "False"), ODD + "boxes_that_lack_their_marks_are_not_lost",
    ),
    one(
        "an outline may lie anywhere", "data.sources.mask_files:draw_outline",
        replace("(np.abs(x) < FAR).all()", "True"), ODD + "a_value_of_a_coco_file",
    ),
    one(
        "boxes reach out of their image", "data.sources.box_table:within",
        replace("corners.clip(0, sides)", "corners"), FILES + "a_box_that_is_wrong_is_named_and_counted",
    ),
    one(
        "crowds are boxes", "data.sources.box_json:coco_table",
        replace("CROWD if a.get('iscrowd') else COUNTS", "COUNTS"), FILES + "crowds_and_difficult_boxes",
    ),
    one(
        "images that were turned keep their boxes", "data.sources.box_table:drawn_at.why",
        replace("known is None or known == size", "True"), FILES + "an_image_of_another_size_is_set_aside",
    ),
    # average precision
    one(
        "a true box is found twice", "reference.evaluation.average_precision:match",
        replace("(free | crowd) & __near", "__near"), COCO,
    ),
    one(
        "a crowd is found once", "reference.evaluation.average_precision:match",
        replace("(free | crowd) & __near", "free & __near"), COCO,
    ),
    one(
        "boxes that do not count are taken first", "reference.evaluation.average_precision:match",
        replace("np.where(counts.any(-1, keepdims=True), counts, able)", "able"), COCO,
    ),
    one(
        "the precision at a recall, not the highest from there on",
        "reference.evaluation.average_precision:average_precision",
        replace("np.maximum.accumulate(__p, -1)[:, ::-1]", "precision"), COCO,
    ),
    one(
        "overlap with a crowd is that with a box", "reference.evaluation.average_precision:overlaps",
        replace("np.where(crowd, own, __union)", "__union"), COCO,
    ),
    one(
        "boxes are shown in the order of their places", "harness.evaluation.found_boxes:sure",
        replace("np.sort(first)", "first"), "tests/test_detect_run.py::test_a_box_is_shown_once_with_its_best_class",
        survived=True,
    ),
    one(
        "captions cover each other", "harness.evaluation.overlays:draw_boxes",
        replace("overlap(place, __other)", "False"), "tests/test_overlays.py::test_no_caption_covers_another",
    ),
    one(
        "the error of AP is that of the mean of samples", DATA + "Detect.score",
        replace("np.nanstd(again)", "np.nanstd(again) / np.sqrt(RESAMPLED)"),
        ROWS + "the_error_of_average_precision_is_that_of_other_images", survived=True,
    ),
)  # fmt: skip
