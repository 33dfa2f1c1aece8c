"""Mistakes in segmentation: heads, labels of pixels, metrics."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

SLOW, FAST, DATA = "reference.tasks.segment:", "navit_eqx.tasks.segment:", "data.tasks.segment:"
LAWS, CUT, SCORE = "tests/test_segment.py::test_", "tests/test_segment_data.py::test_", "tests/test_confusion.py::test_"
FILES = "tests/test_masks.py::test_"
UPSAMPLING, LOSS = LAWS + "upsampling_in_the_row_is_resizing", LAWS + "the_loss_of_a_batch_is_that_of_its_images"

MUTANTS = (
    one(
        "neighbors end where the row ends, not the image", SLOW + "neighbors",
        replace("np.clip(__places, 0, __last)", "np.maximum(__places, 0)"), UPSAMPLING,
    ),
    one(
        "neighbors of the first image of the row", SLOW + "neighbors",
        replace("place[slot[:, None, None], __y, __x]", "place[0 * slot[:, None, None], __y, __x]"), UPSAMPLING,
    ),
    one(
        "pixels are interpolated from corner to corner", FAST + "weights",
        replace("(i + 0.5) / patch - 0.5 - a", "i / max(patch - 1, 1) - 0.5 - a"), UPSAMPLING,
    ),
    one(
        "rows and columns of a patch are exchanged in upsampling", FAST + "upsample_in_row",
        replace("'ia,jb,...taby->...tijy'", "'ib,ja,...taby->...tijy'"), UPSAMPLING,
    ),
    one(
        "logits of pixels column by column", FAST + "Segment.pixel_logits",
        replace("outputs.reshape(*__shape, *self.patch, -1)",
                "outputs.reshape(*__shape, *self.patch[::-1], -1).swapaxes(-3, -2)"), LAWS + "packed_is_alone",
    ),
    one(
        "pixels without a class are of the first one", FAST + "Segment.pixel_loss.sums",
        replace("jnp.where(labeled, __x, 0)", "__x"), LOSS,
    ),
    one(
        "the loss is divided by tokens, not by pixels", FAST + "Segment.pixel_loss",
        replace("(targets.labels != IGNORE).sum(dtype=jnp.int32)",
                "(targets.labels != IGNORE).any((-1, -2)).sum(dtype=jnp.int32)"), LOSS,
    ),
    one(
        "padding reaches the head", FAST + "Segment.outputs", replace("jnp.where(__real, tokens, 0)", "tokens"),
        LAWS + "nothing_in_padding_reaches_the_head", survived=True,
    ),
    one(
        "the class is chosen before resizing", SLOW + "native_logits",
        replace("resize_image(picture, size)",
                "resize_image(np.eye(picture.shape[-1])[picture.argmax(-1)], size)"),
        LAWS + "classes_are_compared_after_resizing",
    ),
    one(
        "labels lie on their side", DATA + "SegmentedRows.labels",
        replace("mask[..., None]", "mask.T[..., None]"), CUT + "labels_are_cut_like_pixels",
    ),
    one(
        "padding is of the first class", DATA + "SegmentedRows.cut",
        replace("np.full((len(__ids), *self.patch), IGNORE, np.uint8)",
                "np.full((len(__ids), *self.patch), 0, np.uint8)"),
        CUT + "labels_are_cut_like_pixels",
    ),
    one(
        "labels of dropped tokens are kept", DATA + "SegmentedRows.cut",
        replace("self.labels(__image, __grid)[tuple(__coords.T)]",
                "self.labels(__image, __grid).reshape(-1, *self.patch)[: here.sum()]"),
        CUT + "labels_are_cut_like_pixels",
    ),
    one(
        "the score is the mean over images", DATA + "Segment.score",
        replace("mean_iou(outputs.sum(0))", "np.nanmean(mean_iou(outputs))"),
        CUT + "the_score_does_not_depend_on_packing",
    ),
    one(
        "the truth is made smaller, not the prediction larger", DATA + "Segment.masks",
        replace("manifest.sizes[image].tolist()", "(batch.grids[r, slot] * self.patch).tolist()"),
        CUT + "classes_are_compared_at_the_pixels_of_the_photograph",
    ),
    one(
        "the background does not count", "reference.evaluation.confusion:mean_iou",
        replace("class_iou(confusion)", "class_iou(confusion)[..., 1:]"), SCORE + "is_that_of_scikit_learn",
    ),
    one(
        "a class without pixels has an IoU of 0", "reference.evaluation.confusion:class_iou",
        replace("np.nan", "0.0"), SCORE + "is_that_of_scikit_learn", survived=True,
    ),
    one(
        "the threshold parts numbers of pixels, not levels", "reference.evaluation.threshold:otsu",
        replace("(__a - __b) ** 2", "1.0"), SCORE + "otsu_parts_an_image_best",
    ),
    one(
        "the bright side, whichever is smaller", "reference.evaluation.threshold:smaller_side",
        returns("bright"), SCORE + "the_smaller_side_is_the_same_in_the_negative",
    ),
    one(
        "model and floor are compared on other images", "harness.evaluation.studies.masks:compared",
        replace("drawn_again(floor)", "drawn_again(floor[::-1])"), CUT + "a_difference_is_that_of_the_same_images",
    ),
    one(
        "classes and predictions are exchanged", "reference.evaluation.confusion:confusion",
        returns("__value.T"), SCORE + "is_that_of_scikit_learn",
    ),
    one(
        "masks keep the order of their own classes", "data.sources.source:Renamed.mask",
        replace("self.table[__mask]", "__mask"), CUT + "masks_pass_through_wrappers",
    ),
    one(
        "object 255 has no class", "data.sources.mask_files:as_labels",
        replace("values != 0", "(values != 0) & (values != ignore)"), FILES + "numbers_of_objects_are_one_class",
    ),
    one(
        "masks of another size are used", "data.sources.mask_files:_surveyed",
        replace("mask.shape == (height, width)", "True"), FILES + "bad_masks_are_set_aside_by_name",
    ),
    one(
        "outlines hold the corners of pixels, not their middles", "data.sources.mask_files:draw_outline",
        replace("np.ceil(at - 0.5)", "np.ceil(at)"), FILES + "an_outline_holds_the_middles_of_its_pixels",
    ),
    one(
        "run lengths row by row", "data.sources.mask_files:draw_runs",
        returns("inside.reshape(size)"), FILES + "run_lengths_are_those_of_coco",
    ),
    one(
        "a crowd is an object", "data.sources.mask_layouts:thing_of",
        replace("UNLABELED if __crowd else __own", "__own"),
        FILES + "crowds_have_no_class_and_bad_objects_are_named",
    ),
    one(
        "a class without a name is used", "data.sources.masks:unknown",
        replace("not len(beyond)", "True"),
        FILES + "bad_masks_are_set_aside_by_name",
    ),
    one(
        "the box of a mask ends before its last pixels", "harness.evaluation.found_masks:annotations",
        replace("int(np.ptp(columns)) + 1", "int(np.ptp(columns))"), FILES + "a_mask_is_written_as_it_was_found",
        survived=True,
    ),
)  # fmt: skip
