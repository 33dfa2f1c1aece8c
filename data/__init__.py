"""From images on disk to packed rows, planned before any pixel is read.

    sources.py    where images come from: digit strips, a folder, parquet, arrays
    manifest.py   sizes and labels of a source, known without decoding
    decode.py     bytes → upright RGB uint8, or a reason
    laws.py       at which resolution, with which share of tokens
    rules.py      which images share a row
    plan.py       (manifest, seed, epoch, laws) → which image stands in which row. Pure
    rows.py       random-access packed rows: decode, resize, patchify, drop, place
    augment.py    random changes of a training image that keep the plan valid
    randomness.py one stream of random numbers per purpose
    records.py    decoded images in ArrayRecord files; cache.py writes them
    images.py     the short way for images in memory
    pipeline.py   rows → host slice → batch → workers, by Grain

Host code: NumPy only, never a jax array. Vocabulary and axis letters: `reference/__init__.py`.
"""
