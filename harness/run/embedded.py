"""Vectors of a frozen backbone for all training images, each computed once and kept between runs.

A vector is known by what the backbone reads (a digest of pixels after preprocessing, places and grid) and by the
backbone (a digest of parameters and configuration): changed images, another resolution or another tower have other
vectors, and images that are the same share one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from data.embedded import digests, embedded
from data.rows import PlannedRows
from data.sources.measured import cache_folder, load_arrays, store_arrays
from data.sources.source import Source
from navit_eqx import Model
from navit_eqx.inference import outputs, pooled, run
from navit_eqx.rows import Row, row_of
from navit_eqx.training.hosts import replicate_to_host
from navit_eqx.training.program import Program
from navit_eqx.training.step import State

from ..config import Config
from ..working import working
from .loading import counted, evaluation_rows

ALIKE = 1e-3  # of the largest number of a vector, within which a stored one is that of this program

Known = dict[bytes, Float[np.ndarray, " D"]]


def rows_to_train(config: Config, planned: PlannedRows, program: Program, state: State) -> PlannedRows:
    """The planned rows, or with `data.embedded` rows of vectors by the backbone of a state."""
    if config.data.embedded is None:
        return planned
    model = program.model(replicate_to_host(state.model))
    return embedded(planned, vectors_of(model, config, planned.source))


def rows_to_time(config: Config, planned: PlannedRows) -> PlannedRows:
    """The planned rows, or with `data.embedded` rows of zeros in their shape."""
    shape = len(planned.source.manifest), config.model.out_width
    return embedded(planned, np.zeros(shape, np.float32)) if config.data.embedded else planned


def vectors_of(model: Model, config: Config, source: Source) -> Float[np.ndarray, "N D"]:
    """The vector of every training image, as training reads it; NaN where it cannot be read.

    The first batch is computed in any case: stored vectors that differ from it are of another program, and forgotten.
    """
    count, width = len(source.manifest), model.config.out_width
    file = cache_folder() / f"embedded-{backbone_digest(model)}.npz"
    batches, _ = evaluation_rows(config, source, config.data.law, decoding=config.data.decoding)
    keys: dict[int, bytes] = {}
    with working("embedding", count, "images") as advance:
        rows = map(row_of, counted(batches, advance))
        first = next(rows)
        computed, kept = named(first, run(model, first, pooled), keys), stored(file, width)
        kept = kept if agree(kept, computed) else {}
        known = kept | computed
        for row, values in outputs(model, unknown(rows, known.keys(), keys), pooled):
            known |= named(row, values, keys)
    store(file, known)
    print(f"{len(keys)} images embedded, {len(known.keys() - kept.keys())} vectors are new in {file}", flush=True)
    vectors = np.full((count, width), np.nan, np.float32)
    for image, key in keys.items():
        vectors[image] = known[key]
    return vectors


def named(row: Row, values: Float[np.ndarray, "B I D"], keys: dict[int, bytes]) -> Known:
    """The vectors of the images of a batch; `keys` takes the key of each image."""
    found = digests(row)
    keys |= {int(row.image_ids[place]): key for place, key in found.items()}
    return {key: np.asarray(values[place], np.float32) for place, key in found.items()}


def unknown(rows: Iterable[Row], known: Set[bytes], keys: dict[int, bytes]) -> Iterator[Row]:
    """The batches with an image that is not known; `keys` takes the key of each image of the others."""
    for row in rows:
        found = digests(row)
        if known >= {*found.values()}:
            keys |= {int(row.image_ids[place]): key for place, key in found.items()}
        else:
            yield row


def agree(kept: Known, computed: Known) -> bool:
    """Whether kept vectors are those that were computed, where both know an image."""
    both = kept.keys() & computed.keys()
    return all(np.abs(kept[key] - computed[key]).max() <= ALIKE * np.abs(computed[key]).max() for key in both)


def backbone_digest(model: Model) -> str:
    """Digest of the configuration and the parameters of a backbone."""
    digest = hashlib.sha256(repr(model.config).encode())
    for leaf in jax.tree.leaves(eqx.filter(model.backbone, eqx.is_array)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:24]


def stored(file: Path, width: int) -> Known:
    """Vectors that were kept; none where the file is missing or damaged."""
    found = load_arrays(file, ("keys", "vectors"))
    if found is None:
        return {}
    keys, vectors = found
    sound = vectors.dtype == np.float32 and vectors.shape == (len(keys), width) and np.isfinite(vectors).all()
    return dict(zip(map(bytes, keys), vectors)) if sound and keys.dtype == np.uint8 else {}


def store(file: Path, known: Known) -> None:
    """Keep vectors for other runs; failure to write is ignored."""
    keys = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)
    store_arrays(file, keys=keys, vectors=np.stack([*known.values()]))
