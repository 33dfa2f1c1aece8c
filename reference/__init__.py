"""NaViT in NumPy: the method to study, one pure function per idea, float64 by default.

The meaning of NaViT is a plain Vision Transformer on one image, without mask, padding or packing
(`model.forward_image`). Packing several images into one row (`model.forward`) is an optimization that must not be
observable: every image gets exactly what it would get alone.

Axes: one letter, one meaning, in annotations, einsum strings and docs.

    B  rows in a batch                      P  numbers in a flattened patch
    T  tokens in a row (its capacity)       D  width of the model
    S  tokens on the key side               H  heads          K  size of a head
    I  image slots in a row                 F  hidden width of the MLP
    A  coordinates: 2 image, 4 clip         L  layers         M  entries in a position table, or labels in a set
    C  channels                             Y  classes
    N  images, M  texts of a batch          E  width of the embedding of images and texts

Vocabulary of `reference`, `navit_eqx`, `data`, batches, checkpoints and logs.

    image        h w C          a picture of any size; `patch` is a shape in pixels (height, width)
    patches      T P            patches of the images of a row; `tokens` are patches after the embedding
    coords       T A            place of each token in the grid of its image; real numbers for tubelets
    segment_ids  T              1…I which image slot, 0 = padding
    grids        I A            patches per axis of each image, before dropping
    image_ids    I              −1 = empty slot; leads from a slot back to the source
    row          Row            what a model reads: the five arrays above
    targets      Targets        what a task asks of the images of a row: labels, label sets, teacher logits
    batch        Batch          rows and targets
    backbone                    packed rows → one vector (pooled) or many (tokens) per image
    task                        head, loss and output on top of a backbone
    params       nested dict    parameters; keys are field names of the Equinox modules
    residual                    what a block adds
    mask                        True where a query may attend to a key
    levels                      rows columns: a block of 2^s x 2^s cells has level s
    rotary_angles               angles by which queries and keys are rotated (`apply_rotary`)
    drop rate, kept             share of tokens dropped in training, number of tokens kept
    token selection             which tokens are kept
    packing                     which images share a row; `window` queued images are the candidates for one row
    padding                     share of token places without a token
    budget                      tokens of a row that an image takes
    sampling                    everything drawn at random for an image before it is packed
    resolution                  a side R in pixels for area R², a factor, or a number of tokens
    ema                         moving average of parameters; eval_params, the parameters that are evaluated
    plan                        grid, patch size, kept tokens and row of every image, made before pixels are read

A function that draws random numbers is `sample_*` and takes `rng`.

Reading order (★ = the core path, one sitting):

    ★ rows.py       tokens of one image, a row of several, a batch; pack and unpack
    ★ patches.py    image ↔ tokens
    ★ layers.py     linear, layer norm, GELU, MLP, masked softmax
    ★ rope.py       rotary positions
    ★ attention.py  multi-head attention with QK-norm
    ★ encoder.py    pre-norm blocks, stochastic depth
    ★ pooling.py    one vector per image (MAP)
    ★ posembed.py   coordinate → feature → combine
    ★ masks.py      which token attends to which
    ★ model.py      the meaning and the mechanism
    ★ packing.py    which images share a row
    ★ resize.py     any patch size with one kernel: resize matrix, PI-resize, its adjoint
      tables.py     position tables of imported towers: kernels and grids
      rotary_forms.py  places and frequencies of rotary positions
      gated.py      gated MLP; activations.py, quick-GELU and SiLU
      local.py      attention within windows or frames
      merging.py    blocks of tokens merged to one, for language models
      fuzzy.py      coordinates moved at random in training
      hierarchy.py  stages with fewer tokens from one to the next
      init.py       initial parameters
      layer_decay.py  learning rates by layer, for fine-tuning
      text.py       text as an image with one axis
      tubelets.py   clips: tubelets of several shapes in one row
      adaptive.py   patches of several sizes within one image
      detail.py     what the parts of merged patches say
      boxes.py      areas of boxes, IoU and GIoU
      template.py   rows that are all cut into the same windows: no mask
      dealing.py    which device computes which rows of a batch
      pairs.py      packing of images and texts that belong together
      tasks/        heads and losses: classes, label sets, distillation
      sampling/     resolution, patch size, drop rate, token selection, complexity, mixing
      evaluation/   metrics, retrieval, cost, calibration, cascades, similarity, probe, attention maps

[NaViT] is Dehghani et al., "Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and Resolution", 2023,
arXiv:2307.06304.  [ViT] is Dosovitskiy et al., arXiv:2010.11929.
[FlexiViT] is Beyer et al., "FlexiViT: One Model for All Patch Sizes", 2023, arXiv:2212.08013.
"Choice:" marks what the papers leave open and what was chosen here.
"""
