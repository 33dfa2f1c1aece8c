# %% [markdown]
# # 3. Masks
#
# *15 minutes. Question: images share a row. What keeps them from seeing each other, and what does a mask not do?*
#
# A token may attend to a token of the same image, and to nothing else. Padding neither attends nor is attended to.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.layers import masked_softmax
from reference.masks import same_image, slot_tokens

print(inspect.getsource(same_image))
ids = np.array([1, 1, 2, 2, 2, 0])
print(same_image(ids).astype(int))

# %% [markdown]
# Pooling has a mask of its own: which tokens belong to which slot. Slot 3 is empty here.

# %%
print(slot_tokens(ids, 3).astype(int))

# %% [markdown]
# A softmax over masked logits has two traps. If a row of the mask is all False, as for padding, minus infinity
# everywhere gives 0/0. The reference gives weights of zero instead.

# %%
print(inspect.getsource(masked_softmax))
logits = np.random.default_rng(0).normal(size=(6, 6))
weights = masked_softmax(logits, same_image(ids))
print(np.round(weights.sum(-1), 12).tolist())

# %% [markdown]
# The second trap: **a mask does not stop NaN.** What is masked is multiplied by 0, and 0 · NaN = NaN. Padding may
# hold anything, such as memory that was never written. So `where` after the fact is not enough; the numbers must be
# clean at the door, before the first product.

# %%
values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])[:, None]  # NaN in padding alone
late = np.where((ids > 0)[:, None], weights @ values, 0.0)
early = weights @ np.where((ids > 0)[:, None], values, 0.0)
print("where at the end:  ", np.round(late[:, 0], 3).tolist())
print("where at the door: ", np.round(early[:, 0], 3).tolist())

# %% [markdown]
# Gradients need the same door once more. The gradient of `where(real, f(x), 0)` flows through f for every x: for
# padding it is 0 · f'(x), and NaN where f'(x) is infinite. The square root of a number that is 0 in padding:

# %%
x = np.array([4.0, 0.0])  # real, padding
real = np.array([True, False])
with np.errstate(divide="ignore", invalid="ignore"):
    late = np.where(real, 1.0, 0.0) * (0.5 / np.sqrt(x))  # the chain rule of where(real, sqrt(x), 0)
safe = np.where(real, x, 1.0)  # `where` before f, as well as after it
early = np.where(real, 1.0, 0.0) * (0.5 / np.sqrt(safe))
print("gradients: where after f", late.tolist(), " where before f as well", early.tolist())

# %%
figure = Figure(figsize=(9, 2.8), layout="constrained")
panels = {"segment ids": ids[None], "may attend": same_image(ids), "weights": weights}
for axis, (title, values) in zip(figure.subplots(1, 3), panels.items()):
    axis.imshow(values, cmap="Blues", vmin=0)
    axis.set(title=title, xticks=range(6), yticks=range(len(values)))
figure.savefig("3_masks.png")
figure

# %% [markdown]
# ![Segment ids, the mask made of them, and attention weights under it](3_masks.png)
#
# The mask is one block per image, so its share of the square is Σ n² / T²: most of a dense product is thrown away.
# Kernels that skip the empty blocks are in [attention.md](../attention.md).
#
# **Exercise.** A row of 100 tokens holds ten images of ten tokens, or one image of 100. Which share of the pairs is
# computed for nothing by a dense product?

# %% tags=["answer"]
for parts in ([10] * 10, [100]):
    segment_ids = np.repeat(np.arange(1, len(parts) + 1), parts)
    print(f"{len(parts):2} images: {1 - same_image(segment_ids).mean():.0%} for nothing")

# %% [markdown]
# **Proof.** NaN in padding, in values and in gradients, and whole models against images alone:
# `tests/test_isolation.py:test_padding_does_not_matter`,
# `tests/test_isolation.py:test_nan_in_padding_leaves_gradients_finite`; that each of these laws catches a wrong mask:
# `tests/test_meta.py:test_a_wrong_attention_mask`, `tests/test_meta.py:test_padding_not_zeroed_at_the_door`.
#
# Next: [positions for any grid](4_positions.md).
