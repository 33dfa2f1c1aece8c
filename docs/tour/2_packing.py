# %% [markdown]
# # 2. Packing
#
# *15 minutes. Question: images of any size make sequences of any length. How do they fill a batch without padding?*
#
# A compiled program wants one shape. NaViT puts several images into one row of T tokens ("Patch n' Pack") and marks
# each token with the number of its image, 1, 2, …; 0 is padding.

# %%
import inspect
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure

from reference.packing import exact_fit, first_fit, fullest_row, padding
from reference.patches import patchify
from reference.rows import pack

images = [patchify(np.zeros((8 * h, 8 * w, 3), np.uint8), (8, 8)) for h, w in [(2, 3), (1, 4), (3, 1)]]
row = pack(images, image_ids=[7, 8, 9], row_tokens=16, row_images=4)
print("segment_ids", row.segment_ids.tolist())
print("image_ids  ", row.image_ids.tolist(), "(-1: an empty slot)")

# %% [markdown]
# Which images share a row? The paper is greedy: each image goes into the first row with space for it. What is left at
# the end of a row is padding, and no later image is ever small enough by design, only by luck.

# %%
rng = np.random.default_rng(1)
lengths = rng.integers(5, 40, 60).tolist()
greedy = first_fit(lengths, row_tokens=64, row_images=16, window=8)
print(f"first fit: {len(greedy)} rows, {padding(lengths, greedy, 64):.1%} padding")

# %% [markdown]
# The other way round: take the oldest image, and ask which of the next ones fill the row *best*. That is a subset
# sum, and it is solved image by image: which sums can be reached, and with the fewest images?

# %%
print(inspect.getsource(fullest_row))

# %% [markdown]
# By hand, a row of 10 tokens and images of 4, 5, 3 and 3 tokens. The first image must be in. Reached so far: {4}.
# With the 5: {4, 9}. With the first 3: {4, 7, 9}. With the second 3: {4, 7, 9, 10}. So 4 + 3 + 3 fills the row, and
# the greedy 4 + 5 would have wasted a token.

# %%
chosen = fullest_row([4, 5, 3, 3], row_tokens=10, row_images=4)
print("images", chosen, "tokens", sum([4, 5, 3, 3][k] for k in chosen))

exact = exact_fit(lengths, row_tokens=64, row_images=16, window=32)
print(f"exact fit: {len(exact)} rows, {padding(lengths, exact, 64):.1%} padding")

# %%
figure = Figure(figsize=(9, 4), layout="constrained")
for axis, (name, rows) in zip(figure.subplots(1, 2, sharey=True), {"first fit": greedy, "exact fit": exact}.items()):
    for r, members in enumerate(rows):
        left = 0
        for i in members:
            axis.barh(r, lengths[i], left=left, color=f"C{i % 10}", edgecolor="white", linewidth=0.7)
            left += lengths[i]
    axis.set(xlim=(0, 64), ylim=(len(greedy) - 0.5, -0.5), xlabel="tokens")
    axis.set_title(f"{name}: {padding(lengths, rows, 64):.1%} padding")
figure.savefig("2_packing.png")
figure

# %% [markdown]
# ![Rows filled by first fit and by exact fit](2_packing.png)
#
# An exact row is only as good as the images that wait. The last rows have few left, and a window of one image is
# greedy again. What is not traded away: every image of the window is placed within `window` rows, so the order of the
# data stays nearly that of the stream.
#
# **Exercise.** `fullest_row` remembers one subset for each sum, that of the fewest images. Could that lose the best
# row? Try all subsets.

# %% tags=["answer"]
# No: of two subsets with one sum, whatever can be added to the larger one can be added to the smaller one as well.
for _ in range(200):
    some = rng.integers(1, 12, 7).tolist()
    subsets = [(0, *more) for k in range(4) for more in combinations(range(1, 7), k)]
    best = max(t for t in (sum(some[i] for i in subset) for subset in subsets) if t <= 20)
    assert sum(some[k] for k in fullest_row(some, 20, row_images=4)) == best
print("200 of 200 rows are the fullest ones of at most 4 images")

# %% [markdown]
# **Proof.** Against all subsets, and against the version that runs, in shifts of one big integer:
# `tests/test_packing.py:test_fullest_row_is_the_best_of_all_subsets`,
# `tests/test_packing.py:test_bit_sets_fill_a_row_as_the_textbook_does`,
# `tests/test_packing.py:test_every_image_once`.
#
# Next: [what keeps the images of a row apart](3_masks.md).
