"""Classes, preprocessing and origin of a saved model."""

from dataclasses import dataclass

from .preprocessing import Area, Preprocessing


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model, saved with its parameters."""

    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the logits."""
    preprocessing: Preprocessing = Preprocessing(Area())
    """Images of any size → packed rows."""
    trained_on: str = ""
    """Origin of the training images, such as their folder."""
    digest: str = ""
    """SHA-256 of the saved parameters; set by `load_model`."""
    left_out: str = ""
    """What the folder of another project holds beside the model, such as the weights of a language model."""
