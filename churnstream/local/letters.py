"""What a function could not apply, as its dead letters take it."""

from collections.abc import Sequence

from churnstream.codecs.rows import Rows
from churnstream.records import Delivered, Record
from churnstream.streams.delivery import LeftOut


def one_row(record: Delivered, rows: Rows, place: int, reason: str) -> LeftOut:
    """One row of a record."""
    return LeftOut(place, reason, rows.text(place), _as_sent(record, rows.take([place]), 1))


def whole(record: Delivered, rows: Rows | None, reason: str) -> LeftOut:
    """All of a record, of whose ``rows`` nobody can tell when they are None."""
    text = record.payload if rows is None else b"\n".join(rows.text(place) for place in range(len(rows)))
    return LeftOut(None, reason, text, _as_sent(record, record.payload, record.rows))


def _as_sent(record: Delivered, payload: bytes, rows: int) -> Record:
    return Record(payload, rows, record.key, record.headers)


def told(letters: Sequence[LeftOut]) -> str:
    """What was left out, for a log."""
    count = "the record is" if letters[0].row is None else "1 row is" if len(letters) == 1 else f"{len(letters)} rows are"
    return f"{count} in the dead letters; {letters[0].reason}"
