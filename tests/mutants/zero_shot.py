"""Mistakes in classes named by texts, false captions, locked towers and captions that images share."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

STUDY, BY_HAND = "harness.evaluation.studies.zeroshot:", "tests/test_zero_shot.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a false caption that reads the same loses by chance", STUDY + "of_foils",
        replace("__right & apart", "__right"), BY_HAND + "a_true_caption_is_compared_with_a_false_one",
    ),
    one(
        "a false caption wins where the true one is more similar", STUDY + "of_foils",
        replace("np.broadcast_to([True, False], __shape)", "np.broadcast_to([False, True], __shape)"),
        BY_HAND + "a_true_caption_is_compared_with_a_false_one",
    ),
    one(
        "classes with the same texts are rivals", STUDY + "distinct", returns("np.arange(len(texts))"),
        BY_HAND + "classes_with_the_same_texts_are_one_class",
    ),
    one(
        "one prompt of several", "data.sources.emoji:prompts", returns("__value[:1]"),
        "tests/test_emoji.py::test_classes_and_false_captions_follow_their_image",
    ),
    one(
        "the last text of an image for its first", "data.tasks.contrast:Contrast.main",
        replace("label_sets(manifest)[image_ids, 0]", "label_sets(manifest)[image_ids].max(-1)"),
        "tests/test_contrast.py::test_first_texts_are_candidates_for_all_images",
    ),
    one(
        "all shared captions say a number", "data.sources.glyph_captions:few",
        replace("told * (1 + number)", "1 + number"), "tests/test_glyph_captions.py::test_few_captions_are_shared",
    ),
    one(
        "a locked tower of texts has no last blocks", "navit_eqx.training.frozen:split",
        replace("frozen.last_n and starts(below[0], BLOCKS)", "False"),
        "tests/test_frozen.py::test_of_a_tower_of_texts_the_last_blocks_are_trained",
    ),
    one(
        "losses over all pairs are added up from parts", "harness.config:Config.__post_init__",
        replace("self.optim.accumulate == 1 or self.task.accumulates", "True"),
        "tests/test_contrast.py::test_a_loss_over_all_pairs_is_not_added_up_from_parts",
    ),
)  # fmt: skip
