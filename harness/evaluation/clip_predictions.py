"""Outputs of a model of clips for files of every kind: videos, animations, NumPy files, folders of frames."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

import navit_eqx as navit
from data.errors import BadImage
from data.manifest import printable
from data.sources.clip_files import are_frames, clip_size, read_clip
from data.sources.clip_folder import clips_of
from data.sources.layout import matching
from navit_eqx import inference
from navit_eqx.clips import tokens_of
from navit_eqx.pixels import ImageError
from navit_eqx.preprocessing import Frames

TOGETHER = 16  # clips that are packed together


def clip_paths(names: Iterable[str]) -> Iterator[str]:
    """Clips of the arguments in order: files, folders of frames, and the clips below other folders, sorted. Patterns
    are what they match."""
    for name in chain.from_iterable(map(matching, names)):
        if not Path(name).is_dir() or has_frames(Path(name)):
            yield name
        else:
            yield from (str(Path(name) / clip) for clip in sorted(clips_of(Path(name))))


def has_frames(folder: Path) -> bool:
    """Whether a folder is a clip, of frames; one that cannot be listed is none."""
    try:
        return are_frames(path.name for path in folder.iterdir())
    except OSError:
        return False


def outputs_of(
    model: navit.Model,
    paths: Iterable[str],
    rule: Frames,
    report: Callable[[int, str], None],
    output: inference.Output = inference.forward,
) -> Iterator[Float[np.ndarray, " n"]]:
    """An output of each clip, by default its logits, in order; NaN and a report with its number and the reason for one
    that is set aside."""
    nothing = np.full(1, np.nan)
    numbered = enumerate(paths)
    while some := list(islice(numbered, TOGETHER)):
        clips = {i: clip for i, path in some if (clip := readable(model, i, path, rule, report)) is not None}
        row = navit.pack_clips([*clips.values()], model, rule)
        found = dict(zip(clips, navit.unpack(row, inference.run(model, row, output)))) if clips else {}
        yield from (found.get(i, nothing) for i, _ in some)


def readable(
    model: navit.Model, index: int, path: str, rule: Frames, report: Callable[[int, str], None]
) -> UInt8[np.ndarray, "F h w C"] | None:
    """The frames that the model reads of a clip; None, and a report, where it is set aside."""
    channels = model.config.channels
    try:
        frames, _, _ = clip_size(Path(path), channels)
        times = rule.times(frames, rule.count(frames, model.config.patch[0]))
        clip = read_clip(Path(path), np.array(times), channels, frames)
        tokens_of(clip, model, rule, path)
        return clip
    except BadImage as error:
        report(index, f"{printable(path)}: {error}")
    except ImageError as error:  # which names it
        report(index, str(error))
    return None
