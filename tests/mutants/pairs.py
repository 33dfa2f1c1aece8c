"""Mistakes in images with captions."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns, starts_with

CAPTIONS, TAR = "tests/test_captions.py::test_", "tests/test_tar_shards.py::test_"
MUTANTS = (
    one(
        "rows with the same image stay apart", "data.sources.pairs:same_images",
        returns("[*range(len(numbers))]"), CAPTIONS + "every_layout_has_the_same_pairs",
    ),
    one(
        "images of equal length are one", "data.sources.pairs:digest",
        replace("__hash.digest()", "str(reader.length(index)).encode()"),
        "tests/test_equal_images.py::test_images_are_one_by_their_bytes",
    ),
    one(
        "the captions of a repeated image are lost", "data.sources.pairs:united",
        replace("dict.fromkeys(__both)", "captions.get(place) or own"),
        "tests/test_equal_images.py::test_a_file_that_repeats_an_image_adds_its_captions",
    ),
    one(
        "attributes in the order of the table", "data.sources.captions:attributes_of",
        replace("of_part[part].get(pairs.names[i])", "[*of_part[part].values()][i]"),
        "tests/test_equal_images.py::test_columns_of_a_table_name_what_is_in_an_image",
    ),
    one(
        "fields of the images of COCO are no attributes", "data.sources.caption_tables:read_coco",
        replace("[__entry[__field]] if __field in __entry else []", "[]"),
        "tests/test_equal_images.py::test_columns_of_a_table_name_what_is_in_an_image",
    ),
    one(
        "members of a shard beside the JSON are no attributes", "data.sources.tar_shards:values_of",
        replace("__suffix in columns", "False"),
        "tests/test_equal_images.py::test_columns_of_a_table_name_what_is_in_an_image",
    ),
    one(
        "a table at the root names images from there", "data.sources.attribute_tables:values_beside",
        replace("os.path.relpath(__name, __start)", "__name"),
        "tests/test_equal_images.py::test_columns_of_a_table_name_what_is_in_an_image",
    ),
    one(
        "numbers of JSON are no values", "data.sources.caption_parquet:text_of",
        replace("isinstance(value, int)", "False"),
        "tests/test_equal_images.py::test_numbers_of_json_are_values_as_in_a_table",
    ),
    one(
        "pixels of another image, where one was set aside", "data.sources.captions:CaptionedImages.__init__",
        replace("np.array([__place[name] for name in __names], __kind)", "np.arange(len(self.manifest))"),
        CAPTIONS + "bad_pairs_are_set_aside_by_name",
    ),
    one(
        "captions of the images before division", "data.sources.captions:CaptionedImages.__init__",
        replace("[__texts[i] for i in __chosen]", "__texts[: len(__chosen)]", nth=1),
        CAPTIONS + "without_validation_a_tenth_is_held_out",
    ),
    one(
        "an empty text is a caption", "data.sources.pairs:says_something", returns("True"),
        CAPTIONS + "bad_pairs_are_set_aside_by_name",
    ),
    one(
        "captions of images that were set aside are classes", "data.sources.captions:first_seen_captions",
        returns("(labels, captions)"), CAPTIONS + "bad_pairs_are_set_aside_by_name",
    ),
    one(
        "one caption of each image in a table", "data.sources.caption_tables:read_csv",
        replace("__rows.setdefault(__name, []).append(__text)", "__rows.setdefault(__name, [__text])"),
        CAPTIONS + "every_layout_has_the_same_pairs",
    ),
    one(
        "a shard may end anywhere", "data.sources.tar_shards:check_end", starts_with("return"),
        TAR + "a_shard_cut_anywhere_is_named", TAR + "a_flipped_bit_of_a_header_is_named",
    ),
    one(
        "an old index serves a changed shard", "data.sources.tar_shards:index",
        replace("stamp(__shard)", "None"), TAR + "a_changed_shard_is_indexed_again",
    ),
    one(
        "a damaged index is used", "data.checksums:read_lines",
        replace("__mark == __sum", "True"), TAR + "a_damaged_index_is_made_again",
    ),
    one(
        "a single digit has a direction", "data.sources.digit_captions:codes",
        replace("__facts[:, None, 1:2] > 1", "__facts[:, None, 1:2] > 0"),
        "tests/test_digit_captions.py::test_captions_are_true",
    ),
    one(
        "held-out pairs are trained on", "data.sources.glyph_captions:seen_color",
        returns("__value * 0 + shape"), "tests/test_glyph_captions.py::test_six_pairs_are_held_out",
    ),
    one(
        "one thing stands for two", "data.sources.glyph_captions:GlyphField.entails",
        replace("__said == 1 + self.facts[:, None]", "__said <= 1 + self.facts[:, None]"),
        "tests/test_glyph_captions.py::test_entailment_is_what_the_words_say",
    ),
    one(
        "classes of rows, not of readable images", "data.sources.caption_parquet:column_of_images",
        replace("reader.rows[places].tolist()", "range(len(places))"),
        "tests/test_emoji.py::test_classes_and_false_captions_follow_their_image",
    ),
    one(
        "pieces of a text that is not canonical", "navit_eqx.sentencepiece:SentencePiece.encode",
        replace("canonicalize(__text)", "__text"), "tests/test_sentencepiece.py::test_any_text_comes_back",
    ),
    one(
        "a text that is cut has no end", "navit_eqx.sentencepiece:SentencePiece.encode",
        returns("__value[: self.max_length - 1] or __value"),
        "tests/test_sentencepiece.py::test_a_text_that_is_cut_ends_as_any_other",
    ),
    one(
        "any tokenizer will do", "navit_eqx.sentencepiece:_read",
        replace("__digest in (None, _digest(__data))", "True"),
        "tests/test_sentencepiece.py::test_another_model_is_refused_by_its_digest",
    ),
    one(
        "a model is saved without its tokenizer", "navit_eqx.tasks.config:Contrast.stored", returns("self"),
        "tests/test_sentencepiece.py::test_a_saved_model_has_its_tokenizer",
    ),
)  # fmt: skip
