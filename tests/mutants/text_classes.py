"""Mistakes in classes of boxes that are named by texts: the head, its start, the data, the scores."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

HEAD, DATA = "navit_eqx.tasks.class_heads:", "data.tasks.detect:"
TESTS, BOTH = "tests/test_text_classes.py::test_", "tests/test_detect.py::test_loss_and_detections_agree"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "long vectors of tokens count more", HEAD + "TextHead.__call__",
        replace("unit(self.projection(x))", "self.projection(x)"), BOTH,
    ),
    one(
        "a scale may be negative", HEAD + "TextHead.__call__",
        replace("jax.nn.elu(self.scale(x)) + 1", "self.scale(x) + 1"), BOTH,
    ),
    one(
        "texts have the vectors of the rows that they are packed in", HEAD + "TextHead.class_vectors",
        replace("slots[:len(self.config.texts)]", "np.flatnonzero(row.image_ids.ravel() >= 0)"), BOTH,
    ),
    one(
        "classes whose texts disagree have short vectors", HEAD + "TextHead.class_vectors",
        replace("unit(__mean @ ordered)", "__mean @ ordered"), BOTH,
    ),
    one(
        "tokens are not pooled", HEAD + "alone", returns("x"), TESTS + "a_token_alone_is_an_image_of_one_token",
    ),
    one(
        "negatives are found", "navit_eqx.tasks.detect:Detect.scorer",
        replace("head.class_vectors()[:classes]", "head.class_vectors()"), BOTH,
    ),
    one(
        "another number of texts keeps the old ones", "navit_eqx.zero_shot:asking",
        replace("model.task.config.head.asking(prompts)", "model.task.config.head"),
        TESTS + "a_text_that_names_a_class_has_its_score",
    ),
    one(
        "the tower that reads texts starts anew", HEAD + "with_texts",
        replace("initial | {'class_head': __head}", "initial"), TESTS + "the_tower_is_kept",
    ),
    one(
        "a head of other parameters is taken for the same", "navit_eqx.tasks.task:holds",
        returns("initial.keys() <= saved.keys()"), TESTS + "a_tower_that_would_be_lost_is_named",
    ),
    one(
        "held-out classes keep their boxes under another name", "data.sources.unboxed:Unboxed.__init__",
        replace("manifest.boxes.only(~held)", "manifest.boxes"), TESTS + "classes_that_are_held_out_have_no_box",
    ),
    one(
        "held-out classes are trained on", "harness.run.loading:open_sources",
        replace("unboxed(train, config.task.held_out)", "train"), TESTS + "validation_has_all_classes",
    ),
    one(
        "held-out classes are scored among all", DATA + "of_classes",
        returns("[*found]"), TESTS + "scores_of_held_out_classes_stand_apart",
    ),
)  # fmt: skip
