# %% [markdown]
# # 6. PI-resize and the adjoint trick
#
# *15 minutes. Question: fine patches or coarse ones is a choice of cost. Can one model read both?*
#
# The patch size is written into one place alone: the first matrix, which maps the numbers of a patch to a token.
# FlexiViT resizes that kernel. Like a picture? Resizing is linear along each axis, x ↦ R x, so everything can be
# asked in matrices.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.resize import adjoint_patches, pi_resize, resize_image, resize_matrix, vanilla_resize

print(np.round(resize_matrix(2, 4), 2))
print(inspect.getsource(pi_resize))

# %% [markdown]
# A patch x of 8 x 8 pixels is enlarged to 12 x 12. Its token should stay: ⟨R x Rᵀ, ŵ⟩ = ⟨x, w⟩ for every x. The
# kernel resized like a picture fails, since there are 2.25 times the pixels. The pseudo-inverse, K = (Rᵀ)⁺, solves it
# exactly.

# %%
rng = np.random.default_rng(0)
x, w = rng.normal(size=(8, 8, 1)), rng.normal(size=(64, 1))
large = resize_image(x, (12, 12)).reshape(1, -1)
want = (x.reshape(1, -1) @ w).item()
for name, resize in {"pi": pi_resize, "like a picture": vanilla_resize}.items():
    print(f"{name:15} {(large @ resize(w, (8, 8), (12, 12))).item():8.4f}   wanted {want:8.4f}")

# %% [markdown]
# But NaViT wants more: patches of *several* sizes in one row, and a row has one length P of patches. Read the same
# inner product the other way round:
#
# ⟨x, K w Kᵀ⟩ = ⟨Kᵀ x K, w⟩
#
# Instead of the kernel, each patch is mapped, to the base size. One kernel stays, rows mix all sizes, and nothing is
# lost: the tokens are the same.

# %%
print(inspect.getsource(adjoint_patches))
patches = rng.normal(size=(5, 12 * 12))  # five patches of 12 x 12 pixels
mapped = adjoint_patches(patches, (8, 8), (12, 12))
difference = np.abs(mapped @ w - patches @ pi_resize(w, (8, 8), (12, 12))).max()
print("mapped", mapped.shape, "difference below 1e-12:", bool(difference < 1e-12))

# %%
y, x = np.mgrid[:8, :8]
edge = np.where(x > y, 1.0, -1.0)[..., None].reshape(64, 1)  # a kernel that finds a diagonal edge
figure = Figure(figsize=(9, 2.6), layout="constrained")
for axis, size in zip(figure.subplots(1, 4), (6, 8, 12, 16)):
    axis.imshow(pi_resize(edge, (8, 8), (size, size)).reshape(size, size), cmap="coolwarm")
    axis.set_title(f"{size} x {size}", fontsize=10)
    axis.set_axis_off()
figure.savefig("6_pi_resize.png")
figure

# %% [markdown]
# ![One kernel, PI-resized to four patch sizes](6_pi_resize.png)
#
# Enlarged kernels ring: they undo the blur of enlarging. When the patch shrinks, pixels are lost, and ŵ is the kernel
# of least squares for white noise.
#
# **Exercise.** Resize from 8 to 6 and back to 8. Do you get w? And from 8 to 12 and back? What follows for a model
# that is used in several sizes one after the other?

# %% tags=["answer"]
for size in (6, 12):
    there = pi_resize(w, (8, 8), (size, size))
    back = pi_resize(there, (size, size), (8, 8))
    print(f"8 → {size:2} → 8: relative error {np.linalg.norm(back - w) / np.linalg.norm(w):.2f}")
# Resizing does not compose, so every size is always made from the stored kernel.

# %% [markdown]
# **Proof.** `tests/test_resize.py:test_pi_resized_kernels_look_the_same_at_enlarged_patches`,
# `tests/test_resize.py:test_mapped_patches_give_the_tokens_of_the_resized_kernel`,
# `tests/test_resize.py:test_pi_resizes_do_not_compose_when_one_shrinks`. More steps: [pi_resize.md](../pi_resize.md).
#
# Next: [from one row to a trained model](7_training.md).
