"""What the peers' own classes say of folders that this project saved in their layouts.

    python tests/golden/again.py ROOT OUT       in the environment of make.py; nothing of this project is imported

ROOT/NAME-LAYOUT is a folder each; OUT/NAME-LAYOUT.npz gets tokens and pooled vector of each grid, and bytes of the
saved processor for each picture.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from make import DEPTH, GRIDS, NAFLEX, PICTURES, TRANSFORMERS, bytes_of, hf, image, picture, said, timm, timm_run, torch
from towers import GRIDS_OF, deepseek, exact, qwen_bytes
from towers import RUNS as TOWER_RUNS

KINDS = {
    "ViTForImageClassification": "vit",
    "DeiTModel": "deit",
    "CLIPVisionModelWithProjection": "clip",
    "SiglipVisionModel": "siglip",
    "Siglip2VisionModel": "siglip2_naflex",
    "Dinov2Model": "dinov2",
    "Dinov2WithRegistersModel": "dinov2_registers",
    "DINOv3ViTModel": "dinov3",
    "Idefics3VisionTransformer": "idefics3",
    "PixtralVisionModel": "pixtral",
    "Qwen2VisionTransformerPretrainedModel": "qwen2_vl",
    "Qwen2_5_VisionTransformerPretrainedModel": "qwen2_5_vl",
    "Qwen3VLVisionModel": "qwen3_vl",
}
RUNS = {name: run for name, (_, run, _) in TRANSFORMERS.items()} | TOWER_RUNS


def processor_of(folder):
    """The saved processor, by its class on PIL images."""
    kind = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"]
    module = kind.removesuffix("ImageProcessor").lower().replace("qwen2vl", "qwen2_vl")
    module = getattr(getattr(hf.models, module), f"image_processing_pil_{module}")
    return getattr(module, f"{kind}Pil").from_pretrained(folder)


def class_of(kind):
    """A class of transformers by its name; one tower is not at its top."""
    return getattr(hf, kind) if hasattr(hf, kind) else getattr(hf.models.qwen2_vl.modeling_qwen2_vl, kind)


def from_hf(folder):
    """Model, run and processor of transformers."""
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    with exact() if KINDS[kind] in TOWER_RUNS else nullcontext():
        model, report = class_of(kind).from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    unused = ("mask_token", "pooler.dense")  # of masked training, and of a layer that is read by nothing here
    missing = [name for name in report["missing_keys"] if not any(part in name for part in unused)]
    assert not missing and not report["unexpected_keys"], report
    model.set_attn_implementation("sdpa")
    return model.eval(), RUNS[KINDS[kind]], processor_of(folder)


def from_timm(folder):
    """Model and run of timm."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    if type(model).__name__ == "DeepseekVitEncoder":
        return model.double().eval(), deepseek, None
    return model.double().eval(), timm_run("Na" in type(model).__name__), None


def from_big_vision(folder):
    """Model and run of timm for an archive; it must have a class token or attention pooling."""
    with np.load(folder / "model.npz") as stored:
        token, classes = (
            "params/cls" in stored,
            stored["params/head/bias"].shape[0] if "params/head/bias" in stored else 0,
        )
    more = dict(class_token=True, global_pool="token") if token else {}
    cfg = dict(NAFLEX, pos_embed_interp_mode="bilinear", act_layer="gelu_tanh", init_values=None, depth=DEPTH, **more)
    cfg = timm.models.naflexvit.NaFlexVitCfg(**cfg)
    cfg = cfg if token else timm.models.naflexvit.replace(cfg, global_pool="map")
    model = timm.models.naflexvit.NaFlexVit(cfg, num_classes=classes)
    model.load_pretrained(str(folder / "model.npz"), prefix="params/")
    return model.double().eval(), timm_run(True), None


PEERS = {"hf": from_hf, "timm": from_timm, "big_vision": from_big_vision}


def main(root: Path, out: Path) -> None:
    for folder in sorted(root.iterdir()):
        model, run, processor = PEERS[folder.name.rpartition("-")[2]](folder)
        found = {}
        for grid in GRIDS_OF.get(folder.name.rpartition("-")[0], GRIDS):
            found |= said(run(model, image(grid)), grid)
        if processor is not None:
            pixels = qwen_bytes if "merge_size" in processor.to_dict() else bytes_of
            found |= {f"bytes_{h}x{w}": pixels(processor, picture((h, w))) for h, w in PICTURES}
        np.savez_compressed(out / f"{folder.name}.npz", **found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
