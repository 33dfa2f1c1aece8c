"""Mistakes in the wiring of programs and of evaluation: train.py, evaluate.py, predict.py and harness/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

EVALUATED, RUN = "tests/test_evaluation.py::test_", "tests/test_run_wiring.py::test_"
LOADING, STUDIES = "harness.run.loading:", "harness.evaluation.studies."

MUTANTS: tuple[Mutant, ...] = (
    # what is evaluated
    one(
        "evaluation augments as training does", LOADING + "_batches",
        replace("kind(__a, __b, __c, __d, __e, __f, None, **__more)",
                "kind(__a, __b, __c, __d, __e, __f, config.data.augment, **__more)"),
        EVALUATED + "what_is_evaluated_is_every_image_as_it_is", survived=True,
    ),
    Mutant(
        "evaluation drops tokens as training does",
        (
            (LOADING + "evaluation_rows",
             replace("plan_evaluation(__a, patch_size=__b, resolution=__c, packing=__d, longest_side=__e,"
                     " dropping=__f, complexity=__g)",
                     "plan_evaluation(__a, patch_size=__b, resolution=__c, packing=__d, longest_side=__e,"
                     " dropping=config.data.dropping, complexity=__g)")),
        ),
        (EVALUATED + "what_is_evaluated_is_every_image_as_it_is",), survived=True,
    ),
    one(
        "the last rows that fill no batch are not evaluated", LOADING + "_batches",
        replace("fill_last_batch(__plan, __rows)", "__plan"),
        EVALUATED + "what_is_evaluated_is_every_image_as_it_is", survived=True,
    ),
    one(
        "validation is on training images", LOADING + "open_sources",
        replace("open_source(__config, 'val')", "open_source(__config, 'train')"),
        EVALUATED + "validation_images_are_others_than_those_of_training",
    ),
    one(
        "images that cannot be decoded are not counted", "harness.evaluation.predictions:evaluate",
        replace("int((__ids >= 0).sum()) - len(__found)", "0"), EVALUATED + "every_image_is_scored_or_counted",
    ),
    one(
        "FLOPs of another patch size are those of the model", "harness.evaluation.predictions:evaluate",
        replace("replace(config.model, patch=__patch, flexi=None)", "replace(config.model, flexi=None)"),
        EVALUATED + "flops_are_those_of_the_patch_size", survived=True,
    ),
    one(
        "groups by height / width", "harness.evaluation.predictions:groups",
        replace("sizes[:, 1] / sizes[:, 0]", "sizes[:, 0] / sizes[:, 1]"), EVALUATED + "wide_images_are_wide",
        survived=True,
    ),
    one(
        "the standard error does not know the root", "harness.evaluation.predictions:Predictions.score",
        replace("scores.std() / np.sqrt(__n)", "scores.std() / __n"),
        EVALUATED + "a_standard_error_is_that_of_the_mean", survived=True,
    ),
    one(
        "time per image counts empty slots", "harness.evaluation.predictions:seconds_per_image",
        replace("__sides > 0", "__sides >= 0"), EVALUATED + "time_is_divided_by_images", survived=True,
    ),
    # settings are chosen on one half and judged on the other
    one(
        "the temperature is fitted on the half it is judged on", STUDIES + "calibration:calibrate",
        replace("fit_temperature(fit.outputs, context.truth(fit), __link)",
                "fit_temperature(test.outputs, context.truth(test), __link)"),
        EVALUATED + "a_temperature_is_fitted_on_the_half_that_is_not_judged", survived=True,
    ),
    one(
        "cascades are chosen on the half they are measured on", STUDIES + "cascade:candidates_of",
        replace("(0, 1)", "(1, 1)"), EVALUATED + "cascades_are_chosen_on_the_half_that_is_not_measured", survived=True,
    ),
    one(
        "the l2 of a probe is chosen on the half it is judged on", STUDIES + "probe:fit",
        replace("accuracy(__fitted, choose.values, choose.labels)", "accuracy(__fitted, test.values, test.labels)"),
        EVALUATED + "a_probe_is_chosen_on_the_half_that_is_not_judged", survived=True,
    ),
    one(
        "chance ECE is that before the temperature", STUDIES + "calibration:calibrate",
        replace("sample_calibrated_error(__rng, after.confidence)",
                "sample_calibrated_error(__rng, before.confidence)"),
        EVALUATED + "chance_ece_is_that_of_the_scaled_confidences", survived=True,
    ),
    one(
        "a gain is that of the second", STUDIES + "findings:difference",
        replace("one.scores - other.scores", "other.scores - one.scores"), EVALUATED + "a_gain_is_that_of_the_first",
        survived=True,
    ),
    one(
        "confusion is transposed", STUDIES + "mistakes:confusion",
        replace("labels * classes + predicted", "predicted * classes + labels"),
        "tests/test_studies.py::test_mistakes_are_those_of_each_class",
    ),
    one(
        "a second prediction costs nothing more", STUDIES + "cascade:outcome",
        replace("__cheap + again * __better", "__cheap"),
        "tests/test_studies.py::test_a_cascade_mends_what_the_cheap_prediction_is_unsure_of",
    ),
    # a run
    one(
        "the parameters are exported, not their average", "harness.run.selection:Selection.params",
        replace("state.eval_params", "state.model"),
        RUN + "the_exported_model_is_the_average", survived=True,
    ),
    one(
        "validation on the way takes the parameters, not their average", "harness.run.training:Training.validate",
        replace("hosts.replicate_to_host(self.state.eval_params)", "hosts.replicate_to_host(self.state.model)"),
        RUN + "validation_on_the_way_is_that_of_the_average", survived=True,
    ),
    one(
        "the summary has the accuracy of the first resolution", "train:conclude",
        replace("next(e for e in entries if __same)", "entries[0]"), RUN + "the_summary_is_that_of_the_model_on_disk",
        survived=True,
    ),
    one(
        "a model is saved with another resolution", "train:info_of",
        replace("config.data.reported_at", "max(config.data.eval_resolutions)"),
        RUN + "the_summary_is_that_of_the_model_on_disk",
    ),
    one(
        "a student is saved as a student", "harness.run.training:Training.model",
        replace("self.program.model(__params).for_inference()", "self.program.model(__params)"),
        RUN + "a_new_task_trains_from_end_to_end", survived=True,
    ),
    one(
        "a run starts as if it had no model to start from", "harness.run.training:first_state",
        replace("warm_start(__initial, __config, __classes)", "__initial"),
        RUN + "a_start_is_that_of_the_model_on_disk", survived=True,
    ),
    one(
        "the rate of the next step is logged", "harness.run.progress:Progress.line",
        replace("step - 1 - __refused", "step - __refused"),
        "tests/test_resume.py::test_refused_steps_are_named_counted_and_limited",
    ),
    one(
        "sums since the last line are lost by a stop", "harness.run.progress:Progress.__init__",
        replace("dict.fromkeys(WINDOW, 0) | before['window']", "dict.fromkeys(WINDOW, 0)"),
        "tests/test_resume.py::test_progress_counts_on",
    ),
    one(
        "every run trains in the order of seed 0", LOADING + "training_rows",
        replace("config.seed", "0", nth=0), EVALUATED + "another_seed_is_another_order", survived=True,
    ),
    one(
        "images are not augmented", LOADING + "training_rows",
        replace("None if config.data.augment == Augment() else config.data.augment", "None"),
        EVALUATED + "options_of_the_data_reach_the_rows", survived=True,
    ),
    one(
        "tokens are always selected at random", LOADING + "training_rows",
        replace("config.data.token_selection",
                "__import__('data.sampling.token_selection', fromlist=['AtRandom']).AtRandom()"),
        EVALUATED + "options_of_the_data_reach_the_rows", survived=True,
    ),
    # other programs
    one(
        "predict.py prints the least likely classes", "predict:best",
        replace("np.argsort(-p, kind='stable')", "np.argsort(p, kind='stable')"),
        "tests/test_predict.py::test_probabilities_are_those_of_the_function_it_was_trained_with",
    ),
    one(
        "an evaluation of too few images is a success", "evaluate:evaluate",
        replace("check_share(*__rest)", "None"), EVALUATED + "an_evaluation_of_too_few_images_fails", survived=True,
    ),
    one(
        "other images are taken for those of the run", "evaluate:main",
        replace("'val' if __same else 'all'", "'val'"), EVALUATED + "all_of_other_images_are_evaluated", survived=True,
    ),
    one(
        "evaluations of folders of one name share a folder", "evaluate:folder_for",
        replace("short_hash(str(__root), __digest)", "__digest"),
        "tests/test_trained.py::test_no_two_evaluations_share_a_folder", survived=True,
    ),
    one(
        "images with the names and sizes of the run's own are taken for them", "evaluate:folder_for",
        replace("__root == __other and __known", "__known"),
        "tests/test_trained.py::test_no_two_evaluations_share_a_folder", survived=True,
    ),
)  # fmt: skip
