"""Mistakes in clips: tubelets, frames, time."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

TUBELETS, CLIPS = "tests/test_tubelets.py::test_", "tests/test_clips.py::test_"
MUTANTS = (
    one(
        "tubelets: time and height are exchanged", "reference.tubelets:cut",
        replace("blocks.reshape(len(__c), -1)", "blocks.swapaxes(3, 4).reshape(len(__c), -1)"),
        TUBELETS + "tubelets_of_the_kernel_are_patches_of_three_axes",
    ),
    one(
        "tubelets: the kernel of an image is one frame late", "reference.tubelets:central",
        replace("__f == __n // 2", "__f == __n // 2 - 1"), TUBELETS + "inflations",
    ),
    one(
        "tubelets: all shapes share one vector", "navit_eqx.tubelets:TimeEmbedding.__call__",
        replace("__h @ self.shapes", "__h @ self.shapes[:1].repeat(len(self.shapes), 0)"), TUBELETS + "packed_is_alone",
    ),
    one(
        "tubelets: the matrix of the shape before", "reference.tubelets:tubelets",
        replace("adjoint_patches(__b, base, __s, __i)",
                "adjoint_patches(__b, base, __s if not patches else capped(shapes[0], clip.shape), __i)"),
        TUBELETS + "each_side_cuts_alike",
    ),
    one(
        "tubelets: centers are first places", "reference.tubelets:tubelets",
        replace("__c + np.array(__s) / 2", "__c + 0 * np.array(__s)"), TUBELETS + "each_side_cuts_alike",
    ),
    one(
        "tubelets: what is left over is cut off at the end", "reference.tubelets:starts",
        replace("(length - size - (__c - 1) * stride) // 2", "0"), TUBELETS + "counts_and_places",
    ),
    one(
        "tubelets: rotary positions see the shape", "navit_eqx.model:NaViT.in_space",
        returns("(coords, grids) if self.time is None else (coords[..., :2], grids[..., :2])"),
        TUBELETS + "packed_is_alone",
    ),
    one(
        "clips: extents of the tokens that are kept", "data.clips:PlannedClips.tokens",
        replace("Tokens(__p, __c, sizes)", "Tokens(__p, __c, np.append(sizes[0], __c[:, 1:].max(0) + 0.5))"),
        CLIPS + "evaluation_reads_every_clip_in_the_middle", CLIPS + "a_row_holds_what_each_clip_holds_alone",
    ),
    one(
        "clips: evaluation reads at random times", "harness.run.loading:_batches",
        replace("rows_of(__r, training=False)", "rows_of(__r, training=True)"),
        CLIPS + "evaluation_reads_every_clip_in_the_middle",
    ),
    one(
        "clips: the first frames instead of the middle", "reference.sampling.frames:frame_times",
        replace("start * (__f - __c * __s)", "0 * (__f - __c * __s)"),
        CLIPS + "frames_in_the_middle_are_read_in_evaluation",
    ),
    one(
        "clips: shuffled frames are in order", "data.clips:PlannedClips.clip",
        replace("self.clips.order == 'shuffled'", "False"), CLIPS + "shuffled_frames_are_the_same_frames",
    ),
    one(
        "clips: short ones are padded by frames", "reference.sampling.frames:frame_counts",
        replace("np.minimum(wanted, frames)", "wanted"), CLIPS + "a_short_clip_gives_fewer_frames",
    ),
    one(
        "moving digits: the first place depends on the direction", "data.sources.moving_digits:MovingDigitClips.paths",
        replace("rng.random((count, 2))", "(rng.random((count, 2)) + 0.4 * np.cos(angle)[:, None]) % 1 ** 2"),
        CLIPS + "neither_size_nor_place_tells_the_direction",
    ),
    one(
        "moving digits: down is up", "data.sources.moving_digits:MovingDigitClips.paths",
        replace("np.stack([np.sin(__a), np.cos(__a)], -1)", "np.stack([-np.sin(__a), np.cos(__a)], -1)"),
        CLIPS + "labels_are_directions",
    ),
)  # fmt: skip
