"""Mistakes in clips: tubelets, frames, time."""

from tests.mutants.kinds import one
from tests.support.mutation import replace, returns

TUBELETS, CLIPS = "tests/test_tubelets.py::test_", "tests/test_clips.py::test_"
FILES = "tests/test_clip_sources.py::test_"
FRAMES = "tests/test_frames.py::test_"
MUTANTS = (
    one(
        "frames: tokens of a clip attend to all times", "navit_eqx.local:same_frame",
        returns("jnp.ones((*times.shape, times.shape[-1]), bool)"), FRAMES + "packed_is_alone",
    ),
    one(
        "frames: windows of a clip reach through time", "navit_eqx.local:LayerMasks.__call__",
        replace("__f & same_window(__c, __w)", "mask & same_window(__c, __w)"), FRAMES + "packed_is_alone",
    ),
    one(
        "frames: the reference forgets the times", "reference.tubelets:in_space",
        replace("params['local'] and __v", "params['local']"), FRAMES + "each_frame_is_alone",
    ),
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
        "clips: times are drawn by the process that reads", "data.clips:PlannedClips.tokens",
        replace("generator(Purpose.IMAGE, self.seed, epoch, image_id)", "np.random.default_rng()"),
        CLIPS + "a_row_holds_what_each_clip_holds_alone",
    ),
    one(
        "clips: training reads the same frames in every epoch", "data.clips:PlannedClips.tokens",
        replace("generator(Purpose.IMAGE, self.seed, epoch, image_id)",
                "generator(Purpose.IMAGE, self.seed, 0, image_id)"),
        CLIPS + "frames_differ_between_epochs",
    ),
    one(
        "tubelets: equal frames of a kernel add up", "reference.tubelets:mean",
        replace("w / frames", "w"), TUBELETS + "a_still_clip_is_the_image",
    ),
    one(
        "tubelets: the table of time is read at the height", "navit_eqx.tubelets:TimeEmbedding.__call__",
        replace("coords[..., 1:2]", "coords[..., 2:3]"), TUBELETS + "packed_is_alone",
    ),
    one(
        "tubelets: a short clip has no long ones", "reference.tubelets:capped",
        returns("tuple(shape)"), TUBELETS + "a_clip_of_one_frame_is_the_image",
    ),
    one(
        "leaks: the order of frames is kept", "harness.evaluation.studies.leaks:leaks",
        replace("replace(law, order='shuffled')", "law"), "tests/test_clip_runs.py::test_controls_show_no_motion",
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
        "videos: frames are chosen by number", "data.sources.video_files:starts_of",
        replace("len({*__s}) == __c", "False"), FILES + "frames_are_chosen_by_time",
    ),
    one(
        "animations: frames are chosen by number", "data.sources.clip_files:animation",
        replace("min(__l) > 0", "False"), FILES + "frames_are_chosen_by_time",
    ),
    one(
        "videos: the last frames stay in the decoder", "data.sources.video_files:read_video",
        replace("container.decode(stream)", "(f for p in container.demux(stream) if p.size for f in p.decode())"),
        FILES + "every_frame_once_and_in_order",
    ),
    one(
        "videos: what the header says of the length is not read", "data.sources.video_files:starts_of",
        replace("__d > __e - __s + __k", "False"), FILES + "what_was_cut_short_is_not_a_shorter_clip",
    ),
    one(
        "animations: a GIF without an end is a shorter clip", "data.sources.clip_files:GIF_END",
        replace("b';'", "b''"), FILES + "what_was_cut_short_is_not_a_shorter_clip",
    ),
    one(
        "folders of frames: frame 10 comes after frame 1", "data.sources.clip_files:frames_in",
        replace("int(__p) if __p.isdecimal() else __p", "__p"), FILES + "every_frame_once_and_in_order",
    ),
    one(
        "clips: they are read with the channels of the preset", "harness.case:Case.sources",
        replace("open_sources(self.shaped)", "open_sources(self.requested)"),
        "tests/test_clip_runs.py::test_clips_are_read_with_the_channels_of_the_start",
    ),
    one(
        "clips: tubelets keep the pixels of another kernel", "harness.run.warm_start:in_patches",
        replace("not whole(old) or whole(new)", "True"),
        "tests/test_clip_runs.py::test_tubelets_keep_to_the_patches_of_the_start",
    ),
    one(
        "clips: a picture beside clips hides them", "data.sources.clip_files:are_frames",
        returns("bool(suffixes & STILLS)"), FILES + "a_folder_with_other_clips_is_no_clip",
    ),
    one(
        "clips: parts of one recording are split", "data.sources.clip_folder:recording_of",
        returns("os.path.splitext(os.path.basename(name))[0]"), FILES + "recordings_are_never_split",
        survived=True,
    ),
    one(
        "clips: Kinetics' labels are those of folders", "data.sources.clip_lists:annotation_tables",
        returns("[]"), FILES + "the_tables_of_kinetics",
    ),
    one(
        "clips: the first line of Kinetics' tables wins", "data.sources.clip_lists:annotated",
        replace("(__a, __b) != (__c, __d)", "False"), FILES + "tables_of_kinetics_that_cannot_be_right",
    ),
    one(
        "clips: the table of frames is not read", "data.sources.clip_folder:measure",
        replace("__e[__i] and __s[0] < __e[__i]", "False"), FILES + "a_table_of_frames_tells_what_was_cut_short",
    ),
    one(
        "moving digits: the first place depends on the direction", "data.sources.moving_digits:MovingDigitClips.paths",
        replace("rng.random((count, 2))", "rng.random((count, 2)) ** (1 + 0.2 * np.cos(angle)[:, None])"),
        CLIPS + "neither_size_nor_place_tells_the_direction",
    ),
    one(
        "moving digits: down is up", "data.sources.moving_digits:MovingDigitClips.paths",
        replace("np.stack([np.sin(__a), np.cos(__a)], -1)", "np.stack([-np.sin(__a), np.cos(__a)], -1)"),
        CLIPS + "labels_are_directions",
    ),
    one(
        "clips: one that cannot be read shifts those after it", "harness.evaluation.clip_predictions:outputs_of",
        replace("zip(clips, __o)", "zip([i for i, _ in some], __o)"),
        "tests/test_clip_runs.py::test_files_of_every_kind_are_predicted_alike",
    ),
    one(
        "clips: frames are unpacked, then counted", "data.sources.clip_files:array_of",
        replace("0 < prod(__shape) <= MOST_BYTES", "True"),
        "tests/test_clip_sources.py::test_frames_that_unpack_to_too_much_are_refused_before",
    ),
)  # fmt: skip
