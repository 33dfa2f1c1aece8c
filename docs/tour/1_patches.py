# %% [markdown]
# # 1. Patches and coordinates
#
# *10 minutes. Question: what does a Vision Transformer read, if images may have any size?*
#
# A ViT cuts an image into patches, flattens each and reads them as a set of vectors. Nothing in attention knows an
# order, so each token carries its place with it. NaViT keeps both: the patches, and for each its coordinates (row,
# column) in the grid of its image. The size of the grid may differ from image to image.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.patches import patchify, raster, unpatchify

print(inspect.getsource(raster))

# %% [markdown]
# An image of 4 x 6 pixels in patches of 2 x 3: a grid of 2 x 2, four tokens of 2 · 3 · 3 numbers.

# %%
image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
tokens = patchify(image, (2, 3))
print("patches", tokens.patches.shape, "grid", tokens.grid.tolist())
print("coords", tokens.coords.tolist())
assert (tokens.patches[3] == image[2:4, 3:6].reshape(-1)).all()  # the patch at (1, 1)
assert (unpatchify(tokens.patches, tokens.grid, (2, 3)) == image).all()

# %% [markdown]
# Since coordinates travel with the tokens, their order says nothing: tokens can be shuffled or dropped, and the
# picture can still be put together.

# %%
rng = np.random.default_rng(0)
y, x = np.mgrid[:48, :96]
photo = np.stack([127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), 2 * x], -1).clip(0, 255).astype(np.uint8)
whole = patchify(photo, (8, 8))
shuffled = rng.permutation(len(whole.patches))
kept = np.sort(shuffled[:36])  # half of 72 tokens

gray = np.full_like(whole.patches, 235)
gray[kept] = whole.patches[kept]
panels = {
    "72 tokens": whole.patches,
    "in another order": whole.patches[shuffled],
    "36 tokens, each at its place": gray,
}
figure = Figure(figsize=(9, 2), layout="constrained")
for axis, (title, patches) in zip(figure.subplots(1, 3), panels.items()):
    axis.imshow(unpatchify(patches, whole.grid, (8, 8)))
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
figure.savefig("1_patches.png")
figure  # shown by a notebook

# %% [markdown]
# ![The image, its tokens in another order, half of its tokens](1_patches.png)
#
# The middle picture is what a model without positions would be free to see. Lesson 4 gives the coordinates to the
# model.
#
# **Exercise.** An image of 100 x 37 pixels is to be read in patches of 16 without changing its aspect ratio by more
# than a patch, at an area of 64² pixels. Which grid? Work it out, then look.

# %% tags=["answer"]
from reference.sampling.resolution import target_grid

scale = 64 / np.sqrt(100 * 37)
print("sides in patches:", np.round(scale * np.array([100, 37]) / 16, 2).tolist())
print("grid:", target_grid(np.array([[100, 37]]), np.array([64.0]), (16, 16)).tolist())  # rounded down, at least 1

# %% [markdown]
# **Proof.** For images of any size, number of channels and axes:
# `tests/test_patches.py:test_unpatchify_inverts_patchify`,
# `tests/test_patches.py:test_a_patch_is_where_its_coordinates_say`.
#
# Next: [several images in one row](2_packing.md).
