"""Mistakes in reading the weights of other projects."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

SAYS = "tests/test_weights.py::test_the_reference_says_what_the_peer_says"
REFUSED = "tests/test_weights_refused.py"

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a kernel is flattened with its columns first", "navit_eqx.weights.names:_conv_read",
        replace("__w.transpose(2, 3, 1, 0)", "__w.transpose(3, 2, 1, 0)"), SAYS,
    ),
    one(
        "the table starts with the position of the class token", "navit_eqx.weights.names:positions.read",
        replace("places[positioned:]", "places[: len(places) - positioned]"), SAYS,
    ),
    one(
        "a tensor left over is ignored", "navit_eqx.weights.foreign:check_names",
        replace("sorted(__more - known.keys())", "[]"), f"{REFUSED}::test_tensors",
    ),
    one(
        "a model far larger than its file is made", "navit_eqx.weights.foreign:check_count",
        replace("__ours <= 2 * __theirs", "True"), f"{REFUSED}::test_configurations",
    ),
    one(
        "numbers that are not finite are read", "navit_eqx.weights.folder:at_least_float32",
        replace("bool(np.isfinite(array).all())", "True"), f"{REFUSED}::test_tensors",
    ),
    one(
        "a cubic table without its edges", "navit_eqx.tables:interpolated",
        replace("jnp.clip(__tap, 0, size - 1)", "__tap"), "tests/test_posembed.py::test_both_sides_agree",
    ),
    one(
        "a gate without its activation", "navit_eqx.layers:GatedMlp.__call__",
        replace("activation(a) * b", "a * b"), "tests/test_variants.py::test_agrees",
    ),
    one(
        "half of what is cut is rounded the other way", "navit_eqx.size_rules:CenterCrop.corner",
        replace("__n // 2", "-(-__n // 2)"), "tests/test_weights_used.py::test_center_crops",
    ),
    one(
        "what another layout cannot say is written all the same", "navit_eqx.weights.pretrained:attempt",
        replace("differences(said, model, info)", "[]"), "tests/test_pretrained.py::test_what_does_not_fit_is_named",
    ),
    one(
        "numbers that come back changed are written", "navit_eqx.weights.pretrained:attempt",
        replace("not np.array_equal(__a, __b)", "False"),
        "tests/test_pretrained.py::test_a_wrong_proposal_is_not_written",
    ),
    one(
        "a quotient of widths that is rounded down", "navit_eqx.weights.proposal:ratio",
        returns("c.mlp_width / c.width"), "tests/test_pretrained.py::test_the_ratio_of_widths_gives_the_width_back",
    ),
    one(
        "the second axis has the frequencies of the first", "navit_eqx.rotary_forms:interleaved",
        returns("shared(theta, share, axes)"), "tests/test_towers.py::test_both_sides_rotate_by_the_same_angles",
    ),
    one(
        "what is not read of a folder is not said", "navit_eqx.weights.foreign:left_out",
        returns("''"), "tests/test_towers.py::test_a_tower_is_taken_out_of_the_whole_model",
    ),
    one(
        "sides are rounded down to blocks", "navit_eqx.tower_sizes:LongestEdge.grid",
        replace("-(-__n // __p)", "__n // __p"),
        "tests/test_towers.py::test_the_longest_edge_bounds_and_never_enlarges",
    ),
    one(
        "an area that is too large stays", "navit_eqx.tower_sizes:Blocks.grid",
        replace("__area > self.most", "False"),
        "tests/test_towers.py::test_blocks_keep_the_area_between_its_limits",
    ),
    one(
        "a block takes tokens of other images", "navit_eqx.merging:block_tokens",
        replace("(__ids[..., :, None] == __ids[..., None, :]) & __first", "__first"),
        "tests/test_merging.py::test_both_sides_merge_the_same",
    ),
    one(
        "a token that is not there is the first of the row", "navit_eqx.merging:block_tokens",
        replace("jnp.where(match.any(-1)[..., None], token, 0)", "token"),
        "tests/test_merging.py::test_both_sides_merge_the_same",
    ),
    one(
        "the mean of an image counts all its tokens, merged or not", "navit_eqx.tasks.embed:Embed.predict",
        replace("__kept & __first", "__kept"),
        "tests/test_merging.py::test_merged_tokens_of_images_of_any_size",
    ),
    one(
        "a still image sees the first frame of a kernel alone", "navit_eqx.weights.names:conv_in_time.read",
        replace("__w.sum(2)", "__w[:, :, 0]"), SAYS,
    ),
    one(
        "towers within a whole model are not looked for", "navit_eqx.weights.clip:vision",
        replace("('vision_model.', 'vision_model.vision_model.', 'model.vision_model.', '')", "('vision_model.', '')"),
        "tests/test_towers.py::test_a_tower_is_taken_out_of_the_whole_model",
    ),
    one(
        "pictures are cut for another patch than the model's", "navit_eqx.weights.family:preprocessing",
        replace("not isinstance(patch, bool) and patch in known", "True"),
        "tests/test_weights_refused.py::test_preprocessing",
    ),
    one(
        "windows begin one patch early", "navit_eqx.local:same_window",
        replace("__coords // __window", "(__coords + 1) // __window"), "tests/test_variants.py::test_agrees",
    ),
    one(
        "whole blocks have windows and the others none", "navit_eqx.local:BlockMasks.of",
        replace("jax.lax.dynamic_index_in_dim(self.masks, __w, keepdims=False)", "self.masks[-1 - __w]"),
        "tests/test_variants.py::test_agrees",
    ),
    one(
        "attention maps know no windows", "reference.evaluation.attention_maps:image_attention",
        replace("mask_of(__mask, __layer)", "None"), "tests/test_local.py::test_attention_maps_know_windows",
    ),
    one(
        "files of another model stay beside the saved one", "navit_eqx.weights.pretrained:check_empty",
        replace("sorted(there - files)", "[]"),
        "tests/test_pretrained.py::test_a_folder_with_other_files_is_left_alone",
    ),
    one(
        "a mean that is normed costs nothing", "reference.evaluation.cost:pool_cost",
        replace("PoolCost(0, 2 * width, 0)", "PoolCost(0, 0, 0)", 1),
        "tests/test_cost.py::test_the_formula_is_the_program_for_every_pool",
    ),
    one(
        "pairs of tokens cost as much in wide heads as in narrow ones", "reference.evaluation.cost:pair_flops",
        replace("inner or width", "width"), "tests/test_cost.py::test_the_formula_is_the_program_however_it_runs",
    ),
    one(
        "queries that are normalized together are not rotated", "navit_eqx.attention:rotated",
        replace("apply_rotary(x, angles)", "x if isinstance(norm, WholeRmsNorm) else apply_rotary(x, angles)"),
        "tests/test_variants.py::test_agrees",
    ),
    one(
        "a gate without its norm", "navit_eqx.layers:GatedMlp.__call__", replace("self.norm(y)", "y"),
        "tests/test_variants.py::test_agrees",
    ),
    one(
        "keys of MoonViT-V2 in the order of the file", "navit_eqx.weights.moonvit_v2:_read",
        replace("k[..., order(c.head_channels)]", "k"),
        "tests/test_weights.py::test_the_reference_says_what_the_peer_says",
    ),
    one(
        "biases that a format lacks are dropped", "navit_eqx.weights.names:without_bias.write",
        replace("not np.any(bias)", "True"), "tests/test_towers.py::test_a_bias_that_a_format_lacks_is_not_dropped",
    ),
)  # fmt: skip
