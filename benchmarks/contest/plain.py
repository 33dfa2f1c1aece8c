"""Our model in PyTorch, on flat tokens `T D` without padding: the strongest peers, by attention backend.

Parameters are those of our model, so that logits can be compared. Attention within each image:

    flat      one SDPA call per image
    flex      FlexAttention with a document mask, compiled
    varlen    torch.nn.attention.varlen (FlashAttention), compiled
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v: T H K → T H K


class Flat(NamedTuple):
    """Concatenated images."""

    patches: Tensor  # T P
    coords: Tensor  # T 2
    image: Tensor  # T: image of each token
    lengths: list[int]


class Attention(nn.Module):
    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.heads, self.size = arrays["q"].shape[1:]
        width = len(arrays["q"])
        self.qkv = matrix(np.concatenate([arrays[n].reshape(width, -1) for n in "qkv"], 1))
        self.o = matrix(arrays["o"].reshape(-1, width))
        self.q_norm, self.k_norm = Norm(arrays["q_norm.scale"]), Norm(arrays["k_norm.scale"])

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        q, k, v = (x @ self.qkv).view(len(x), 3, self.heads, self.size).unbind(1)
        return mix(self.q_norm(q), self.k_norm(k), v).reshape(len(x), -1) @ self.o

    def pool(self, probe: Tensor, x: Tensor, image: Tensor, count: int) -> Tensor:
        """Attention pooling of each image: a softmax over segments."""
        wq, wkv = self.qkv.tensor_split([self.heads * self.size], 1)
        q = self.q_norm((probe @ wq).view(self.heads, self.size))
        k, v = (x @ wkv).view(len(x), 2, self.heads, self.size).unbind(1)
        scores = (self.k_norm(k) * q).sum(-1).float() * self.size**-0.5
        e = (scores - scores.detach().amax()).exp()
        total = e.new_zeros(count, self.heads).index_add(0, image, e)
        mixed = e.new_zeros(count, *v.shape[1:]).index_add(0, image, e[..., None] * v)
        return (mixed / total[..., None]).reshape(count, -1).to(x.dtype) @ self.o


class Norm(nn.Module):
    def __init__(self, scale: np.ndarray):
        super().__init__()
        self.scale = matrix(scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.scale, None, EPSILON)


class Mlp(nn.Module):
    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.w1, self.b1 = matrix(arrays["grow.w"].T), matrix(arrays["grow.b"])
        self.w2, self.b2 = matrix(arrays["shrink.w"].T), matrix(arrays["shrink.b"])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(x, self.w1, self.b1), approximate="tanh"), self.w2, self.b2)


class Block(nn.Module):
    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.norms = nn.ModuleList([Norm(arrays["attention_norm.scale"]), Norm(arrays["mlp_norm.scale"])])
        self.attention, self.mlp = Attention(within(arrays, "attention.")), Mlp(within(arrays, "mlp."))

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        x = x + self.attention(self.norms[0](x), mix)
        return x + self.mlp(self.norms[1](x))


class Plain(nn.Module):
    """The model: logits of all images of a flat step."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        head, arrays = within(arrays, "task.head."), within(arrays, "backbone.")
        self.embed_w, self.embed_b = matrix(arrays["patch_embedding.w"].T), matrix(arrays["patch_embedding.b"])
        self.tables = matrix(arrays["posembed.tables"])
        stacked = within(arrays, "encoder.blocks.")
        depth = len(stacked["attention.q"])
        self.blocks = nn.ModuleList(Block({k: v[i] for k, v in stacked.items()}) for i in range(depth))
        self.norm, self.pool_norm = Norm(arrays["encoder.norm.scale"]), Norm(arrays["pool.norm.scale"])
        self.probe = matrix(arrays["pool.probe"])
        self.pool, self.pool_mlp = Attention(within(arrays, "pool.attention.")), Mlp(within(arrays, "pool.mlp."))
        self.head_w, self.head_b = matrix(head["w"].T), matrix(head["b"])

    def forward(self, patches: Tensor, coords: Tensor, image: Tensor, count: int, mix: Mix) -> Tensor:
        y, x = coords.unbind(-1)
        tokens = F.linear(patches, self.embed_w, self.embed_b) + self.tables[0][y] + self.tables[1][x]
        for block in self.blocks:
            tokens = block(tokens, mix)
        pooled = self.pool.pool(self.probe, self.norm(tokens), image, count)
        pooled = pooled + self.pool_mlp(self.pool_norm(pooled))
        return F.linear(pooled, self.head_w, self.head_b)


def flat(step: Flat) -> Mix:
    """Attention image by image."""

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(*(t.transpose(0, 1).split(step.lengths, 1) for t in (q, k, v)))
        return torch.cat([F.scaled_dot_product_attention(*(t[None] for t in p))[0] for p in parts], 1).transpose(0, 1)

    return mix


def flex(step: Flat) -> Mix:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    image, count = step.image, len(step.image)
    attend = torch.compile(flex_attention)  # uncompiled, it materializes all pairs of tokens
    mask = create_block_mask(lambda b, h, i, j: image[i] == image[j], None, None, count, count, device=image.device)

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.to(v.dtype).transpose(0, 1)[None] for t in (q, k, v))
        return attend(q, k, v, block_mask=mask)[0].transpose(0, 1)

    return mix


def varlen(step: Flat) -> Mix:
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor([0, *np.cumsum(step.lengths)], dtype=torch.int32, device=step.image.device)
    longest = max(step.lengths)
    return lambda q, k, v: varlen_attn(q.to(v.dtype), k.to(v.dtype), v, ends, ends, longest, longest)


MIXES: dict[str, Callable[[Flat], Mix]] = {"flat": flat, "flex": flex, "varlen": varlen}


def matrix(array: np.ndarray) -> Any:
    return nn.Parameter(torch.tensor(np.ascontiguousarray(array)))


def within(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
