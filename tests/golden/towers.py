"""Native-resolution towers of `make.py`: those of models that read images and texts, without the rest of them.

Their classes cast to float32 here and there, whatever they are given. `exact` lifts that, so that they compute in
float64 and differ from another implementation by rounding alone.
"""

import json
import tempfile
from contextlib import contextmanager

import numpy as np
import safetensors.numpy
from make import DEPTH, HEADS, MLP, PATCH, PICTURES, SIDE, SQUARE, WIDTH, bytes_of, hf, picture, randomize, timm, torch
from transformers.vision_utils import get_vision_window_index

FLOAT32 = torch.float32


@contextmanager
def exact():
    """No cast to float32 takes effect: it is one to float64."""
    single = torch.Tensor.float
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        with torch.no_grad():
            yield
    finally:
        torch.float = torch.float32 = FLOAT32
        torch.Tensor.float = single


def pixtral(model, x):
    """Tokens of one image, and their mean."""
    with exact():
        tokens = model(torch.tensor(x)[None]).last_hidden_state[0].numpy()
    return tokens, tokens.mean(0)


def save_pixtral(name, out):
    """The tower alone."""
    with exact():
        model = randomize(hf.PixtralVisionModel(hf.PixtralVisionConfig(**SQUARE, hidden_act="silu")))
    model.set_attn_implementation("sdpa")  # eager attention takes its softmax in float32
    model.save_pretrained(out)
    processor = hf.models.pixtral.image_processing_pil_pixtral.PixtralImageProcessorPil(
        size={"longest_edge": 12}, patch_size={"height": PATCH, "width": PATCH}
    )
    processor.save_pretrained(out)
    return model, pixtral, {f"bytes_{h}x{w}": bytes_of(processor, picture((h, w))) for h, w in PICTURES}


TEXT = dict(  # the smallest text model that Kimi K2.5 can have; it is not saved
    model_type="deepseek_v3", vocab_size=8, hidden_size=8, intermediate_size=8, moe_intermediate_size=8, n_group=1,
    num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, n_routed_experts=2, n_shared_experts=1,
    q_lora_rank=4, kv_lora_rank=4, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=4, first_k_dense_replace=1,
    topk_group=1, num_experts_per_tok=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip


def moonvit(model, x):
    """The tower of Kimi K2.5 on one still image: tokens, and their mean."""
    height, width = (n // PATCH for n in x.shape[1:])
    patches = x.reshape(3, height, PATCH, width, PATCH).transpose(1, 3, 0, 2, 4).reshape(-1, 3, PATCH, PATCH)
    with torch.no_grad():
        grid = torch.tensor([[1, height, width]])
        tokens = model.model.vision_tower(torch.tensor(patches), grid_thw=grid).last_hidden_state.numpy()
    return tokens, tokens.mean(0)


def save_moonvit(name, out):
    """The tower alone, under the names and in the layout of the hub, as transformers converts it back."""
    vision = dict(SQUARE, pos_emb_height=SIDE, pos_emb_width=SIDE, merge_kernel_size=[1, 1])
    del vision["image_size"]
    model = hf.Kimi_K25ForConditionalGeneration(
        hf.models.kimi_k25.Kimi_K25Config(text_config=TEXT, vision_config=vision)
    )
    randomize(model.model.vision_tower)
    with tempfile.TemporaryDirectory() as folder:
        model.double().eval().save_pretrained(folder)
        tensors = safetensors.numpy.load_file(f"{folder}/model.safetensors")
    # The hub has patch_embed beside encoder; the conversion back of transformers puts its kernel inside.
    kept = {k.replace("encoder.patch_embed", "patch_embed"): v for k, v in tensors.items() if "vision_tower" in k}
    safetensors.numpy.save_file(kept, out / "model.safetensors")
    for file, said in (
        ("config", {"model_type": "kimi_k25", "vision_config": vision}),
        ("preprocessor_config", {"in_token_limit": 64, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    ):
        (out / f"{file}.json").write_text(json.dumps(said, indent=2) + "\n")
    return model, moonvit, {}


EVEN = ((4, 4), (2, 8), (6, 4), (10, 6), (2, 2), (4, 2))  # grids of whole blocks; with windows of 4, a partial rim
QWEN_TEXT = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
QWEN_TEXT |= dict(num_key_value_heads=1, head_dim=8, pad_token_id=0)
QWEN_VISION = dict(depth=DEPTH, num_heads=HEADS, patch_size=PATCH, spatial_merge_size=2, temporal_patch_size=2)
WIDE = dict(hidden_size=WIDTH, out_hidden_size=8, intermediate_size=MLP)
QWEN = {
    # name: (model, its configuration, that of the tower)
    "qwen2_vl": (
        hf.Qwen2VLForConditionalGeneration, hf.Qwen2VLConfig, dict(embed_dim=WIDTH, hidden_size=8, mlp_ratio=2),
    ),
    "qwen2_5_vl": (
        hf.Qwen2_5_VLForConditionalGeneration, hf.Qwen2_5_VLConfig,
        WIDE | dict(depth=3, window_size=4 * PATCH, fullatt_block_indexes=[1]),
    ),
    "qwen3_vl": (
        hf.Qwen3VLForConditionalGeneration, hf.Qwen3VLConfig,
        WIDE | dict(depth=4, num_position_embeddings=SIDE**2, deepstack_visual_indexes=[0, 2]),
    ),
}  # fmt: skip


def in_raster(values, grid, block=2):
    """Values in the order of blocks, each in raster order, brought into the raster order of the image."""
    h, w = grid
    order = np.arange(h * w).reshape(h // block, block, w // block, block).transpose(0, 2, 1, 3).ravel()
    found = np.empty_like(values)
    found[order] = values
    return found


def qwen_processor():
    """Between 100 and 200 pixels."""
    return hf.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 100, "longest_edge": 200}, patch_size=PATCH, merge_size=2, temporal_patch_size=2
    )


def tower_of(model):
    """The vision tower of a whole model, or the model itself where it is one."""
    return model.model.visual if hasattr(model, "model") else model


def qwen(model, x):
    """Tokens, the mean of the merged tokens, and the merged tokens of the last block and of each tap."""
    tower = tower_of(model)
    patches, h, w = qwen_processor().patchify(x, PATCH, 2, 2)
    with exact():
        out = tower(torch.tensor(patches.astype(np.float64)), grid_thw=torch.tensor([[1, h, w]]))
    tokens = out.last_hidden_state.numpy()
    if hasattr(tower, "window_size"):  # its tokens come window by window
        order, _ = get_vision_window_index(torch.tensor([[1, h, w]]), 2, tower.window_size, PATCH)
        tokens = tokens.reshape(len(order), 4, -1)[np.argsort(order.numpy())].reshape(tokens.shape)
    merged = np.stack([part.numpy() for part in (out.pooler_output, *(getattr(out, "deepstack_features", None) or ()))])
    return in_raster(tokens, (h, w)), merged[0].mean(0), merged


def qwen_bytes(processor, pixels):
    """The picture that the processor cuts, put together again; both frames are the same."""
    out = processor(pixels, do_rescale=False, do_normalize=False, return_tensors="np")
    _, h, w = out["image_grid_thw"][0]
    patches = in_raster(out["pixel_values"].astype(np.uint8), (h, w)).reshape(h, w, 3, 2, PATCH, PATCH)
    assert (patches[:, :, :, 0] == patches[:, :, :, 1]).all()
    return patches[:, :, :, 0].transpose(2, 0, 3, 1, 4).reshape(3, h * PATCH, w * PATCH)


def save_qwen(name, out):
    """The whole model, language model included."""
    kind, config, tower = QWEN[name]
    with exact():
        model = kind(config(text_config=QWEN_TEXT, vision_config=QWEN_VISION | tower))
        randomize(model)
    model.set_attn_implementation("sdpa")
    model.save_pretrained(out)
    (out / "generation_config.json").unlink()
    qwen_processor().save_pretrained(out)
    return model, qwen, {f"bytes_{h}x{w}": qwen_bytes(qwen_processor(), picture((h, w))) for h, w in PICTURES}


def deepseek(model, x):
    """Tokens, the mean of the merged tokens, and the merged tokens."""
    with exact():
        tokens = model.forward_features(torch.tensor(x)[None])[0].flatten(0, 1).numpy()
        merged = model(torch.tensor(x)[None])[0].numpy()
    return tokens, merged.mean(0), merged[None]


def save_deepseek(name, out):
    """The encoder of timm, with its aligner."""
    args = dict(img_size=8, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=1.5)
    args |= dict(out_features=6)
    with exact():
        model = randomize(timm.create_model("deepseek_vit_412m_enc", **args))
    model.pretrained_cfg = dict(model.pretrained_cfg, input_size=(3, 8, 8))
    timm.models.save_for_hf(model, out, model_args=args, safe_serialization=True)
    return model, deepseek, {}


RUNS = {"pixtral": pixtral} | dict.fromkeys(QWEN, qwen)
GRIDS_OF = dict.fromkeys(QWEN, EVEN)
TOWERS = dict.fromkeys(QWEN, save_qwen) | {"moonvit": save_moonvit, "pixtral": save_pixtral}
TOWERS |= {"timm_deepseek_vit": save_deepseek}
