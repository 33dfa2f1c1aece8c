"""Draw a lap of the contrastive losses around devices: what stays, what travels, which sums it has collected.

    python examples/plot_contrastive.py docs/img/contrastive.png    # seconds, four simulated devices

`visit_ring` runs first, on sums that count who met whom: every device meets every block of texts exactly once.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from navit_eqx.tasks.pair_losses import visit_ring

DEVICES = 4
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def meetings() -> tuple[np.ndarray, np.ndarray]:
    """How often each device met each block of texts, as the devices and as the texts have it: images and texts are
    numbers of devices here."""
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:DEVICES])

    def block(images, texts):
        return {"met": jax.nn.one_hot(texts, DEVICES)}, {"met": jax.nn.one_hot(images, DEVICES)}

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        numbers = jax.device_put(jnp.arange(DEVICES), NamedSharding(mesh, PartitionSpec("data")))
        rows, columns = jax.jit(lambda x: visit_ring(block, mesh.abstract_mesh, x, x))(numbers)
    return np.asarray(rows["met"]), np.asarray(columns["met"])


def main(out: str) -> None:
    jax.config.update("jax_num_cpu_devices", DEVICES)
    assert all((met == 1).all() for met in meetings())
    figure = Figure((11, 3.4), layout="constrained")
    axes = figure.subplots(1, DEVICES + 1)
    for hop, axis in enumerate(axes):
        draw(axis, hop)
    figure.savefig(out, dpi=110)


def draw(axis, hop: int) -> None:
    """The devices before hop number `hop` of the lap, with what texts have collected so far."""
    for device in range(DEVICES):
        texts, y = (device - hop) % DEVICES, DEVICES - 1 - device
        axis.add_patch(Rectangle((0, y + 0.1), 0.8, 0.8, color=COLORS[device], alpha=0.85))
        axis.add_patch(Rectangle((1.1, y + 0.1), 0.8, 0.8, color=COLORS[texts], alpha=0.45))
        axis.text(0.4, y + 0.5, f"U{device}", ha="center", va="center", color="white", weight="bold")
        axis.text(1.5, y + 0.5, f"V{texts}", ha="center", va="center", weight="bold")
        for n in range(hop):
            axis.add_patch(
                Rectangle((2.0 + 0.2 * n, y + 0.2), 0.16, 0.6, color=COLORS[(texts + n) % DEVICES], alpha=0.85)
            )
    at_home = hop == DEVICES
    axis.set_title("home again" if at_home else f"block {hop + 1}", fontsize=10)
    axis.set(xlim=(-0.1, 2.9), ylim=(0, DEVICES), xticks=[0.4, 1.5, 2.4], aspect="equal")
    axis.set_xticklabels(["images", "texts", "sums"], fontsize=8)
    axis.set_yticks(
        [DEVICES - 0.5 - d for d in range(DEVICES)], [f"device {d}" for d in range(DEVICES)] if not hop else []
    )
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)


if __name__ == "__main__":
    main(sys.argv[1])
