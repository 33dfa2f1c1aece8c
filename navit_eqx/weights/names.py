"""Tables of names: our parameters ↔ the tensors of another project, in both directions.

A table is a list of rows (ours, form, theirs): two modules by dotted name, and how the arrays of one become those of
the other. `{i}` stands for the number of a block; our blocks are stacked along a first axis. A form reads (theirs →
ours) and writes (ours → theirs), so one table imports, exports, and says which names and shapes a folder must hold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError, check

Arrays = tuple[np.ndarray, ...]


class Form(NamedTuple):
    """How the arrays of a module of ours become those of theirs. Names are completed by that of the module."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[..., Arrays]
    """(config, *theirs) → ours."""
    write: Callable[..., Arrays]
    """(config, *ours) → theirs."""


class Line(NamedTuple):
    """One line of a table: modules by dotted name, and the form between them."""

    ours: str
    form: Form
    theirs: str
    copies: int | None = None
    """How many modules `{i}` stands for; None: one for each block."""


Table = Sequence[Line]


# forms ----------------------------------------------------------------------------------------------------------

SAME = Form(("{}",), ("{}",), lambda c, x: (x,), lambda c, x: (x,))
NORM = Form(("{}.scale", "{}.bias"), ("{}.weight", "{}.bias"), lambda c, w, b: (w, b), lambda c, w, b: (w, b))
LINEAR = Form(("{}.w", "{}.b"), ("{}.weight", "{}.bias"), lambda c, w, b: (w.T, b), lambda c, w, b: (w.T, b))
SCALE = Form(("{}.scale",), ("{}.weight",), lambda c, w: (w,), lambda c, w: (w,))  # a norm without bias


def _conv_read(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return w.transpose(2, 3, 1, 0).reshape(-1, len(b)), b


def _conv_write(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return w.reshape(*c.patch, c.channels, -1).transpose(3, 2, 0, 1), b


CONV = LINEAR._replace(read=_conv_read, write=_conv_write)  # kernels D C h w → patches flattened as (h, w, C)


def conv_in_time(frames: int, bias: bool) -> Form:
    """Kernels D C t h w of clips, for still images: a picture that is repeated sees their sum over time.

    Written back, each frame has the same share, so that the sum is the same to the bit for a power of two.
    """
    form = CONV if bias else without_bias(CONV)

    def read(c: ModelConfig, w: np.ndarray, *b: np.ndarray) -> Arrays:
        return form.read(c, w.sum(2), *b)

    def write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
        w, *b = form.write(c, *ours)
        return (np.repeat((w / w.dtype.type(frames))[:, :, None], frames, axis=2), *b)

    return form._replace(read=read, write=write)


def heads(c: ModelConfig) -> tuple[int, int]:
    """Number of heads and size of each."""
    return c.heads, c.head_channels


HEADS = Form(
    ("{}", "{}_bias"),
    ("{}.weight", "{}.bias"),
    lambda c, w, b: (w.T.reshape(-1, *heads(c)), b.reshape(heads(c))),
    lambda c, w, b: (w.reshape(len(w), -1).T, b.reshape(-1)),
)
HEADS_BARE = Form(
    ("{}",), ("{}.weight",), lambda c, w: (w.T.reshape(-1, *heads(c)),), lambda c, w: (w.reshape(len(w), -1).T,)
)  # where ours has no bias either
OUT = HEADS._replace(
    read=lambda c, w, b: (w.T.reshape(*heads(c), -1), b),
    write=lambda c, w, b: (w.reshape(-1, w.shape[-1]).T, b),
)
OUT_BARE = HEADS_BARE._replace(
    read=lambda c, w: (w.T.reshape(*heads(c), -1),), write=lambda c, w: (w.reshape(-1, w.shape[-1]).T,)
)


def _qkv_read(c: ModelConfig, w: np.ndarray, b: np.ndarray) -> Arrays:
    return (*(part for rows in zip(np.split(w, 3), np.split(b, 3)) for part in HEADS.read(c, *rows)),)


def _qkv_write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
    rows = [HEADS.write(c, w, b) for w, b in zip(ours[::2], ours[1::2])]
    return tuple(np.concatenate(parts) for parts in zip(*rows))


QKV = Form(
    ("{}.q", "{}.q_bias", "{}.k", "{}.k_bias", "{}.v", "{}.v_bias"), ("{}.weight", "{}.bias"), _qkv_read, _qkv_write
)  # one matrix for queries, keys and values, in that order
IN_PROJ = QKV._replace(theirs=("{}.in_proj_weight", "{}.in_proj_bias"))  # torch.nn.MultiheadAttention
PAIR = Form(
    ("{}.grow.w", "{}.grow.b", "{}.gate.w", "{}.gate.b"),
    ("{}.weight", "{}.bias"),
    lambda c, w, b: (w[: len(w) // 2].T, b[: len(b) // 2], w[len(w) // 2 :].T, b[len(b) // 2 :]),
    lambda c, w, b, v, d: (np.concatenate([w.T, v.T]), np.concatenate([b, d])),
)  # the two first layers of a gated MLP in one matrix
PROBE = Form(("{}",), ("{}",), lambda c, x: (x.reshape(-1),), lambda c, x: (x[None, None],))


def without_bias(form: Form) -> Form:
    """The form where theirs, the last array, is left out: ours is zero. Writing another one raises ConfigError."""

    def read(c: ModelConfig, *theirs: np.ndarray) -> Arrays:
        return form.read(c, *theirs, np.zeros(len(theirs[0]), theirs[0].dtype))

    def write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
        *kept, bias = form.write(c, *ours)
        check(not np.any(bias), "a bias that the other format does not have is not zero")
        return (*kept,)

    return form._replace(theirs=form.theirs[:-1], read=read, write=write)


def positions(
    tokens: Mapping[str, int], table: str, positioned: int, *, batched: bool = True, square: bool = False
) -> Form:
    """Learned tokens and a position table ↔ our registers and table.

    tokens      name → number of tokens, in the order of our registers; the first `positioned` have a position, which is
                added to them once and for all
    batched     their arrays have a leading axis of 1; otherwise a single token has no axis of its own
    square      their table is M M D, otherwise its first `positioned` lines belong to tokens, M² D in all
    """
    lead = (1,) if batched else ()

    def read(c: ModelConfig, *theirs: np.ndarray) -> Arrays:
        *parts, places = (x.reshape(-1, c.width) for x in theirs)
        side = c.posembed.size  # pyright: ignore[reportAttributeAccessIssue]
        entries = places[positioned:].reshape(side, side, c.width)
        if not tokens:
            return (entries,)
        registers = np.concatenate(parts)
        registers[:positioned] += places[:positioned]
        return registers, entries

    def write(c: ModelConfig, *ours: np.ndarray) -> Arrays:
        *registers, entries = ours
        ends = np.cumsum([*tokens.values()])[:-1]
        parts = np.split(registers[0], ends) if tokens else []
        shapes = [(1, n, c.width) if batched else (c.width,) for n in tokens.values()]
        flat = np.concatenate([np.zeros((positioned, c.width), entries.dtype), entries.reshape(-1, c.width)])
        places = entries[(None,) * len(lead)] if square else flat.reshape(*lead, -1, c.width)
        return (*(part.reshape(shape) for part, shape in zip(parts, shapes)), places)

    ours = ("backbone.registers",) if tokens else ()
    return Form((*ours, "backbone.posembed.entries"), (*tokens, table), read, write)


# reading and writing by a table -----------------------------------------------------------------------------------


def names_of(line: Line, layer: int) -> list[str]:
    """Their names of a line, of one block."""
    return [name.format(line.theirs).replace("{i}", str(layer)) for name in line.form.theirs]


def ours_of(line: Line) -> list[str]:
    """Our names of a line."""
    return [name.format(line.ours) for name in line.form.ours]


def is_stacked(line: Line) -> bool:
    """Whether a line stands for every block."""
    return "{i}" in line.theirs


def layers_of(line: Line, config: ModelConfig) -> range:
    """The blocks, or other copies, that a line stands for; one for a line without `{i}`."""
    return range((line.copies or config.depth) if is_stacked(line) else 1)


def expected(table: Table, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that a folder must hold for a model with parameters of these shapes."""
    found = {}
    for line in table:
        cut = int(is_stacked(line))
        ours = [np.broadcast_to(np.float32(0), shapes[name][cut:]) for name in ours_of(line)]
        theirs = line.form.write(config, *ours)
        for layer in layers_of(line, config):
            found |= {name: array.shape for name, array in zip(names_of(line, layer), theirs, strict=True)}
    return found


def read(table: Table, config: ModelConfig, tensor: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters by dotted name, from `tensor`, their array of a name."""
    found: dict[str, np.ndarray] = {}
    for line in table:
        parts = [line.form.read(config, *map(tensor, names_of(line, n))) for n in layers_of(line, config)]
        for name, *arrays in zip(ours_of(line), *parts, strict=True):
            found[name] = np.stack(arrays) if is_stacked(line) else arrays[0]
    return found


def write(table: Table, config: ModelConfig, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their tensors by name, from our parameters.   Raises ConfigError where their format cannot hold one."""
    found: dict[str, np.ndarray] = {}
    for line in table:
        for layer in layers_of(line, config):
            arrays = [ours[name][layer] if is_stacked(line) else ours[name] for name in ours_of(line)]
            try:
                theirs = line.form.write(config, *arrays)
            except ConfigError as error:
                raise ConfigError(f"{line.ours}: {error}") from None
            found |= dict(zip(names_of(line, layer), theirs, strict=True))
    return found
