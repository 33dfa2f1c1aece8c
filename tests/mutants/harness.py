"""Mistakes in what is printed, when, and in the number of steps: harness/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

WORDS, FLIPPED = "tests/test_command_line.py::test_", "tests/test_flipped_bytes.py::test_"
BUDGET, TRADE_OFF = "tests/test_trade_off.py::test_", "harness.evaluation.studies.trade_off:"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a line in place stays before a printed one", "harness.terminal:SafeStream.write_plain",
        replace('self.status("")', "None"), "tests/test_working.py::test_lines_in_place_leave_no_trace",
    ),
    one(
        "the outer work is shown, not the inner", "harness.working:show",
        replace("OPEN[-1] is not __work", "OPEN[0] is not __work"),
        "tests/test_working.py::test_on_a_terminal_the_innermost_work_is_shown_and_erased",
    ),
    one(
        "a late wish is granted twice", "harness.run.cadence:Cadence.due",
        replace("__wanted and not self.was_due", "__wanted"), "tests/test_working.py::test_processes_agree_on_a_time",
    ),
    one(
        "a wide table is one part", "harness.evaluation.tables:_parts",
        replace("__used + 2 + len(__column[0]) > WIDTH", "False"),
        "tests/test_working.py::test_tables_fit_a_terminal",
    ),
    one(
        "more steps than fit the minutes", "harness.run.budget:fitting",
        replace("int(__time / __seconds)", "1 + int(__time / __seconds)"),
        "tests/test_budget.py::test_as_many_steps_as_fit",
    ),
    one(
        "minutes change no preset that names its steps", "harness.presets:timed",
        replace("__numbers == ['--minutes']", "False"),
        "tests/test_budget.py::test_what_is_given_decides_on_the_length",
    ),
    one(
        "options that change nothing are taken", "harness.habits:idle",
        replace("data.dropping == NOTHING", "False"),
        "tests/test_habits.py::test_what_would_change_nothing_is_refused",
    ),
    one(
        "a run that continues is timed anew", "harness.run.budget:steps_of",
        replace("before.steps if __same else None", "None"),
        "tests/test_budget.py::test_a_run_that_continues_keeps_its_steps",
    ),
    one(
        "a study that fails ends the others", "harness.evaluation.studies:publish_all",
        replace("isinstance(error, ConfigError | DataError)", "outcomes(error)"),
        "tests/test_libraries.py::test_a_study_that_fails_ends_no_other_and_is_raised_last",
    ),
    one(
        "rows are drawn in the patch size of the model", "harness.evaluation.pictures:patch_of",
        replace("model.channels * prod(patch) == values", "True"),
        "tests/test_pictures.py::test_rows_of_every_law_of_patch_sizes_are_drawn",
    ),
    one(
        "an image of masks is asked for its class", "harness.evaluation.studies.calibration:link",
        replace("hasattr(context.task, 'truth')", "True"),
        "tests/test_every_study.py::test_what_asks_every_patch_has_no_tokens_to_drop_and_no_classes_of_an_image",
    ),
    one(
        "studies take a resolution at which nothing fits", "harness.evaluation.studies:where_images_fit",
        replace("not row['images']", "False"),
        "tests/test_studies.py::test_a_resolution_at_which_nothing_fits_ends_no_other_study",
    ),
    one(
        "a study that failed is forgotten", "harness.evaluation.studies:publish_all",
        replace("Outcomes(rows, failed)", "Outcomes(rows, {})"),
        "tests/test_libraries.py::test_a_study_that_fails_ends_no_other_and_is_raised_last",
    ),
    one(
        "a logger that failed is tried again", "harness.run.logger:Guarded.call",
        replace("NullLogger()", "self.logger"),
        "tests/test_libraries.py::test_a_logger_that_fails_is_told_once_and_left_alone",
    ),
    one(
        "the best setting may cost twice the budget", "reference.evaluation.trade_off:best_within",
        replace("cost <= budget", "cost <= 2 * budget"), BUDGET + "the_best_within_a_budget",
    ),
    one(
        "of equal settings the dearest", "reference.evaluation.trade_off:best_within",
        replace("np.lexsort((cost[__k], __s))", "np.lexsort((-cost[__k], __s))"), BUDGET + "the_best_within_a_budget",
    ),
    one(
        "one half alone keeps the budget", TRADE_OFF + "trade_off",
        replace("(choose, test)", "(choose, choose)", 0), BUDGET + "a_choice_keeps_its_budget_and_rises_with_it",
        BUDGET + "a_cascade_costs_both_predictions_and_is_scored_by_the_last",
    ),
    one(
        "a setting is chosen on the half that judges it", TRADE_OFF + "trade_off",
        replace("mean_score(setting, choose)", "mean_score(setting, test)"),
        BUDGET + "one_half_chooses_and_the_other_judges",
    ),
    one(
        "a second reading costs nothing", TRADE_OFF + "mean_cost",
        replace("half[setting.cheap].cost + __more", "half[setting.cheap].cost"),
        BUDGET + "a_cascade_costs_both_predictions_and_is_scored_by_the_last",
    ),
    one(
        "of each row length one batch is paid", TRADE_OFF + "seconds_per_token",
        replace("count * next(times)", "next(times)"), BUDGET + "time_is_that_of_all_batches",
    ),
    one(
        "rounds are not interleaved", TRADE_OFF + "medians",
        replace("np.median([[seconds(run) for run in runs] for _ in range(rounds)], axis=0)",
                "np.median([[seconds(run) for _ in range(rounds)] for run in runs], axis=1)"),
        BUDGET + "medians_are_warm_and_interleaved",
    ),
    one(
        "a choice is obeyed by other parameters", "harness.evaluation.budget:stored",
        replace("choice if __same else None", "choice"), BUDGET + "a_choice_belongs_to_its_parameters",
    ),
    one(
        "a refusal names a budget that is too small", "harness.evaluation.budget:Budget.words",
        replace("math.ceil(__x)", "math.floor(__x)"), BUDGET + "a_cost_in_words_is_a_budget_that_is_enough",
    ),
    one(
        "sure images are read again", "predict:in_turn",
        replace("p.max() < choice.threshold", "p.max() > choice.threshold"), BUDGET + "unsure_images_are_read_again",
    ),
    one(
        "what the second reading cannot read is lost", "predict:in_turn",
        replace("__old if __failed else __new", "__new"), BUDGET + "unsure_images_are_read_again",
    ),
    one(
        "a threshold is the confidence of an image", "harness.evaluation.studies.cascade:settings",
        replace("(both.threshold[above - 1] + both.threshold[above]) / 2", "both.threshold[above]"),
        BUDGET + "thresholds_lie_between_confidences",
    ),
    one(
        "an option does not overrule the choice", "predict:obeyed",
        replace("options.choice == 'none' or reading_of(options) != Reading()", "options.choice == 'none'"),
        "tests/test_choice.py::test_options_overrule_a_choice",
    ),
    one(
        "boxes and masks are read as in training, whatever was chosen", "predict:main",
        replace("with_reading(options, choice.first) if choice else options", "options"),
        "tests/test_choice.py::test_boxes_and_masks_are_read_as_chosen", survived=True,
    ),
    one(
        "a signal that nohup ignores stops training", "harness.process:not_ignored", returns("[*signals]"),
        "tests/test_terminal.py::test_a_signal_that_is_ignored_stays_so",
    ),
    one(
        "every signal ends with the code of SIGTERM", "harness.exit_codes:run", replace("128 + end.number", "143"),
        "tests/test_terminal.py::test_a_program_that_is_ended_leaves_nothing_half_done",
    ),
    one(
        "output that is lost is not told", "harness.terminal:check_written", replace("error is not None", "False"),
        "tests/test_terminal.py::test_output_that_is_lost_is_told",
    ),
    one(
        "a reader that is gone is an error", "harness.terminal:is_read", returns("True"),
        "tests/test_terminal.py::test_output_that_is_lost_is_told",
    ),
    one(
        "factors of the native size are taken for pixels", "harness.resolve:in_unit",
        replace("lo / FAR < value < FAR * hi", "True"),
        "tests/test_resolve.py::test_evaluation_is_in_the_unit_of_training",
    ),
    one(
        "a start is told to have another shape", "harness.resolve:with_start", replace("not start", "True"),
        "tests/test_resolve.py::test_what_makes_no_sense_is_refused_with_the_key",
    ),
    one(
        "an empty word is an option that was not given", "harness.cli:check_words",
        replace("not __word.strip()", "False"), WORDS + "an_empty_word_is_refused", survived=True,
    ),
    one(
        "a number out of range is named without its section", "harness.cli:with_place",
        replace("f'{__a}{__b}{words}'", "words"), WORDS + "a_number_out_of_range_is_named_by_its_option",
        survived=True,
    ),
    one(
        "a section stands twice before a number", "harness.cli:with_place",
        replace("__a and __b and __c", "False"), WORDS + "a_number_out_of_range_is_named_by_its_option",
    ),
    one(
        "options without effect are taken by every program", "harness.cli:check_used",
        replace("__a != __b", "False"), WORDS + "an_option_that_changes_nothing_is_refused", survived=True,
    ),
    one(
        "a folder without a model does not say what it has", "navit_eqx.serialize:missing",
        replace("sorted(__names)", "[]"), WORDS + "a_folder_without_a_model_says_what_it_has",
    ),
    one(
        "every task is told to map classes", "evaluate:in_classes", replace("hasattr(task, 'truth')", "True"),
        WORDS + "unknown_classes_can_be_mapped_where_an_image_has_one",
    ),
    one(
        "an option of a class that was not chosen is unknown", "harness.cli:check_chosen",
        replace("others and not __chosen", "False"),
        WORDS + "an_option_of_a_class_that_was_not_chosen_names_the_class", survived=True,
    ),
    one(
        "semaphores of data workers have the names of joblib", "data.segments:name_by",
        replace("staticmethod(name)", "synchronize.SemLock._make_name"),
        "tests/test_signals.py::test_all_that_a_worker_shares_is_named_by_its_run", survived=True,
    ),
    one(
        "a folder beside drawn images is ignored", "harness.habits:check_read",
        replace("isinstance(__a, Generated) and __b", "False"),
        WORDS + "a_folder_for_images_that_are_drawn_is_refused_by_every_program", survived=True,
    ),
    one(
        "a folder in the place of a file is found after the work", "navit_eqx.files:replacing",
        replace("path.is_dir()", "False"), WORDS + "a_folder_in_the_place_of_a_file_is_named_before_the_work",
        survived=True,
    ),
    one(
        "a prediction is advised on as a training", "harness.exit_codes:run",
        replace("f'\\nerror: out of memory, {error}: {less_memory}'", "f'{error}: {LESS_MEMORY}'"),
        WORDS + "memory_is_advised_on_by_the_program",
    ),
    one(
        "another model is compared by another measure", "evaluate:on_same_images",
        replace("task.metric == metric", "True"),
        "tests/test_corruptions.py::test_another_model_is_read_with_its_own_classes", survived=True,
    ),
    one(
        "a hierarchy decays rates of its blocks", "harness.adaptive:stages",
        replace("config.optim.layers is None", "True"),
        "tests/test_hierarchy_rows.py::test_the_model_decides_the_grids_and_what_does_not_go_with_it_is_refused",
    ),
    one(
        "vectors of moved patches are kept", "harness.embedded:check_fixed",
        replace("model.fuzzy is not None", "False"),
        "tests/test_embedded.py::test_what_has_no_single_vector_is_refused_by_name",
    ),
    one(
        "the digest of a summary is not compared", "harness.run.folder:read_sealed",
        returns("{k: v for k, v in read_json(path).items() if k != 'digest'}"),
        FLIPPED + "what_a_run_came_to", FLIPPED + "a_choice", survived=True,
    ),
    one(
        "the table of a study is believed", "harness.evaluation.studies.findings:table_in",
        replace("file.is_file() and __same", "file.is_file()"), FLIPPED + "tables_of_studies", survived=True,
    ),
    one(
        "features are written without checksums", "data.feature_file:write_features",
        replace("pq.ParquetWriter(__a, __b, write_page_checksum=True)", "pq.ParquetWriter(__a, __b)"),
        FLIPPED + "features_that_were_written", survived=True,
    ),
    one(
        "features of clips are their logits", "predict:pooled", replace("inference.pooled", "inference.forward", nth=0),
        "tests/test_clip_runs.py::test_files_of_every_kind_are_predicted_alike",
    ),
)  # fmt: skip
