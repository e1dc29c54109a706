"""What every table keeps its word on: bytes by key, read from any process; written through a unit of work."""

from collections.abc import Iterable, Iterator
from typing import Protocol


class TableReader(Protocol):
    """Reads a table; a key that was never written reads as None, and a table that nobody has written yet is empty."""

    def get(self, key: str) -> bytes | None: ...

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those ``keys`` that are there."""
        ...

    def version(self, key: str) -> int | None:
        """A number that is another one once the key's value may have changed; None where a table cannot say."""
        ...

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Every key with its value, in no order."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None: ...
