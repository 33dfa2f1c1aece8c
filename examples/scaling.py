"""Print the tables of docs/scaling.md: options for a number of devices, and the predicted efficiency.

python examples/scaling.py
"""

from collections.abc import Iterator

from harness.cost import row_cost
from harness.presets import imagenet_b16
from navit_eqx.config import ModelConfig, variant
from reference.evaluation.cost import efficiency, parameters, position_parameters, state_bytes, step_bytes

FLOPS = 0.4 * 790e12  # per device and second: 40 % of dense bfloat16 on an H200
ISLAND, INSIDE, OUTSIDE = 8, 450e9, 50e9  # devices with fast links; bytes per second and device inside, outside
LATENCY = 20e-6  # seconds per round of a collective, of 2 log2(n) rounds
COLLECTIVES = 2  # one of gradients, one of counts and norms; three more per block with FSDP
ROWS, TOKENS, SLOTS = 256, 256, 16  # per device and step, as in the preset imagenet-b16
DEVICES = (1, 8, 16, 64, 256, 1024)
CLASSES = 1000
MODELS = {name: variant(name) for name in ("S/16", "B/16", "L/16")}


def recipe(devices: int) -> str:
    """Options of imagenet-b16 for a number of devices: rows of each device and images of the run as on one device.

    Choice: the rate grows with the square root of the batch, as is derived for Adam.   [arXiv:2205.10287]
    """
    base = imagenet_b16()
    steps = base.total_steps // devices
    every = f"--eval-every {base.eval_every // devices}"
    return f"--rows {ROWS * devices} --steps {steps} --optim.lr {base.optim.lr * devices**0.5:.1e} {every}"


def recipes() -> Iterator[str]:
    """Lines of Markdown."""
    yield "| devices | options |"
    yield "| --- | --- |"
    for devices in (1, 8, 16, 32):
        yield f"| {devices} | `{recipe(devices)}` |"


def count(model: ModelConfig) -> int:
    """Number of parameters."""
    positions = position_parameters(width=model.width, size=64)["sum"]
    shape = {name: getattr(model, name) for name in ("patch_dim", "width", "depth", "heads", "mlp_width")}
    return parameters(**shape, classes=CLASSES, positions=positions)


def seconds(model: ModelConfig, devices: int, split: bool, rows: float) -> tuple[float, float]:
    """Seconds of computation and of communication in one step; the backward pass costs twice the forward pass."""
    compute = 3 * rows * row_cost(model, CLASSES, TOKENS, SLOTS) / FLOPS
    rounds = 2 * (devices - 1).bit_length() * (COLLECTIVES + (3 * model.depth if split else 0))
    speed = INSIDE if devices <= ISLAND else OUTSIDE
    return compute, step_bytes(count(model), devices, split=split) / speed + rounds * LATENCY


def cell(model: ModelConfig, devices: int, split: bool, rows: float = ROWS) -> str:
    """Efficiency without and with full overlap; empty where a device has less than one row."""
    if rows < 1:
        return ""
    waits, overlaps = efficiency(*seconds(model, devices, split, rows))
    return f"{waits:.2f}-{overlaps:.2f}"


def table() -> Iterator[str]:
    """Lines of Markdown."""
    columns = {f"{name} {how}": (c, how == "FSDP") for name, c in MODELS.items() for how in ("whole", "FSDP")}
    yield f"| devices | {' | '.join(columns)} | B/16 whole, {ROWS} rows in all |"
    yield "| --- " * (len(columns) + 2) + "|"
    for n in DEVICES:
        cells = [cell(c, n, split) for c, split in columns.values()]
        yield f"| {n:,} | {' | '.join(cells)} | {cell(MODELS['B/16'], n, False, ROWS / n)} |"
    for n in (8, 1024):
        held = (f"{state_bytes(count(c), n, split=split) / 2**30:.3f}" for c, split in columns.values())
        yield f"| GiB on each of {n:,} | {' | '.join(held)} | |"


if __name__ == "__main__":
    print("\n".join([*recipes(), "", *table()]))
