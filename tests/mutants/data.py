"""Mistakes in plans, rows, targets and augmentation: data/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns, starts_with

MUTANTS: tuple[Mutant, ...] = (
    one(
        "labels one slot further", "data.tasks.classify:Classify.targets",
        replace("in_slots(__labels, *__rest)", "in_slots([*__labels[-1:], *__labels[:-1]], *__rest)", nth=0),
        "tests/test_pipeline.py::test_digit_strips_keep_their_labels",
    ),
    one(
        "the last row is lost", "data.exact_fit:exact_fit", returns("__value[:-1] or __value"),
        "tests/test_packing.py::test_every_image_once",
    ),
    one(
        "an image twice at the end of an epoch", "data.exact_fit:exact_fit",
        returns("[*__value, __value[0][:1]] if __value else __value"), "tests/test_packing.py::test_every_image_once",
    ),
    Mutant(
        "dropped tokens drawn by row, not by image",
        (
            ("data.rows:PlannedRows.load",
             starts_with("self.shared = generator(Purpose.IMAGE, self.seed, epoch, int(image_ids[0]) + 1)")),
            ("data.rows:PlannedRows.tokens", replace("generator(Purpose.IMAGE, *__rest)", "self.shared")),
        ),
        ("tests/test_pipeline.py::test_tokens_do_not_depend_on_row_or_neighbours",),
    ),
    one(
        "a continued run skips a batch", "data.pipeline:batches",
        replace("__start * (__batch // __hosts)", "(__start + (__start > 0)) * (__batch // __hosts)"),
        "tests/test_pipeline.py::test_to_start_at_a_batch_is_to_skip_those_before",
    ),
    one(
        "every epoch has the same order", "data.plan:epoch_order",
        replace("generator(Purpose.ORDER, __seed, __epoch)", "generator(Purpose.ORDER, __seed, 0)"),
        "tests/test_plan.py::test_another_epoch_or_seed_is_another_order",
    ),
    one(
        "a block without rows is not passed over", "data.stream:Epochs.locate",
        replace("bisect.bisect_right(*__where) - 1", "max(0, bisect.bisect_left(*__where) - 1)"),
        "tests/test_blocks.py::test_a_block_without_rows_is_passed_over",
    ),
    one(
        "counts of other plans are believed", "data.stream:BlockCounts.rows",
        replace("__key == self.key", "True"), "tests/test_blocks.py::test_counts_of_other_plans_say_nothing",
    ),
    one(
        "the budget forgets the teacher", "data.tasks.distill:TeacherBudget.tokens",
        replace("np.maximum(__kept, __taken)", "__kept"),
        "tests/test_distill_rows.py::test_what_shares_a_row_fits_the_row_of_the_teacher",
    ),
    one(
        "the budget is rounded down", "data.tasks.distill:TeacherBudget.tokens",
        replace("-(-__tokens * __row // __other)", "__tokens * __row // __other"),
        "tests/test_distill_rows.py::test_what_shares_a_row_fits_the_row_of_the_teacher",
    ),
    one(
        "label sets one slot further", "data.tasks.multi_label:MultiLabel.targets",
        replace("in_slots(__sets, *__rest)", "in_slots([*__sets[-1:], *__sets[:-1]], *__rest)", nth=0),
        "tests/test_data_tasks.py::test_label_sets_stand_in_the_slots_of_their_images",
    ),
    one(
        "all blocks of an epoch draw the same resolutions", "data.plan:grids_of",
        replace("generator(Purpose.RESOLUTION, __seed, __epoch, __block)",
                "generator(Purpose.RESOLUTION, __seed, __epoch, 0)"),
        "tests/test_plan.py::test_blocks_of_an_epoch_draw_each_for_itself", survived=True,
    ),
    one(
        "all blocks of an epoch drop the same shares", "data.plan:plan_epoch.rng",
        replace("generator(__purpose, __seed, __epoch, __block)", "generator(__purpose, __seed, __epoch, 0)"),
        "tests/test_plan.py::test_blocks_of_an_epoch_draw_each_for_itself", survived=True,
    ),
    one(
        "classes are rounded together", "reference.sampling.balance:repeats",
        replace("np.lexsort((__random, __rarest))", "__random"),
        "tests/test_balance.py::test_classes_even_out",
    ),
    one(
        "the most frequent class of a set decides", "reference.sampling.balance:repeat_factors",
        returns("factors_of(label_sets, power).min(-1)"),
        "tests/test_balance.py::test_of_several_classes_the_rarest_decides",
    ),
    one(
        "a repeated image has the label of the image at its place", "data.sources.source:Chosen.image",
        replace("self.ids[index]", "min(index, len(self.source.manifest) - 1)"),
        "tests/test_balance.py::test_a_repeated_image_is_an_image_of_the_plan",
    ),
    one(
        "a repeated image has the boxes of the image at its place", "data.manifest:Manifest.select",
        replace("self.boxes.select(rows)", "self.boxes"),
        "tests/test_balance.py::test_boxes_and_masks_follow_their_image",
    ),
    one(
        "validation is balanced too", "harness.run.loading:open_sources",
        replace("with_classes(val, __classes)",
                "balanced(with_classes(val, __classes), config.data.balance, config.seed)"),
        "tests/test_balance.py::test_training_is_balanced_and_validation_is_not",
    ),
    one(
        "a class folder that has a run in it is left out", "data.sources.layout:is_ours",
        replace("any(map(is_image_name, files_below(__folder)))", "False"),
        "tests/test_situations.py::test_what_we_wrote_is_no_class", survived=True,
    ),
    one(
        "pictures of a run below a class are images of it", "data.sources.layout:files_below",
        replace("is_output(__files)", "False"), "tests/test_situations.py::test_what_we_wrote_is_no_class",
        survived=True,
    ),
    one(
        "a WebP file may have as many pixels as a PNG", "data.sources.decode:HEAVY",
        replace("('JPEG2000', 'WEBP')", "('JPEG2000',)"),
        "tests/test_largest.py::test_both_readers_refuse_what_is_expensive_by_its_header", survived=True,
    ),
    one(
        "a WebP file may have as many pixels as a PNG, in the library", "navit_eqx.image_files:HEAVY",
        replace("('JPEG2000', 'WEBP')", "('JPEG2000',)"),
        "tests/test_largest.py::test_both_readers_refuse_what_is_expensive_by_its_header", survived=True,
    ),
    one(
        "a NumPy file is limited by what is kept of it", "data.sources.bands:bands_header",
        replace("max(__dtype.itemsize, __kept)", "__kept"),
        "tests/test_largest.py::test_both_readers_refuse_what_is_expensive_by_its_header", survived=True,
    ),
    one(
        "the library waits for a pipe", "navit_eqx.image_files:check_file",
        replace("stat.S_ISREG(__mode)", "True"), "tests/test_largest.py::test_both_readers_refuse_files_without_an_end",
        survived=True,
    ),
    one(
        "the longest image sets the row length, however rare", "data.sampling.packing:far_longer",
        replace("__lengths > __bound", "__lengths < 0"),
        "tests/test_resolve.py::test_one_image_decides_nothing_for_the_others", survived=True,
    ),
    one(
        "drop rates reach the longest image, used or not", "harness.resolve:dropping",
        replace("expected_tokens(*__rest)[1][usable(__config, __manifest)]", "expected_tokens(*__rest)[1]"),
        "tests/test_resolve.py::test_one_image_decides_nothing_for_the_others", survived=True,
    ),
    one(
        "the teacher has rows for images that are left out", "harness.lengths:TokenLengths.__init__",
        replace("usable(__config, __manifest)", "np.ones_like(usable(config, manifest))"),
        "tests/test_resolve.py::test_one_image_decides_nothing_for_the_others", survived=True,
    ),
    one(
        "devices take the rows in the order of the plan", "data.pipeline:HostShard.order",
        replace("deal(self.costs_at(step), self.devices)", "np.arange(self.batch)"),
        "tests/test_dealing.py::test_a_batch_holds_the_same_rows_for_any_number_of_devices",
    ),
    one(
        "rows are dealt cheapest first", "reference.dealing:deal",
        replace("np.argsort(-costs, kind='stable')", "np.argsort(costs, kind='stable')"),
        "tests/test_dealing.py::test_devices_cost_nearly_the_same",
    ),
    one(
        "rows are dealt by tokens, not by pairs", "data.rows:PlannedRows.costs", replace("__kept ** 2", "__kept"),
        "tests/test_dealing.py::test_costs_are_those_of_the_planned_tokens",
    ),
    one(
        "all hosts read the rows of the first", "data.pipeline:HostShard.__getitem__",
        replace("self.host * share + place", "place"),
        "tests/test_dealing.py::test_a_batch_holds_the_same_rows_for_any_number_of_devices",
    ),
    one(
        "the imbalance is that of the next step", "harness.run.progress:Progress.collect",
        replace("self.imbalance(step - 1)", "self.imbalance(step)"),
        "tests/test_dealing.py::test_imbalance_stands_in_the_log",
    ),
)  # fmt: skip
