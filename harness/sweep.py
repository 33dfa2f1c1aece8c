"""Accuracy of a model over a list of resolutions."""

from collections.abc import Sequence
from pathlib import Path

from data.sources import Source
from navit_eqx.evaluate import predict
from navit_eqx.model import NaViT
from navit_eqx.types import to_device
from reference.cost import image_flops

from .config import Config
from .loading import evaluation_batches
from .pictures import draw_accuracy
from .report import by_group, groups, table, write_json


def evaluate_at(model: NaViT, config: Config, source: Source, resolution: float) -> dict:
    """Every image once at one resolution: accuracy, tokens, FLOPs, and accuracy within groups."""
    batches, plan = evaluation_batches(config, source, config.data.resolution.at(resolution))
    predictions = predict(model, map(to_device, batches))
    tokens = plan.kept[plan.image_ids >= 0]
    shape = config.model
    flops = image_flops(
        tokens.mean(),
        patch_dim=shape.patch_dim,
        width=shape.width,
        depth=shape.depth,
        mlp_width=shape.mlp_width,
        classes=shape.classes,
    )
    return {
        "resolution": resolution,
        "mean_tokens": float(tokens.mean()),
        "accuracy": predictions.accuracy,
        "images": len(predictions.labels),
        "left_out": len(plan.left_out),
        "unreadable": int((plan.image_ids >= 0).sum()) - len(predictions.labels),
        "mean_gflops": flops / 1e9,
        "groups": by_group(predictions, groups(config, source.manifest)[1]),
    }


def sweep(model: NaViT, config: Config, source: Source, resolutions: Sequence[float], folder: Path) -> list[dict]:
    """Evaluate at each resolution; print the table, write `sweep.json`, `sweep.csv` and the picture."""
    rows = [evaluate_at(model, config, source, r) for r in sorted(set(resolutions))]
    title, masks = groups(config, source.manifest)
    print(f"\ntest accuracy on {rows[0]['images']} images of {source.manifest.where}, by {title} and resolution\n")
    print(table(title, rows, masks), flush=True)
    write_json(folder / "sweep.json", rows)
    names = ["resolution", "mean_tokens", "accuracy", "images", "left_out", "unreadable", "mean_gflops"]
    lines = [names] + [[f"{row[n]:.6g}" for n in names] for row in rows]
    (folder / "sweep.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    draw_accuracy(rows, folder / "accuracy_tokens.png")
    return rows
