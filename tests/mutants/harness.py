"""Mistakes in what is printed, when, and in the number of steps: harness/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

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
        "a start is told to have another shape", "harness.resolve:with_start", replace("not start", "True"),
        "tests/test_resolve.py::test_what_makes_no_sense_is_refused_with_the_key",
    ),
)  # fmt: skip
