"""Mistakes in texts, plans of pairs, classifiers made from texts, and what may move in contrastive training."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

CONTRAST = "tests/test_contrast.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "positions go on in the next text", "navit_eqx.text_rows:text_batch",
        replace("np.arange(len(__ids[__i]))", "np.arange(start, end) % 10"),
        CONTRAST + "texts_keep_their_order_in_one_program",
    ),
    one(
        "positions of a text start at 1", "reference.text:tokens_of",
        replace("np.arange(len(__column), dtype=np.int32)", "np.arange(len(__column), dtype=np.int32) % 11 + 1"),
        "tests/test_text.py::test_a_text_starts_at_position_0",
    ),
    one(
        "a text that is cut loses its end", "navit_eqx.text:Bytes.encode",
        replace("[*__ids, EOS]", "[*__ids, EOS][: self.max_length - 1] or [EOS]"),
        "tests/test_text.py::test_both_sides_have_the_same_text",
    ),
    one(
        "prompts are not made canonical", "navit_eqx.text:Bytes.encode",
        replace("canonicalize(__text)", "__text"), "tests/test_text.py::test_both_sides_have_the_same_text",
    ),
    one(
        "the mean of several prompts is shorter than they are", "navit_eqx.zero_shot:class_vectors",
        replace("unit(__means)", "__means"), CONTRAST + "several_prompts_are_averaged_to_unit_length",
    ),
    one(
        "ties count for the model", "reference.evaluation.retrieval:ranks",
        replace("__wrong >= __right", "__wrong > __right"),
        "tests/test_retrieval.py::test_ranks_are_counted_one_by_one",
    ),
    one(
        "a caption is drawn anew whenever a row is read", "data.tasks.contrast:PairPlans.captions",
        replace("generator(*__place)", "np.random.default_rng()"), CONTRAST + "hosts_share_a_batch_of_pairs",
    ),
    one(
        "every epoch draws the same captions", "data.tasks.contrast:PairPlans.captions",
        replace("generator(__purpose, __seed, __epoch, __block)", "generator(__purpose, __seed, 0, __block)"),
        CONTRAST + "every_pair_is_in_an_epoch_once_with_a_caption_of_its_own",
        survived=True,
    ),
    one(
        "a text of an image that cannot be read stays", "data.tasks.contrast:PairRows.text_row",
        replace("np.isin(images, readable) & (images >= 0)", "images >= 0"),
        CONTRAST + "an_image_and_its_text_come_together",
    ),
    one(
        "keys by caption, not by what the tokenizer left of it", "data.texts:Texts.__init__",
        replace("first.setdefault(tuple(ids), i)", "i"), CONTRAST + "texts_that_are_alike_have_one_key",
    ),
    one(
        "pairs whose text does not fit are lost", "reference.pairs:pack_pairs",
        replace("sorted(late)", "[]"), "tests/test_pairs.py::test_no_pair_is_split",
    ),
    one(
        "rows are dealt in their order", "reference.pairs:deal",
        replace("whole - 1 - place", "place"), "tests/test_pairs.py::test_needs_in_even_steps_are_dealt_evenly",
        survived=True,
    ),
    one(
        "a text for each image all the same", "data.tasks.contrast:PairPlans.__call__",
        replace("keys.tolist() if self.unique else None", "None"), CONTRAST + "a_text_stands_once_for_all_its_images",
    ),
    one(
        "an image that cannot be read takes the text of others with it", "data.tasks.contrast:PairRows.text_row",
        replace("asked is not None", "False"), CONTRAST + "a_text_stands_once_for_all_its_images",
    ),
    one(
        "pairs whose text is in the next group stay in this one", "reference.pairs:pack_pairs",
        replace("keys[i] in without", "False"), CONTRAST + "a_text_stands_once_for_all_its_images",
    ),
    one(
        "temperature and bias decay", "navit_eqx.training.optim:decay_groups.group",
        replace("__name not in DECAYED", "__name not in {*DECAYED, 'log_scale', 'bias'}"),
        CONTRAST + "temperature_and_bias_do_not_decay",
    ),
    one(
        "a locked tower is trained on", "navit_eqx.training.frozen:parts_of",
        replace("[['backbone']]", "[['task']]"),
        "tests/test_frozen.py::test_frozen_parameters_keep_every_bit_and_have_no_state",
    ),
    one(
        "texts that none of the images has count as missed", "data.tasks.contrast:Contrast.metrics",
        replace("images[asked]", "images", 0),
        "tests/test_retrieval.py::test_a_perfect_model_recalls_all_of_any_images", survived=True,
    ),
    one(
        "a search finds images that cannot be read", "predict:search", replace("i not in reasons", "True"),
        "tests/test_choice.py::test_a_search_lists_what_can_be_read", survived=True,
    ),
)  # fmt: skip
