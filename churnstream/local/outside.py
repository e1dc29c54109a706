"""What a failure says: something about the record at hand, or only that something else is in the way."""

import sqlite3

from churnstream.errors import (
    FingerprintMismatch,
    InvalidModel,
    InvalidSetting,
    MissingSetting,
    PlatformFailed,
    StorageFailed,
    TooFarBehind,
    UnknownVersion,
)

NOT_NOW = frozenset({429, 503})  # statuses by which a function says that it waits for something
FROM_OUTSIDE = (
    OSError,
    MemoryError,
    sqlite3.Error,
    PlatformFailed,
    StorageFailed,
    TooFarBehind,
    UnknownVersion,
    FingerprintMismatch,
    InvalidModel,
    InvalidSetting,
    MissingSetting,
)
"""What no record can help: a disk, a table or a lease that is away, or a function that is out of date or set up wrongly."""


class Refused(Exception):
    """A handler answered with a status that means failure."""

    def __init__(self, status: int, body: bytes):
        super().__init__(f"status {status}: {body[:200].decode(errors='replace')}")
        self.status = status


def is_from_outside(cause: BaseException | None) -> bool:
    """True for a failure that says nothing about the record: it is waited for, as long as it takes."""
    while cause is not None:
        if isinstance(cause, FROM_OUTSIDE) or (isinstance(cause, Refused) and cause.status in NOT_NOW):
            return True
        cause = cause.__cause__
    return False
