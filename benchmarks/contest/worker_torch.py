"""Contestants in PyTorch; runs in the interpreter of the peers, where this project is not installed.

worker_torch.py NAME FOLDER        NAME one of CONTESTANTS; see protocol.py
"""

from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contest.protocol import Ready, memory, serve, warm
from benchmarks.contest.stream import CLASSES, PATCH, bucketed, consecutive, load

TABLE = 64  # entries of a position table per axis, as in our model
KEPT: list[torch.library.Library] = []  # keeps operators alive
Steps = list[tuple[Any, torch.Tensor]]  # inputs, labels


class Setup(NamedTuple):
    """Model and inputs of a contestant."""

    model: torch.nn.Module
    steps: Steps
    places: int | None
    """Token places computed, padding included; None where the model packs by itself."""
    call: Callable[[torch.nn.Module, Any], torch.Tensor]
    about: dict[str, Any] = {}


class Images:
    """Images of a task on the device, with pixels in -1..1."""

    def __init__(self, task: dict[str, Any], folder: Path):
        self.task, self.folder = task, folder
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        raw, labels = load(folder / "images.npz")
        self.raw, self.labels = raw, torch.tensor(labels, dtype=torch.long, device=self.device)
        self.lengths = [image.shape[0] * image.shape[1] // PATCH**2 for image in raw]
        self.consecutive = consecutive(self.lengths, task["steps"])

    def pixels(self, i: int) -> torch.Tensor:
        return torch.tensor(self.raw[i], device=self.device).permute(2, 0, 1).float() / 127.5 - 1

    def patches(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (T P), flattened as (row, column, channel), and their coordinates (T 2)."""
        h, w = (side // PATCH for side in self.raw[i].shape[:2])
        patches = torch.tensor(self.raw[i], device=self.device).view(h, PATCH, w, PATCH, 3).transpose(1, 2)
        places = torch.cartesian_prod(torch.arange(h), torch.arange(w)).to(self.device)
        return patches.reshape(h * w, -1).float() / 127.5 - 1, places


def naflex(images: Images, batches: list[list[int]]) -> Setup:
    """timm: one image per row, padded to the longest of its batch; factorised positions, QK-norm, MAP."""
    from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

    shape = images.task["model"]
    config = NaFlexVitCfg(
        **{"patch_size": PATCH, "embed_dim": shape["width"], "depth": shape["depth"], "num_heads": shape["heads"]},
        **{"qk_norm": True, "pos_embed": "factorized", "global_pool": "map", "pos_embed_grid_size": (TABLE, TABLE)},
    )
    steps, places = [], 0
    for batch in batches:
        longest = max(images.lengths[i] for i in batch)
        size = (len(batch), longest)
        inputs = {
            "patches": torch.zeros(*size, 3 * PATCH**2, device=images.device),
            "patch_coord": torch.zeros(*size, 2, dtype=torch.long, device=images.device),
            "patch_valid": torch.zeros(*size, dtype=torch.bool, device=images.device),
        }
        for row, i in enumerate(batch):
            n = images.lengths[i]
            inputs["patches"][row, :n], inputs["patch_coord"][row, :n] = images.patches(i)
            inputs["patch_valid"][row, :n] = True
        steps.append((inputs, images.labels[batch]))
        places += len(batch) * longest
    model = NaFlexVit(config, num_classes=CLASSES)
    return Setup(model, steps, places, lambda model, x: model(x), versions("timm"))


def lists_of_images(images: Images) -> Steps:
    return [([images.pixels(i) for i in batch], images.labels[batch]) for batch in images.consecutive]


def vit_pytorch(images: Images) -> Setup:
    """Packed by the model itself, by next fit, in rows of our length."""
    from vit_pytorch.na_vit import NaViT

    call = lambda model, x: model(x, group_images=True, group_max_seq_len=images.task["row_tokens"])
    return Setup(NaViT(**lucid(images.task)), lists_of_images(images), None, call, versions("vit-pytorch"))


def vit_pytorch_nested(images: Images) -> Setup:
    """Nested tensors: no padding."""
    from vit_pytorch.na_vit_nested_tensor import NaViT

    model = NaViT(**lucid(images.task), token_dropout_prob=0.0)  # its default fails in training
    places = sum(images.lengths)
    return Setup(model, lists_of_images(images), places, lambda model, x: model(x), versions("vit-pytorch"))


def lucid(task: dict[str, Any]) -> dict[str, Any]:
    shape = task["model"]
    return {
        **{"image_size": TABLE * PATCH, "patch_size": PATCH, "num_classes": CLASSES, "dim": shape["width"]},
        **{"depth": shape["depth"], "heads": shape["heads"], "mlp_dim": shape["mlp_width"]},
        "dim_head": shape["width"] // shape["heads"],
    }


def monai(images: Images) -> Setup:
    """Packed by the model itself, by next fit, in rows of our length."""
    from monai.networks.nets.navit import NaViT

    shape = images.task["model"]
    model = NaViT(
        **{"image_size": TABLE * PATCH, "patch_size": PATCH, "num_classes": CLASSES, "hidden_size": shape["width"]},
        **{"mlp_dim": shape["mlp_width"], "num_layers": shape["depth"], "num_heads": shape["heads"]},
        **{"in_channels": 3, "spatial_dims": 2},
    )
    call = lambda model, x: model(x, group_images=True, group_max_seq_len=images.task["row_tokens"])
    return Setup(model, lists_of_images(images), None, call, versions("monai"))


def plain(images: Images, mix: str) -> Setup:
    """Our model on flat tokens, with our parameters; logits are compared with ours."""
    from benchmarks.contest.plain import MIXES, Flat, Plain

    with np.load(images.folder / "ours.npz") as file:
        arrays = dict(file)
    steps = []
    for batch in images.consecutive:
        patches, coords = (torch.cat(part) for part in zip(*map(images.patches, batch)))
        lengths = [images.lengths[i] for i in batch]
        image = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(lengths)).to(images.device)
        steps.append((Flat(patches, coords, image, lengths), images.labels[batch]))
    call = lambda model, x: model(x.patches, x.coords, x.image, len(x.lengths), MIXES[mix](x))
    model = Plain({k: v for k, v in arrays.items() if k != "logits"}).to(images.device)
    with torch.no_grad():
        got = torch.cat([call(model, x) for x, _ in steps]).float().cpu().numpy()
    error = float(np.abs(got - arrays["logits"]).max() / np.abs(arrays["logits"]).max())
    limit = 1e-4 if images.device == "cpu" else 3e-2
    if error > limit:
        raise AssertionError(f"relative error {error:.3g} against our logits, limit {limit}")
    return Setup(model, steps, sum(images.lengths), call, {"relative_error": error} | versions())


CONTESTANTS: dict[str, Callable[[Images], Setup]] = {
    "timm-longest": lambda images: naflex(images, images.consecutive),
    "timm-buckets": lambda images: naflex(images, bucketed(images.lengths, images.task["step_tokens"])),
    "vit-pytorch": vit_pytorch,
    "vit-pytorch-nested": vit_pytorch_nested,
    "monai": monai,
    "flat": partial(plain, mix="flat"),
    "flex": partial(plain, mix="flex"),
    "varlen": partial(plain, mix="varlen"),
}


def prepare(name: str, task: dict[str, Any], folder: Path) -> Ready:
    """Set up a contestant: compiled and in bfloat16 on a GPU, uncompiled and in float32 on a CPU."""
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    tolerate_torchvision()
    images = Images(task, folder)
    setup = CONTESTANTS[name](images)
    cuda = images.device == "cuda"
    model = setup.model.to(images.device).train(task["train"])
    call = (
        torch.compile(setup.call) if cuda and name in ("timm-longest", "timm-buckets", "flex", "varlen") else setup.call
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.99), weight_decay=0.05, fused=True)

    def logits(inputs: Any) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            return call(model, inputs)

    def once() -> None:
        for inputs, labels in setup.steps:
            if task["train"]:
                F.cross_entropy(logits(inputs).float(), labels).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            else:
                with torch.no_grad():
                    logits(inputs)
        if cuda:
            torch.cuda.synchronize()

    peak = torch.cuda.max_memory_allocated if cuda else lambda: memory("VmHWM")
    about = {"places": setup.places, "steps": len(setup.steps), "compiled": call is not setup.call, **setup.about}
    dtype = "bfloat16" if cuda else "float32"
    return Ready(once, {**about, "dtype": dtype, "compile_seconds": warm(once)}, peak)


def versions(*names: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", *names)}


def tolerate_torchvision() -> None:
    """Make torchvision importable with a PyTorch build that its compiled part does not match."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(operators)


if __name__ == "__main__":
    serve(prepare)
