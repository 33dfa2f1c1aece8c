"""Fields of the dataclasses of a configuration."""

import dataclasses
import typing
from typing import Any


def fields_of(kind: type) -> dict[str, Any]:
    """The annotations of the fields of a dataclass, by name."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
