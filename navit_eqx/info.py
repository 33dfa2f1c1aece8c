"""What a user of a saved model must know beside its shape."""

from dataclasses import dataclass

from .preprocessing import Area, Preprocessing


@dataclass(frozen=True)
class ModelInfo:
    """Saved with the parameters, and decoded once when they are loaded."""

    classes: tuple[str, ...] = ()
    """Names of the outputs, in order."""
    preprocessing: Preprocessing = Preprocessing(Area())
    """From an image of any size to packed rows."""
    trained_on: str = ""
    """The images."""
    digest: str = ""
    """SHA-256 of the saved parameters; filled in when they are loaded."""
