# %% [markdown]
# # 4. Positions that survive any grid
#
# *15 minutes. Question: a ViT learns a table of 14 x 14 positions. What is learned for images of any shape?*
#
# One vector for each of 196 places fits one grid. NaViT factorises: a table for rows and one for columns, added. 2 ·
# M vectors serve every grid of up to M x M, and a row index that was rare in one shape is known from the others.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.patches import raster
from reference.posembed import COORDINATES, factorised, locate

print(inspect.getsource(factorised))

# %% [markdown]
# The table has M entries, and the coordinate of a patch is its center in units of entries, u = (x + ½) · step − ½.
# What "place" means is the step alone: the patch index itself (absolute), the share of the side (fractional), or the
# share of the longest side (fractional, aspect kept).

# %%
for grid in ((2, 4), (4, 8)):
    coords = raster(grid)
    grids = np.broadcast_to(grid, coords.shape)
    for name in COORDINATES:
        u, _ = locate(name, coords, grids, size=8)
        print(f"{grid} {name:18} columns at", np.round(u[: grid[1], 1], 2).tolist())

# %% [markdown]
# The image in twice the resolution has twice the patches. Absolute positions grow with it: half of them are new, and
# if training never saw an image that long, they were never learned. Fractional positions of both sizes span the same
# table: what was learned at one resolution is read at every other, but "one patch to the right" is another distance
# in each.

# %%
rng = np.random.default_rng(0)
wave = np.cumsum(rng.normal(size=(2, 16, 8)), axis=1)  # tables of 16 entries that change slowly
params = {"tables": wave, "feature": "learned", "combine": "sum"}
panels = {}
for coordinate in ("absolute", "fractional"):
    for grid in ((8, 8), (16, 16)):
        coords = raster(grid)
        read = factorised({**params, "coordinate": coordinate}, coords, np.broadcast_to(grid, coords.shape))
        panels[f"{coordinate}, {grid[0]} x {grid[1]}"] = read[:, 0].reshape(grid)

figure = Figure(figsize=(9, 2.6), layout="constrained")
for axis, (title, values) in zip(figure.subplots(1, 4), panels.items()):
    axis.imshow(values, vmin=min(map(np.min, panels.values())), vmax=max(map(np.max, panels.values())))
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
figure.savefig("4_positions.png")
figure

# %% [markdown]
# ![One channel of the position embedding on two grids, absolute and fractional](4_positions.png)
#
# Absolute: the small grid is the corner of the large one. Fractional: the large grid is the small one, finer.
#
# A position beyond the table must not pass for the last one. The reference gives NaN there, which no one overlooks.

# %%
outside = factorised({**params, "coordinate": "absolute"}, np.array([[0, 15], [0, 16]]), np.array([[1, 17], [1, 17]]))
print("column 15:", bool(np.isfinite(outside[0]).all()), " column 16:", bool(np.isfinite(outside[1]).all()))

# %% [markdown]
# **Exercise.** The position of a token depends on its coordinates and the grid of its image. Why not on its place in
# the row? Say what would break, then break it.

# %% tags=["answer"]
# Lesson 1: an image would be another one wherever it stands in a row, or when its tokens are dropped or shuffled.
row_of_two = np.concatenate([raster((2, 2)), raster((2, 2))])  # the same image twice
grids = np.full((8, 2), 2)
by_coords = factorised({**params, "coordinate": "absolute"}, row_of_two, grids)
by_place = wave[0, np.arange(8)]  # the mistake: row index of the table = place in the row
print("the same image, the same positions:", bool((by_coords[:4] == by_coords[4:]).all()))
print("by the place in the row:           ", bool((by_place[:4] == by_place[4:]).all()))

# %% [markdown]
# **Proof.** `tests/test_posembed.py:test_a_token_has_its_position_alone`,
# `tests/test_posembed.py:test_fractions_do_not_see_scale`,
# `tests/test_isolation.py:test_a_position_beyond_the_table_is_loud`; positions by the place in the row are caught by
# `tests/test_meta.py:test_positions_from_the_place_in_the_row`. All ten kinds: [posembed.md](../posembed.md).
#
# Next: [how large an image is read](5_sampling.md).
