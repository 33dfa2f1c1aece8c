# %% [markdown]
# # 7. From one row to a trained model, and what packing may never change
#
# *10 minutes. Question: what has to be true of a packed model, and how is it seen?*
#
# The meaning of NaViT is a plain ViT on one image. Packing is a way to compute it. So there is one law: every image
# of a row gets what it would get alone.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.init import init
from reference.model import forward, forward_image
from reference.packing import exact_fit
from reference.patches import patchify
from reference.rows import pack

print(inspect.getsource(forward))

# %% [markdown]
# Images of two kinds, stripes that lie and stripes that stand, of any size from 2 x 2 to 4 x 4 patches.

# %%
rng = np.random.default_rng(0)


def stripes(standing: bool) -> np.ndarray:
    """A noisy image of stripes, of a random size."""
    height, width = 4 * rng.integers(2, 5, 2)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 60 * np.sin(2 * np.pi * (x if standing else y) / 4 + rng.uniform(0, 6))
    return (wave[..., None] + rng.normal(0, 20, (height, width, 1))).clip(0, 255).astype(np.uint8)


labels = rng.integers(0, 2, 120)
images = [patchify(stripes(bool(label)), (4, 4)) for label in labels]
params = init(rng, patch_dim=16, width=16, depth=1, heads=2, mlp_width=32, positions=4)

lengths = [len(image.patches) for image in images]
members = exact_fit(lengths, row_tokens=48, row_images=8, window=32)
rows = [pack([images[i] for i in row], row, row_tokens=48, row_images=8) for row in members]
print(f"{len(images)} images in {len(rows)} rows; the first holds images {members[0]}")

# %%
packed = np.zeros((len(images), 16))
for row in rows:
    used = row.image_ids >= 0
    packed[row.image_ids[used]] = forward(params, row)[used]
alone = np.stack([forward_image(params, image) for image in images])
print("packed is alone, to 1e-12:", bool(np.abs(packed - alone).max() < 1e-12))

# %% [markdown]
# Then a loss that is a sum over images does not change, nor does its gradient, nor training. The head alone is
# trained here, where the gradient is a line: softmax minus truth. The loss of a row is a *sum* and a *count*; the
# mean is taken once, over the whole batch. A mean per row would weigh an image by its company.


# %%
def trained(vectors: np.ndarray, order: list[list[int]], steps: int = 150) -> tuple[np.ndarray, list[float]]:
    """A linear head, by gradient descent; the images come row by row."""
    head, losses = np.zeros((17, 2)), []
    x = np.concatenate([vectors - vectors.mean(0), np.ones((len(vectors), 1))], 1)
    for _ in range(steps):
        gradient, total, count = np.zeros_like(head), 0.0, 0
        for row in order:
            logits = x[row] @ head
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            gradient += x[row].T @ (p - np.eye(2)[labels[row]])
            total -= np.log(p[np.arange(len(row)), labels[row]]).sum()
            count += len(row)
        head -= 0.5 * gradient / count
        losses.append(total / count)
    return head, losses


head, losses = trained(packed, members)
one_by_one, _ = trained(alone, [[i] for i in range(len(images))])
x = np.concatenate([packed - packed.mean(0), np.ones((len(images), 1))], 1)
print(f"loss {losses[0]:.2f} to {losses[-1]:.2f}, {((x @ head).argmax(-1) == labels).mean():.0%} right in training")
print("the same head as one by one, to 1e-9:", bool(np.abs(head - one_by_one).max() < 1e-9))

# %%
figure = Figure(figsize=(9, 2.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(losses)
left.set(xlabel="step", ylabel="loss", title="Trained on packed rows")
right.plot(one_by_one.ravel(), head.ravel(), "o", ms=4)
right.set(xlabel="weights, one image at a time", ylabel="weights, packed", title="The same model")
figure.savefig("7_training.png")
figure

# %% [markdown]
# ![The loss of packed training; its weights against those of training one image at a time](7_training.png)
#
# **Exercise.** Make the mistake: the mean over rows of the mean over the images of each row. Which images count more?

# %% tags=["answer"]
share = np.concatenate([np.full(len(row), 1 / len(row) / len(members)) for row in members])
print(f"weight of an image: {share.min() * len(images):.2f} to {share.max() * len(images):.2f}, should be 1")
# Images in rows of few images, so the large ones, count more: the mean of means is caught in tests/test_meta.py.

# %% [markdown]
# **Proof.** `tests/test_isolation.py:test_packed_is_alone`,
# `tests/test_isolation.py:test_no_gradient_between_images`,
# `tests/test_isolation.py:test_the_loss_of_a_batch_is_the_sum_over_its_rows`;
# `tests/test_meta.py:test_a_mean_of_means`.
#
# From here: `navit_eqx/model.py` says the same in JAX, `python train.py` trains all of it in five minutes, and the
# [reading order](../../README.md#reading-order) leads through the rest.
