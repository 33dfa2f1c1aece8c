"""Tiny random models of other projects' own classes, and what those classes make of images.

    python tests/golden/make.py [OUT] [NAME ...]       in an environment of its own; nothing of this project is imported

    python -m venv parity && parity/bin/pip install torch timm transformers pillow

Every folder is as its project saves it: config.json, preprocessor_config.json, model.safetensors or weights.npz. Beside
each stands NAME.npz: for each grid, pixels of an image, the tokens and the pooled vector of the peer; and for
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
import timm
import torch
import transformers as hf
from PIL import Image
from timm.data.naflex_transforms import ResizeToSequence

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


TRANSFORMERS["idefics3"] = (
    lambda: hf.Idefics3VisionTransformer(hf.models.idefics3.Idefics3VisionConfig(**SQUARE)),
    encoder_of(0, lambda m, out: out.last_hidden_state.mean(1)),
    lambda: VIT(**RESIZED),  # its own cuts images into tiles
)


def buckets(side):
    """The entry of a table of `side` that Idefics reads for each patch of 1 to 140 in a row, one after the other."""
    tower = hf.Idefics3VisionTransformer(hf.models.idefics3.Idefics3VisionConfig(**SIZES, image_size=PATCH * side))
    found, lookup = [], tower.embeddings.position_embedding
    lookup.register_forward_hook(lambda module, given, out: found.append(given[0].numpy()[0] % side))
    with torch.no_grad():
        for n in range(1, 141):
            mask = torch.ones(1, 1, n, dtype=torch.bool)
            tower.embeddings(torch.zeros(1, 3, PATCH, PATCH * n), mask)
    return np.concatenate(found).astype(np.uint8)


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


TINY = dict(img_size=8, patch_size=2, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=1.5)
NAFLEX = dict(TINY, pos_embed_grid_size=(SIDE, SIDE))
del NAFLEX["img_size"]
CONFIG = dict(input_size=(3, 8, 8), crop_pct=0.875, interpolation="bicubic")
TIMM = {
    # name: (architecture, its arguments, pretrained_cfg)
    "timm_vit": ("vit_base_patch16_224", dict(TINY, num_classes=3), CONFIG),
    "timm_vit_registers": (
        "vit_small_patch14_reg4_dinov2",
        dict(TINY, num_classes=0, reg_tokens=2),
        dict(CONFIG, crop_pct=1.0, crop_mode="squash"),
    ),
    "timm_clip": ("vit_base_patch16_clip_quickgelu_224", dict(TINY, num_classes=0), CONFIG),
    "timm_siglip": ("vit_base_patch32_siglip_256", dict(TINY, num_classes=0), dict(CONFIG, crop_mode="squash")),
    "naflexvit": ("naflexvit_base_patch16_gap", dict(NAFLEX, num_classes=3), CONFIG),
    "naflexvit_par": ("naflexvit_base_patch16_par_gap", dict(NAFLEX, num_classes=3), CONFIG),
    "naflexvit_parfac": ("naflexvit_base_patch16_parfac_gap", dict(NAFLEX, num_classes=0), CONFIG),
    "naflexvit_siglip": ("naflexvit_base_patch16_siglip", dict(NAFLEX, num_classes=0), CONFIG),
}


def timm_run(naflex):
    def run(model, x):
        with torch.no_grad():
            given = torch.tensor(x)[None]
            if naflex:
                height, width = (n // PATCH for n in x.shape[1:])
                patches = x.reshape(3, height, PATCH, width, PATCH).transpose(1, 3, 2, 4, 0)
                given = {
                    "patches": torch.tensor(patches.reshape(1, height * width, -1)),
                    "patch_coord": torch.tensor(np.indices((height, width)).reshape(2, -1).T[None].copy()),
                    "patch_valid": torch.ones(1, height * width, dtype=torch.bool),
                }
                out = model.forward_features(**given)
                tokens = out["patches"] if isinstance(out, dict) else out
                pooled = model(given)
            else:
                tokens, pooled = model.forward_features(given), model(given)
            return tokens[0, model.num_prefix_tokens :].numpy(), pooled[0].numpy()

    return run


def save_timm(name, out):
    architecture, args, cfg = TIMM[name]
    naflex = architecture.startswith("naflex")
    free = {} if naflex else {"dynamic_img_size": True}
    model = randomize(timm.create_model(architecture, **args, **free))
    model.pretrained_cfg = dict(model.pretrained_cfg, **cfg)
    timm.models.save_for_hf(model, out, model_args=args, safe_serialization=True)
    data = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg, args={})
    transform = timm.data.create_transform(**data, is_training=False)
    if naflex:
        resize = ResizeToSequence(PATCH, max_seq_len=16, interpolation="bicubic")
    else:
        resize = transform.__class__(transform.transforms[:2])
    pixels = lambda size: np.asarray(resize(Image.fromarray(picture(size)))).transpose(2, 0, 1)
    return model, timm_run(naflex), {f"bytes_{h}x{w}": pixels((h, w)) for h, w in PICTURES}


def big_vision_arrays(kind):
    """Random parameters under the names that big_vision gives them."""
    rng = np.random.default_rng(SEED)
    size = WIDTH // HEADS
    arrays = {}

    def put(name, *shape, center=0.0, fan_in=1):
        arrays[name] = (center + rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)

    def norm(at):
        put(f"{at}/scale", WIDTH, center=1.0, fan_in=16)
        put(f"{at}/bias", WIDTH)

    def attention(at):
        for name in ("query", "key", "value"):
            put(f"{at}/{name}/kernel", WIDTH, HEADS, size, fan_in=WIDTH)
            put(f"{at}/{name}/bias", HEADS, size)
        put(f"{at}/out/kernel", HEADS, size, WIDTH, fan_in=WIDTH)
        put(f"{at}/out/bias", WIDTH)

    def mlp(at):
        for name, shape in (("Dense_0", (WIDTH, MLP)), ("Dense_1", (MLP, WIDTH))):
            put(f"{at}/{name}/kernel", *shape, fan_in=shape[0])
            put(f"{at}/{name}/bias", shape[1])

    for i in range(DEPTH):
        at = f"Transformer/encoderblock_{i}"
        norm(f"{at}/LayerNorm_0"), norm(f"{at}/LayerNorm_1")
        attention(f"{at}/MultiHeadDotProductAttention_0"), mlp(f"{at}/MlpBlock_0")
    norm("Transformer/encoder_norm")
    if kind == "flexivit":
        put("cls", 1, 1, WIDTH), put("pos_embedding", 1, SIDE**2, WIDTH)
        put("embedding/kernel", PATCH, PATCH, 3, WIDTH, fan_in=12), put("head/kernel", WIDTH, 3, fan_in=WIDTH)
        put("head/bias", 3)
    else:
        put("pos_embedding", SIDE, SIDE, WIDTH), put("embedding/kernel", PATCH**2 * 3, WIDTH, fan_in=12)
        put("MAPHead_0/probe", 1, 1, WIDTH), norm("MAPHead_0/LayerNorm_0")
        attention("MAPHead_0/MultiHeadDotProductAttention_0"), mlp("MAPHead_0/MlpBlock_0")
    put("embedding/bias", WIDTH)
    return arrays


def save_big_vision(name, out):
    """An archive, and timm's own reading of it."""
    kind = name.removeprefix("big_vision_")
    arrays = big_vision_arrays(kind)
    np.savez(out / f"{kind}.npz", **{f"params/{'img/' * (kind == 'naflex')}{k}": v for k, v in arrays.items()})
    said = {"size": {"height": 8, "width": 8}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if kind == "naflex":
        said = {"max_num_patches": 16, "patch_size": PATCH} | {k: v for k, v in said.items() if k != "size"}
    (out / "preprocessor_config.json").write_text(json.dumps(said, indent=2) + "\n")
    more = dict(class_token=True, global_pool="token", num_classes=3) if kind == "flexivit" else dict(num_classes=0)
    tower = dict(NAFLEX, pos_embed_interp_mode="bilinear", act_layer="gelu_tanh", init_values=None, **more)
    model = timm.models.naflexvit.NaFlexVit(
        timm.models.naflexvit.NaFlexVitCfg(**{k: v for k, v in tower.items() if k != "num_classes"}),
        num_classes=tower["num_classes"],
    )
    model.load_pretrained(str(out / f"{kind}.npz"), prefix="params/img/" if kind == "naflex" else "params/")
    return model.double().eval(), timm_run(True), {}


BIG_VISION = ("big_vision_flexivit", "big_vision_naflex")
PEERS = {name: save_big_vision for name in BIG_VISION}
PEERS |= {name: save_transformers for name in TRANSFORMERS} | {name: save_timm for name in TIMM}


def said(found, grid):
    """What a peer said of the image of a grid, by name: tokens, pooled vector, and merged tokens where it has some."""
    return {f"{name}_{'x'.join(map(str, grid))}": x for name, x in zip(("tokens", "pooled", "merged"), found)}


def main() -> None:
    from published import PUBLISHED  # which are made of the functions above
    from towers import GRIDS_OF, TOWERS

    PEERS.update(TOWERS | PUBLISHED)
    root, *names = sys.argv[1:] or [str(Path(__file__).parent)]
    for name in names or PEERS:
        out = Path(root) / name
        out.mkdir(parents=True, exist_ok=True)
        model, run, expected = PEERS[name](name, out)
        for grid in GRIDS_OF.get(name, GRIDS):
            expected |= said(run(model, image(grid)), grid)
        np.savez_compressed(Path(root) / f"{name}.npz", **expected)
        print(name, {k: v.shape for k, v in expected.items()}, flush=True)
    if "idefics3" in (names or PEERS):
        folder = Path(root) / "buckets"
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "buckets.npz", **{str(side): buckets(side) for side in (26, 70)})
    versions = {name: module.__version__ for name, module in (("torch", torch), ("transformers", hf), ("timm", timm))}
    versions |= {"numpy": np.__version__, "seed": SEED}
    (Path(root) / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
