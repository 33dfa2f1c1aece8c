"""Peers in the contest from files to weights; runs in their interpreter, where this project is not installed.

feed_torch.py NAME FOLDER     NAME timm or vit-pytorch; see protocol.py

    timm          its NaFlex loader and NaFlexVit: batches of one token budget each, padded to it
    vit-pytorch   a DataLoader of images of all budgets, which its NaViT packs; images are cropped by timm's transform
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import hflip, pil_to_tensor

from benchmarks.contest.feeding import (
    BUDGETS,
    CROP,
    JITTER,
    MEAN,
    PATCH,
    RATE,
    SMOOTHING,
    STD,
    STEP_TOKENS,
    STRETCH,
    TABLE,
    WARMUP,
    mean_budget,
    of_paths,
    weights,
)
from benchmarks.contest.protocol import Ready, peak_of_all, serve

Batch = tuple[Any, torch.Tensor, dict[str, int]]  # input of the model, labels or soft labels, amounts
ROW_TOKENS = max(BUDGETS)


class Timm:
    """NaFlexVit with factorised positions, QK-norm and MAP, fed by `create_naflex_loader`."""

    def __init__(self, task: dict[str, Any]):
        from timm.data.naflex_mixup import NaFlexMixup
        from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

        self.train, self.val = (ImageFolder(f"{task['root']}/{split}") for split in ("train", "val"))
        self.classes, recipe, shape = len(self.train.classes), task.get("recipe") or {}, task["model"]
        config = NaFlexVitCfg(
            **{"patch_size": PATCH, "embed_dim": shape["width"], "depth": shape["depth"], "num_heads": shape["heads"]},
            **{"qk_norm": True, "pos_embed": "factorized", "global_pool": "map", "pos_embed_grid_size": (TABLE, TABLE)},
            mlp_ratio=shape["mlp_width"] / shape["width"],
        )
        self.model = NaFlexVit(config, num_classes=self.classes)
        smooth = {"num_classes": self.classes, "label_smoothing": SMOOTHING}
        mixup = NaFlexMixup(**smooth, prob=recipe["mix"]) if recipe.get("mix") else None
        self.loader = self.open(self.train, task["workers"], True, mixup, JITTER if recipe else 0.0)

    def open(self, images: Any, workers: int, training: bool, mixup: Any = None, jitter: float = 0.0) -> Any:
        from timm.data.naflex_loader import create_naflex_loader

        return create_naflex_loader(
            images,
            **{"patch_size": PATCH, "train_seq_lens": BUDGETS, "max_seq_len": ROW_TOKENS, "is_training": training},
            **{"batch_size": STEP_TOKENS // ROW_TOKENS, "scale": (CROP, 1.0), "ratio": (1 / STRETCH, STRETCH)},
            **{"hflip": 0.5, "color_jitter": jitter, "mean": (MEAN,) * 3, "std": (STD,) * 3, "mixup_fn": mixup},
            **{"interpolation": "bicubic", "num_workers": workers, "pin_memory": False, "device": torch.device("cpu")},
        )

    def batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            self.loader.loader.dataset.set_epoch(epoch)
            for inputs, labels in self.loader:
                valid = inputs["patch_valid"]
                amounts = {"images": len(valid), "tokens": int(valid.sum()), "places": valid.numel()}
                yield inputs, labels, amounts
            epoch += 1

    def call(self, inputs: Any) -> torch.Tensor:
        return self.model(inputs)

    def accuracy(self) -> float:
        images = ImageFolder(self.val.root)
        right = sum(int((self.call(x).argmax(-1) == y).sum()) for x, y in self.open(images, 0, False))
        return right / len(images)


class Cropped(torch.utils.data.Dataset):
    """Images of a folder, cropped to a budget and flipped for training; as they are, at the largest, for evaluation."""

    def __init__(self, images: ImageFolder, training: bool, jitter: float = 0.0):
        from timm.data.naflex_transforms import RandomResizedCropToSequence, ResizeToSequence
        from torchvision.transforms import ColorJitter

        crop = {"patch_size": PATCH, "interpolation": "bicubic"}
        ranges = {"scale": (CROP, 1.0), "ratio": (1 / STRETCH, STRETCH)}
        self.images, self.training = images, training
        self.crops = [RandomResizedCropToSequence(max_seq_len=n, **ranges, **crop) for n in BUDGETS]
        self.whole = ResizeToSequence(max_seq_len=ROW_TOKENS, **crop)
        self.jitter = ColorJitter(*[jitter] * 3) if jitter else lambda image: image

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.images.samples[index]
        image = Image.open(path).convert("RGB")
        if self.training:
            image = random.choices(self.crops, weights())[0](image)
            image = self.jitter(hflip(image) if random.random() < 0.5 else image)
        else:
            image = self.whole(image)
        return pil_to_tensor(image).float().div_(255).sub_(MEAN).div_(STD), label


def as_lists(batch: list[tuple[torch.Tensor, int]]) -> tuple[list[torch.Tensor], torch.Tensor]:
    images, labels = zip(*batch)
    return list(images), torch.tensor(labels)


class VitPytorch:
    """Its NaViT, which packs lists of images by next fit in rows as long as ours."""

    def __init__(self, task: dict[str, Any]):
        from vit_pytorch.na_vit import NaViT

        self.train, self.val = (ImageFolder(f"{task['root']}/{split}") for split in ("train", "val"))
        self.classes, recipe, shape = len(self.train.classes), task.get("recipe") or {}, task["model"]
        self.model = NaViT(
            **{"image_size": TABLE * PATCH, "patch_size": PATCH, "num_classes": self.classes, "dim": shape["width"]},
            **{"depth": shape["depth"], "heads": shape["heads"], "mlp_dim": shape["mlp_width"]},
            **{"dim_head": shape["width"] // shape["heads"], "token_dropout_prob": recipe.get("drop")},
        )
        kept = 1 - recipe.get("drop", 0.0)
        self.loader = torch.utils.data.DataLoader(
            Cropped(self.train, True, JITTER if recipe else 0.0),
            batch_size=int(STEP_TOKENS / (mean_budget() * kept)),
            **{"shuffle": True, "num_workers": task["workers"], "collate_fn": as_lists, "drop_last": True},
            persistent_workers=task["workers"] > 0,
        )

    def batches(self) -> Iterator[Batch]:
        while True:
            for images, labels in self.loader:
                tokens = sum(image[0].numel() for image in images) // PATCH**2
                yield images, labels, {"images": len(images), "tokens": tokens}

    def call(self, images: list[torch.Tensor]) -> torch.Tensor:
        return self.model(images, group_images=True, group_max_seq_len=ROW_TOKENS)

    def accuracy(self) -> float:
        loader = torch.utils.data.DataLoader(Cropped(self.val, False), 64, collate_fn=as_lists)
        right = sum(int((self.call(x).argmax(-1) == y).sum()) for x, y in loader)
        return right / len(self.val)


PEERS = {"timm": Timm, "vit-pytorch": VitPytorch}


def optimizer_of(model: torch.nn.Module, recipe: dict[str, Any]) -> torch.optim.Optimizer:
    if recipe.get("rule") == "muon":
        from timm.optim import create_optimizer_v2

        return create_optimizer_v2(model, "muon", lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    settings = {key: recipe.get(key, RATE[key]) for key in RATE}
    return torch.optim.AdamW(model.parameters(), **settings, betas=(0.9, 0.99), fused=True)


class Trainer:
    """A plain loop: forward, backward, update."""

    def __init__(self, peer: Any, recipe: dict[str, Any], steps: int):
        self.peer, self.batches = peer, peer.batches()
        self.optimizer = optimizer_of(peer.model.train(), recipe)
        self.smoothing, warm = (SMOOTHING if recipe else 0.0), max(1, int(WARMUP * steps))
        rate = torch.optim.lr_scheduler
        up, down = rate.LinearLR(self.optimizer, 1 / warm, 1.0, warm), rate.CosineAnnealingLR(self.optimizer, steps)
        self.schedule = rate.SequentialLR(self.optimizer, [up, down], [warm]) if recipe else None

    def step(self) -> tuple[float, dict[str, int]]:
        """Loss and amounts of a step."""
        inputs, labels, amounts = next(self.batches)
        smoothing = 0.0 if labels.ndim == 2 else self.smoothing  # soft labels are smooth already
        loss = F.cross_entropy(self.peer.call(inputs), labels, label_smoothing=smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.schedule:
            self.schedule.step()
        return loss.item(), {"steps": 1, **amounts}


def rounds(peer: Any, task: dict[str, Any]) -> Ready:
    """Read and train on at least `images` images in a round."""
    trainer = Trainer(peer, {}, 1)
    loss, _ = trainer.step()
    at = time.time()

    def once(images: int = task["images"]) -> dict[str, int]:
        sums: Counter = Counter()
        while sums["images"] < images:
            sums.update(trainer.step()[1])
        return dict(sums)

    about = {"digest": of_paths(path for path, _ in peer.train.samples), "classes": peer.classes, "first_step_at": at}
    about |= {"first_loss": loss, "parameters": sum(p.numel() for p in peer.model.parameters())}
    return Ready(once, about | versions(), peak_of_all, partial(once, task["untimed"]))


def learn(peer: Any, task: dict[str, Any], start: float) -> dict[str, Any]:
    """Train to the end; accuracy and training time at every evaluation."""
    trainer, curve, evaluating, images = Trainer(peer, task["recipe"], task["steps"]), [], 0.0, 0
    for number in range(1, task["steps"] + 1):
        images += trainer.step()[1]["images"]
        if number % task["every"] == 0 or number == task["steps"]:
            spent, began = time.perf_counter() - start - evaluating, time.perf_counter()
            peer.model.eval()
            with torch.no_grad():
                accuracy = peer.accuracy()
            peer.model.train()
            curve.append({"step": number, "images": images, "seconds": spent, "accuracy": accuracy})
            evaluating += time.perf_counter() - began
    return {"curve": curve, **versions()}


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "timm", "vit-pytorch", "pillow")}


def prepare(name: str, task: dict[str, Any], folder: Path) -> Ready:
    start = time.perf_counter()
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(task["threads"])
    peer = PEERS[name.partition(":")[0]](task)
    return Ready(dict, learn(peer, task, start), peak_of_all) if "recipe" in task else rounds(peer, task)


if __name__ == "__main__":
    serve(prepare)
