"""Load a model from a folder: of a run, of a saved model, or of another project."""

from pathlib import Path

from ..tasks.model import Model
from .folder import is_foreign
from .foreign import load_foreign
from .saved import load_saved


def load_model(folder: Path | str) -> Model:
    """Load a model, with its `config` and `info`, from the folder of a run, of a saved model, or of another project.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.

        model = load_model("runs/digits")
        model = load_model("dinov2-small")  # as it comes from a hub: docs/weights.md
    """
    inner = Path(folder) / "model"
    folder = inner if inner.is_dir() else Path(folder)
    return load_foreign(folder) if is_foreign(folder) else load_saved(folder)
