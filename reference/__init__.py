"""NaViT in NumPy: the method to study, one pure function per idea, float64 by default.

What it says.  The meaning of NaViT is a plain Vision Transformer on one image, without mask, padding
or packing (`model.forward_image`).  Packing several images into one row (`model.forward`) is an
optimisation that must not be observable: every image gets exactly what it would get alone.

Axes: one letter, one meaning, in annotations, einsum strings and docs.

    B  rows in a batch                      P  numbers in a flattened patch
    T  tokens in a row (its capacity)       D  width of the model
    S  tokens on the key side               H  heads          K  size of a head
    I  image slots in a row                 F  hidden width of the MLP
    A  spatial axes: 2 image, 3 video       L  layers         M  entries in a position table
    C  colour channels                      Y  classes

Nouns, spelt alike in `reference`, `navit_eqx`, `data`, batches, checkpoints and logs.

    image        h w C          segment_ids  T    1…I which image slot, 0 = padding
    patches      T P            grids        I A  patches per axis of each image, before dropping
    coords       T A            labels       I    −1 = empty slot
    params       nested dict    image_ids    I    −1 = empty slot; traces a slot to its source

A predicate mask is True where looking is allowed.  A function that draws is `sample_*` and takes `rng`.

Reading order (★ = the core path, one sitting):

    ★ types.py       a row
    ★ patches.py     image ↔ tokens
    ★ layers.py      linear, layer norm, GELU, MLP, masked softmax
    ★ rope.py        rotary positions
    ★ attention.py   multi-head attention with QK-norm
    ★ encoder.py     pre-norm blocks; depth.py, stochastic depth
    ★ pooling.py     one vector per image (MAP)
    ★ posembed.py    coordinate → feature → combine
    ★ masks.py       who may look at whom
    ★ model.py       the meaning and the mechanism
    ★ packing.py     which images share a row; pack and unpack
      resolution.py  the size at which an image is seen
      dropping.py    how many tokens stay; distributions.py, a truncated normal for both
      choosing.py    which tokens stay
      mixing.py      two images in one picture
      resize.py      any patch size with one kernel: resize matrix, PI-resize, its adjoint
      patch_sizes.py which patch size an image is cut at; which base size serves a set of them
      losses.py      sums over real images, and their count
      cost.py        FLOPs and parameters as formulas
      calibration.py can confidence be believed
      cascade.py     a second look where the first is unsure
      similarity.py  do two patch sizes see alike
      probe.py       k-shot ridge regression on frozen features

[NaViT] is Dehghani et al., "Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and
Resolution", 2023, arXiv:2307.06304.  [ViT] is Dosovitskiy et al., arXiv:2010.11929.
[FlexiViT] is Beyer et al., "FlexiViT: One Model for All Patch Sizes", 2023, arXiv:2212.08013.
"Choice:" marks what the papers leave open and what was chosen here.
"""
