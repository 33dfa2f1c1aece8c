"""Random sampling for every training image before it is packed.

resolution.py       resolution: the grid of an image
frames.py           which frames of a clip are read
patch_sizes.py      patch size, curricula, the choice of a base size
dropping.py         drop rate: the number of tokens kept
distributions.py    the truncated normal distribution of resolutions and drop rates
token_selection.py  which tokens are kept
complexity.py       how much of an image large patches lose, known before it is planned
mixing.py           mixup and CutMix
balance.py          repeated images and weights for classes of unequal size
"""
