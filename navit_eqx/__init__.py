"""NaViT in JAX and Equinox: the same method, names and parameter tree as `reference`, independent of it.

    import navit_eqx as navit

    model = navit.load("runs/digits")
    batch = navit.pack(images, model)          # h w C arrays, PIL images or paths, of any size
    out = navit.forward(model, batch)          # logits per image slot, jitted once
    logits = navit.unpack(batch, out)          # one line per image, in order; navit.probabilities(model, logits)
    vectors = navit.features(model, images)    # pooled; tokens=True for dense ones
    state, step = navit.finetune(model, task, optimizer)

Modules take one row (`T D`) or any batch of rows (`*B T D`): dense layers see all tokens of a batch as one matrix,
which is faster than `vmap` over rows (docs/log.md). Axis letters and nouns: `reference/__init__.py`.

    front.py          the six names above; finetuning.py, a step for one's own loop
    config.py         shapes of models as frozen dataclasses
    info.py           what a user of a saved model must know
    preprocessing.py  from an image of any size to patches: size rules
    images.py         pack and unpack; pixels.py, image_files.py and band_files.py read pixels
    rows.py           rows and batches
    model.py          the backbone: packed rows → one vector per image
    layers.py         the small layers
    attention.py      multi-head attention; masks.py, which token attends to which
    encoder.py        pre-norm blocks and stochastic depth
    pooling.py        one vector per image
    posembed.py       positions that are added; rope.py, rotary ones
    resize.py         PI-resize
    inference.py      outputs over any number of batches
    errors.py         configurations that make no sense; serialize.py, dataclasses as JSON
    kernels/          attention backends
    tasks/            heads, losses, outputs
    training/         step, optimizer, sharding, hosts, checkpoints
    weights/          models on disk
"""

from .config import ModelConfig as ModelConfig
from .config import variant as variant
from .front import features as features
from .front import finetune as finetune
from .front import forward as forward
from .front import load as load
from .front import pack as pack
from .front import probabilities as probabilities
from .front import refusal as refusal
from .front import unpack as unpack
from .info import ModelInfo as ModelInfo
from .model import NaViT as NaViT
from .rows import Batch as Batch
from .rows import Row as Row
from .rows import to_device as to_device
from .tasks.model import Model as Model
from .weights.saved import load_model as load_model
from .weights.saved import save_model as save_model
