"""Mistakes in corruptions, probes of attributes, maps of labels."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

ATTRIBUTES = "tests/test_attributes.py::test_"
MAPS = "tests/test_label_map.py::test_"
CORRUPT = "tests/test_corruptions.py::test_"
LAWS = "reference.evaluation.corruptions:"
MUTANTS = (
    one(
        "corruptions: a blur loses light at the edges", LAWS + "blur",
        replace("np.flip(x, axis)", "np.zeros_like(x)"), CORRUPT + "filters_keep_the_mean",
    ),
    one(
        "corruptions: the high-pass of a small image is finer than a pixel", LAWS + "high_pass",
        replace("max(scale(x), 1.0)", "scale(x)"), CORRUPT + "a_high_pass_keeps_pixels",
    ),
    one(
        "corruptions: opposite frequencies get the same phase", LAWS + "scramble_phases",
        replace("np.sign(opposite - own)", "1"), CORRUPT + "scrambled_phases_keep_amplitudes",
    ),
    one(
        "corruptions: equal power changes the contrast", LAWS + "equalize_power",
        replace("np.sqrt(__a / __b)", "1"), CORRUPT + "equal_power_is_one_over_frequency_at_the_same_contrast",
    ),
    one(
        "corruptions: noise has colors", LAWS + "add_noise",
        replace("(*x.shape[:2], 1)", "x.shape"), CORRUPT + "noise_is_uniform_on_a_pale_image",
    ),
    one(
        "corruptions: lengths are pixels of every image", LAWS + "scale",
        returns("1.0"), CORRUPT + "lengths_are_shares_of_the_image",
    ),
    one(
        "corruptions: octaves of an eidolon do not add up", LAWS + "octaves",
        replace("[*bands, x]", "bands"), CORRUPT + "no_strength_is_the_image",
    ),
    one(
        "corruptions: coherent octaves go their own ways", LAWS + "eidolon.displaced",
        replace("coherence * common", "0 * common"), CORRUPT + "coherent_octaves_bend_the_image",
    ),
    one(
        "corruptions: a quarter turn keeps the planned size", "data.sources.corrupted:Corrupted.__init__",
        replace("manifest.sizes[:, ::-1]", "manifest.sizes"), CORRUPT + "sizes_are_those_of_the_images",
    ),
    one(
        "corruptions: a mask stays upright", "data.sources.corrupted:Corrupted.mask",
        replace("np.rot90(mask_of(self.source, index), self.turns)", "mask_of(self.source, index)"),
        CORRUPT + "masks_and_boxes_turn_with_their_image",
    ),
    one(
        "corruptions: boxes turn clockwise", "data.boxes:turned",
        replace("range(quarter_turns)", "range(-quarter_turns % 4)"), CORRUPT + "masks_and_boxes_turn_with_their_image",
    ),
    one(
        "corruptions: masks of pixels that moved", "data.sources.corrupted:changes",
        replace("found.moves or found.things", "found.things"), CORRUPT + "places_are_not_moved_and_not_given_away",
    ),
    one(
        "corruptions: noise follows the place of an image", "data.sources.corrupted:Corrupted.image",
        replace("zlib.crc32(name)", "index"), CORRUPT + "a_corruption_follows_the_name_of_an_image",
    ),
    one(
        "corruptions: every severity has its own noise", "data.sources.corrupted:Corrupted.image",
        replace("self.seed", "self.seed + self.severity"), CORRUPT + "a_corruption_follows_the_name_of_an_image",
    ),
    one(
        "corruptions: the silhouette of another image", "data.sources.corrupted:Corrupted.image",
        replace("things_in(self.source, index)", "things_in(self.source, 0)"),
        CORRUPT + "a_silhouette_is_black_where_things_are",
    ),
    one(
        "corruptions: silhouettes are lost under other names of classes", "data.sources.source:Renamed.mask",
        replace("self.manifest.masks", "True"), CORRUPT + "a_silhouette_is_black_where_things_are",
    ),
    one(
        "corruptions: silhouettes where no mask is known", "data.sources.corrupted:changes",
        replace("not found.things or knows_things(source)", "True"), CORRUPT + "silhouettes_need_masks",
    ),
    one(
        "consistency: agreement is not compared with chance", "reference.evaluation.metrics:error_consistency",
        replace("p * q + (1 - p) * (1 - q)", "0.0 * p * q"), CORRUPT + "consistency_is_that_of_scikit_learn",
    ),
    one(
        "corruptions: another model reads labels by number", "harness.evaluation.studies.corruptions:predictions_of",
        replace("with_classes(source, __c)", "source"), CORRUPT + "another_model_is_read_with_its_own_classes",
    ),
    one(
        "attributes: p of one side", "reference.evaluation.signed_rank:signed_rank",
        replace("2 * min(__a, __b)", "1 * min(__a, __b)"), ATTRIBUTES + "wilcoxon_counts_all_signs",
    ),
    one(
        "attributes: ranks of equal differences are in order", "reference.evaluation.signed_rank:signed_rank",
        replace("__c - __n + 1", "__c"), ATTRIBUTES + "wilcoxon_counts_all_signs",
    ),
    one(
        "attributes: rare values count less", "reference.evaluation.metrics:balanced_accuracy",
        replace("(predicted[labels == c] == c).mean()", "(predicted == labels).mean()"),
        ATTRIBUTES + "balanced_accuracy_is_that_of_scikit_learn",
    ),
    one(
        "attributes: values go by number", "harness.evaluation.studies.attributes:numbered_alike",
        returns("train.labels"), ATTRIBUTES + "values_go_by_name",
    ),
    one(
        "attributes: the half is that of the first digit", "data.sources.digits:DigitStrips.attributes",
        replace("2 * self.lit + 1 - self.digits", "self.digits - 1 - 2 * self.lit"),
        ATTRIBUTES + "attributes_of_strips_are_seen_in_them",
    ),
    one(
        "attributes: a table at the root names images from their folder", "data.sources.attribute_tables:beside",
        replace("os.fspath(start / os.fsdecode(__n))", "os.fsdecode(__n)"),
        ATTRIBUTES + "a_folder_has_a_table_of_attributes",
    ),
    one(
        "tables: a quote that never ends swallows what follows", "data.sources.csv_tables:csv_lines",
        replace("csv.DictReader(file, strict=True)", "csv.DictReader(file)"),
        ATTRIBUTES + "every_damaged_table_is_refused_in_the_same_words",
    ),
    one(
        "tables: of two columns of a name the last counts", "data.sources.csv_tables:csv_lines",
        replace("name and count > 1", "count > 2"), ATTRIBUTES + "every_damaged_table_is_refused_in_the_same_words",
    ),
    one(
        "tables: a comma in a name shifts the label", "data.sources.csv_tables:cells_of",
        replace("any(more)", "False"), ATTRIBUTES + "every_damaged_table_is_refused_in_the_same_words",
    ),
    one(
        "label maps: targets with many members are preferred", "reference.evaluation.label_map:target_scores",
        replace("TAKEN[how]", "np.sum"), MAPS + "large_targets_are_not_preferred",
    ),
    one(
        "label maps: log Σ exp of probabilities", "harness.evaluation.label_map:Mapped.scores",
        replace("logits if self.how == 'logsumexp' else self.link(logits)", "self.link(logits)"),
        MAPS + "log_sum_exp_of_logits_answers_as_the_sum_of_their_softmax",
    ),
    one(
        "label maps: a target without members is the answer", "reference.evaluation.label_map:target_scores",
        replace("-np.inf", "np.inf"), MAPS + "answers_are_targets",
    ),
    one(
        "label maps: images that cannot be answered count as wrong", "harness.evaluation.label_map:answerable",
        replace("np.flatnonzero(has[manifest.labels])", "np.arange(len(manifest))"),
        MAPS + "images_that_cannot_be_answered_are_left_out_and_counted",
    ),
    one(
        "crops: the first part instead of the middle", "data.sources.cropped:Cropped.image",
        replace("(image.shape[1] - width) // 2", "0"), MAPS + "a_crop_is_the_middle",
    ),
    one(
        "crops: the middle is shown with fewer tokens", "harness.evaluation.studies.crops:is_factor",
        replace("isinstance(law, Native)", "False"), MAPS + "crops_have_about_as_many_tokens",
    ),
)  # fmt: skip
