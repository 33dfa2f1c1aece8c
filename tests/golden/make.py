"""Tiny random models of other projects' own classes, and what those classes make of images.

    python tests/golden/make.py [OUT] [NAME ...]       in an environment of its own; nothing of this project is imported

    python -m venv parity && parity/bin/pip install torch timm transformers pillow

Every folder is as its project saves it: config.json, preprocessor_config.json, model.safetensors or weights.npz. Beside
them stands expected.npz: for each grid, pixels of an image, the tokens and the pooled vector of the peer; and for
pictures of other sizes, the bytes that the peer's own preprocessing hands to its model.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch
import transformers as hf

SEED, PATCH, SIDE = 20261128, 2, 4
WIDTH, DEPTH, HEADS, MLP = 16, 2, 2, 24
GRIDS = ((4, 4), (1, 7), (5, 3), (6, 6), (1, 1), (3, 2))  # the table's own, a strip, larger, smaller
PICTURES = ((13, 21), (40, 9), (8, 8))
SIZES = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, patch_size=PATCH)
SQUARE = dict(SIZES, intermediate_size=MLP, image_size=PATCH * SIDE)
DINO = dict(SIZES, mlp_ratio=2, image_size=PATCH * SIDE)


def in_float64(x, **options):
    """`interpolate` without the rounding of those peers that cast the table to float32 first."""
    return INTERPOLATE(x.double(), **options)


INTERPOLATE = torch.nn.functional.interpolate
torch.nn.functional.interpolate = in_float64  # parameters are numbers of float32, so that the cast itself is exact


def randomize(model):
    """Every parameter matters: none is zero or one, and no softmax is saturated."""
    rng = np.random.default_rng(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            shape = tuple(parameter.shape)
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 and "token" not in name and "pos" not in name else 4
            center = 1.0 if "norm" in name and name.endswith("weight") or "lambda" in name or "gamma" in name else 0.0
            values = center + rng.normal(size=shape) / np.sqrt(fan_in)
            parameter.copy_(torch.tensor(np.asarray(values, np.float32).astype(np.float64)))
    return model.double().eval()


def image(grid):
    """Random pixels, already normalized, as the model reads them: C h w."""
    rng = np.random.default_rng([SEED, *grid])
    return rng.normal(size=(3, grid[0] * PATCH, grid[1] * PATCH)).astype(np.float32).astype(np.float64)


def picture(size):
    """A random picture of 8 bits, h w 3."""
    return np.random.default_rng([SEED, *size]).integers(0, 256, (*size, 3), np.uint8)


# the peers ----------------------------------------------------------------------------------------------------------


def encoder_of(drop, pooled="pooler_output", norm=None, **options):
    """Tokens without the `drop` first ones, and the pooled vector, of a model of transformers."""

    def run(model, x):
        with torch.no_grad():
            out = model(pixel_values=torch.tensor(x)[None], **options)
            tokens = out.last_hidden_state[0, drop:]
            tokens = tokens if norm is None else norm(model)(tokens)
            return tokens.numpy(), (out[pooled] if isinstance(pooled, str) else pooled(model, out))[0].numpy()

    return run


def classifier_of(drop, base, **options):
    """Tokens of the base model, and the logits."""

    def run(model, x):
        with torch.no_grad():
            tokens = encoder_of(drop, lambda m, out: out.last_hidden_state[:, 0], **options)(base(model), x)[0]
            return tokens, model(pixel_values=torch.tensor(x)[None], **options).logits[0].numpy()

    return run


def naflex(model, x):
    """SigLIP 2 reads patches and the grid."""
    height, width = (n // PATCH for n in x.shape[1:])
    patches = x.reshape(3, height, PATCH, width, PATCH).transpose(1, 3, 2, 4, 0).reshape(height * width, -1)
    with torch.no_grad():
        out = model(
            pixel_values=torch.tensor(patches)[None],
            pixel_attention_mask=torch.ones(1, height * width, dtype=torch.int64),
            spatial_shapes=torch.tensor([[height, width]]),
        )
    return out.last_hidden_state[0].numpy(), out.pooler_output[0].numpy()


FREE = {"interpolate_pos_encoding": True}
RESIZED = {"size": {"height": 8, "width": 8}}
VIT = hf.models.vit.image_processing_pil_vit.ViTImageProcessorPil
BIT = hf.models.bit.image_processing_pil_bit.BitImageProcessorPil
CROPPED = {"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}}
CENTERED = {"size": {"height": 10, "width": 10}, "crop_size": {"height": 8, "width": 8}}
first = lambda m, out: out.last_hidden_state[:, 0]

TRANSFORMERS = {
    # name: (model, run, processor)
    "vit": (
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**SQUARE, num_labels=3)),
        classifier_of(1, lambda m: m.vit, **FREE),
        lambda: VIT(**RESIZED),
    ),
    "deit": (
        lambda: hf.DeiTModel(hf.DeiTConfig(**SQUARE, qkv_bias=False)),
        encoder_of(2, first, **FREE),
        lambda: hf.models.deit.image_processing_pil_deit.DeiTImageProcessorPil(**CENTERED),
    ),
    "clip": (
        lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**SQUARE, projection_dim=6)),
        encoder_of(1, "image_embeds", lambda m: m.vision_model.post_layernorm, **FREE),
        lambda: hf.models.clip.image_processing_pil_clip.CLIPImageProcessorPil(**CROPPED),
    ),
    "siglip": (
        lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SQUARE)),
        encoder_of(0, **FREE),
        lambda: hf.models.siglip.image_processing_pil_siglip.SiglipImageProcessorPil(**RESIZED),
    ),
    "siglip2_naflex": (
        lambda: hf.Siglip2VisionModel(hf.Siglip2VisionConfig(**SIZES, intermediate_size=MLP, num_patches=SIDE**2)),
        naflex,
        lambda: hf.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil(
            patch_size=PATCH, max_num_patches=20
        ),
    ),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO)), encoder_of(1), lambda: BIT(**CROPPED)),
    "dinov2_swiglu": (
        lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO, use_swiglu_ffn=True)), encoder_of(1), lambda: BIT(**CROPPED),
    ),
    "dinov2_registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=2)),
        encoder_of(3),
        lambda: BIT(**CROPPED),
    ),
    "dinov3": (
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SQUARE, num_register_tokens=2)),
        encoder_of(3),
        lambda: VIT(**RESIZED),
    ),
    "dinov3_gated": (
        lambda: hf.DINOv3ViTModel(
            hf.DINOv3ViTConfig(**SQUARE, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", mlp_bias=False)
        ),
        encoder_of(3),
        lambda: VIT(**RESIZED),
    ),
}  # fmt: skip


def bytes_of(processor, pixels):
    """The pixels that the processor hands on, before they are rescaled and normalized."""
    out = processor(pixels, do_rescale=False, do_normalize=False, return_tensors="np")
    values = np.asarray(out["pixel_values"][0])
    if "spatial_shapes" in out:
        values = values[: int(np.prod(out["spatial_shapes"][0]))]
    assert (values == np.round(values)).all() and values.min() >= 0 and values.max() <= 255
    return values.astype(np.uint8)


def save_transformers(name, out):
    make, run, processor = TRANSFORMERS[name]
    model = randomize(make())
    model.set_attn_implementation("sdpa")  # eager attention takes its softmax in float32
    model.save_pretrained(out)
    processor().save_pretrained(out)
    said = json.loads((out / "preprocessor_config.json").read_text())
    expected = {f"bytes_{h}x{w}": bytes_of(processor(), picture((h, w))) for h, w in PICTURES}
    expected["normalized"] = np.asarray(processor()(picture(PICTURES[0]), return_tensors="np")["pixel_values"][0])
    (out / "preprocessor_config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    return model, run, expected


def main() -> None:
    root, *names = sys.argv[1:] or [str(Path(__file__).parent)]
    for name in names or TRANSFORMERS:
        out = Path(root) / name
        out.mkdir(parents=True, exist_ok=True)
        model, run, expected = save_transformers(name, out)
        for grid in GRIDS:
            tokens, pooled = run(model, image(grid))
            label = "x".join(map(str, grid))
            expected |= {f"tokens_{label}": tokens, f"pooled_{label}": pooled}
        np.savez_compressed(out / "expected.npz", **expected)
        print(name, {k: v.shape for k, v in expected.items()}, flush=True)
    versions = {"torch": torch.__version__, "transformers": hf.__version__, "numpy": np.__version__, "seed": SEED}
    (Path(root) / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
