"""From images on disk to packed rows, planned before any pixel is read.

Reading order:

    manifest.py    names, sizes, labels and classes of a source, known before decoding
    boxes.py       boxes of images, in one table
    sources/       digit strips, folders, label sets, parquet, decoded caches, arrays
    sampling/      options: resolution, patch size, drop rate, token selection, augmentation, packing
    exact_fit.py   the packer, fast version
    plan.py        (manifest, seed, epoch, sampling) → image, grid, patch size, tokens and row; a pure function
    evaluation_plan.py  every image once: rows as in training, longer ones for longer images
    stream.py      rows of all epochs by index
    rows.py        packed rows by index: decode, augment, resize, patchify, drop, pack
    adaptive.py    the same with patches of several sizes within an image
    hierarchy.py   the same for a hierarchy: tokens by blocks
    clips.py       the same for clips: read, cut into tubelets, drop, pack
    embedded.py    rows of vectors that a frozen backbone gave
    texts.py       captions as token ids
    augment.py     parts of random changes of a training image that keep its planned grid valid
    complexity.py  how much of each image large patches lose: measured once, cached
    counts.py      tokens of images that are merged by thresholds, counted before an evaluation
    geometry.py    crop, turn, mirror and rotation of pixels, masks and boxes alike
    randomness.py  one random stream per purpose
    tasks/         targets of a row, scores of predictions
    pipeline.py    rows → shard of this host → batches → worker processes, by Grain
    segments.py    shared memory of workers, named by run
    cache.py       command: write decoded, resized images
    feature_file.py  features of many images in parquet
    check.py       command: list images that cannot be read
    checksums.py   lines and tables with checksums
    errors.py      exceptions, range checks

Host code: NumPy only, no JAX arrays. Vocabulary and axis letters: `reference/__init__.py`.
"""
