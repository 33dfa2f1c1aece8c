"""Mistakes in a hierarchy of stages."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

MODEL, ROWS = "tests/test_hierarchy.py::test_", "tests/test_hierarchy_rows.py::test_"
ORDER = MODEL + "a_quad_is_four_tokens_in_a_row_at_every_level"
MUTANTS = (
    one(
        "stages: quads are stored by columns", "navit_eqx.hierarchy:block_order",
        replace("2 * (y >> bit & 1) + (x >> bit & 1)", "2 * (x >> bit & 1) + (y >> bit & 1)"), ORDER,
    ),
    one(
        "stages: tokens within a block are in raster order", "reference.hierarchy:block_order",
        replace("np.lexsort((place, x >> merges, y >> merges))", "np.lexsort((x, y, x >> merges, y >> merges))"), ORDER,
    ),
    one(
        "stages: coordinates are not halved", "navit_eqx.hierarchy:coarser",
        replace("coords[..., 0, :] // 2", "coords[..., 0, :]"), MODEL + "merging_a_row_is_merging_its_images",
    ),
    one(
        "stages: grids stay those of the first level", "navit_eqx.hierarchy:coarser",
        replace("row.grids // 2", "row.grids"), MODEL + "merging_a_row_is_merging_its_images",
    ),
    one(
        "stages: segment ids of a later level are those of the first tokens", "navit_eqx.hierarchy:coarser",
        replace("row.segment_ids[..., ::4]", "row.segment_ids[..., :row.segment_ids.shape[-1] // 4]"),
        MODEL + "packed_is_alone",
    ),
    one(
        "stages: a row in another order passes unnoticed", "navit_eqx.hierarchy:are_quads",
        returns("jnp.ones(row.segment_ids.shape[:-1] + (row.segment_ids.shape[-1] // 4,), bool)"),
        MODEL + "a_row_in_another_order_is_not_merged",
    ),
    one(
        "stages: the norm at the end comes after every stage", "navit_eqx.hierarchy:Hierarchy.__init__",
        replace("first if last else replace(first, final_norm=False)", "first"),
        MODEL + "the_last_stage_alone_ends_with_a_norm",
    ),
    one(
        "stages: later stages have the gates of the first", "navit_eqx.hierarchy:Hierarchy.__call__",
        replace("gates[self.stage.depth:]", "gates"), MODEL + "gates_of_stochastic_depth_go_to_their_stages",
    ),
    one(
        "stages: sides are rounded to the nearest block", "reference.sampling.resolution:whole_blocks",
        replace("grids // block * block", "(grids + block // 2) // block * block"),
        ROWS + "grids_are_whole_blocks_and_no_larger",
    ),
    one(
        "stages: tokens are dropped one by one", "data.sampling.merge:kept_by",
        returns("kept_tokens(tokens, rates)"), ROWS + "what_is_planned_is_loaded_by_whole_blocks",
    ),
    one(
        "stages: rows for inference are in raster order", "navit_eqx.hierarchy:block_order",
        returns("np.arange(int(np.prod(grid)))"), ROWS + "packing_for_inference_is_that_of_evaluation",
    ),
    one(
        "stages: attention of a later level costs as much as of the first", "reference.evaluation.cost:staged_flops",
        replace("tokens / 4**level", "tokens"), "tests/test_cost.py::test_the_formula_is_the_program_however_it_runs",
    ),
)  # fmt: skip
