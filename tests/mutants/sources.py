"""Mistakes in formats of files: data/sources/."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace

SOURCES, CLIPS = "data.sources.", "tests/test_clip_sources.py::test_"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "YAML: names are in the order of their lines, not of their numbers", SOURCES + "box_files:names_in_yaml",
        replace("sorted(map(numbered, parts), key=__k)", "[(-1, numbered(p)[1]) for p in parts]"),
        "tests/test_boxed.py::test_names_in_yaml", survived=True,
    ),
    one(
        "Kinetics: of two clips with a name the last counts", SOURCES + "clip_lists:annotated",
        replace("sorted(__f, reverse=True)", "sorted(__f)"), CLIPS + "of_two_clips_with_a_name_the_first_counts",
        survived=True,
    ),
    one(
        "clips: a table of frames from elsewhere says nothing", SOURCES + "clip_lists:frames_listed",
        replace("ends.get(tail(path, 3), 0)", "0"),
        CLIPS + "a_table_of_frames_from_elsewhere_names_clips_by_their_last_parts", survived=True,
    ),
    one(
        "tar: captions of the text and of the JSON", SOURCES + "tar_shards:samples_of",
        replace("texts or tables", "texts + tables"),
        "tests/test_tar_shards.py::test_a_text_is_taken_before_the_json_beside_it", survived=True,
    ),
    one(
        "COCO: a category whose number is to be ignored has no class", SOURCES + "masks:MaskedImages.__init__",
        replace("None if layout == 'coco' else options.ignore", "options.ignore"),
        "tests/test_masks.py::test_no_category_of_coco_is_ignored", survived=True,
    ),
    one(
        "COCO: categories stand in the order of the file", SOURCES + "box_json:categories_in",
        replace("sorted(data['categories'], key=__k)", "data['categories']"),
        "tests/test_masks.py::test_every_layout_has_the_same_masks",
    ),
    one(
        "cache: small images are enlarged", SOURCES + "records:scaled",
        replace("np.minimum(1, side / __r)", "side / __r"),
        "tests/test_feeding.py::test_sizes_are_scaled_and_never_enlarged",
    ),
)  # fmt: skip
