"""Clips from files: every frame once and in order, by time, and what was cut short is set aside by name."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import BadImage, DataError, DataMissing
from data.sources import clip_files, video_files
from data.sources.clip_files import clip_size, read_clip
from data.sources.clip_folder import ClipFolder, clips_of, recording_of
from data.sources.memory import CachedInMemory
from data.sources.moving_digits import MovingDigits
from data.sources.source import Chosen, with_classes
from harness.evaluation.clip_predictions import clip_paths

av = pytest.importorskip("av")

COUNT, SIZE = 20, (32, 48)
FRAMES = np.stack([np.full((*SIZE, 3), 10 * k + 5, np.uint8) for k in range(COUNT)])
FRAMES[:, :8, :8] = [200, 40, 90]
EVERY = (np.arange(COUNT) + 0.5) / COUNT
LOSSLESS = {"a.mkv": ("ffv1", "bgr0"), "a.avi": ("ffv1", "bgr0")}
LOSSY = {"a.webm": ("libvpx-vp9", "yuv420p"), "a.mp4": ("libx264", "yuv420p"), "b.mkv": ("libx264", "yuv420p")}
LEVELS = 6  # that a lossy codec may change a gray level by


def write_video(path: Path, codec: str, form: str, milliseconds=None, frames=FRAMES) -> Path:
    """A video with a frame every tenth of a second, or at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], form
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_animation(path: Path, frames=FRAMES, **options) -> Path:
    first, *rest = (Image.fromarray(pixels) for pixels in frames)
    options = {"duration": 100, "lossless": True} | options
    first.save(path, save_all=True, append_images=rest, **options)
    return path


def write_frames(folder: Path, frames=FRAMES) -> Path:
    """Names without leading zeros: frame_10 is after frame_9."""
    folder.mkdir(parents=True)
    for k, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"frame_{k}.png")
    return folder


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


# every frame once and in order ---------------------------------------------------------------------------


def write(folder: Path, name: str) -> Path:
    if name in LOSSLESS | LOSSY:
        return write_video(folder / name, *(LOSSLESS | LOSSY)[name])
    if name.endswith(".npz"):
        np.savez(folder / name, frames=FRAMES)
    elif name.endswith(".npy"):
        np.save(folder / name, FRAMES)
    elif name == "frames":
        write_frames(folder / name)
    else:
        write_animation(folder / name)
    return folder / name


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY, "a.webp", "a.png", "a.gif", "a.npz", "a.npy", "frames"])
def test_every_frame_once_and_in_order(tmp_path, name):
    path = write(tmp_path, name)
    assert clip_size(path, 3) == (COUNT, *SIZE)
    got = read_clip(path, EVERY, 3, COUNT)
    if name in LOSSY:
        assert np.abs(got[:, 16:, 16:].astype(int) - FRAMES[:, 16:, 16:]).max() <= LEVELS
    else:
        np.testing.assert_array_equal(got, FRAMES)
    some = np.array([0.97, 0.0, 0.52, 0.51])  # any order, and twice
    np.testing.assert_array_equal(read_clip(path, some, 3, COUNT), got[[19, 0, 10, 10]])
    gray = read_clip(path, EVERY[:2], 1, COUNT)
    assert gray.shape == (2, *SIZE, 1) and abs(int(gray[1, 20, 20, 0]) - 15) <= LEVELS


@pytest.mark.parametrize("name", ["a.mkv", "a.webp", "a.gif"])
def test_frames_are_chosen_by_time(tmp_path, name):
    """The first frame is shown for 1.9 of 3.8 seconds, the others for a tenth each."""
    if name == "a.mkv":
        path = write_video(tmp_path / name, "ffv1", "bgr0", [0, *range(1900, 3800, 100)])
    else:
        path = write_animation(tmp_path / name, duration=[1900] + [100] * 19)
    got = read_clip(path, np.array([0.1, 0.3, 0.45, 0.52, 0.76, 0.99]), 3, COUNT)[:, 20, 20, 0]
    want = FRAMES[[0, 0, 0, 1, 10, 19], 20, 20, 0]
    assert np.abs(got.astype(int) - want).max() <= 10, "a frame off, where the last one has no length of its own"


# what is set aside --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.avi", "a.gif", "a.webp", "a.png", "a.npz"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_what_was_cut_short_is_not_a_shorter_clip(tmp_path, name, share):
    path = cut(write(tmp_path, name), share)
    with pytest.raises(BadImage):
        read_clip(path, EVERY, 3, COUNT)
    with pytest.raises(BadImage):
        clip_size(path, 3)


def test_a_table_of_frames_tells_what_was_cut_short(tmp_path):
    """Where the file itself does not: a folder that lost frames."""
    for split, label in (("train", "up"), ("train", "down"), ("val", "up"), ("val", "down")):
        write_frames(tmp_path / split / label / "one", FRAMES[:6])
        write_frames(tmp_path / split / label / "two", FRAMES[:8])
    with (tmp_path / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([["path", "frames", "label"], ["train/up/one", 6, "up"], ["train/up/two", 8, "up"]])
    assert len(ClipFolder().open(str(tmp_path), "train").manifest) == 4
    (tmp_path / "train" / "up" / "two" / "frame_7.png").unlink()
    manifest = ClipFolder().open(str(tmp_path), "train").manifest
    assert manifest.set_aside == (("up/two", "cut short: 7 frames, index.csv says 8"),)
    assert sorted(map(manifest.name, range(3))) == ["down/one", "down/two", "up/one"]
    (tmp_path / "index.csv").write_text("path,frames\ntrain/up/one,six\n")
    with pytest.raises(DataError, match="column frames"):
        ClipFolder().open(str(tmp_path), "train")


def test_a_table_of_frames_from_elsewhere_names_clips_by_their_last_parts(tmp_path):
    for label in ("up", "down"):
        write_frames(tmp_path / "train" / label / "one", FRAMES[:6])
    (tmp_path / "index.csv").write_text("path,frames\nsets/v1/train/up/one,7\nsets/v1/train/down/one,6\n")
    manifest = ClipFolder().open(str(tmp_path), "train").manifest
    assert manifest.set_aside == (("up/one", "cut short: 6 frames, index.csv says 7"),)


def test_a_clip_that_changed_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", "ffv1", "bgr0", frames=FRAMES[:9])
    with pytest.raises(BadImage, match="9 frames, but 20"):
        read_clip(path, EVERY, 3, COUNT)
    folder = write_frames(tmp_path / "frames")
    Image.new("RGB", (9, 9)).save(folder / "frame_3.png")
    with pytest.raises(BadImage, match="differ in size"):
        read_clip(folder, EVERY, 3, COUNT)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.npz", "x.npy"])
@pytest.mark.parametrize("data", [b"", b"no clip at all", b"\x00" * 3000])
def test_rubbish_is_named(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadImage):
        clip_size(tmp_path / name, 3)


def test_frames_that_unpack_to_too_much_are_refused_before(tmp_path, monkeypatch):
    """By the header: an archive of zeros is a thousand times smaller than its frames."""
    small, large = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((5, 8, 8, 3), np.uint8)
    monkeypatch.setattr(clip_files, "MOST_BYTES", small.size)
    monkeypatch.setattr(clip_files, "MOST_PIXELS", small.size // 3)
    for clip, fits in ((small, True), (large, False)):
        np.savez_compressed(tmp_path / "a.npz", frames=clip, other=np.zeros(3))
        np.save(tmp_path / "a.npy", clip)
        first, *rest = map(Image.fromarray, clip + np.arange(len(clip), dtype=np.uint8)[:, None, None, None])
        first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
        for name in ("a.npz", "a.npy", "a.gif"):
            if fits:
                assert clip_size(tmp_path / name, 3) == (4, 8, 8)
                continue
            with monkeypatch.context() as patched, pytest.raises(BadImage, match="at most|exceed"):
                patched.setattr(clip_files.np, "load", lambda *a, **b: pytest.fail("it is unpacked"))
                clip_size(tmp_path / name, 3)
    np.savez(tmp_path / "two.npz", a=small, b=small)
    with pytest.raises(BadImage, match="holds 2 arrays"):
        clip_size(tmp_path / "two.npz", 3)
    with pytest.raises(BadImage, match="cannot be listed, No such file"):
        clip_files.frames_in(tmp_path / "none")


def test_without_pyav_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DataMissing, match=r"pip install 'navit-eqx\[video\]'"):
        video_files.video_header(tmp_path / "a.mp4")


# layouts ------------------------------------------------------------------------------------------------


def few(path: Path) -> None:
    """A clip of four tiny frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_animation(path, FRAMES[:4, 16:20, 16:20])


def names_of(root: Path, split: str, **options) -> list[str]:
    manifest = ClipFolder(**options).open(str(root), split).manifest
    assert not manifest.set_aside and manifest.has_clips
    return sorted(map(manifest.name, range(len(manifest))))


def test_recordings_are_never_split(tmp_path):
    for label in ("Run", "Jump"):
        for group in range(1, 13):
            for part in (1, 2, 3):
                few(tmp_path / label / f"v_{label}_g{group:02}_c{part:02}.gif")
    sides = {split: {name.rpartition("_c")[0] for name in names_of(tmp_path, split)} for split in ("train", "val")}
    are_apart(sides)
    assert {len(groups) for groups in sides.values()} != {0} and len(sides["val"]) >= 2
    assert len(names_of(tmp_path, "train")) + len(names_of(tmp_path, "val")) == 72


def are_apart(sides: dict[str, set[str]]) -> None:
    assert sides["train"] and sides["val"] and not sides["train"] & sides["val"]


@pytest.mark.parametrize("beside", ["poster.jpg", "poster.png", "a.npy"])
def test_a_folder_with_other_clips_is_no_clip(tmp_path, beside):
    """A picture beside clips does not hide them, in training and in prediction; a folder of frames stays one."""
    part = tmp_path / "Run" / "day"
    few(part / "b.gif")
    write_frames(part / "frames", FRAMES[:2])
    if beside.endswith(".npy"):
        np.save(part / beside, FRAMES[:4])
    else:
        Image.fromarray(FRAMES[0]).save(part / beside)
    found = {*clips_of(tmp_path / "Run")}
    assert found - {f"day/{beside}"} == {"day/b.gif", "day/frames"}
    assert {*clip_paths([str(part)])} == {str(tmp_path / "Run" / name) for name in found}
    assert [*clip_paths([str(part / "frames")])] == [str(part / "frames")]


def test_recordings_by_name():
    assert recording_of("Run/v_Run_g07_c02.avi") == "v_Run_g07"
    assert recording_of("dance/ab-cd_000010_000020.mp4") == "ab-cd"
    assert recording_of("dance/some_clip_3.gif") == "some_clip_3"


def test_the_lists_of_ucf101(tmp_path):
    for name in ("Run/a", "Run/b", "Run/c", "Jump/a", "Jump/b"):
        few(tmp_path / f"{name}.gif")
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist02.txt").write_text("Run/a.gif 2\nRun/b.gif 2\nJump/a.gif 1\n")
    (lists / "testlist02.txt").write_text("Run/c.gif\nJump/b.gif\n")
    assert names_of(tmp_path, "train", fold=2) == ["Jump/a.gif", "Run/a.gif", "Run/b.gif"]
    assert names_of(tmp_path, "val", fold=2) == ["Jump/b.gif", "Run/c.gif"]


def test_splits_and_classes_of_kinetics(tmp_path):
    for split in ("train", "val"):
        for label in ("air_drumming", "zumba"):
            few(tmp_path / split / label / f"{split}{label}_000001_000011.webp")
    (tmp_path / "train" / "zumba" / "notes.txt").write_text("no clip")
    source = ClipFolder().open(str(tmp_path), "val")
    assert source.manifest.classes == ("air_drumming", "zumba") and source.manifest.sizes.tolist() == [[4, 4, 4]] * 2
    np.testing.assert_array_equal(source.image(0), FRAMES[2, 16:20, 16:20])
    few(tmp_path / "val" / "unknown" / "a.gif")
    with pytest.raises(DataError, match="'unknown' has no folder among the training classes"):
        ClipFolder().open(str(tmp_path), "val")
    with pytest.raises(DataMissing, match="no clip for the split train in"):
        ClipFolder().open(str(tmp_path / "train" / "zumba"), "train")


TABLE = "label,youtube_id,time_start,time_end,split"


def kinetics(root: Path) -> Path:
    """Clips in folders that say nothing, and tables that say all."""
    for clip in ("a_000001_000011", "a_000011_000021", "b_000000_000010", "c_000000_000010"):
        few(root / "videos" / f"{clip}.gif")
    lines = ["air drumming,a,1,11,train", "zumba,a,11,21,train", "zumba,gone,0,10,train"]
    (root / "annotations").mkdir()
    (root / "annotations" / "train.csv").write_text("\n".join([TABLE, *lines]))
    (root / "annotations" / "validate.csv").write_text(f"{TABLE}\nzumba,b,0.0,10.0,validate\n")
    return root


def test_the_tables_of_kinetics(tmp_path):
    """Labels and splits are those of the lines, wherever a clip lies; lines without a file are counted."""
    train, val = (ClipFolder().open(str(kinetics(tmp_path) if s == "train" else tmp_path), s) for s in ("train", "val"))
    assert train.manifest.classes == val.manifest.classes == ("air drumming", "zumba")
    assert names_of(tmp_path, "train") == ["videos/a_000001_000011.gif", "videos/a_000011_000021.gif"]
    assert names_of(tmp_path, "val") == ["videos/b_000000_000010.gif"]
    assert train.manifest.labels.tolist() == [0, 1] and val.manifest.labels.tolist() == [1]
    assert any(note.startswith("train.csv: 2 of 3 lines have a clip") for note in train.manifest.notes)


@pytest.mark.parametrize(
    "line, message",
    [
        ("zumba,b,zero,10,train", "line 5: .* needs a label, youtube_id, time_start"),
        ("zumba,b,0,10,sometimes", "line 5: .* a split"),
        (",b,0,10,train", "line 5: .* needs a label"),
        ("zumba,a,1,11,train", "a_000001_000011.gif is 'zumba' in train, and 'air drumming' in train"),
        ("air drumming,b,0,10,train", "b_000000_000010.gif is 'zumba' in val, and 'air drumming' in train"),
    ],
)
def test_tables_of_kinetics_that_cannot_be_right(tmp_path, line, message):
    table = kinetics(tmp_path) / "annotations" / "train.csv"
    table.write_text(f"{table.read_text()}\n{line}\n")
    with pytest.raises(DataError, match=message):
        ClipFolder().open(str(tmp_path), "train")


def test_of_two_clips_with_a_name_the_first_counts(tmp_path):
    few(kinetics(tmp_path) / "again" / "a_000001_000011.gif")
    assert names_of(tmp_path, "train") == ["again/a_000001_000011.gif", "videos/a_000011_000021.gif"]


def test_a_table_of_kinetics_without_clips(tmp_path):
    table = kinetics(tmp_path) / "annotations" / "train.csv"
    table.write_text(f"{TABLE}\nzumba,d,0,10,train\n")
    (table.parent / "validate.csv").unlink()
    with pytest.raises(DataMissing, match="no clip has the name of a line of train.csv"):
        ClipFolder().open(str(tmp_path), "train")


def test_clips_of_a_game(datasets):
    """Real animations, RGBA by an artefact of the format."""
    source = ClipFolder().open(str(datasets / "doom" / "clips"), "val")
    assert len(source.manifest) == 42 and len(source.manifest.classes) == 6 and not source.manifest.set_aside
    assert source.clip(0, np.array([0.1, 0.9])).shape == (2, *source.manifest.sizes[0, 1:], 3)


@pytest.mark.parametrize(
    "wrapped, index",
    [
        (lambda source: Chosen(source, [5, 2, 7]), 2),
        (lambda source: Chosen(source, np.array([1, 7, 7]), "twice"), 2),
        (lambda source: Chosen(source, np.array([3, 7])), 1),
        (lambda source: CachedInMemory(source, 1 << 20), 7),
        (lambda source: with_classes(source, (*source.manifest.classes, "more")), 7),
    ],
)
def test_a_source_of_a_source_has_its_clips(wrapped, index):
    source, times = MovingDigits(train_images=9).open("", "train", 1), np.array([0.1, 0.6])
    np.testing.assert_array_equal(wrapped(source).clip(index, times), source.clip(7, times))
    assert wrapped(source).manifest.has_clips
    with pytest.raises(DataError, match="has no clips"):
        wrapped(MovingDigits(stills=True, train_images=9).open("", "train", 1)).clip(index, times)
