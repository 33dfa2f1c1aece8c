"""Towers whose classes are in no package: their forward passes in PyTorch, written for this project.

They follow what was published: for MoonViT-V2 the names, shapes and configuration of Kimi K3's vision tower, for
UniViTAR arXiv:2504.01792 and the names of its weights. So they prove that two independent programs read the same
description, not that the weights on a hub say the same. Nothing is cast: all is computed in float64.
"""

import json
import math

import numpy as np
import safetensors.numpy
from make import DEPTH, HEADS, MLP, PATCH, PICTURES, SEED, SIDE, WIDTH, Image, picture, torch

F = torch.nn.functional
INNER = 24  # channels of all heads of MoonViT-V2, wider than its tokens
THETA = 10_000.0


def drawn(shapes):
    """Random tensors by name: gains around one, weights by their fan-in, so that no softmax is saturated."""
    rng = np.random.default_rng(SEED)
    found = {}
    for name, shape in sorted(shapes.items()):
        fan_in = math.prod(shape[1:]) if len(shape) > 1 and "pos" not in name else 4
        center = float("norm" in name or ".ls" in name)
        values = center + rng.normal(size=shape) / math.sqrt(fan_in)
        found[name] = values.astype(np.float32).astype(np.float64)  # so that our sums of frames are exact
    return found


def blocks(shapes):
    """The shapes of one block for every block."""
    return {name.format(i=i): shape for i in range(DEPTH) for name, shape in shapes.items()}


def places(height, width):
    """Row and column of each patch."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.reshape(-1, 1).double(), columns.reshape(-1, 1).double()


def attend(q, k, v):
    """Attention of all tokens of an image, "T H K" each, and its heads side by side."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


def double(tensors):
    return {name: torch.tensor(x).double() for name, x in tensors.items()}


def write(out, tensors, **files):
    safetensors.numpy.save_file(tensors, out / "model.safetensors")
    for name, said in files.items():
        (out / f"{name}.json").write_text(json.dumps(said, indent=2) + "\n")


# MoonViT-V2 -----------------------------------------------------------------------------------------------------


def turned(x, angles):
    """Neighbors (2c, 2c + 1) as complex numbers, turned by the angles of their place: x and y in turn."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(2)


def moonvit_v2(tensors, x):
    """Tokens of one image, and their mean."""
    p = {name.removeprefix("vision_tower."): value for name, value in double(tensors).items()}
    norm = lambda y, name: F.rms_norm(y, (WIDTH,), p[f"{name}.weight"])
    tokens = F.conv2d(torch.tensor(x)[None], p["patch_embed.proj.weight"], stride=PATCH)[0]
    height, width = tokens.shape[1:]
    table = p["patch_embed.pos_emb.weight"].permute(2, 0, 1)[None]
    y = (tokens + F.interpolate(table, size=(height, width), mode="bilinear")[0]).flatten(1).T
    size = INNER // HEADS
    frequencies = THETA ** (-torch.arange(0, size, 4).double() / size)
    rows, columns = places(height, width)
    angles = torch.stack([columns * frequencies, rows * frequencies], -1).flatten(1)
    for i in range(DEPTH):
        at = f"encoder.blocks.{i}"
        qkv = (norm(y, f"{at}.norm0") @ p[f"{at}.wqkv.weight"].T).reshape(-1, 3, HEADS, size)
        q, k = (turned(z, angles) for z in qkv.unbind(1)[:2])
        y = y + attend(q, k, qkv[:, 2]) @ p[f"{at}.wo.weight"].T
        hidden = F.gelu(norm(y, f"{at}.norm1") @ p[f"{at}.mlp.fc0.weight"].T, approximate="tanh")
        y = y + hidden @ p[f"{at}.mlp.fc1.weight"].T
    y = norm(y, "encoder.final_layernorm")
    return y.numpy(), y.mean(0).numpy()


def save_moonvit_v2(name, out):
    """The tower within a whole model, of which nothing else is saved but a layer of its projector."""
    at = "encoder.blocks.{i}"
    shapes = {"patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH), "patch_embed.pos_emb.weight": (SIDE, SIDE, WIDTH)}
    shapes |= {"encoder.final_layernorm.weight": (WIDTH,)}
    shapes |= blocks(
        {
            **{f"{at}.norm0.weight": (WIDTH,), f"{at}.norm1.weight": (WIDTH,)},
            **{f"{at}.wqkv.weight": (3 * INNER, WIDTH), f"{at}.wo.weight": (WIDTH, INNER)},
            **{f"{at}.mlp.fc0.weight": (MLP, WIDTH), f"{at}.mlp.fc1.weight": (WIDTH, MLP)},
        }
    )
    shapes = {f"vision_tower.{name}": shape for name, shape in shapes.items()} | {"mm_projector.proj.0.weight": (4, 4)}
    tower = {"patch_size": PATCH, "vt_hidden_size": WIDTH, "vt_num_hidden_layers": DEPTH, "vt_intermediate_size": MLP}
    tower |= {"vt_num_attention_heads": HEADS, "qkv_hidden_size": INNER, "norm_type": "rmsnorm", "attn_bias": False}
    tower |= {"init_pos_emb_height": SIDE, "init_pos_emb_width": SIDE, "init_pos_emb_time": 4, "linear_bias": False}
    tower |= {"pos_emb_interpolation_mode": "bilinear", "patch_embed_proj_bias": False, "merge_kernel_size": [2, 2]}
    how = {"media_proc_cfg": {"in_patch_limit": 64, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}}
    tensors = drawn(shapes)
    write(out, tensors, config={"model_type": "kimi_k3", "vision_config": tower}, preprocessor_config=how)
    return tensors, moonvit_v2, {}


# UniViTAR -------------------------------------------------------------------------------------------------------

TOKENS = (16, 48)  # fewest and most of a picture


def univitar(tensors, x):
    """Tokens of one image, shown in both frames of the kernel, and their mean."""
    p = double(tensors)
    norm = lambda y, name: F.rms_norm(y, y.shape[-1:], p[f"{name}.weight"], eps=1e-6)
    layer = lambda y, name: F.linear(y, p[f"{name}.weight"], p.get(f"{name}.bias"))
    kernel, bias = (p[f"embeddings.patch_embedding.{part}"] for part in ("weight", "bias"))
    clip = torch.tensor(x)[None, :, None].expand(-1, -1, kernel.shape[2], -1, -1)
    tokens = F.conv3d(clip, kernel, bias, stride=kernel.shape[2:])[0, :, 0]
    height, width = tokens.shape[1:]
    y = tokens.flatten(1).T
    quarter = WIDTH // HEADS // 4
    frequencies = THETA ** (-torch.arange(quarter).double() / quarter)
    rows, columns = places(height, width)
    angles = torch.cat([rows * frequencies, columns * frequencies], 1)[:, None]
    cos, sin = angles.cos(), angles.sin()

    def placed(z, name):
        a, b = z.chunk(2, -1)
        return norm(torch.cat([a * cos - b * sin, b * cos + a * sin], -1).flatten(1), name).reshape(z.shape)

    for i in range(DEPTH):
        at = f"encoder.layers.{i}"
        q, k, v = layer(norm(y, f"{at}.norm1"), f"{at}.attn.qkv").reshape(-1, 3, HEADS, 4 * quarter).unbind(1)
        seen = attend(placed(q, f"{at}.attn.q_norm"), placed(k, f"{at}.attn.k_norm"), v)
        y = y + p[f"{at}.ls1"] * layer(seen, f"{at}.attn.proj")
        z = norm(y, f"{at}.norm2")
        hidden = F.silu(layer(z, f"{at}.mlp.fc1")) * layer(z, f"{at}.mlp.fc3")
        y = y + p[f"{at}.ls2"] * layer(norm(hidden, f"{at}.mlp.norm"), f"{at}.mlp.fc2")
    return y.numpy(), y.mean(0).numpy()


def univitar_bytes(pixels):
    """The picture at whole patches within the limits, by Pillow: C h w."""
    height, width = pixels.shape[:2]
    least, most = (tokens * PATCH**2 for tokens in TOKENS)
    sides = [round(n / PATCH) * PATCH for n in (height, width)]
    if math.prod(sides) > most:
        shrink = math.sqrt(height * width / most)
        sides = [math.floor(n / shrink / PATCH) * PATCH for n in (height, width)]
    elif math.prod(sides) < least:
        grow = math.sqrt(least / (height * width))
        sides = [math.ceil(n * grow / PATCH) * PATCH for n in (height, width)]
    resized = Image.fromarray(pixels).resize(sides[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized).transpose(2, 0, 1)


def save_univitar(name, out):
    """The tower alone."""
    at = "encoder.layers.{i}"
    kernel = "embeddings.patch_embedding"
    shapes = {f"{kernel}.weight": (WIDTH, 3, 2, PATCH, PATCH), f"{kernel}.bias": (WIDTH,)}
    gains = ("attn.q_norm.weight", "attn.k_norm.weight", "norm1.weight", "norm2.weight", "ls1", "ls2")
    layers = {"attn.proj": (WIDTH, WIDTH), "mlp.fc1": (MLP, WIDTH), "mlp.fc3": (MLP, WIDTH), "mlp.fc2": (WIDTH, MLP)}
    own = {f"{at}.{gain}": (WIDTH,) for gain in gains}
    own |= {f"{at}.mlp.norm.weight": (MLP,), f"{at}.attn.qkv.weight": (3 * WIDTH, WIDTH)}
    own |= {f"{at}.{layer}.weight": shape for layer, shape in layers.items()}
    own |= {f"{at}.{layer}.bias": shape[:1] for layer, shape in layers.items()}
    said = {"model_type": "univitar", "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    said |= {"intermediate_size": 3 * MLP // 2, "patch_size": PATCH, "temporal_patch_size": 2, "rope_theta": THETA}
    said |= {"resolution_mode": "native", "resize_factor": 1, "min_tokens": TOKENS[0], "max_tokens": TOKENS[1]}
    tensors = drawn(shapes | blocks(own))
    write(out, tensors, config=said)
    return tensors, univitar, {f"bytes_{h}x{w}": univitar_bytes(picture((h, w))) for h, w in PICTURES}


PUBLISHED = {"moonvit_v2": save_moonvit_v2, "univitar": save_univitar}
