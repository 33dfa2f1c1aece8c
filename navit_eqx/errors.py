"""Configurations that make no sense."""


class ConfigError(ValueError):
    """A configuration that makes no sense; the message says which key and how to mend it."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
