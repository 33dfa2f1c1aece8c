"""Mistakes in augmentation, in the images that are drawn, and in how pixels are read."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

AUGMENT, GEOMETRY, LAW = "data.augment:", "data.geometry:", "tests/test_augment.py::test_"
LABELS = "tests/test_geometry.py::test_"
STRIPS = "data.sources.digits:"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "all images are mirrored", GEOMETRY + "sample_geometry", replace("rng.random() < 0.5", "rng.random() < 1.5"),
        LAW + "half_of_the_images_are_mirrored", survived=True,
    ),
    Mutant(
        "crops are always in the corner",
        (
            (AUGMENT + "crop_box", replace("rng.uniform(0, __free)", "0 * rng.uniform(0, __free)", nth=1)),
            (AUGMENT + "crop_box", replace("rng.uniform(0, __free)", "0 * rng.uniform(0, __free)", nth=0)),
        ),
        (LAW + "crops_lie_anywhere_with_equal_probability",), survived=True,
    ),
    one(
        "crops have a share of the side, not of the area", AUGMENT + "crop_box",
        replace("np.sqrt(rng.uniform(options.crop, 1.0))", "rng.uniform(options.crop, 1.0)"),
        LAW + "the_share_of_a_crop_is_uniform",
    ),
    one(
        "crops are stretched one way", AUGMENT + "crop_box", replace("rng.uniform(-1, 1)", "rng.uniform(0, 1)"),
        LAW + "crops_are_stretched_either_way", survived=True,
    ),
    one(
        "turns are in degrees", AUGMENT + "rotate", replace("np.rad2deg(angle)", "angle"),
        LAW + "a_turn_is_that_of_its_angle", survived=True,
    ),
    one(
        "turns go one way", GEOMETRY + "sample_geometry", replace("rng.uniform(-1, 1)", "rng.uniform(0, 1)"),
        LAW + "turns_go_either_way", survived=True,
    ),
    one(
        "color jitter takes pixels for BGR", AUGMENT + "LUMA",
        replace("np.array(__weights, __dtype)", "np.array(__weights, __dtype)[::-1]"),
        LAW + "saturation_keeps_the_luma", survived=True,
    ),
    one(
        "color jitter wraps around", AUGMENT + "jitter", replace("x.round().clip(0, 255)", "x.round()"),
        LAW + "jitter_keeps_the_order_of_brightness", survived=True,
    ),
    one(
        "color jitter only brightens", AUGMENT + "jitter", replace("rng.uniform(-1, 1, 3)", "rng.uniform(0, 1, 3)"),
        LAW + "jitter_goes_either_way_and_each_its_own", survived=True,
    ),
    one(
        "brightness, contrast and saturation change together", AUGMENT + "jitter",
        replace("rng.uniform(-1, 1, 3)", "np.full(3, rng.uniform(-1, 1))"),
        LAW + "jitter_goes_either_way_and_each_its_own", survived=True,
    ),
    one(
        "masks are not mirrored", GEOMETRY + "Geometry.of_mask",
        replace("self._turned(__x)", "self._replace(flip=False)._turned(__x)"),
        LABELS + "labels_follow_pixels", LABELS + "mirroring_commutes_with_everything",
    ),
    one(
        "masks are turned the other way", GEOMETRY + "Geometry.of_mask",
        replace("self._turned(__x)", "self._replace(quarter_turns=-self.quarter_turns)._turned(__x)"),
        LABELS + "labels_follow_pixels",
    ),
    one(
        "masks are read at the corners of pixels", GEOMETRY + "Geometry.of_mask",
        replace("np.arange(new) + 0.5", "np.arange(new) + 0.0"), LABELS + "a_label_is_that_of_the_middle_of_its_pixel",
    ),
    one(
        "boxes are turned the other way", GEOMETRY + "Geometry.of_boxes",
        replace("(y, width - x, width, height)", "(height - y, x, width, height)"),
        LABELS + "a_box_holds_the_pixels_of_its_object",
    ),
    one(
        "boxes are not mirrored", GEOMETRY + "Geometry.of_boxes", replace("width - x if self.flip else x", "x"),
        LABELS + "a_box_holds_the_pixels_of_its_object",
    ),
    one(
        "boxes are rotated the other way", GEOMETRY + "Geometry.of_boxes",
        replace("np.sin(self.angle)", "-np.sin(self.angle)"),
        LABELS + "a_rotated_box_holds_its_corners",
    ),
    one(
        "a turned picture keeps its grid", "data.rows:PlannedRows.tokens",
        replace("transposed((int(grid[-2]), int(grid[-1])), __turns)", "(int(grid[-2]), int(grid[-1]))"),
        LABELS + "a_quarter_of_the_pictures_is_turned_each_way",
    ),
    one(
        "mixing takes every image", "data.rows:PlannedRows.picture",
        replace("rng.random() >= options.mix.share", "False"), LAW + "the_share_of_mixed_images",
    ),
    one(
        "the partner is always the first image", "data.rows:PlannedRows.with_partner",
        replace("int(rng.integers(__count))", "0"), LAW + "any_image_is_a_partner", survived=True,
    ),
    one(
        "the partner is squashed", "data.rows:PlannedRows.with_partner",
        replace("sample_geometry(*__rest, fitted=True)", "sample_geometry(*__rest)"),
        LAW + "a_partner_keeps_its_aspect_ratio", survived=True,
    ),
    one(
        "every image is augmented alike", "data.rows:PlannedRows.tokens",
        replace("generator(Purpose.IMAGE, __seed, __epoch, image_id)", "generator(Purpose.IMAGE, __seed, __epoch, 0)"),
        LAW + "images_are_augmented_each_its_own_way",
    ),
    # digit strips
    one(
        "the lit digit is always the first", STRIPS + "DigitStrips.__init__",
        replace("(draw[2] * self.digits).astype(int)", "np.zeros(count, int)"),
        "tests/test_digits.py::test_strips_follow_their_law", survived=True,
    ),
    one(
        "training strips are as long as those of validation", STRIPS + "DigitStrips.__init__",
        replace("TRAIN_ODDS if training else __even", "__even"), "tests/test_digits.py::test_strips_follow_their_law",
        survived=True,
    ),
    one(
        "rows and columns are exchanged in their share", STRIPS + "DigitStrips.__init__",
        replace("draw[1] < HORIZONTAL", "draw[1] >= HORIZONTAL"), "tests/test_digits.py::test_strips_follow_their_law",
        survived=True,
    ),
    one(
        "digits are not turned", STRIPS + "Strokes.sample",
        replace("np.array([[ROTATION], [SHEAR]])", "np.array([[0.0], [SHEAR]])"),
        "tests/test_digits.py::test_digits_lean_either_way", survived=True,
    ),
    # what is read
    one(
        "files are read as BGR", "data.sources.decode:_converted",
        replace("np.asarray(composited(strip, channels))", "np.asarray(composited(strip, channels))[..., ::-1]"),
        "tests/test_decode.py::test_pixels_survive_a_lossless_format", survived=True,
    ),
    one(
        "images are held out by a salted hash", "data.sources.layout:held_out",
        replace("hash_of(name)", "hash(name) % 2**64"),
        "tests/test_sources.py::test_the_same_images_are_held_out_in_every_process", survived=True,
    ),
    one(
        "simplejpeg decodes at full size", "data.sources.decode:decode",
        replace("rgb_of(__data, __size, __by)", "rgb_of(__data, __size, 1)"),
        "tests/test_jpeg.py::test_it_is_asked_first_and_pillow_where_it_cannot",
    ),
    one(
        "gray images are decoded in color", "data.sources.decode:decode",
        replace("channels == 3", "channels"), "tests/test_jpeg.py::test_it_is_asked_first_and_pillow_where_it_cannot",
    ),
)  # fmt: skip
