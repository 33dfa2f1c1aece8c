"""Time and memory of contrastive losses with their gradients, for as many images as texts.

    python benchmarks/contrastive.py [--slots 1024 4096 16384] [--kinds sigmoid softmax] [--quick]

Forms: all pairs in one block, and blocks of texts, both differentiated by JAX as they stand ("dense", "chunked") or
with each block computed anew ("chunked, checkpoint"); the walk of `navit_eqx/tasks/pair_losses.py` as sizes choose it
("walk"), and around simulated devices ("ring, 4"). These share the cores of the machine: their time says little.
A program that needs more than `--most` MiB is compiled, not run.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.measure import arguments, median_seconds, report
from navit_eqx.tasks import pair_losses as fast
from navit_eqx.training.sharding import with_mesh
from reference.tasks import contrast as slow

WIDTH = 64
FLOAT32 = 1e-4  # largest relative error of the mean loss and of its gradients
FORMS = {"dense": 1, "chunked": 1, "chunked, checkpoint": 1, "walk": 1, "ring, 2": 2, "ring, 4": 4, "ring, 8": 8}
"""Devices of each."""


def main() -> None:
    parser = arguments(__doc__, "256 slots, two repeats")
    parser.add_argument("--slots", nargs="+", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--kinds", nargs="+", choices=fast.SUMS, default=list(fast.SUMS))
    parser.add_argument("--most", type=int, default=1024, help="MiB of temporaries of a program that is run")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", max(FORMS.values()))
    for kind in args.kinds:
        for form in FORMS:
            error = relative_error(kind, form)
            assert error <= FLOAT32, f"{kind}, {form}: relative error {error:.3g}, limit {FLOAT32}"
            for slots in [256] if args.quick else args.slots:
                measure(kind, form, slots, 2 if args.quick else args.repeats, args.most, error)


def measure(kind: str, form: str, slots: int, repeats: int, most: int, error: float) -> None:
    towers = random_towers(slots)
    program, leaves = compiled(kind, form, *towers)
    stored = program.memory_analysis().temp_size_in_bytes / 2**20
    seconds = {}
    if stored <= most:
        run = lambda: jax.block_until_ready(program(*leaves))
        run()
        seconds = median_seconds(run, repeats)._asdict()
    report(
        **{"name": "contrastive", "kind": kind, "form": form, "slots": slots, "width": WIDTH, "devices": FORMS[form]},
        **{"temporaries_mib": stored, "pairs_mib": 4 * slots**2 / 2**20, "relative_error": error, **seconds},
    )


def random_towers(slots: int) -> tuple[slow.Slots, slow.Slots]:
    """Unit vectors in float32; every image has its text, and one in eight texts is that of another image as well."""
    rng = np.random.default_rng(slots)
    ids = np.arange(slots, dtype=np.int32)
    keys = np.where(ids % 8 == 0, (ids + 8) % slots, ids).astype(np.int32)
    vectors = rng.normal(size=(2, slots, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    order = rng.permutation(slots)
    return slow.Slots(vectors[0], keys, ids), slow.Slots(vectors[1], keys[order], ids[order])


def compiled(kind: str, form: str, images: slow.Slots, texts: slow.Slots) -> tuple[Any, Any]:
    """The program of mean loss and gradients, and its arguments on the devices."""
    devices = FORMS[form]
    own = len(images.keys) // devices
    blocks = -(-own * own // fast.BLOCK) if devices > 1 else None  # given: a lap even where all pairs are one block
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    loss = {
        "dense": partial(differentiated, chunks=1, block=plain_block),
        "chunked": partial(differentiated, block=plain_block),
        "chunked, checkpoint": partial(
            differentiated, block=jax.checkpoint(plain_block, static_argnums=0, prevent_cse=False)
        ),
    }.get(form, partial(fast.contrastive_loss, blocks=blocks))

    def mean(u, v, scalars, labels):
        total, count, _ = loss(kind, *(fast.Slots(x, *rest) for x, rest in zip((u, v), labels)), *scalars)
        return total / count.astype(total.dtype)

    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    labels = images[1:], texts[1:]
    scalars = jax.device_put((np.float32(np.log(10)), np.float32(slow.bias_init(len(images.keys)))), everywhere)
    leaves = (*jax.device_put((images.vectors, texts.vectors), rows), scalars, jax.device_put(labels, rows))
    gradient = with_mesh(jax.value_and_grad(mean, (0, 1, 2)), mesh)
    return jax.jit(gradient).lower(*leaves).compile(), leaves


def differentiated(kind, images, texts, log_scale, bias, *, block, chunks: int | None = None) -> Any:
    """The loss as a scan over blocks of texts that JAX differentiates. No slot is empty."""
    chunks = chunks or fast.choose_walk(len(images.keys), len(texts.keys), None)[1]
    scaled = images._replace(vectors=jnp.exp(log_scale) * images.vectors)
    sides = (scaled, jnp.broadcast_to(bias, images.keys.shape)), (texts,)
    rows, columns = fast.visit_chunks(partial(block, kind), chunks, *sides)
    return *fast.TOTALS[kind](images, rows, columns), {}


def plain_block(kind: str, image_side: Any, text_side: Any) -> Any:
    """The sums of a block."""
    (images, bias), (texts,) = image_side, text_side
    s = fast.product(images.vectors, texts.vectors.T)
    counts, positive = fast.weigh(images, texts, "positive")
    rows, columns = fast.SUMS[kind](s, bias, counts, positive)
    if kind == "softmax":
        rows |= {"positive": jnp.where(positive, s, 0).sum(1), "positives": positive.sum(1, dtype=s.dtype)}
    return rows, columns


def relative_error(kind: str, form: str) -> float:
    """The largest, of mean loss and gradients against the reference."""
    towers = random_towers(64)
    program, leaves = compiled(kind, form, *towers)
    got, (u, v, (log_scale, bias)) = program(*leaves)
    scalars = [float(x) for x in leaves[2]]
    towers = [slots._replace(vectors=slots.vectors.astype(float)) for slots in towers]
    total, count = {"sigmoid": slow.sigmoid_loss, "softmax": slow.softmax_loss}[kind](*towers, *scalars)
    want = {"sigmoid": slow.sigmoid_gradients, "softmax": slow.softmax_gradients}[kind](*towers, *scalars)
    pairs = [(got, total / count), *zip((u, v, log_scale), want)]
    return max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in pairs)


if __name__ == "__main__":
    main()
