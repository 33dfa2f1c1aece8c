"""NaViT in JAX and Equinox: the same method, names and parameter tree as `reference`, independent of it.

Modules take one row (`T D`) or any batch of rows (`*B T D`): dense layers see all tokens of a batch as one
matrix, which is faster than `vmap` over rows (see docs/log.md). Axis letters and nouns: `reference/__init__.py`.
"""

from .checkpoint import load_model as load_model
from .checkpoint import save_model as save_model
from .config import ModelConfig as ModelConfig
from .model import NaViT as NaViT
from .types import Row as Row
from .types import to_device as to_device
