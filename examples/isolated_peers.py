"""Packers of others for `isolation.py`, in an environment with torch: benchmarks/README.md says how it is made.

PYTHONPATH=. peers/bin/python navit_eqx/isolation.py examples.isolated_peers:vit_pytorch
PYTHONPATH=. peers/bin/python navit_eqx/isolation.py examples.isolated_peers:vit_pytorch_nested
PYTHONPATH=. peers/bin/python navit_eqx/isolation.py examples.isolated_peers:timm_naflex
"""

from functools import cache

import numpy as np
import torch

PATCH = 16
SIZES = dict(image_size=128, patch_size=PATCH, num_classes=8, dim=32, depth=2, heads=2, mlp_dim=64)


def tensors(images: list[np.ndarray]) -> list[torch.Tensor]:
    """Images as c h w, which remember their gradients."""
    return [torch.tensor(image.transpose(2, 0, 1).copy()).requires_grad_() for image in images]


def gradients(run):
    """Gradients of the sum of the n-th vector with respect to each image."""

    def gradient(images, n):
        given = tensors(images)
        run(given)[n].sum().backward()
        return [np.zeros(1) if x.grad is None else x.grad.numpy() for x in given]

    return gradient


def offered(run):
    """A function of NumPy images, with its gradient."""

    def function(images):
        with torch.no_grad():
            return [vector.numpy() for vector in run(tensors(images))]

    function.gradient = gradients(run)
    return function


@cache
def navit(nested: bool) -> torch.nn.Module:
    """NaViT of vit-pytorch."""
    torch.manual_seed(0)
    if nested:
        from vit_pytorch.na_vit_nested_tensor import NaViT
    else:
        from vit_pytorch.na_vit import NaViT
    return NaViT(**SIZES, dropout=0.0, emb_dropout=0.0, token_dropout_prob=None).eval()


@cache
def naflexvit() -> torch.nn.Module:
    """NaFlexVit of timm."""
    import timm

    torch.manual_seed(0)
    sizes = dict(embed_dim=32, depth=2, num_heads=2, num_classes=8, patch_size=PATCH, pos_embed_grid_size=(4, 4))
    return timm.create_model("naflexvit_base_patch16_gap", **sizes).eval()


def padded(images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Patches, coordinates and validity, padded to the longest image."""
    cut, places = [], []
    for image in images:
        y, x = (n // PATCH for n in image.shape[1:])
        cut.append(image.reshape(3, y, PATCH, x, PATCH).permute(1, 3, 2, 4, 0).reshape(y * x, -1))
        places.append(torch.tensor(np.indices((y, x)).reshape(2, -1).T.copy()))
    pad = torch.nn.utils.rnn.pad_sequence
    valid = pad([torch.ones(len(patches), dtype=torch.bool) for patches in cut], batch_first=True)
    return {"patches": pad(cut, batch_first=True), "patch_coord": pad(places, batch_first=True), "patch_valid": valid}


vit_pytorch = offered(lambda images: navit(False)([images]))
vit_pytorch_nested = offered(lambda images: navit(True)(images))
timm_naflex = offered(lambda images: naflexvit()(padded(images)))
