"""Mistakes in what is printed, when, and in the number of steps: harness/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

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
        "a study that failed is forgotten", "harness.evaluation.studies:publish_all",
        replace("Outcomes(rows, failed)", "Outcomes(rows, {})"),
        "tests/test_libraries.py::test_a_study_that_fails_ends_no_other_and_is_raised_last",
    ),
    one(
        "a logger that failed is tried again", "harness.run.logger:Guarded.call",
        replace("NullLogger()", "self.logger"),
        "tests/test_libraries.py::test_a_logger_that_fails_is_told_once_and_left_alone",
    ),
)  # fmt: skip
