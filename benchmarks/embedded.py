"""CPU seconds of a training step on pixels and on vectors that a frozen backbone gave once, as JSON lines.

    python benchmarks/embedded.py contrast-digits
    python benchmarks/embedded.py folder --data.root DIR --start dinov2-small --data.resolution tokenbudget

PRESET and options are those of `train.py`; the backbone is frozen, and nothing is drawn at random.
"""

import json
import math
import sys
import time
from dataclasses import replace
from itertools import islice

import jax
import jax.random as jr

from data.embedded import Embedded
from harness.config import Config
from harness.resolve import resolve
from harness.run.embedded import rows_to_train
from harness.run.loading import open_source, open_task, training_batches, training_rows
from harness.run.program import program_of
from harness.run.warm_start import shape_from
from navit_eqx.training.config import Backbone
from train import command_line

STEPS = {"pixels": 6, "vectors": 60}


def measure(config: Config, name: str) -> dict:
    """CPU seconds of a step, after two, and of embedding all images once."""
    source = open_source(config, "train")
    prepared, task = open_task(config, source.manifest)
    config = resolve(replace(config, task=prepared.config, steps=STEPS[name]), source.manifest, task)[0]
    program, planned = program_of(config, prepared), training_rows(config, source, task)
    state = program.init_state(jr.key(0))
    start = time.process_time()
    rows = rows_to_train(config, planned, program, state)
    embedding, start, images, loss = time.process_time() - start, 0.0, 0, None
    for n, batch in enumerate(islice(training_batches(config, task, rows)(), STEPS[name])):
        if n == 2:
            start, images = time.process_time(), 0
        state, metrics = program.step(state, program.device_batch(batch))
        images += int(jax.block_until_ready(metrics.images))
        loss = float(metrics.loss_sum) if loss is None else loss
    seconds = (time.process_time() - start) / (STEPS[name] - 2)
    found = {
        "rows": name,
        "first_loss": loss,
        "seconds_per_step": seconds,
        "images_per_step": images / (STEPS[name] - 2),
    }
    return found | ({"seconds_of_embedding": embedding, "images": len(source.manifest)} if name == "vectors" else {})


def main() -> None:
    """Print a line for pixels, and one for vectors."""
    config = command_line([*sys.argv[1:], "--data.embedded", "embedded", "--optim.frozen", "backbone"])[1]
    config = shape_from(config)[0]
    config = replace(config, optim=replace(config.optim, frozen=Backbone(), ema=0.0))
    losses = []
    for name, option in (("pixels", None), ("vectors", Embedded())):
        found = measure(replace(config, data=replace(config.data, embedded=option)), name)
        losses.append(found["first_loss"])
        print(json.dumps(found), flush=True)
    assert math.isclose(*losses, rel_tol=1e-4), losses


if __name__ == "__main__":
    main()
