"""Options of a model that exclude each other: one table, and one refusal."""

from typing import Any

from .errors import check

OPTIONS = (
    "flexi",
    "tubelets",
    "levels",
    "detail",
    "areas",
    "fuzzy",
    "local",
    "stages",
    "head_size",
)  # None where they are not in use


def backends(*names: str) -> tuple[str, ...]:
    """Attention backends as options."""
    return tuple(f"model.attention={name}" for name in names)


# Of each option: why it excludes others, and which.
EXCLUSIVE: dict[str, tuple[str, tuple[str, ...]]] = {
    "model.flexi": ("resizes square patches", ("model.tubelets",)),
    "model.levels": ("are sizes of the patches of images", ("clips", "text")),
    "model.detail": ("reads patches of images, all of one size", ("model.flexi", "model.stages", "clips", "text")),
    "model.areas": (
        "are those of patches of images, and a further channel of queries and keys",
        ("model.stages", "clips", "text", *backends("Windows", "CuDNN", "Splash")),
    ),
    "model.local": (
        "needs tokens with a place in an image, and attention within windows",
        ("model.registers", "text", *backends("Loop", "Windows", "Pallas", "CuDNN", "Splash")),
    ),
    "model.registers": ("are not beside the tokens of their image", backends("CuDNN", "Windows")),
    "model.head_size": ("is not width / heads", ("model.stages",)),
    "model.fuzzy": (
        "moves coordinates",
        ("model.local", "model.levels", "model.detail", "model.areas", "clips", "text"),
    ),
    "model.stages": (
        "merge tokens of images",
        ("model.local", "model.levels", "model.registers", "clips", "text")
        + backends("Windows", "Pallas", "CuDNN", "Splash"),
    ),
}


def in_use(config: Any) -> set[str]:
    """The options that a configuration makes use of, by the names of the table."""
    axes = {1: {"text"}, 2: set[str]()}.get(len(config.patch), {"clips"})
    chosen = {f"model.{name}" for name in OPTIONS if getattr(config, name) is not None}
    registers = {"model.registers"} if config.registers else set[str]()
    return axes | chosen | registers | {*backends(type(config.attention).__name__)}


def check_exclusive(config: Any) -> None:
    """Raises ConfigError where two options of a configuration exclude each other."""
    used = in_use(config)
    for option, (why, others) in EXCLUSIVE.items():
        found = [other for other in others if option in used and other in used]
        check(not found, f"{option} {why}, which does not go with {', '.join(found)}: choose one of them")
