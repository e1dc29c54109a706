"""What tells that bytes on the disk are still those that were written: a CRC-32 of a row's every field, and of where it belongs.

A row that was moved to another key, offset, stream or table does not match either. A log record has two: ``head`` covers all but
the payload, so that it can be told without reading that, and ``checksum`` the payload after the head.
"""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any
from zlib import crc32


def head_of(stream: str, offset: int, appended_us: int, rows: int, rows_before: int, key: str, headers: str) -> int:
    """Of a log record without its payload; ``headers`` are JSON, as they are stored."""
    return crc32(f"{stream}\0{offset}\0{appended_us}\0{rows}\0{rows_before}\0{key}\0{headers}".encode())


def of_payload(payload: bytes, head: int) -> int:
    """Of a whole log record. Raises TypeError for what is no bytes."""
    return crc32(payload, head)


def of_row(table: str, key: str, value: bytes) -> int:
    """Of one row of a table. Raises TypeError for what is no bytes."""
    return crc32(value, crc32(key.encode(), crc32(table.encode())))


def of_rows(table: str, keys: Iterable[str], values: Iterable[bytes]) -> Iterable[int]:
    """Of many rows of a table, one after the other."""
    return map(crc32, values, map(crc32, map(str.encode, keys), repeat(crc32(table.encode()))))


def is_of(checksum: object, of: Callable[..., int], *fields: Any) -> bool:
    """Whether ``checksum`` is that of ``fields``, of which any may have become anything."""
    try:
        return of(*fields) == checksum
    except (TypeError, AttributeError, UnicodeError):  # what was bytes is a number or a word by now
        return False


def is_of_row(checksum: object, table: str, key: Any, value: Any) -> bool:
    """Whether ``checksum`` is that of a row of a table."""
    return is_of(checksum, of_row, table, key, value)


def of_fields(*fields: Any) -> int:
    """Of a row of numbers and words."""
    return crc32("\0".join(map(str, fields)).encode())
