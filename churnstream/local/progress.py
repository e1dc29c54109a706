"""How far a function has come with a stream, in records, rows and time."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from churnstream.errors import ChurnstreamError
from churnstream.streams.base import Positions, StreamReader

LEAST_S = 0.2  # between two looks: a rate over less says nothing


def progress(reader: StreamReader, positions: Positions, stream: str) -> dict[str, Any]:
    """``position`` (next record to apply), ``end`` and ``lag`` in records over all shards; ``positions`` and ``ends`` of each;
    ``rows`` that were read, ``lag_rows`` that were not, and ``lag_s``, for how long the oldest of these has waited.

    A shard that cannot be read counts as empty, and ``trouble`` says why.
    """
    at, ends = [0] * reader.shards, [0] * reader.shards
    rows = lag_rows = 0
    lag_s, trouble = 0.0, []
    for shard in range(reader.shards):
        try:
            position, end = positions.get(stream, shard), reader.end(shard)
            at[shard], ends[shard] = position, end
            if position >= end:
                rows += reader.rows(shard)
                continue
            read = reader.rows(shard, position)
            rows += read
            lag_rows += reader.rows(shard) - read
            waits = [datetime.now(UTC) - each.appended_at for each in reader.read(shard, position, max_records=1)]
            lag_s = max([lag_s, *(wait / timedelta(seconds=1) for wait in waits)])
        except (ChurnstreamError, OSError) as cause:
            trouble.append(f"{stream}, shard {shard} cannot be read ({cause})")
    return {
        "stream": stream,
        "position": sum(at),
        "end": sum(ends),
        "lag": sum(ends) - sum(at),
        "positions": at,
        "ends": ends,
        "rows": rows,
        "lag_rows": lag_rows,
        "lag_s": round(lag_s, 3),
        "trouble": trouble,
    }


class Rates:
    """Rows a second since the last look."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}

    def look(self, stream: Mapping[str, Any], at: float) -> float | None:
        """``stream`` as ``progress`` tells it, ``at`` so many seconds of any clock; None at the first look."""
        name, rows = stream["stream"], stream["rows"]
        before_at, before = self._last.get(name, (None, 0))
        if before_at is None:
            self._last[name] = at, rows
        elif at - before_at >= LEAST_S:
            self._rates[name] = max(0.0, (rows - before) / (at - before_at))
            self._last[name] = at, rows
        return self._rates.get(name)
