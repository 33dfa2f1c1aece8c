"""Equal tokens four ways: patches of several sizes, a smaller image, tokens dropped at random or by contrast.

[APT, arXiv:2510.18091; Quadformer, arXiv:2304.00287; NaViT, app. C and fig. 17b for the last three]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.evaluation_plan import fill_last_batch
from data.pipeline import batches
from data.plan import NOTHING
from data.sampling.dropping import Constant, Dropping
from data.sampling.merge import Law, Merge, law_of
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sampling.token_selection import AtRandom, ByContrast, TokenSelection
from data.sources.digits import Digits
from data.stream import Epochs
from data.tasks import DataTask
from experiments.bed import bed
from experiments.claims import Claim
from experiments.pictures import dots
from experiments.trained import Experiment, main
from experiments.trial import model_after, source, what_evaluation_reads
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.run.loading import evaluation_rows, is_mapped, pixels_of, rows_of
from navit_eqx import Model
from navit_eqx.config import Levels
from navit_eqx.inference import predict
from navit_eqx.rows import to_device
from navit_eqx.training.config import Muon
from reference.rows import Row

OWN, ALL = "as trained", "all tokens"
TOKENS = (9, 4)  # per digit of a strip, of 16
WHOLE = Native(1.6, 1.6)  # 4 x 4 patches a digit
SMALLER = {9: Native(1.2, 1.2), 4: Native(0.8, 0.8)}
MERGED = {9: Merge(0.5), 4: Merge(0.8)}  # at 0.5, 2 to 4 % fewer tokens than 9 a digit
DROPPED = {9: Constant(7 / 16), 4: Constant(3 / 4)}
AT_RANDOM = AtRandom()
WAYS = ("merge", "resize", "drop", "contrast")
ROW = 192  # tokens; the longest strip has 128


def way(name: str, tokens: int) -> dict[str, Any]:
    """Fields of `DataConfig` by which an image has so many tokens a digit."""
    return {
        "merge": {"resolution": WHOLE, "merge": MERGED[tokens]},
        "resize": {"resolution": SMALLER[tokens]},
        "drop": {"resolution": WHOLE, "dropping": DROPPED[tokens]},
        "contrast": {"resolution": WHOLE, "dropping": DROPPED[tokens], "token_selection": ByContrast()},
    }[name]


def arms(steps: int) -> dict[str, Config]:
    """Of 960 token places a step; those with 9 tokens a digit have twice the steps, and as many images as with 4."""
    long = {9: 2 * steps, 4: steps}
    whole = {"whole": arm(long[9], resolution=WHOLE)}
    tuned = {f"tuned, {t}": replace(retrofit(long[9], **way("merge", t)), start="whole") for t in TOKENS}
    trained = {f"{name}, {t}": arm(long[t], **way(name, t)) for t in TOKENS for name in WAYS}
    vectors = arm(long[4], **way("merge", 4))
    return {
        **whole,
        **tuned,
        **trained,
        "means, 4": arm(long[4], resolution=WHOLE, merge=replace(MERGED[4], rule="area")),
        "vectors, 4": replace(vectors, model=replace(vectors.model, levels=Levels(3))),
    }


def budget(arm: str) -> float:
    """Compute of a training over that of an arm with 4 tokens a digit."""
    if arm.startswith(("tuned", "whole")):
        return 0.1 if arm.startswith("tuned") else 2.0
    return 2.0 if ", 9" in arm else 1.0


def arm(steps: int, **data: Any) -> Config:
    """A run on strips of large and small digits, by the optimizer and rate that figure 1 found for NaViT."""
    config = bed(steps, packing=Packing(row_tokens=ROW, row_images=ROW // 2), **data)
    source = Digits(300_000 if steps > 20 else 400, 2_000 if steps > 20 else 40, smallest=6.0)
    config = replace(config, data=replace(config.data, source=source), rows=960 // ROW)
    return replace(config, optim=replace(config.optim, rule=Muon(), lr=0.01))


def retrofit(steps: int, **data: Any) -> Config:
    """A twentieth of the steps, at a tenth of the rate."""
    config = arm(steps, **data)
    return replace(config, steps=max(1, steps // 20), optim=replace(config.optim, lr=config.optim.lr / 10))


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then evaluate as trained; the whole model in all ways too, and those with dropped tokens on all."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    data = config.data
    seen = lambda how: accuracy(model, config, task, **how)
    views = {OWN: {name: getattr(data, name) for name in ("resolution", "merge", "dropping", "token_selection")}}
    if data.dropping != NOTHING:
        views[ALL] = {"resolution": data.resolution}
    elif data.merge is None and data.resolution == WHOLE:
        views |= {f"{name}, {t}": way(name, t) for name in WAYS for t in TOKENS}
    found = {view: seen(how) for view, how in views.items()}
    assert settings == (OWN,)
    return {"accuracy": {OWN: found.pop(OWN)}, "also": found, **spent, "seconds": time.perf_counter() - start}


def accuracy(
    model: Model,
    config: Config,
    task: DataTask,
    resolution: Native,
    merge: Merge | None = None,
    dropping: Dropping = NOTHING,
    token_selection: TokenSelection = AT_RANDOM,
) -> float:
    """Share of right answers on all validation images."""
    val = source(config, "val")
    law = law_of(resolution, merge)
    read = evaluation(what_evaluation_reads(config), law, dropping, token_selection)
    image_ids, outputs = predict(model, map(to_device, read))
    assert len(image_ids) == len(val.manifest)
    return float(task.scores(outputs, image_ids, val.manifest).mean())


@lru_cache
def evaluation(config: Config, law: Law, dropping: Dropping, selection: TokenSelection) -> tuple[Row, ...]:
    """The validation images in batches; tokens are dropped in the same way for every model."""
    val = source(config, "val")
    plan = fill_last_batch(evaluation_rows(config, val, law, dropping)[1], config.rows)
    pixels, (kind, more) = pixels_of(config.model, is_mapped(config.model, law)), rows_of(law, training=False)
    rows = kind(val, Epochs(lambda _: plan), len(plan.image_ids), pixels, ROW, 0, None, selection, **more)
    return tuple(batches(rows, config.rows))


def read(trials: list[dict]) -> list[dict]:
    """The trials, and an arm for each further view of a model."""
    views = [
        trial | {"arm": f"{trial['arm']}: {view}", "accuracy": {OWN: score}}
        for trial in trials
        for view, score in trial["also"].items()
    ]
    return trials + views


def each(first: str, second: str, tokens: Sequence[int] = TOKENS) -> tuple[tuple[tuple[str], tuple[str]], ...]:
    """Two kinds of arm, at each number of tokens."""
    return tuple(((first.format(t),), (second.format(t),)) for t in tokens)


CLAIMS = (
    Claim("Merging is two points above a smaller image with as many tokens, at 9 and at 4",
          0.02, each("merge, {}", "resize, {}")),
    Claim("Merging is five points above dropping, at random and by contrast, at 9 and at 4",
          0.05, each("merge, {}", "drop, {}") + each("merge, {}", "contrast, {}")),
    Claim("A smaller image is five points above tokens dropped at random, at 9 and at 4",
          0.05, each("resize, {}", "drop, {}")),
    Claim("Dropping by contrast is a point above dropping at random, at 9 and at 4",
          0.01, each("contrast, {}", "drop, {}")),
    Claim("At 4, blocks mapped by PI-resize are at most a point below means of boxes",
          -0.01, ((("merge, 4",), ("means, 4",)),)),
    Claim("At 4, vectors of levels help", 0.0, ((("vectors, 4",), ("merge, 4",)),)),
    Claim("Trained on whole strips alone, a merged strip is at most a point below the whole one, at 9 and at 4",
          -0.01, each("whole: merge, {}", "whole")),
    Claim("So it is after 5 % more steps, with merging", -0.01, each("tuned, {}", "whole")),
    Claim("Trained on whole strips alone, a merged strip is above a smaller one with as many tokens, at 9 and at 4",
          0.0, each("whole: merge, {}", "whole: resize, {}")),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    """The ways at 9 and at 4 tokens a digit: trained for it, tuned for it, and not."""
    shown = {"trials": read(result["trials"])}
    known = {trial["arm"] for trial in shown["trials"]}
    with sheet(path, len(TOKENS)) as axes:
        for axis, t in zip(axes, TOKENS):
            names = [*(f"{name}, {t}" for name in (*WAYS, "means", "vectors")), "whole", f"tuned, {t}"]
            names += [f"whole: {name}, {t}" for name in WAYS]
            dots(axis, shown, [name for name in names if name in known])
            axis.set_xlabel("accuracy, % (bars: 95 % interval)")
            axis.set_title(f"{t} tokens a digit; whole: 16")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, (OWN,), CLAIMS, draw, read, trial))
