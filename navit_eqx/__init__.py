"""NaViT in JAX and Equinox: the same method, names and parameter tree as `reference`, independent of it.

    import navit_eqx as navit

    model = navit.load("runs/digits")
    batch = navit.pack(images, model)          # h w C arrays, PIL images or paths, of any size
    out = navit.forward(model, batch)          # logits per image slot, jitted once
    logits = navit.unpack(batch, out)          # one row per image, in order; navit.probabilities(model, logits)
    vectors = navit.features(model, images)    # pooled features; tokens=True for dense features
    state, step = navit.finetune(model, task, optimizer)
    merged = navit.merged(model, images)       # what a language model reads, of towers that end with a merger
    masks = navit.segment(model, images)       # the class of every pixel, of a model trained for it
    classifier = navit.zero_shot(model, ["a dog", "a cat"])    # of a model trained on images and texts

Modules take one row (`T D`) or any batch of rows (`*B T D`): dense layers run as one matrix product over all tokens of
a batch, which is faster than `vmap` over rows (docs/log.md). Axis letters and vocabulary: `reference/__init__.py`.

    front.py          the six names above; finetuning.py, a train step for custom loops
    config.py         model configuration as frozen dataclasses; config_attention.py, config_positions.py,
    config_local.py   config_adaptive.py and config_stages.py, its parts; config_exclusive.py, which exclude each other
    info.py           classes and preprocessing of a saved model
    preprocessing.py  how images become patches; size_rules.py and tower_sizes.py, image size → grid of patches
    text.py           canonical text, bytes as token ids; text_rows.py, packed rows of them
    sentencepiece.py  pieces of words as token ids
    zero_shot.py      embeddings of texts, and classifiers made from texts
    clips.py          clips of any length and size in packed rows
    segmentation.py   masks of images of any size
    images.py         pack and unpack; pixels.py, image_files.py and band_files.py read pixels
    rows.py           rows and batches; interop.py, sequences with cu_seqlens and grid_thw for other trainers
    model.py          the backbone: packed rows → one vector per image
    layers.py         small layers: linear, norms, MLP, masked softmax
    activations.py    quick-GELU and SiLU
    attention.py      multi-head attention; masks.py, which token attends to which; local.py, in windows or frames
    encoder.py        pre-norm blocks and stochastic depth
    pooling.py        one vector per image
    posembed.py       added position embeddings; rope.py and rotary_forms.py, rotary ones
    fuzzy.py          coordinates moved at random in training
    merging.py        blocks of tokens merged to one, for language models
    hierarchy.py      stages with fewer tokens from one to the next
    boxes.py          areas of boxes, IoU and GIoU
    tables.py         position tables of imported towers
    tubelets.py       clips as tubelets: cut on the host, time and shape on the device
    adaptive.py       patches of several sizes within an image: cut on the host, level on the device
    detail.py         what the parts of merged patches say; areas.py, merged patches that count as their parts
    complexity.py     how much of an image large patches lose, by which their number may be planned
    resize.py         PI-resize
    export.py         one packed row as StableHLO or ONNX; plain.py, in plain operations
    serving.py        a queue of images in rows of one shape
    isolation.py      whether a model keeps the images of a batch apart: a command, for any model
    inference.py      outputs of any number of rows, by one compiled program
    errors.py         ConfigError and checks; serialize.py, dataclasses as JSON; files.py, writing them
    kernels/          attention backends
    tasks/            heads, losses, outputs
    training/         train step, optimizer, sharding, hosts, checkpoints
    weights/          saved models
"""

from .clips import pack_clips as pack_clips
from .config import ModelConfig as ModelConfig
from .config import variant as variant
from .front import features as features
from .front import finetune as finetune
from .front import forward as forward
from .front import load as load
from .front import merged as merged
from .front import pack as pack
from .front import probabilities as probabilities
from .front import refusal as refusal
from .front import stream as stream
from .front import unpack as unpack
from .info import ModelInfo as ModelInfo
from .model import NaViT as NaViT
from .rows import Batch as Batch
from .rows import Row as Row
from .rows import to_device as to_device
from .segmentation import segment as segment
from .tasks.model import Model as Model
from .weights.card import Card as Card
from .weights.load import load_model as load_model
from .weights.pretrained import save_pretrained as save_pretrained
from .weights.saved import save_model as save_model
from .zero_shot import embed_texts as embed_texts
from .zero_shot import zero_shot as zero_shot
