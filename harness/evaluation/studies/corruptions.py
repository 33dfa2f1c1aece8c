"""Accuracy on corrupted images, and whether two models err on the same ones.   [NaViT, app. H]"""

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data.sources.corrupted import Corrupted, changes
from data.sources.source import Chosen, Source, with_classes
from reference.evaluation.corruptions import CORRUPTIONS
from reference.evaluation.metrics import error_consistency

from ...working import working
from ..pictures import displayable, save
from ..predictions import Context, Predictions, evaluate, on_common_images
from .findings import Findings

IMAGES = (100, 1000)  # fewest and most, between which PIXELS decides
PIXELS = 2e7
COLUMNS = 5  # of the picture


def corruptions(context: Context) -> Findings:
    """How does accuracy fall with the severity of corruptions, and do two models err on the same images?

    Raises ConfigError where no image can be read.
    """
    source = part_of(context.source)
    names = [name for name in CORRUPTIONS if changes(source, name)]
    contexts = [context, *([context.other] if context.other else [])]
    clean = on_common_images([predictions_of(each, source) for each in contexts])
    source = Chosen(source, clean[0].image_ids)
    rows = []
    with working("evaluating corruptions", len(names), "corruptions") as advance:
        for name in names:
            rows += rows_of(contexts, source, name, clean)
            advance(1)
    return Findings(
        f"corruptions: {context.metric} on images corrupted at native size, at resolution "
        f"{context.config.data.reported_at:g}; severity 0 is the image itself",
        rows,
        summary(rows, context.metric),
        "corruptions.png",
        partial(draw, context, source, rows),
    )


def part_of(source: Source) -> Source:
    """As many images as have PIXELS together, drawn at random, in their order."""
    sizes = source.manifest.sizes
    count = int(np.clip(PIXELS / sizes.prod(-1, dtype=float).mean(), *IMAGES))
    ids = np.random.default_rng(0).permutation(len(sizes))[:count]
    return Chosen(source, np.sort(ids))


def predictions_of(context: Context, source: Source) -> Predictions:
    """Predictions of the images that can be read, not timed."""
    source = with_classes(source, context.source.manifest.classes)  # those of another model may be in another order
    law = context.sampling_at(context.config.data.reported_at)
    known = {"patch": context.patch, "longest": context.longest}
    return evaluate(context.model, context.config, source, context.task, law, **known, repeats=0)


def rows_of(contexts: list[Context], source: Source, name: str, clean: list[Predictions]) -> list[dict]:
    """The rows of a corruption, from severity 0 on; `clean` are the predictions at severity 0."""
    found, rows = CORRUPTIONS[name], []
    for severity, strength in enumerate((None, *found.strengths)):
        corrupted = Corrupted(source, name, severity, contexts[0].config.seed)
        known = on_common_images([predictions_of(each, corrupted) for each in contexts]) if severity else clean
        rows.append(row(name, severity, strength, known))
    return rows


def row(name: str, severity: int, strength: float | None, found: list[Predictions]) -> dict:
    """One row of the table; with a second model, its score and, where each image is right or wrong, how consistent the
    errors are."""
    score, error = found[0].score
    columns = {
        "corruption": name,
        "severity": severity,
        "strength": strength,
        "score": score,
        "score_se": error,
        "images": len(found[0].image_ids),
    }
    if len(found) == 1:
        return columns
    right_or_wrong = found[0].together(found[0].outputs, found[0].image_ids) is None
    kappa = error_consistency(found[0].correct, found[1].correct) if right_or_wrong else np.nan
    return columns | {"other_score": found[1].score[0], "kappa": None if np.isnan(kappa) else kappa}


def summary(rows: list[dict], metric: str) -> str:
    """Clean score, mean over corruptions, the worst of them, and consistency with a second model."""
    of_name = {r["corruption"]: [s for s in rows if s["corruption"] == r["corruption"] and s["severity"]] for r in rows}
    means = {name: float(np.mean([r["score"] for r in some])) for name, some in of_name.items()}
    worst = min(means, key=means.__getitem__)
    text = (
        f"{metric} {rows[0]['score']:.3f} without corruption, {np.mean([*means.values()]):.3f} in the mean over "
        f"corruptions; lowest {worst}, {means[worst]:.3f}"
    )
    if "kappa" not in rows[0]:
        return text
    known = [r["kappa"] for r in rows if r["severity"] and r["kappa"] is not None]
    return f"{text}; consistency of errors with the other model: κ {np.mean(known):.3f} in the mean" if known else text


def draw(context: Context, source: Source, rows: list[dict], path: Path) -> None:
    """Draw the score against severity for each corruption, with an image at the highest one."""
    names = list(dict.fromkeys(r["corruption"] for r in rows))
    height = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(3.1 * COLUMNS, 2.7 * height + 0.6), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False, sharey=True).ravel()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names):
        some = [r for r in rows if r["corruption"] == name]
        x, y, error = ([r[c] for r in some] for c in ("severity", "score", "score_se"))
        axis.errorbar(x, y, yerr=error, fmt="o-", capsize=2, ms=4, label="this model")
        if "other_score" in some[0]:
            axis.plot(x, [r["other_score"] for r in some], "s--", ms=4, label="the other model")
        ticks = ["–", *(f"{r['strength']:g}" for r in some[1:])]
        axis.set_xticks(x, ticks, fontsize=7, rotation=60 if len(ticks) > 5 else 0)
        axis.set(ylim=(0, 1.05), title=f"{name} ({CORRUPTIONS[name].unit})")
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
        show(axis, Corrupted(source, name, some[-1]["severity"], context.config.seed), context)
    axes[0].set_ylabel(f"{context.metric} (bars: one standard error)")
    axes[0].legend(frameon=False, fontsize=7, loc="lower left")
    figure.suptitle("Corrupted images: severity 0 is the image itself; inside, one image at the highest severity")
    save(figure, path)


def show(axis, source: Source, context: Context) -> None:
    """Draw the first image of a source into the corner of a panel."""
    inside = axis.inset_axes((0.62, 0.62, 0.36, 0.36))
    inside.imshow(displayable(source.image(0), context.config.model), vmin=0, vmax=255)
    inside.set(xticks=[], yticks=[])
