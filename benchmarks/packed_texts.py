"""Packed against padded texts: time and FLOPs of the gradient of a text tower, for the same captions.

    python benchmarks/packed_texts.py [--texts 512] [--width 64 --depth 2] [--quick]

Forms: rows that several texts share, as they are trained ("packed"); one text a row, as long as the longest of them
("padded to the longest"); one text a row of the largest length of the tokenizer ("padded to the limit").
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from benchmarks.measure import arguments, median_seconds, report
from data.sampling.packing import ExactFit
from data.sources.glyph_captions import GlyphCaptions
from data.tasks.contrast import stacked, text_rows
from data.texts import Texts, Tokenizer
from navit_eqx import NaViT
from navit_eqx.rows import Row, to_device
from navit_eqx.sentencepiece import SentencePiece
from navit_eqx.tasks.config import Bytes, TextRows, TextTower
from reference.evaluation.cost import row_flops
from reference.rows import pack

FLOAT32 = 1e-4  # largest relative error of the gradient against that of the packed rows


def main() -> None:
    parser = arguments(__doc__, "32 texts, two repeats")
    for name, value in (("texts", 512), ("width", 64), ("depth", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    count, repeats = (32, 2) if args.quick else (args.texts, args.repeats)
    captions = GlyphCaptions(count, 1).open("", "train").manifest.classes[:count]
    for tokenizer in (Bytes(), SentencePiece(max_length=72).resolved(captions)):
        compare(tokenizer, Texts(captions, tokenizer), TextTower(args.width, args.depth), repeats)


def compare(tokenizer: Any, texts: Texts, shape: TextTower, repeats: int) -> None:
    """Check that all forms have one gradient, and measure each."""
    config = shape.model(tokenizer)
    tower, weights = NaViT(config, key=jr.key(0)), jr.normal(jr.key(1), (len(texts.lengths), config.width))
    wanted = None
    for form, (row_tokens, slots) in forms(texts, tokenizer).items():
        rows = rows_of(texts, row_tokens, slots)
        batch = to_device(rows)
        run = lambda batch=batch: jax.block_until_ready(gradient(tower, batch, weights))
        found = run()
        wanted = found if wanted is None else wanted
        error = max(jax.tree.leaves(jax.tree.map(relative_error, found, wanted)))
        assert error <= FLOAT32, f"{form}: relative error {error:.3g}, limit {FLOAT32}"
        lengths, cost = texts.lengths.tolist(), partial(row_flops, **config.sizes, classes=0)
        timed = median_seconds(run, repeats)
        report(
            **{"name": "packed_texts", "tokenizer": type(tokenizer).__name__, "form": form, "texts": len(lengths)},
            **{"rows": len(rows.segment_ids), "row_tokens": row_tokens, "mean_tokens": float(texts.lengths.mean())},
            padding=float((rows.segment_ids == 0).mean()),
            mflops_per_text=3e-6 * len(rows.segment_ids) * cost([], row_tokens, slots)[1] / len(lengths),
            mflops_per_text_needed=3e-6 * cost(lengths, row_tokens, slots)[0] / len(lengths),
            **{"tokens_per_second": sum(lengths) / timed.seconds, "relative_error": error, **timed._asdict()},
        )


def forms(texts: Texts, tokenizer: Tokenizer) -> dict[str, tuple[int, int]]:
    """Tokens and slots of a row."""
    mean, longest = float(texts.lengths.mean()), int(texts.lengths.max())
    packed = text_rows(TextRows(), len(texts.lengths) * mean, mean, longest, range(1, len(texts.lengths)))
    return {
        "packed": packed.shape[1:],
        "padded to the longest": (longest, 1),
        "padded to the limit": (tokenizer.max_length, 1),
    }


def rows_of(texts: Texts, row_tokens: int, slots: int) -> Any:
    """All texts in rows, by exact fit."""
    rows = ExactFit().rows(texts.lengths.tolist(), row_tokens, slots)
    return stacked([pack([texts.tokens(i) for i in row], row, row_tokens, slots) for row in rows])


@eqx.filter_jit
def gradient(tower: NaViT, batch: Row, weights: jax.Array) -> Any:
    """Of Σ ⟨vector, weights of the text⟩."""

    def total(tower: NaViT) -> jax.Array:
        real = (batch.image_ids >= 0)[..., None]
        return jnp.where(real, tower(batch) * weights[batch.image_ids], 0).sum()

    return eqx.filter_grad(total)(tower)


def relative_error(got: jax.Array, want: jax.Array) -> float:
    return float(jnp.abs(got - want).max() / jnp.maximum(jnp.abs(want).max(), 1e-6))


if __name__ == "__main__":
    main()
