"""Classes named by texts."""

from .classify import Classify


class ZeroShot(Classify):
    """Targets and scores are those of classification."""
