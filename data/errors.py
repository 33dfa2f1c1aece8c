"""What can be wrong with data. Messages say what, where, and how to fix."""


class DataError(ValueError):
    """The data cannot be used as asked: wrong labels, nothing fits, too much is unreadable."""


class DataMissing(DataError):
    """The path given does not exist or holds no image."""


class BadImage(ValueError):
    """One image that cannot be used, with the reason; the run goes on without it."""
