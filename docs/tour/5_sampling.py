# %% [markdown]
# # 5. Resolution and dropped tokens are sampling
#
# *10 minutes. Question: a fixed budget of tokens: few images at full size, or many small ones with gaps?*
#
# In NaViT the resolution of a training image is drawn anew each time it is seen. Small versions are cheap, so more
# images are seen in the same time; large ones teach what is fine. "Resolution R" is the area R² of the resized image,
# whatever its shape.

# %%
import inspect

import numpy as np
from matplotlib.figure import Figure

from reference.sampling.dropping import kept_tokens, sample_beta_rate
from reference.sampling.resolution import linear_in_area, linear_in_side, target_grid

print(inspect.getsource(linear_in_area))

# %% [markdown]
# The same u drawn uniformly, mapped to sides or to areas. Tokens go with the area. By side, few tokens are drawn more
# often than many; by area, every number of tokens is as likely as every other.

# %%
rng = np.random.default_rng(0)
u = rng.uniform(-1, 1, 20_000)
sizes = np.broadcast_to([300, 400], (len(u), 2))
tokens = {}
for name, law in {"side": linear_in_side, "area": linear_in_area}.items():
    tokens[name] = target_grid(sizes, law(u, 64, 256), (4, 4)).prod(-1)
    print(f"by {name}: mean {tokens[name].mean():.0f} tokens, median {np.median(tokens[name]):.0f}")

# %% [markdown]
# Dropping is the other way to spend fewer tokens on an image: it is read at its resolution, with gaps. The share that
# is dropped is drawn per image too, and packing makes it pay: what one image leaves, another one takes.

# %%
rate = sample_beta_rate(rng, np.full(20_000, 0.5), highest=0.9)
kept = kept_tokens(tokens["side"], rate)
print(f"drop rates: mean {rate.mean():.2f}, from {rate.min():.2f} to {rate.max():.2f}")
print(f"tokens kept: {kept.sum() / tokens['side'].sum():.2f} of all, at least {kept.min()} of an image")

# %%
figure = Figure(figsize=(9, 2.6), layout="constrained")
left, middle, right = figure.subplots(1, 3)
for name, counts in tokens.items():
    left.hist(counts, bins=np.arange(0, 4200, 200), density=True, histtype="step", label=f"by {name}")
left.set(xlabel="tokens", title="Resolutions 64 to 256")
left.legend(frameon=False, fontsize=8)
middle.hist(rate, bins=40, density=True, color="C2")
middle.set(xlabel="drop rate", title="Beta, mean 0.5, at most 0.9")
right.plot(tokens["side"][:1500], kept[:1500], ".", ms=2, color="C3")
right.set(xlabel="tokens", ylabel="kept", title="What is packed")
figure.savefig("5_sampling.png")
figure

# %% [markdown]
# ![Tokens by side and by area, drop rates, tokens kept](5_sampling.png)
#
# All of it is decided before any pixel is read: sizes of files, a seed and the number of the epoch give grid, kept
# tokens and row of every image. That plan is what makes a stream the same for any number of workers, and its position
# one integer.
#
# **Exercise.** An image of s tokens, of which the share d is dropped, costs a n + b n² with n = s (1 − d). Two images
# are left with 64 tokens: one of 64 without drops, one of 128 of which half is dropped. Which costs more? Which one
# sees more?

# %% tags=["answer"]
for s, d in ((64, 0.0), (128, 0.5)):
    n = kept_tokens(np.array([s]), np.array([d]))[0]
    side = 16 * np.sqrt(s)  # in patches of 16 x 16
    print(f"{s} tokens, {d:.0%} dropped: n = {n}, read at {side:.0f}², {n / s:.0%} of the picture")
# The cost is the same: the choice is between all of a small picture and half of a large one. Which is better is
# measured: `python evaluate.py RUN --studies dropping` at inference, experiments/ in training.

# %% [markdown]
# **Proof.** `tests/test_sampling.py:test_resolutions_follow_their_law`,
# `tests/test_drop_rates.py:test_beta_rates_are_those_of_the_figure`,
# `tests/test_token_selection.py:test_at_random_no_token_is_preferred`,
# `tests/test_plan.py:test_every_image_stands_in_one_row_or_is_named`. All laws: [sampling.md](../sampling.md).
#
# Next: [one kernel for patches of every size](6_pi_resize.md).
