"""Mistakes in patches of several sizes within one image."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

PARTS, ROWS = "tests/test_adaptive.py::test_", "tests/test_merged_rows.py::test_"
CONTENT = "tests/test_complexity.py::test_"
APT = "tests/test_thresholds.py::test_"
BOXES = "tests/test_merged_boxes.py::test_"
MASKS = "tests/test_merged_masks.py::test_"
STUDY = "tests/test_merge_study.py::test_"
AREAS, DETAIL = "tests/test_areas.py::test_", "tests/test_detail.py::test_"
SIDES = PARTS + "both_sides_make_the_same_tokens"
MUTANTS = (
    one(
        "merged boxes: a block starts from one cell", "navit_eqx.tasks.detect:cells",
        replace("__c.shape[-1] == 2", "True"), BOXES + "a_block_starts_from_the_box_of_its_cells",
    ),
    one(
        "merged boxes: distances are in units of levels and rows", "navit_eqx.tasks.detect:units",
        replace("__g[:, :-3:-1]", "__g[:, :2]"), BOXES + "both_sides_agree_and_packed_is_alone",
    ),
    one(
        "levels: what is not merged is a level up", "data.adaptive:PlannedBlocks.blocks",
        replace("np.zeros_like(places[:, :1])", "np.ones_like(places[:, :1])"),
        ROWS + "nothing_merged_is_what_it_was",
    ),
    one(
        "levels: the center of a block is half a cell off", "reference.adaptive:merged",
        replace("__f[__m] + 2**__s / 2 - 0.5", "__f[__m] + 2**__s / 2"), SIDES,
    ),
    one(
        "levels: a block of 4 x 4 is reduced to the middle of its boxes", "reference.adaptive:by_area",
        replace("__p.mean((2, 4))", "__p[:, :, (__p.shape[2] - 1) // 2:__p.shape[2] // 2 + 1].mean((2, 4))"), SIDES,
    ),
    one(
        "levels: a block is enlarged bilinearly, not by the adjoint of PI-resize", "reference.adaptive:by_pi",
        returns("by_area(blocks, size, base, base, how) if tuple(patch) == tuple(base) else __value"),
        PARTS + "an_enlarged_image_in_large_blocks_is_the_small_image",
    ),
    one(
        "levels: boxes are added up, not averaged", "reference.adaptive:by_area",
        replace("__p.mean((2, 4))", "__p.sum((2, 4))"), PARTS + "a_flat_block_is_the_same_at_every_level",
    ),
    one(
        "levels: a block has the place of its first cell", "reference.adaptive:merged",
        replace("__f[__m] + 2**__s / 2 - 0.5", "__f[__m] + 0.0"),
        PARTS + "blocks_of_one_level_are_patches_of_that_size",
    ),
    one(
        "levels: quads at the left cost less", "reference.adaptive:cut_by_budget",
        replace("(__c, 1, __y, __x)", "(__c * (__x + 1), 1, __y, __x)"),
        PARTS + "a_mirrored_or_turned_image_has_a_mirrored_or_turned_partition",
    ),
    one(
        "levels: gray levels are counted in bins of another width", "reference.adaptive:entropy_scores",
        replace("__g * bins / 256", "__g * bins / 255"), PARTS + "scores_are_those_of_each_block",
    ),
    one(
        "levels: tokens own cells by columns", "reference.adaptive:owner_map",
        replace("np.cumsum((__f == __p).all(0)).reshape(levels.shape)",
                "np.cumsum((__f == __p).all(0).T).reshape(levels.shape[::-1]).T"),
        PARTS + "values_of_tokens_fill_the_grid_and_come_back",
    ),
    one(
        "levels: APT's bilinear reduction reads the first pixels of each box", "navit_eqx.adaptive:reduced",
        replace("(2 ** (s - 1) - 1, 2 ** (s - 1))", "(0, 1)"), SIDES,
    ),
    one(
        "levels: a rate of zero is planned as merging", "data.sampling.merge:law_of",
        replace("__m is None or not __m.highest", "__m is None"), ROWS + "a_rate_of_zero_is_no_merging",
    ),
    one(
        "rows: bytes are mapped by the table of the first channel", "data.rows:half_of_bytes",
        replace("len(__t) == 1", "True"), ROWS + "bytes_are_mapped_by_a_table_to_the_bit",
    ),
    one(
        "areas: a patch of level 2 counts as two of level 1", "navit_eqx.areas:key_weights",
        replace("jnp.exp2(2 * __l)", "(1 + 3 * __l)"), AREAS + "merging_equal_patches_is_not_seen",
    ),
    one(
        "areas: the weight of a key is scaled with its logit", "navit_eqx.areas:AreaMask.dot_product_attention",
        replace("log(4) / scale", "log(4)"), AREAS + "a_key_of_level_one_counts_four_times",
    ),
    one(
        "areas: the pool counts every token once", "navit_eqx.model:NaViT.__call__",
        replace("weighted(__s, __l)", "__s"), AREAS + "merging_equal_patches_is_not_seen",
    ),
    one(
        "areas: windows forget them", "navit_eqx.local:BlockMasks.weighted",
        returns("self"), AREAS + "packed_is_alone",
    ),
    one(
        "areas: rows without levels take the y of a place for one", "navit_eqx.model:NaViT.levels_that_count",
        replace("row.coords.shape[-1] == __a", "False"), AREAS + "rows_without_merging_are_read_by_the_plain_program",
    ),
    one(
        "detail: places for the mean, not for any image", "reference.detail:places",
        replace("min(4 * __s / 3, 1) / (1 - __s)", "__s / (1 - __s)"), DETAIL + "places_are_enough_for_any_image",
    ),
    one(
        "detail: parts are stored by columns", "reference.detail:in_quads",
        replace("[part for half in np.split(block, 2, 0) for part in np.split(half, 2, 1)]",
                "[part for half in np.split(block, 2, 1) for part in np.split(half, 2, 0)]"),
        DETAIL + "both_sides_keep_the_same_parts",
    ),
    one(
        "detail: parts of an image follow those of the image before it", "navit_eqx.detail:first_parts",
        replace("__a + __b - __b[__s]", "__a + __b"), DETAIL + "packed_is_alone",
    ),
    one(
        "detail: quads are joined once, whatever the level", "navit_eqx.detail:Detail.of_row",
        replace("range(__s)", "range(1)"), DETAIL + "the_path_is_one_linear_kernel", survived=True,
    ),
    one(
        "detail: cells that are not merged get the bias", "navit_eqx.detail:Detail.of_row",
        replace("jnp.where((levels > 0)[:, None], self.out(__j), 0)", "self.out(__j)"), DETAIL + "packed_is_alone",
    ),
    one(
        "detail: the map at its end is not zero at first", "navit_eqx.detail:Detail.__init__",
        replace("jax.tree.map(jnp.zeros_like, __l)", "__l"), DETAIL + "the_path_adds_nothing_at_first_and_learns",
    ),
    one(
        "detail: tokens are dropped beside it", "harness.adaptive:merging",
        replace("config.model.detail is None or data.dropping == Constant(0.0)", "True"),
        DETAIL + "what_does_not_go_with_it_is_refused",
    ),
    one(
        "levels: the parts of a block are tokens too", "reference.adaptive:merged",
        replace("levels[tuple(__f.T)] == __s", "levels[tuple(__f.T)] >= __s"), SIDES,
    ),
    one(
        "levels: a score at the threshold is below it", "reference.adaptive:cut_by_threshold",
        replace("scores[__s] < thresholds[__s - 1]", "scores[__s] <= thresholds[__s - 1]"), PARTS + "thresholds",
    ),
    one(
        "levels: a quad costs its score, not what it adds", "reference.adaptive:cut_by_budget",
        replace("__c - block_sums(__f, (2, 2))", "__c"), PARTS + "each_merge_adds_least_to_the_score",
        survived=True,
    ),
    one(
        "levels: a quad does not wait for its four parts", "navit_eqx.adaptive:cut_by_budget",
        replace("np.maximum(__m, _last(__t[-1]))", "__m"), PARTS + "a_budget_makes_tiles_of_the_promised_number",
    ),
    one(
        "levels: the error is that of sums", "reference.adaptive:residual_scores",
        replace("block_sums((__b**2).sum(-1), patch) / 4**__s", "block_sums((__b**2).sum(-1), patch) / 2**__s"),
        PARTS + "scores_are_those_of_each_block",
    ),
    one(
        "levels: cells have a vector, the largest blocks none", "navit_eqx.adaptive:LevelEmbedding.__call__",
        replace("jnp.arange(1, 1 + len(self.vectors), dtype=__d)", "jnp.arange(len(self.vectors), dtype=__d)"),
        PARTS + "packed_is_alone",
    ),
    one(
        "levels: positions see the level", "navit_eqx.model:NaViT.in_space",
        returns("(coords[..., :axes], grids[..., :axes])"), PARTS + "packed_is_alone",
    ),
    one(
        "levels: tokens are dropped before they are merged", "data.sampling.merge:Merged.token_counts",
        returns("grids[..., 1:].prod(-1)"), ROWS + "tokens_are_counted_before_a_pixel_is_read",
    ),
    one(
        "levels: evaluation draws rates at random", "data.sampling.merge:Merged.at",
        returns("Merged(self.sampling.at(resolution), self.merge)"),
        ROWS + "rates_are_drawn_in_their_range_and_evaluation_draws_none",
    ),
    one(
        "levels: bytes of blocks are rounded down", "data.adaptive:PlannedBlocks.blocks",
        replace("np.rint(__p)", "np.floor(__p)"), ROWS + "large_blocks_are_where_least_is_lost",
    ),
    one(
        "complexity: boxes are replaced by their sums", "reference.sampling.complexity:complexity",
        replace("BOX**2", "BOX"), CONTENT + "complexity_is_the_error_of_boxes",
    ),
    one(
        "complexity: equal images count as above each other", "reference.sampling.complexity:ranks",
        replace('("left", "right")', '("right", "right")'), CONTENT + "the_mean_rate_is_that_of_the_law",
    ),
    one(
        "complexity: the rate leaves [0, 1], and is cut", "reference.sampling.complexity:rate_by_complexity",
        returns("np.clip(mean + spread * (1 - 2 * rank), 0, 1)"), CONTENT + "the_mean_rate_is_that_of_the_law",
    ),
    one(
        "complexity: the complex image loses most", "data.sampling.dropping:ByContent.rates",
        returns("self.lo + self.hi - __value"), CONTENT + "plain_images_drop_more_tokens",
    ),
    one(
        "complexity: images are shuffled, their complexity is not", "data.plan:plan_epoch",
        replace("complexity[images]", "complexity[part]"), CONTENT + "an_image_has_its_rate_wherever_it_stands",
    ),
    one(
        "complexity: of an image as it is, not at the size of measuring", "navit_eqx.images:_quads",
        replace("complexity_size(header.size)", "complexity_size((96, 96))"),
        CONTENT + "the_front_door_merges_as_training_does",
    ),
    one(
        "complexity: a run continues with other numbers", "data.manifest:Manifest.digest",
        replace("[] if self.complexity is None else [self.complexity]", "[]"),
        CONTENT + "what_is_planned_is_loaded",
    ),
    one(
        "complexity: values of other files are taken", "data.sources.measured:cache_file",
        replace("[LIMITS, manifest.stamp, *__rest]", "[LIMITS, *__rest]"), CONTENT + "files_are_measured_once",
    ),
    one(
        "merged masks: a cell has the outputs of the mirrored one", "reference.tasks.segment:cell_outputs",
        replace("part[:, 2:] * q", "(2 ** part[:, :1] - 1 - part[:, 2:]) * q"),
        MASKS + "a_block_has_the_class_of_its_owner",
    ),
    one(
        "merged masks: a pixel of a token for each of a cell", "navit_eqx.tasks.segment:Segment.cell_outputs",
        replace("jnp.right_shift(__w, level[..., None])", "__w % side"),
        MASKS + "both_sides_agree_and_packed_is_alone",
    ),
    one(
        "merged masks: tokens count, not their pixels", "reference.tasks.segment:cells_of",
        replace("np.repeat(__x, 4**level, 0)", "np.repeat(__x, np.minimum(4**level, 1), 0)"),
        MASKS + "cells_know_their_token",
    ),
    one(
        "merged masks: a row has room for the mean, not the most", "reference.tasks.segment:most_cells",
        replace("4.0 ** (1 - scales)", "4.0 ** -1"), MASKS + "a_row_has_room_for_the_cells_of_its_tokens",
    ),
    one(
        "merged masks: dropped tokens leave holes", "data.tasks.segment:Segment.plans",
        replace("isinstance(plans.sampling.get('resolution'), Merged)", "False"),
        MASKS + "dropped_tokens_have_no_cells",
    ),
    one(
        "thresholds: those of the levels are exchanged", "data.sampling.merge:MergeByThreshold.cut",
        replace("self.thresholds", "self.thresholds[::-1]"), APT + "both_sides_cut_as_a_quadtree_by_hand",
    ),
    one(
        "thresholds: the loader merges as planned, whatever it finds", "data.sampling.merge:MergeByThreshold.levels",
        replace("quads_in(levels) != quads", "False"), APT + "a_table_is_of_these_images",
    ),
    one(
        "thresholds: a table of other thresholds is taken", "data.counts:cache_file",
        replace("measured.cache_file(__m, __k, law, *__rest)", "measured.cache_file(__m, __k, *__rest)"),
        APT + "a_table_is_of_these_images",
    ),
    one(
        "thresholds: a block counts as one merge", "reference.adaptive:quads_in",
        returns("int((levels > 0).sum()) // 4"), APT + "what_was_counted_is_planned_and_loaded",
    ),
    one(
        "windows: merged blocks may lie in two", "navit_eqx.config_local:check_whole_blocks",
        replace("n % block == 0", "True"), "tests/test_merged_windows.py::test_windows_that_cut_blocks_are_refused",
    ),
    one(
        "windows: of the level, not of the place", "navit_eqx.local:LayerMasks.__call__",
        replace("__c[..., -2:]", "__c[..., :2]"),
        "tests/test_merged_windows.py::test_packed_is_alone_and_windows_keep_their_tokens_apart",
    ),
    one(
        "merging: the smaller image it is compared with is merged too", "harness.evaluation.studies.merge:compare_at",
        replace("context.sampling_at(smaller, 0.0)", "context.sampling_at(smaller)"),
        STUDY + "the_study_compares_at_equal_tokens",
    ),
    one(
        "levels: vectors that are added start anywhere", "harness.run.warm_start:zero_at_first",
        replace("0 * __v", "__v"), "tests/test_retrofit.py::test_vectors_that_are_added_change_nothing_at_first",
    ),
    one(
        "merging: a reading forgets its rate", "harness.evaluation.studies.trade_off:predictions_by",
        replace("context.sampling_at(__r, reading.merge)", "context.sampling_at(__r)"),
        STUDY + "a_reading_merges_at_its_rate",
    ),
    one(
        "merging: options forget the rate that was chosen", "predict:with_reading",
        replace("how.merge", "options.merge_rate"),
        STUDY + "options_say_the_reading_that_was_chosen",
    ),
    one(
        "complexity: it is not measured where it decides on dropping alone", "harness.run.loading:open_source",
        replace("isinstance(data.merge, MergeByContent) or isinstance(data.dropping, ByContent)",
                "isinstance(data.merge, MergeByContent)"),
        CONTENT + "what_follows_complexity_is_measured", survived=True,
    ),
    one(
        "complexity: of a very large set, that of its first images", "harness.lengths:complexity_of",
        replace("manifest.complexity[:: stride(manifest)]",
                "manifest.complexity[: len(manifest.sizes[:: stride(manifest)])]"),
        CONTENT + "of_many_images_sizes_and_complexity_are_those_of_the_same", survived=True,
    ),
)  # fmt: skip
