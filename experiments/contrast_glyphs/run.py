"""Images and texts in one embedding: native images against squares, shared captions, two losses.   [NaViT, §3.1]"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.sampling.dropping import Beta, Constant
from data.sampling.packing import Packing
from data.sampling.resolution import OneSquare, Sides
from data.sources.glyph_captions import GlyphCaptions, GlyphField
from data.tasks.contrast import Contrast as PairData
from data.texts import texts_of
from experiments.bed import STEPS
from experiments.claims import Claim
from experiments.pictures import arms as names_of
from experiments.pictures import statistics
from experiments.trained import Experiment, main
from experiments.trial import compiled, learn, source, spent
from harness.config import Config, DataConfig
from harness.cost import row_cost
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.studies.zeroshot import zeroshot
from harness.resolve import resolve
from harness.run.loading import open_task, training_rows
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.tasks.config import Bytes, Clip, Contrast, SentencePiece, TextRows, TextTower
from navit_eqx.training.config import Cosine, Muon, OptimConfig
from navit_eqx.zero_shot import embed_texts, image_vectors
from reference.evaluation.retrieval import ranks, recall

BUDGET = {"towers": 5e12, "texts": 2e12}  # FLOPs of a training at the default number of steps
GALLERY = 1_000  # images, and their captions, among which is searched
SIDE = 40  # pixels, of squares; patches of 4 pixels make 100 tokens
NAVIT, VIT, SOFTMAX = "NaViT, sigmoid", "ViT, sigmoid", "NaViT, softmax"
DUPLICATES = ("positive", "ignore", "negative")
PAIRS, UNSEEN, TEXT, IMAGE = "36 pairs", "unseen pairs", "R@1 text", "R@1 image"
CHANCE = "three times chance"


def arms(steps: int) -> dict[str, Config]:
    """Trainings of equal FLOPs, both towers and padding included; the default number of steps stands for BUDGET.

    A rehearsal of a few steps has few images.
    """
    images = GlyphCaptions(val_images=4_000) if steps > 9 else GlyphCaptions(256, 64)
    task = Contrast(
        text=TextTower(64, 2, 4, 256),
        tokenizer=SentencePiece(size=400, max_length=24),
        texts=TextRows(8, 88, 24),
    )
    native = Config(
        model=ModelConfig((4, 4), width=64, depth=3, heads=4, mlp_width=256, posembed=Factorised(24), unroll=3),
        data=DataConfig(
            source=images,
            resolution=Sides(12, 48),
            dropping=Beta(0.5, 0.9),
            packing=Packing(row_tokens=144, row_images=32),
            val_resolution=48,
            eval_resolutions=(48,),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        task=task,
        rows=16,
    )
    squares = replace(
        native,
        data=replace(
            native.data,
            resolution=OneSquare(SIDE),
            dropping=Constant(0.0),
            packing=Packing(row_tokens=(SIDE // 4) ** 2, row_images=1),
            val_resolution=SIDE,
            eval_resolutions=(SIDE,),
        ),
        task=replace(task, texts=TextRows(2, 112, 24)),
        rows=24,
    )
    softmax = replace(native, task=replace(task, loss=Clip()))
    few = replace(native, data=replace(native.data, source=replace(images, texts=81)))
    shared = {
        f"81 texts, {how}": replace(few, task=replace(task, duplicates=how, texts=TextRows(4, 80, 32)))
        for how in DUPLICATES
    }
    towers = {NAVIT: native, VIT: squares, SOFTMAX: softmax}
    return {
        name: replace(config, steps=max(1, round(BUDGET[kind] * steps / STEPS / step_flops(config))))
        for kind, group in (("towers", towers), ("texts", shared))
        for name, config in group.items()
    }


def budget(arm: str) -> float:
    """FLOPs of a training of an arm."""
    return BUDGET["texts" if arm in SHARED else "towers"]


def step_flops(config: Config) -> float:
    """Of both towers, forward and backward, for any vocabulary; the similarities are a thousandth of it."""
    task = config.task
    assert isinstance(task, Contrast)
    rows, *row = task.texts.shape
    texts = rows * row_cost(task.text.model(Bytes(task.tokenizer.max_length)), task.embedding, *row)
    return 3 * (config.rows * row_cost(config.model, task.embedding, *config.data.packing.shape) + texts)


def training_cost(config: Config) -> float:
    """FLOPs of a training, both towers."""
    return config.total_steps * step_flops(config)


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then name and find images never seen."""
    start = time.perf_counter()
    train, val = source(config, "train"), source(config, "val")
    prepared, task = open_task(config, train.manifest)
    config, _ = resolve(replace(config, task=prepared.config), train.manifest, task)
    program = compiled(config.model, config.task, config.optim, config.total_steps)
    program = program._replace(device_targets=prepared.device_targets)
    state, sums = learn(config, training_rows(config, train, task), task, program)
    context = context_of(program.model(state.eval_params).for_inference(), config, val, task)
    return {
        "accuracy": {**named(context), **found(context)},
        **spent(sums),
        "flops": config.total_steps * step_flops(config),
        "seconds": time.perf_counter() - start,
    }


def named(context: Context) -> dict[str, float]:
    """Zero-shot accuracy over the pairs of color and shape, over those never trained on, and over other facts."""
    rows = {row["of"]: row for row in zeroshot(context).rows}
    both = [rows["seen pairs"], rows[UNSEEN]]
    correct, images = (sum(row[k] * row["images"] for row in both) for k in ("accuracy", "images"))
    images = sum(row["images"] for row in both)
    facts = {name: rows[name]["accuracy"] for name in ("color", "shape", "count", "texture", UNSEEN)}
    return {PAIRS: correct / images, **facts}


def found(context: Context) -> dict[str, float]:
    """Retrieval in both directions in a gallery: the caption drawn for an image, or any that is true of it."""
    task, val = context.task, context.config.data.source
    assert isinstance(task, PairData) and isinstance(val, GlyphCaptions) and context.reader
    count = min(GALLERY, val.val_images)
    gallery = GlyphField("val", count, val.seed, val.texts)  # the first images of the validation part
    images = context.predict(context.sampling_at(context.config.data.reported_at), output=image_vectors)
    inside = images.image_ids < count
    ids, texts = images.image_ids[inside], gallery.manifest.classes
    scores = images.outputs[inside] @ embed_texts(context.reader, texts).T
    near, exact = task.distinct(scores, ids, gallery.manifest)
    true = gallery.entails()[ids][:, np.unique(texts_of(texts, task.tokenizer).keys)]
    rank = {TEXT: ranks(near, exact), IMAGE: ranks(near.T, exact.T)}
    entailed = {f"{TEXT}, true": ranks(near, true), f"{IMAGE}, true": ranks(near.T, true.T)}
    five = {name.replace("@1", "@5"): recall(r, 5) for name, r in rank.items()}
    return {**{name: recall(r, 1) for name, r in {**rank, **entailed}.items()}, **five}


SHARED = [f"81 texts, {how}" for how in DUPLICATES]
CLAIMS = (
    Claim("NaViT names 36 pairs of color and shape better than ViT", 0.02, (((NAVIT,), (VIT,)),), (PAIRS,)),
    Claim("NaViT finds the text of an image at least as well", 0.0, (((NAVIT,), (VIT,)),), (TEXT,)),
    Claim("NaViT finds the image of a text at least as well", 0.0, (((NAVIT,), (VIT,)),), (IMAGE,)),
    Claim("NaViT names pairs never trained on, three times above chance", 0.0, (((NAVIT,), (CHANCE,)),), (UNSEEN,)),
    Claim("Shared captions are better positives than negatives", 0.01, (((SHARED[0],), (SHARED[2],)),), (TEXT,)),
)


def read(trials: list[dict]) -> list[dict]:
    """The trials, and what three times chance is for each seed."""
    level = [t | {"arm": CHANCE, "accuracy": {UNSEEN: 3 / 36}} for t in trials if t["arm"] == NAVIT]
    return trials + level


def draw(result: Mapping, path: Path) -> None:
    """Accuracies of all arms, side by side."""
    measures = (PAIRS, UNSEEN, "count", "texture", TEXT, IMAGE)
    known = names_of(result)
    with sheet(path, 1) as (axis,):
        for k, arm in enumerate(known):
            mean, error = zip(*(statistics(result, arm, (measure,)) for measure in measures))
            axis.bar(np.arange(len(measures)) + 0.8 * k / len(known), mean, 0.8 / len(known), yerr=error, label=arm)
        axis.set_xticks(np.arange(len(measures)) + 0.4, measures)
        axis.set(ylabel="% (bars: 95 % interval)", title="Images and texts in one embedding")
        axis.legend(fontsize=8)


if __name__ == "__main__":
    settings = (PAIRS, UNSEEN, "color", "shape", "count", "texture", TEXT, IMAGE)
    main(Experiment(Path(__file__).parent, arms, settings, CLAIMS, draw, read, trial, cost=training_cost))
