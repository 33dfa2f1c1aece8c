"""The contrastive loss in chunks and around a ring of devices: the same value, memory of a chunk.   [NaViT, §2.3]"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import jax

from benchmarks.contrastive import FLOAT32, FORMS, compiled, random_towers, relative_error
from experiments.computed import command_line, main, stated
from harness.evaluation.pictures import sheet
from navit_eqx.tasks import pair_losses

FOLDER = Path(__file__).parent
SLOTS = (512, 1024, 2048, 4096, 8192)
DENSE, WALK, RING = "dense", "walk", "ring, 8"


def temporaries(kind: str, form: str, slots: int) -> float:
    """MiB that the program of loss and gradients stores on one device, beside its arguments and results."""
    program, _ = compiled(kind, form, *random_towers(slots))
    return program.memory_analysis().temp_size_in_bytes / 2**20


def measure(options: Namespace) -> dict:
    jax.config.update("jax_num_cpu_devices", max(FORMS.values()))
    errors = {f"{kind}, {form}": relative_error(kind, form) for kind in pair_losses.SUMS for form in FORMS}
    stored = {
        form: {kind: [temporaries(kind, form, n) for n in SLOTS] for kind in pair_losses.SUMS}
        for form in (DENSE, WALK, RING)
    }
    worst, most = max(errors.values()), len(SLOTS) - 1
    share = max(stored[WALK][kind][most] / stored[DENSE][kind][most] for kind in pair_losses.SUMS)
    growth = max(stored[WALK][kind][most] / stored[WALK][kind][most - 2] for kind in pair_losses.SUMS)
    ring = max(stored[RING][kind][most] / stored[DENSE][kind][most] for kind in pair_losses.SUMS)
    claims = [
        stated("Loss and gradients of every form are those of the reference, to 1e-4 of the largest entry in float32",
               f"{worst:.1e} at most", worst <= FLOAT32),
        stated(f"In chunks, {SLOTS[-1]:,} pairs take at most a sixteenth of the memory of all pairs at once",
               f"{share:.3f}", share <= 1 / 16),
        stated("Four times the pairs take at most four times the memory of the chunks, not sixteen times",
               f"{growth:.2f} times", growth <= 4.2),
        stated("Around a ring of eight devices, each stores at most a sixty-fourth", f"{ring:.4f}", ring <= 1 / 64),
    ]  # fmt: skip
    table = [
        {"pairs": f"{n:,}"}
        | {f"{form}, {kind}": f"{sizes[k]:.1f} MiB" for form, kinds in stored.items() for kind, sizes in kinds.items()}
        for k, n in enumerate(SLOTS)
    ]
    return {"claims": claims, "tables": [table], "errors": errors, "stored": stored, "slots": SLOTS}


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as axes:
        for axis, kind in zip(axes, pair_losses.SUMS):
            for form, kinds in result["stored"].items():
                axis.plot(result["slots"], kinds[kind], "o-", ms=4, label=form)
            axis.set(xscale="log", yscale="log", xlabel="images, and as many texts", ylabel="MiB on one device")
            axis.set_title(f"Loss and gradients: {kind}")
            axis.grid(alpha=0.3)
            axis.legend()


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line())
