"""Whole tiny models of transformers, as a hub has them, and what their vision towers say of images.

python tests/golden/whole.py OUT        in the environment of make.py
"""

import sys
from pathlib import Path

import numpy as np
from make import GRIDS, PATCH, RESIZED, SIDE, SIZES, SQUARE, VIT, hf, image, naflex, randomize, torch

TEXT = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
TEXT |= dict(num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2)
PAIRED, LLAMA, MISTRAL = (
    TEXT | dict(max_position_embeddings=8),
    TEXT | dict(model_type="llama"),
    TEXT | dict(model_type="mistral"),
)
RESAMPLER = dict(resampler_n_latents=2, resampler_depth=1, resampler_n_heads=1, resampler_head_dim=8, hidden_size=8)
NAFLEX = dict(SIZES, intermediate_size=SQUARE["intermediate_size"], num_patches=SIDE**2)
WHOLE = {
    # model_type: (model, its configuration, what that says)
    "clip": (hf.CLIPModel, hf.CLIPConfig, dict(text_config=PAIRED, projection_dim=6)),
    "siglip": (hf.SiglipModel, hf.SiglipConfig, dict(text_config=PAIRED)),
    "siglip2": (hf.Siglip2Model, hf.Siglip2Config, dict(text_config=PAIRED, vision_config=NAFLEX)),
    "idefics2": (
        hf.Idefics2ForConditionalGeneration, hf.Idefics2Config,
        dict(text_config=MISTRAL, perceiver_config=RESAMPLER | dict(num_key_value_heads=1)),
    ),
    "idefics3": (hf.Idefics3ForConditionalGeneration, hf.Idefics3Config, dict(text_config=LLAMA, scale_factor=1)),
    "smolvlm": (hf.SmolVLMForConditionalGeneration, hf.SmolVLMConfig, dict(text_config=LLAMA, scale_factor=1)),
}  # fmt: skip


def tokens(model, x):
    """Tokens of one image, after the last norm."""
    tower = model.vision_model if hasattr(model, "vision_model") else model.model.vision_model
    grid = [n // PATCH for n in x.shape[1:]]
    if isinstance(model, hf.Siglip2Model):
        return naflex(tower, x)[0]
    mask = {"patch_attention_mask": torch.ones(1, *grid, dtype=torch.bool)}
    options = {"interpolate_pos_encoding": True} if hasattr(model, "vision_model") else mask
    with torch.no_grad():
        found = tower(pixel_values=torch.tensor(x)[None], **options).last_hidden_state[0]
        return (tower.post_layernorm(found[1:]) if isinstance(model, hf.CLIPModel) else found).numpy()


def main(out):
    """Save every model, and NAME.npz with its tokens for each grid."""
    for name, (kind, config, said) in WHOLE.items():
        model = randomize(kind(config(**{"vision_config": SQUARE} | said)))
        model.save_pretrained(out / name)
        processor = hf.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil
        (processor(patch_size=PATCH) if name == "siglip2" else VIT(**RESIZED)).save_pretrained(out / name)
        np.savez(out / f"{name}.npz", **{f"{h}x{w}": tokens(model, image((h, w))) for h, w in GRIDS})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
