"""What training draws for every image before it is packed, and how rows are filled.

resolution.py       the size of an image
patch_sizes.py      its patch size; which base size serves a set of them
dropping.py         how many of its tokens stay; distributions.py, a truncated normal for both
token_selection.py  which of its tokens stay
mixing.py           two images in one picture
"""
